"""`varec evaluate`: tests a checkpoint, or a published model that nobody trained here, on a dataset."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.commands.output import made_possible, notes_aside
from varec_lib.config import Count, OptionalPath, Precision, Settings, Whole
from varec_lib.errors import ConfigError

SHOWN = ("split", "views", "crops", "protocol", "batch_size", "num_workers", "precision", "strict")  # how clips are
HARD = 6  # videos whose heat maps the report shows


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
    unknown: OptionalPath = None
    """Dataset with classes that the model was not trained on: how sure is it of their videos?"""
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
    from varec_lib.evaluation.apply import evaluate_checkpoint
    from varec_lib.evaluation.calibration import none_of_these
    from varec_lib.evaluation.metrics import report
    from varec_lib.evaluation.temporal import in_words, temporal_report, time_table, twins_of
    from varec_lib.models.registry import load_plugin

    if (options.checkpoint is None) == (options.zero_shot is None):
        raise ConfigError("Name either a checkpoint, or with --zero_shot a label map for a model that nobody trained.")
    if options.model and options.checkpoint:
        raise ConfigError("--model goes with --zero_shot; a checkpoint says itself which model it is.")
    if (options.report_card or options.unknown) and options.zero_shot:
        raise ConfigError("--report_card and --unknown go with a checkpoint, not with --zero_shot.")
    options.report_card |= options.report
    if options.plugin:
        load_plugin(options.plugin)
    made_possible(options.csv)
    with notes_aside(options.json):
        data, own = _dataset(options)
        if options.report and not (_is_kept(own, options) and options.split == "test"):
            raise ConfigError(
                "--report goes with an experiment folder that is tested on its own test videos and clips."
            )
        orders = _evaluated(options, data)
        found = {options.split: orders["normal"][0]}
        if options.unknown:
            how = {name: getattr(options, name) for name in SHOWN}
            found["unknown"] = evaluate_checkpoint(options.checkpoint, options.unknown, unknown=True, **how)
    predictions = found[options.split]
    if options.csv:
        predictions.as_table().to_csv(options.csv, index=False)
    results = report(predictions)
    if options.report_card:
        results |= {"temporal": temporal_report(orders), "temporal_words": in_words(orders)}
    if options.unknown:
        results["unknown"] = none_of_these(predictions, found["unknown"])
    if options.json:
        print(json.dumps(results))
    else:
        _print(predictions, results, options)
    if options.report_card and not options.json:
        table = time_table(orders, twins_of(predictions.classes))
        print("", table.round(3).to_string(), "", *results["temporal_words"], sep="\n")
    with notes_aside(options.json):
        _keep(own, found, results, options)
        if options.report:
            _report(own, predictions, options)
    return 0


def _evaluated(options: Options, data: Path) -> dict[str, list[Any]]:
    """Predictions by order of frames: only the normal one without --report_card."""
    from varec_lib.evaluation.temporal import ORDERS, time_orders
    from varec_lib.evaluation.zero_shot import evaluate_zero_shot

    how = {name: getattr(options, name) for name in (*SHOWN, "ucf_split")}
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
    if told := results.get("unknown"):
        print(
            f"\n{told['videos']} videos of unknown classes: the top probability tells them from known ones with an "
            f"AUROC of {told['auroc']:.3f};\na threshold that 95 % of the known ones reach accepts "
            f"{told['accepted']:.0%} of them."
        )


def _is_kept(own: Any, options: Options) -> bool:
    """Whether this is an evaluation of an experiment's own clips and official list, which its folder keeps."""
    return own is not None and options.protocol == "own" and options.ucf_split in (None, own.config.ucf_split)


def _keep(own: Any, found: dict[str, Any], results: dict[str, Any], options: Options) -> None:
    """Keeps an experiment's scores, and its report card in `results.json` and as a picture, in its folder."""
    if not _is_kept(own, options):
        return
    try:
        for name, predictions in found.items():
            predictions.save(own.predictions(name))
        if options.report_card and options.split == "test" and (own.folder / "results.json").is_file():
            from varec_lib import plots  # matplotlib, which a plain evaluation needs not
            from varec_lib.evaluation import figures

            own.write_results(own.results | {name: results[name] for name in ("temporal", "temporal_words")})
            plots.save(figures.report_card(results["temporal"]), own.folder / "plots" / "report_card.png")
    except OSError as error:
        print(f"{own.folder}: nothing is kept there, it cannot be written ({error.strerror}).")


def _report(own: Any, predictions: Any, options: Options) -> None:
    from varec_lib.commands import report
    from varec_lib.evaluation.apply import evaluate_checkpoint

    if not own.predictions("val").is_file():
        how = {name: getattr(options, name) for name in SHOWN} | {"split": "val"}
        evaluate_checkpoint(options.checkpoint, own.config.data_dir, **how).save(own.predictions("val"))
    try:
        _look(own, predictions, options)
    except ConfigError as error:
        print(f"No pictures of where the model looks: {error}")
    report.run(report.Options(own.folder))


def _look(own: Any, predictions: Any, options: Options) -> None:
    """Draws where the model looks in the videos it is least right about, and which test videos are alike to it."""
    from varec_lib import plots
    from varec_lib.data.dataset import VideoFiles, load_views
    from varec_lib.evaluation import figures
    from varec_lib.evaluation.apply import open_split
    from varec_lib.evaluation.explain import clip_embeddings, flat_map, grad_cam

    how = {"precision": options.precision, "strict": options.strict, "protocol": options.protocol, "progress": False}
    model, table = open_split(options.checkpoint, own.config.data_dir, **how)
    hard = predictions.probabilities[range(len(table)), predictions.targets].argsort(kind="stable")[:HARD]
    source = VideoFiles(table.iloc[hard], model.clip_spec)
    clips = [load_views(source, row, model.clip_spec)[0] for row in range(len(hard))]
    answers = zip(table["label"].iloc[hard], predictions.answers[hard], strict=True)
    titles = [label if label == answer else f"{label}\nsaid {answer}" for label, answer in answers]
    shown = figures.heat_over_time(clips, [grad_cam(model, clip) for clip in clips], titles)
    plots.save(shown, own.folder / "plots" / "heat.png")
    xy = flat_map(clip_embeddings(model, table, batch_size=options.batch_size, num_workers=options.num_workers))
    shown = figures.embedding_map(xy, table["label"].tolist(), table["group"].tolist())
    plots.save(shown, own.folder / "plots" / "embeddings.png")


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
