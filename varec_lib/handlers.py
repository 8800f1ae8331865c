"""What each `varec` command does: it calls the library and prints. Returns the exit status.

What a command needs is imported when it runs, so that `varec --help` does not wait for torch.
"""

import json
import sys

from varec_lib.commands import (
    App,
    Bench,
    Course,
    DataCheck,
    DataDemo,
    DataStore,
    Env,
    Evaluate,
    Predict,
    Weights,
    WeightsGet,
)
from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError


def train(config: TrainConfig) -> int:
    """Trains a model; 130 where it was interrupted."""
    from accelerate import PartialState

    from varec_lib.training import loop

    experiment = loop.train(config)
    if PartialState().is_main_process:
        print(f"Wrote {experiment.folder}")
    return 130 if experiment.results["stopped"] == "interrupted" else 0


def evaluate(command: Evaluate) -> int:
    """Prints how a checkpoint or a published model does on a split."""
    from varec_lib.evaluation.evaluate import evaluate_checkpoint
    from varec_lib.evaluation.metrics import per_class, report
    from varec_lib.evaluation.zero_shot import evaluate_zero_shot
    from varec_lib.models.registry import load_plugin

    if command.plugin:
        load_plugin(command.plugin)
    names = ("split", "views", "order", "batch_size", "num_workers", "precision", "strict", "ucf_split")
    options = {name: getattr(command, name) for name in names}
    if (command.checkpoint is None) == (command.zero_shot is None):
        raise ConfigError("Name either a checkpoint, or with --zero_shot a label map for a model that nobody trained.")
    if command.model and command.checkpoint:
        raise ConfigError("--model goes with --zero_shot; a checkpoint says itself which model it is.")
    with _quiet_stdout(command.json):
        if command.zero_shot:
            predictions = evaluate_zero_shot(command.model or "i3d", command.data, command.zero_shot, **options)
        else:
            predictions = evaluate_checkpoint(command.checkpoint, command.data, **options)
    if command.csv:
        predictions.as_table().to_csv(command.csv, index=False)
    results = report(predictions)
    if command.json:
        print(json.dumps(results))
        return 0
    low, high = results["top1_ci95"]
    scores = per_class(predictions)
    print(scores[scores["videos"] > 0].round(3).to_string() if command.zero_shot else scores.round(3).to_string())
    print(
        f"\n{results['num_videos']} videos of {command.split}, {command.views} view(s) each, frames {command.order}\n"
        f"top-1 {results['top1']:.3f} (95 % interval {low:.3f} to {high:.3f}, bootstrap over groups)   "
        f"top-{results['top5_counts_classes']} {results['top5']:.3f}"
    )
    return 0


