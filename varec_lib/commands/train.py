"""`varec train`: trains a model on a dataset folder. Its flags are the settings of `TrainConfig`."""

from varec_lib.config import TrainConfig
from varec_lib.errors import ResumeError

Options = TrainConfig


def defaults(options: TrainConfig) -> TrainConfig | None:
    """With --resume, the settings of that experiment are the defaults of all other flags."""
    if options.resume is None:
        return None
    file = options.resume / "config.json"
    if not file.is_file():
        raise ResumeError(f"{file.parent}: not an experiment folder (it has no config.json).")
    return TrainConfig.load(file)


def run(options: TrainConfig) -> int:
    """Trains a model; 130 where it was interrupted."""
    from accelerate import PartialState

    from varec_lib.training import loop

    experiment = loop.train(options)
    if PartialState().is_main_process:
        print(f"Wrote {experiment.folder}")
    return 130 if experiment.results["stopped"] == "interrupted" else 0
