"""The `varec` command: it parses and calls, nothing more."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from varec_lib.config import TrainConfig
from varec_lib.errors import VarecError


@dataclass
class Evaluate:
    """Test a checkpoint on a dataset; prints a report, with --json the same numbers as results.json."""

    checkpoint: Positional[Path]
    """Checkpoint file or experiment folder."""
    data: Path = Path("data/stick_actions")
    """Dataset folder."""
    split: Literal["train", "val", "test"] = "test"
    """Which split to evaluate."""
    views: int = 1
    """Clips per video whose class probabilities are averaged."""
    order: Literal["forward", "reversed", "shuffled"] = "forward"
    """Play the frames backwards or shuffled: does the model look at time?"""
    batch_size: int = 32
    """Videos at a time."""
    num_workers: int = 2
    """Processes that decode videos; 0 decodes in this process."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the arithmetic."""
    ucf_split: int = 1
    """Which official list to use where the folder is UCF-101 itself."""
    strict: bool = False
    """Stop when a video cannot be used instead of leaving it out."""
    plugin: Path | None = None
    """Python file that registers your own models."""
    csv: Path | None = None
    """Also write one row per video to this file."""
    json: bool = False
    """Print JSON only."""


@dataclass
class Predict:
    """Say what is in videos: files, or folders of them."""

    videos: Positional[tuple[Path, ...]]
    """Video files or folders."""
    checkpoint: Path
    """Checkpoint file or experiment folder."""
    top: int = 5
    """How many classes to list."""
    views: int = 1
    """Clips per video whose class probabilities are averaged."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the arithmetic."""
    plugin: Path | None = None
    """Python file that registers your own models."""
    csv: Path | None = None
    """Also write the table to this file."""
    json: bool = False
    """Print JSON only."""


@dataclass
class DataDemo:
    """Draw the embedded dataset, stick-actions: 560 small videos, 8 actions."""

    out: Path = Path("data/stick_actions")
    """Folder to create."""
    seed: int = 0
    """Seed of performers, backgrounds and movements."""


@dataclass
class DataCheck:
    """Open every video of a dataset and list what cannot be used; exits with 1 if there is any."""

    data: Positional[Path]
    """Dataset folder."""
    ucf_split: int = 1
    """Which official list to use where the folder is UCF-101 itself."""


@dataclass
class Course:
    """Run the notebooks with papermill; executed copies, figures and a closing table are left behind."""

    notebooks: Positional[tuple[str, ...]] = ()
    """Numbers or names (02, 05_evaluation); all if none is given."""
    parameter: Annotated[UseAppendAction[list[tuple[str, str]]], arg(aliases=["-p"])] = field(default_factory=list)
    """A parameter of the notebooks and its value; may be repeated."""
    out: Path = Path("runs/course")
    """Folder of the executed notebooks."""
    refresh: bool = False
    """Run notebooks and solutions with their own parameters and save the outputs into notebooks/ itself."""


def _train(config: TrainConfig) -> int:
    from varec_lib.training.loop import train

    experiment = train(config)
    print(f"Wrote {experiment.folder}")
    return 130 if experiment.results["stopped"] == "interrupted" else 0


def _evaluate(command: Evaluate) -> int:
    from varec_lib.evaluation.evaluate import evaluate_checkpoint
    from varec_lib.evaluation.metrics import per_class, report
    from varec_lib.models.registry import load_plugin

    if command.plugin:
        load_plugin(command.plugin)
    with _quiet_stdout(command.json):
        predictions = evaluate_checkpoint(
            command.checkpoint,
            command.data,
            split=command.split,
            views=command.views,
            order=command.order,
            batch_size=command.batch_size,
            num_workers=command.num_workers,
            precision=command.precision,
            strict=command.strict,
            ucf_split=command.ucf_split,
        )
    if command.csv:
        predictions.as_table().to_csv(command.csv, index=False)
    results = report(predictions)
    if command.json:
        print(json.dumps(results))
        return 0
    low, high = results["top1_ci95"]
    print(per_class(predictions).round(3).to_string())
    print(
        f"\n{results['num_videos']} videos of {command.split}, {command.views} view(s) each, frames {command.order}\n"
        f"top-1 {results['top1']:.3f} (95 % interval {low:.3f} to {high:.3f}, bootstrap over groups)   "
        f"top-{results['top5_counts_classes']} {results['top5']:.3f}"
    )
    return 0