def predict(command: Predict) -> int:
    """Prints what is in one video or in many; 1 where one cannot be read."""
    from varec_lib.models.registry import load_plugin
    from varec_lib.predictor.predict import as_table, find_videos, predict_videos

    if command.plugin:
        load_plugin(command.plugin)
    videos = find_videos(list(command.videos))
    with _quiet_stdout(command.json):
        predictor = _predictor(command)
    along = command.along or (command.pretrained and not command.whole)
    if len(videos) == 1:  # an error ends the command
        predict = predictor.predict_along if along else predictor.predict
        found = [predict(videos[0], top=command.top)]
    else:
        found = predict_videos(predictor, videos, top=command.top, along=along)
    if command.csv:
        as_table(found).to_csv(command.csv, index=False)
    if command.json:
        print(json.dumps([_as_json(prediction) for prediction in found]))
    elif len(videos) == 1:
        _print_prediction(found[0])
    else:
        print(as_table(found).to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    return 1 if any(prediction.error for prediction in found) else 0


def _predictor(command: Predict):
    from varec_lib.predictor.predict import Predictor

    if (command.checkpoint is None) != command.pretrained:
        raise ConfigError("Name either --checkpoint, or --pretrained for a model that nobody needs to train.")
    if command.model and command.checkpoint:
        raise ConfigError("--model goes with --pretrained; a checkpoint says itself which model it is.")
    if command.along and command.whole:
        raise ConfigError("--along and --whole exclude each other.")
    options = {"views": command.views, "precision": command.precision}
    if command.pretrained:
        return Predictor.pretrained(command.model or "i3d", **options)
    return Predictor.load(command.checkpoint, **options)


def _print_prediction(prediction) -> None:
    print(prediction.path)
    if len(prediction.segments) > 1:
        for segment in prediction.segments:
            best = ", ".join(f"{probability:.0%} {name}" for name, probability in segment.top[:3])
            print(f"{segment.start_s:7.1f} to {segment.end_s:.1f} s  {best}")
        print(f"whole video, mean of {len(prediction.segments)} clips")
    for name, probability in prediction.top:
        print(f"{probability:7.1%}  {name}")


def _as_json(prediction) -> dict:
    def listed(top) -> list[dict]:
        return [{"label": name, "probability": probability} for name, probability in top]

    row = {"video": str(prediction.path)}
    if prediction.error:
        return row | {"error": prediction.error}
    segments = [{"start_s": s.start_s, "end_s": s.end_s, "top": listed(s.top)} for s in prediction.segments]
    return row | {"top": listed(prediction.top)} | ({"segments": segments} if segments else {})


def weights(command: Weights) -> int:
    """Lists published weights."""
    from varec_lib.models.fetch import cached_file
    from varec_lib.models.weights import shown_weights, weights_table

    rows = list(weights_table().values()) if command.all else shown_weights()
    if command.json:
        files = [cached_file(row) for row in rows]
        about = [
            vars(row) | {"source": str(row.source), "file": str(file), "here": file.is_file()}
            for row, file in zip(rows, files, strict=True)
        ]
        print(json.dumps(about))
        return 0
    for row in rows:
        here = "on this machine" if cached_file(row).is_file() else f"not here, {row.megabytes:.0f} MB to download"
        print(f"{row.name}  ({here})")
        print(f"    {row.model}, trained on {row.trained_on}; published accuracy: {row.published}")
        print(f"    SHA-256 {row.sha256[:12]}, licence {row.licence}")
        print(f"    from {row.source}")
    print("\n`varec weights get NAME` fetches one" + ("." if command.all else "; --all lists all of torchvision's."))
    return 0


def weights_get(command: WeightsGet) -> int:
    """Fetches published weights."""
    from varec_lib.models.fetch import fetch
    from varec_lib.models.weights import named_weights

    if not command.names:
        raise ConfigError("Name the weights to fetch: `varec weights` lists them.")
    for row in [named_weights(name) for name in command.names]:
        print(f"{row.name} is at {fetch(row)}")
    return 0


def data_demo(command: DataDemo) -> int:
    """Draws the embedded dataset."""
    from varec_lib.data.stick_actions import generate

    print(f"stick-actions is in {generate(command.out, seed=command.seed)}")
    return 0


def data_check(command: DataCheck) -> int:
    """Prints what a dataset holds and what of it cannot be used; 1 where there is any."""
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


def data_store(command: DataStore) -> int:
    """Decodes a dataset into the frame store; 1 where a video cannot be used."""
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


def bench(command: Bench) -> int:
    """Prints where the time of a training goes."""
    from varec_lib.training.bench import advice
    from varec_lib.training.bench import bench as measure

    with _quiet_stdout(command.json):
        options = {"against_stock": command.against_stock, "to_top1": command.to_top1}
        measured = measure(command.config, command.steps, command.rounds, **options)
    if command.json:
        print(json.dumps(measured))
        return 0
    for name, value in measured.items():
        print(f"{name:28s} {value:.4g}" if isinstance(value, float) else f"{name:28s} {value}")
    print(advice(measured))
    return 0


def env(command: Env) -> int:
    """Prints what this machine and installation are, with warnings in place of what cannot be told."""
    from varec_lib.environment import as_text, environment

    about = environment()
    print(json.dumps(about) if command.json else as_text(about))
    return 0


def course(command: Course) -> int:
    """Runs notebooks; 1 where one failed."""
    from varec_lib import course
    from varec_lib.models.precision import default_device, processor, resolve_precision

    notebooks = course.find_notebooks(list(command.notebooks))
    if command.refresh:
        for notebook in notebooks + course.solutions_of(notebooks):
            course.refresh(notebook)
        return 0
    device = default_device()
    precision = resolve_precision("auto", device)  # now, not after all notebooks have failed at it
    runs = course.run_course(course.parse_parameters(command.parameter, notebooks), command.out)
    print(f"\n{course.closing_table(runs)}\nSeconds on {processor(device)}, computing in {precision}.")
    return 0 if all(run.status == "ok" for run in runs) else 1


def app(command: App) -> int:
    """Serves the predictor as a web page."""
    from varec_lib import course
    from varec_lib.predictor.app import serve

    data_dir = course.dataset_folder(command.data.expanduser().resolve())
    names = ("ip", "port", "token", "password", "no_token", "max_kernels", "idle_minutes", "spare")
    serve(
        command.notebook or course.NOTEBOOKS / "06_video_predictor.ipynb",
        experiments_dir=command.experiments_dir,
        data_dir=data_dir,
        files=command.files,
        open_browser=command.open,
        **{name: getattr(command, name) for name in names},
    )
    return 0


def _quiet_stdout(quiet: bool):
    """With --json, notes go to stderr so that stdout holds nothing but JSON."""
    from contextlib import nullcontext, redirect_stdout

    return redirect_stdout(sys.stderr) if quiet else nullcontext()
