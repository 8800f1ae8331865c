"""The `varec` command: it parses and calls, nothing more."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import tyro

from varec_lib.commands import Bench, Course, DataCheck, DataDemo, DataStore, Evaluate, Predict
from varec_lib.config import TrainConfig
from varec_lib.errors import ResumeError, VarecError


def _train(config: TrainConfig) -> int:
    from accelerate import PartialState

    from varec_lib.training.loop import train

    experiment = train(config)
    if PartialState().is_main_process:
        print(f"Wrote {experiment.folder}")
    return 130 if experiment.results["stopped"] == "interrupted" else 0


def _resumed(argv: list[str]) -> TrainConfig | None:
    """The settings of the experiment that --resume names: they are the defaults of all other flags then."""
    words = [word for argument in argv for word in argument.split("=", 1)]
    if "--resume" not in words[:-1]:
        return None
    file = Path(words[words.index("--resume") + 1]) / "config.json"
    if not file.is_file():
        raise ResumeError(f"{file.parent}: not an experiment folder (it has no config.json).")
    return TrainConfig.load(file)


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


def _data_store(command: DataStore) -> int:
    import time

    from varec_lib.data.manifest import load_manifest
    from varec_lib.data.store import FrameStore, gigabytes

    options = {name: getattr(command, name) for name in ("frame_size", "short_side", "fps", "store", "store_dir")}
    store = FrameStore.of(TrainConfig(data_dir=command.data, **options))
    start = time.perf_counter()
    good, bad = store.update(load_manifest(command.data, ucf_split=command.ucf_split))
    total, unused = store.used_bytes()
    frames = int(store.frames_of(good).frames.sum())
    print(
        f"Frame store {store}: {len(good)} videos, {frames} frames, {gigabytes(total)}, "
        f"{time.perf_counter() - start:.1f} s"
    )
    if unused:
        print(f"{gigabytes(unused)} belong to videos that have changed since; to free them, delete {store.folder}.")
    for problem in bad["problem"]:
        print(problem)
    return 1 if len(bad) else 0


def _bench(command: Bench) -> int:
    from varec_lib.training.bench import advice, bench

    with _quiet_stdout(command.json):
        measured = bench(command.config, command.steps, command.rounds, against_stock=command.against_stock)
    if command.json:
        print(json.dumps(measured))
        return 0
    for name, value in measured.items():
        print(f"{name:28s} {value:.4g}" if isinstance(value, float) else f"{name:28s} {value}")
    print(advice(measured))
    return 0


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
    "data store": (DataStore, _data_store, "Decode a dataset once, for fast training."),
    "bench": (Bench, _bench, "Measure where the time of a training goes."),
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
    argv = argv[len(name.split()) :]
    try:
        resumed = _resumed(argv) if kind is TrainConfig else None
        defaults = {"default": resumed} if resumed else {}
        command = tyro.cli(kind, prog=f"varec {name}", description=description, args=argv, **defaults)
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
