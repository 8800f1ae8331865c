"""`varec bench`: measures where the time of a training goes."""

import json

from pydantic.dataclasses import dataclass
from tyro.conf import OmitArgPrefixes

from varec_lib.commands.output import notes_aside
from varec_lib.config import Count, Settings, TrainConfig


@dataclass
class _Measured(TrainConfig):
    batch_size: Count = 8
    """Clips per batch and process."""


@dataclass
class Options(Settings):
    """Measure decoding, store, loader and training step on this machine, and name the bottleneck."""

    config: OmitArgPrefixes[_Measured]
    """The run to measure: the flags of `varec train`."""
    steps: Count = 3
    """Training steps in a round."""
    rounds: Count = 3
    """Rounds; figures are medians over them."""
    json: bool = False
    """Print JSON only."""


def run(options: Options) -> int:
    """Prints where the time of a training goes."""
    from varec_lib.training.bench import advice, bench

    with notes_aside(options.json):
        measured = bench(options.config, options.steps, options.rounds)
    if options.json:
        print(json.dumps(measured))
        return 0
    for name, value in measured.items():
        print(f"{name:28s} {value:.4g}" if isinstance(value, float) else f"{name:28s} {value}")
    print(advice(measured))
    return 0
