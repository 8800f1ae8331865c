"""`varec compare`: whether models can be told apart by the videos they were tested on."""

import json
from typing import Any

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.commands.output import made_possible, notes_aside
from varec_lib.config import OptionalPath, Precision, Settings, UserPath, Whole
from varec_lib.errors import ConfigError

PICTURES = (".png", ".pdf", ".svg")


@dataclass
class Options(Settings):
    """Compare experiments that were tested on the same videos; the first is what the others are held against."""

    experiments: Positional[tuple[UserPath, ...]]
    """Experiment folders, two or more; one without test predictions is tested first."""
    out: OptionalPath = None
    """Also draw the table to this file (.png, .pdf or .svg)."""
    num_workers: Whole = 2
    """Processes that decode videos, where one must be tested."""
    precision: Precision = "auto"
    """Number format of the arithmetic; auto as in training."""
    plugin: OptionalPath = None
    """Python file that registers your own models."""
    json: bool = False
    """Print JSON only."""


def run(options: Options) -> int:
    """Prints a table, and a sentence for every two models."""
    from varec_lib.evaluation.compare import aligned, comparison, cost, verdicts
    from varec_lib.models.checkpoint import load_checkpoint
    from varec_lib.models.registry import load_plugin

    if options.out and options.out.suffix.lower() not in PICTURES:
        raise ConfigError(f"{options.out}: pictures are written as {', '.join(PICTURES)}.")
    made_possible(options.out)
    if options.plugin:
        load_plugin(options.plugin)
    experiments = _experiments(options)
    with notes_aside(options.json):
        models = {name: load_checkpoint(experiment.best_checkpoint) for name, experiment in experiments.items()}
        found = aligned({name: _tested(experiment, options) for name, experiment in experiments.items()})
        table = comparison(found)
        costs = {name: cost(model, options.precision) for name, model in models.items()}
    for place, column in enumerate(("parameters", "gflops", "clips_per_second")):
        table.insert(place, column, [costs[name][column] for name in table.index])
    table.insert(0, "model", [model.checkpoint.model for model in models.values()])
    if options.out:
        from varec_lib import plots  # matplotlib, which the table needs not
        from varec_lib.evaluation import figures

        plots.save(figures.compared(table), options.out)
    tested = next(iter(found.values())).table
    if options.json:
        rows = table.rename_axis("experiment").reset_index().to_json(orient="records")
        counts = {"videos": len(tested), "groups": int(tested["group"].nunique())}
        print(json.dumps(counts | {"models": json.loads(rows), "verdicts": verdicts(found)}))
        return 0
    print(_shown(table).to_string(), "", *verdicts(found), sep="\n")
    print(
        f"{len(tested)} test videos of {tested['group'].nunique()} groups; 95 % intervals and McNemar's test by groups."
    )
    return 0


def _experiments(options: Options) -> dict[str, Any]:
    """By name; raises `ConfigError` before anything is computed."""
    from varec_lib.training.experiment import Experiment

    if len(options.experiments) < 2:
        raise ConfigError("Name two experiments or more.")
    found = {}
    for folder in options.experiments:
        if folder.resolve().name in found:
            raise ConfigError(f"{folder}: comes twice, or has the name of another one.")
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{folder}: is no experiment, which has a config.json.")
        experiment = found[folder.resolve().name] = Experiment(folder)
        data = experiment.config.data_dir
        if not experiment.predictions("test").is_file() and not data.is_dir():
            raise ConfigError(
                f"{folder}: has no test predictions, and the data it was trained on is not at {data}. Put it there."
            )
    return found


def _tested(experiment: Any, options: Options) -> Any:
    """The test predictions of an experiment: those that it keeps, else made now and kept."""
    from varec_lib.evaluation.apply import evaluate_checkpoint
    from varec_lib.evaluation.metrics import Predictions

    file, config = experiment.predictions("test"), experiment.config
    if file.is_file():
        return Predictions.load(file)
    made = evaluate_checkpoint(
        experiment.folder, config.data_dir, views=config.views, ucf_split=config.ucf_split, strict=config.strict,
        num_workers=options.num_workers, precision=options.precision,
    )  # fmt: skip
    try:
        made.save(file)
    except OSError as error:
        print(f"{file}: is not kept, it cannot be written ({error.strerror}).")
    return made


def _shown(table: Any) -> Any:
    """The table as text: numbers with their intervals."""
    import pandas as pd

    def ranged(row: Any, name: str, low: str, high: str) -> str:
        return "" if pd.isna(row.get(name)) else f"{row[name]:.3f} ({row[low]:.3f} to {row[high]:.3f})"

    rows = {
        name: {
            "model": row["model"],
            "parameters": f"{row['parameters'] / 1e6:.1f} M",
            "GFLOPs a clip": "" if pd.isna(row["gflops"]) else f"{row['gflops']:.1f}",
            "clips/s here": f"{row['clips_per_second']:.1f}",
            "clips a video": row["clips"],
            "top-1": ranged(row, "top1", "low", "high"),
            "difference": ranged(row, "difference", "difference_low", "difference_high"),
            "McNemar p": "" if pd.isna(row["mcnemar_p"]) else f"{row['mcnemar_p']:.3f}",
        }
        for name, row in table.iterrows()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
