"""`varec evaluate`: tests a checkpoint, or a published model that nobody trained here, on a dataset."""

import json
from pathlib import Path
from typing import Any, Literal

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
    views: Count | None = None
    """Clips along each video whose class probabilities are averaged; 1, or what the published protocol has."""
    crops: Count = 1
    """Crops of each clip, from one end of the longer side to the other, averaged as well; 3 are usual."""
    protocol: Literal["own", "published"] = "own"
    """Clips as in the training, or those of the model's published protocol (R3D-18 and I3D)."""
    report_card: bool = False
    """Also play the clips in eight other orders: does the model look at time?"""
    report: bool = False
    """Also write report.html into the experiment folder, with the report card and with validation videos."""
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
    from varec_lib.evaluation.metrics import report
    from varec_lib.evaluation.temporal import in_words, temporal_report, time_table, twins_of
    from varec_lib.models.registry import load_plugin

    if (options.checkpoint is None) == (options.zero_shot is None):
        raise ConfigError("Name either a checkpoint, or with --zero_shot a label map for a model that nobody trained.")
    if options.model and options.checkpoint:
        raise ConfigError("--model goes with --zero_shot; a checkpoint says itself which model it is.")
    if options.report_card and options.zero_shot:
        raise ConfigError("--report_card goes with a checkpoint, not with --zero_shot.")
    options.report_card |= options.report
    if options.plugin:
        load_plugin(options.plugin)
    made_possible(options.csv)
    with notes_aside(options.json):
        data, own = _dataset(options)
        if options.report and (own is None or options.split != "test"):
            raise ConfigError("--report goes with an experiment folder that is tested on its own test videos.")
        orders = _evaluated(options, data)
    predictions = orders["normal"][0]
    if options.csv:
        predictions.as_table().to_csv(options.csv, index=False)
    results = report(predictions)
    if options.report_card:
        results |= {"temporal": temporal_report(orders), "temporal_words": in_words(orders)}
    if options.json:
        print(json.dumps(results))
    else:
        _print(predictions, results, options)
    if options.report_card and not options.json:
        table = time_table(orders, twins_of(predictions.classes))
        print("", table.round(3).to_string(), "", *results["temporal_words"], sep="\n")
    with notes_aside(options.json):
        _keep(own, predictions, results, options)
        if options.report:
            _report(own, options)
    return 0


def _evaluated(options: Options, data: Path) -> dict[str, list[Any]]:
    """Predictions by order of frames: only the normal one without --report_card."""
    from varec_lib.evaluation.temporal import ORDERS, time_orders
    from varec_lib.evaluation.zero_shot import evaluate_zero_shot

    names = ("split", "views", "crops", "protocol", "batch_size", "num_workers", "precision", "strict", "ucf_split")
    how = {name: getattr(options, name) for name in names}
    if options.zero_shot:
        return {"normal": [evaluate_zero_shot(options.model or "i3d", data, options.zero_shot, **how)]}
    return time_orders(options.checkpoint, data, list(ORDERS) if options.report_card else ["normal"], **how)


def _print(predictions: Any, results: dict[str, Any], options: Options) -> None:
    from varec_lib.evaluation.metrics import per_class

    scores, (low, high) = per_class(predictions), results["top1_ci95"]
    print(scores[scores["videos"] > 0].round(3).to_string() if options.zero_shot else scores.round(3).to_string())
    k = results["top5_counts_classes"]
    seen = f"{results['views']} view(s) and {results['crops']} crop(s) each"
    print(
        f"\n{results['num_videos']} videos of {options.split}, {seen}\n"
        f"top-1 {results['top1']:.3f} (95 % interval {low:.3f} to {high:.3f}, by groups)   "
        f"top-{k} {results['top5']:.3f}"
    )
    if predictions.logits.shape[1] > 1:
        print(f"of single clips: top-1 {results['clip_top1']:.3f}   top-{k} {results['clip_top5']:.3f}")


def _keep(own: Any, predictions: Any, results: dict[str, Any], options: Options) -> None:
    """Keeps an experiment's scores, and its report card in `results.json` and as a picture, in its folder."""
    if own is None or options.protocol == "published" or options.ucf_split not in (None, own.config.ucf_split):
        return
    try:
        predictions.save(own.predictions(options.split))
        if options.report_card and options.split == "test" and (own.folder / "results.json").is_file():
            from varec_lib import plots  # matplotlib, which a plain evaluation needs not
            from varec_lib.evaluation import figures

            own.write_results(own.results | {name: results[name] for name in ("temporal", "temporal_words")})
            plots.save(figures.report_card(results["temporal"]), own.folder / "plots" / "report_card.png")
    except OSError as error:
        print(f"{own.folder}: nothing is kept there, it cannot be written ({error.strerror}).")


def _report(own: Any, options: Options) -> None:
    from varec_lib.commands import report
    from varec_lib.evaluation.apply import evaluate_checkpoint

    if not own.predictions("val").is_file():
        how = {name: getattr(options, name) for name in ("views", "crops", "batch_size", "num_workers", "precision")}
        found = evaluate_checkpoint(options.checkpoint, own.config.data_dir, split="val", **how)
        found.save(own.predictions("val"))
    report.run(report.Options(own.folder))


def _dataset(options: Options) -> tuple[Path, Any]:
    """The dataset to test on, and the experiment if it was trained on it; says aloud where it is another one."""
    from varec_lib.training.experiment import Experiment

    file = options.checkpoint or Path()
    folder = file if file.is_dir() else file.parents[1] if len(file.parents) > 1 else file
    if not options.checkpoint or not (folder / "config.json").is_file():
        return options.data or Path("data/stick_actions"), None
    experiment = Experiment(folder)
    own = experiment.config.data_dir
    if options.data and own.resolve() != options.data.resolve():
        print(f"Tested on {options.data}; it was trained on {own}.")
        return options.data, None
    if not own.is_dir():
        raise ConfigError(f"{own}: the data that {folder.name} was trained on is not there. Name it with --data.")
    try:
        made_possible(experiment.predictions(options.split))
    except ConfigError as error:
        print(f"{error} Nothing of this evaluation is kept there.")
        experiment = None
    return own, experiment
