"""`varec report`: one page with all that is known of how good an experiment's model is."""

from pathlib import Path

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.commands.output import made_possible
from varec_lib.config import OptionalPath, Settings, UserPath


@dataclass
class Options(Settings):
    """Write one self-contained HTML page on how good an experiment's model is, from what its evaluations kept."""

    experiment: Positional[UserPath]
    """Experiment folder, as `varec train` made it."""
    out: OptionalPath = None
    """File to write; report.html in the experiment folder if not given."""


def run(options: Options) -> int:
    """Writes the page, and says where."""
    from varec_lib.errors import ConfigError
    from varec_lib.evaluation.metrics import Predictions
    from varec_lib.evaluation.report import write_report
    from varec_lib.training.experiment import Experiment

    experiment = Experiment(options.experiment)
    if not (experiment.folder / "results.json").is_file():
        raise ConfigError(f"{experiment.folder}: no finished experiment, which has a results.json.")
    if not experiment.predictions("test").is_file():
        raise ConfigError(
            f"{experiment.folder}: has no test predictions. `varec evaluate {experiment.folder}` makes them."
        )
    file: Path = options.out or experiment.folder / "report.html"
    made_possible(file)
    files = {name: experiment.predictions(name) for name in ("test", "val", "unknown")}
    kept = {name: Predictions.load(predictions) for name, predictions in files.items() if predictions.is_file()}
    write_report(file, experiment.results, **kept, plots_dir=experiment.folder / "plots")
    print(f"{file}: open it in a browser.")
    return 0
