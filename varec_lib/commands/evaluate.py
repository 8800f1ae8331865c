"""`varec evaluate`: tests a checkpoint, or a published model that nobody trained here, on a dataset."""

import json
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.commands.output import made_possible, notes_aside
from varec_lib.config import Count, OptionalPath, Precision, Settings, Whole
from varec_lib.errors import ConfigError


@dataclass
class Options(Settings):
    """Test a checkpoint on a dataset; prints a report, with --json the same numbers as results.json."""

    checkpoint: Positional[OptionalPath] = None
    """Checkpoint file or experiment folder; none with --zero_shot."""
    zero_shot: OptionalPath = None
    """Test a published Kinetics-400 model untrained: CSV with the columns label,kinetics_label for this dataset."""
    model: Literal["i3d", "r3d18"] | None = None
    """Which published model, with --zero_shot; i3d if not given."""
    data: OptionalPath = None
    """Dataset folder; if not given, the one that the experiment was trained on, else data/stick_actions."""
    split: Literal["train", "val", "test"] = "test"
    """Which split to evaluate."""
    views: Count = 1
    """Clips per video whose class probabilities are averaged."""
    order: Literal["forward", "reversed", "shuffled"] = "forward"
    """Play the frames backwards or shuffled: does the model look at time?"""
    batch_size: Count = 32
    """Clips at a time; fewer where they are large."""
    num_workers: Whole = 2
    """Processes that decode videos; 0 decodes in this process."""
    precision: Precision = "auto"
    """Number format of the arithmetic; auto as in training."""
    ucf_split: Literal[1, 2, 3] | None = None
    """Which official list to use where the folder is UCF-101 or HMDB51 itself; if not given, that of the training."""
    strict: bool = False
    """Stop when a video cannot be used instead of leaving it out."""
    plugin: OptionalPath = None
    """Python file that registers your own models."""
    csv: OptionalPath = None
    """Also write one row per video to this file."""
    json: bool = False
    """Print JSON only."""


def run(options: Options) -> int:
    """Prints how a checkpoint or a published model does on a split."""
    from varec_lib.evaluation.evaluate import evaluate_checkpoint
    from varec_lib.evaluation.metrics import per_class, report
    from varec_lib.evaluation.zero_shot import evaluate_zero_shot
    from varec_lib.models.registry import load_plugin

    if (options.checkpoint is None) == (options.zero_shot is None):
        raise ConfigError("Name either a checkpoint, or with --zero_shot a label map for a model that nobody trained.")
    if options.model and options.checkpoint:
        raise ConfigError("--model goes with --zero_shot; a checkpoint says itself which model it is.")
    if options.plugin:
        load_plugin(options.plugin)
    names = ("split", "views", "order", "batch_size", "num_workers", "precision", "strict", "ucf_split")
    how = {name: getattr(options, name) for name in names}
    made_possible(options.csv)
    with notes_aside(options.json):
        data = _dataset(options)
        if options.zero_shot:
            predictions = evaluate_zero_shot(options.model or "i3d", data, options.zero_shot, **how)
        else:
            predictions = evaluate_checkpoint(options.checkpoint, data, **how)
    if options.csv:
        predictions.as_table().to_csv(options.csv, index=False)
    results = report(predictions)
    if options.json:
        print(json.dumps(results))
        return 0
    low, high = results["top1_ci95"]
    scores = per_class(predictions)
    print(scores[scores["videos"] > 0].round(3).to_string() if options.zero_shot else scores.round(3).to_string())
    print(
        f"\n{results['num_videos']} videos of {options.split}, {options.views} view(s) each, frames {options.order}\n"
        f"top-1 {results['top1']:.3f} (95 % interval {low:.3f} to {high:.3f}, bootstrap over groups)   "
        f"top-{results['top5_counts_classes']} {results['top5']:.3f}"
    )
    return 0


def _dataset(options: Options) -> Path:
    """The dataset to test on; says aloud where it is not the one that the experiment was trained on."""
    from varec_lib.training.experiment import Experiment

    file = options.checkpoint or Path()
    folder = file if file.is_dir() else file.parents[1] if len(file.parents) > 1 else file
    own = Experiment(folder).config.data_dir if options.checkpoint and (folder / "config.json").is_file() else None
    if own and options.data and own.resolve() != options.data.resolve():
        print(f"Tested on {options.data}; it was trained on {own}.")
    return options.data or own or Path("data/stick_actions")