def _predict(command: Predict) -> int:
    from varec_lib.models.registry import load_plugin
    from varec_lib.predictor.predict import Predictor, find_videos, predict_videos

    if command.plugin:
        load_plugin(command.plugin)
    videos = find_videos(list(command.videos))
    predictor = Predictor.load(command.checkpoint, views=command.views, precision=command.precision)
    if len(videos) == 1 and not command.csv:
        best = predictor.predict(videos[0], top=command.top)
        if command.json:
            print(json.dumps([{"video": str(best.path), "top": [{"label": n, "probability": p} for n, p in best.top]}]))
        else:
            print(best.path, *(f"{probability:7.1%}  {name}" for name, probability in best.top), sep="\n")
        return 0
    table = predict_videos(predictor, videos, top=command.top)
    if command.csv:
        table.to_csv(command.csv, index=False)
    if command.json:
        print(json.dumps(_as_json(table)))
    else:
        print(table.to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    return 1 if (table["error"] != "").any() else 0


def _as_json(table) -> list[dict]:
    rows = []
    for row in table.to_dict(orient="records"):
        ranks = range(1, sum(key.startswith("top") for key in row) + 1)
        top = [{"label": row[f"top{r}"], "probability": row[f"p{r}"]} for r in ranks if not row["error"]]
        rows.append({"video": row["video"], **({"error": row["error"]} if row["error"] else {"top": top})})
    return rows


def _data_demo(command: DataDemo) -> int:
    from varec_lib.data.stick_actions import generate

    print(f"stick-actions is in {generate(command.out, seed=command.seed)}")
    return 0


def _data_check(command: DataCheck) -> int:
    from varec_lib.data.doctor import check_videos, summary, warnings_of
    from varec_lib.data.manifest import load_manifest

    good, bad = check_videos(load_manifest(command.data, ucf_split=command.ucf_split))
    print(summary(good).to_string())
    if len(good):
        print(
            f"\n{len(good)} usable videos, {good['frames'].min()} to {good['frames'].max()} frames, "
            f"{good['group'].nunique()} groups"
        )
    for warning in warnings_of(good):
        print(f"Note: {warning}")
    for problem in bad["problem"]:
        print(problem)
    if len(bad):
        print(f"{len(bad)} of {len(good) + len(bad)} videos cannot be used.")
    return 1 if len(bad) else 0


def _course(command: Course) -> int:
    from varec_lib import course

    notebooks = course.find_notebooks(list(command.notebooks))
    if command.refresh:
        for notebook in notebooks + course.solutions_of(notebooks):
            course.refresh(notebook)
        return 0
    runs = course.run_course(course.parse_parameters(command.parameter, notebooks), command.out)
    print(f"\n{course.closing_table(runs)}")
    return 0 if all(run.status == "ok" for run in runs) else 1


def _quiet_stdout(quiet: bool):
    """With --json, notes go to stderr so that stdout holds nothing but JSON."""
    from contextlib import nullcontext, redirect_stdout

    return redirect_stdout(sys.stderr) if quiet else nullcontext()


COMMANDS: dict[str, tuple[type, Callable[..., int], str]] = {
    "train": (TrainConfig, _train, "Train a model on a dataset folder."),
    "evaluate": (Evaluate, _evaluate, "Test a checkpoint on a dataset."),
    "predict": (Predict, _predict, "Say what is in a video, or in many."),
    "data demo": (DataDemo, _data_demo, "Draw the embedded dataset."),
    "data check": (DataCheck, _data_check, "Find videos that cannot be used."),
    "course": (Course, _course, "Run the notebooks."),
}


def _usage() -> str:
    lines = [f"  varec {name:12s} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "Recognising human actions in video: the commands behind the course.\n\n" + "\n".join(
        [*lines, "\n`varec COMMAND --help` lists the options of a command."]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 done with problems found, 2 an error of use, 130 Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name = " ".join(argv[:2]) if argv[0] == "data" else argv[0]
    if name not in COMMANDS:
        print(f"varec: there is no command {name!r}.\n\n{_usage()}", file=sys.stderr)
        return 2
    kind, run, description = COMMANDS[name]
    try:
        command = tyro.cli(kind, prog=f"varec {name}", description=description, args=argv[len(name.split()) :])
        return run(command)
    except VarecError as error:
        print(f"varec: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `varec ... | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"varec: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("varec: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
