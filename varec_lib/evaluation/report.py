"""One page with all that an evaluation says of a model: `varec report`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from varec_lib import plots
from varec_lib.data.preview import Preview
from varec_lib.data.video import open_video
from varec_lib.errors import VideoError
from varec_lib.evaluation import figures
from varec_lib.evaluation.calibration import (
    accuracy_by_coverage,
    calibration_error,
    fit_temperature,
    none_of_these,
    reliability,
    with_temperature,
)
from varec_lib.evaluation.metrics import Predictions, most_confused, per_class, report, selective
from varec_lib.html import film_strip, inside, picture, write_page

MISTAKES = 8  # shown, the most certain first
STRIP, STRIP_HEIGHT = 8, 96  # frames of a film strip, and their height
CHART = (150, 60)  # width and height of a mistake's probabilities over time


def write_report(
    file: Path,
    results: dict[str, Any],
    test: Predictions,
    val: Predictions | None = None,
    unknown: Predictions | None = None,
    *,
    plots_dir: Path | None = None,
) -> None:
    """Writes the page to `file`: pictures and videos are inside, and nothing is fetched.

    `results` is what `results.json` holds of the training, with `temporal` where `varec evaluate --report_card` made
    it. `val` are predictions for validation videos, on which a temperature is fitted, `unknown` those for videos of
    classes that the model does not know. `plots_dir` may have the pictures that need the network, `heat.png` and
    `embeddings.png`. Files of videos that are gone leave out their pictures. Raises `OSError`.
    """
    found = report(test, results.get("sure_above"))
    file.parent.mkdir(parents=True, exist_ok=True)
    where = f"{found['num_videos']} test videos of {results['data']['dataset']}, {len(test.classes)} classes"
    write_page(
        file,
        "report.html",
        title=f"How good is {results['model']}?",
        summary=f"{where}, {found['views']} view(s) and {found['crops']} crop(s) of each; seed {results['seed']}, "
        f"{results['precision']}.",
        found=found,
        several=test.logits.shape[1] > 1,
        training={
            "parameters": f"{results['num_parameters'] / 1e6:.1f} million",
            "epochs": f"{results['epochs_run']}, the best was {results['best_epoch']}",
            "validation top-1": "none" if results["best_val_top1"] is None else f"{results['best_val_top1']:.3f}",
            "training": f"{results['train_seconds']:.0f} s on {results['processor']}",
            "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        },
        card=picture(figures.report_card(results["temporal"])) if "temporal" in results else "",
        words=results.get("temporal_words", []),
        scores=picture(plots.class_scores(per_class(test))),
        matrix=picture(plots.confusion_matrix(test.confusion(), test.classes)),
        confused=most_confused(test).to_dict(orient="records"),
        mistakes=[_mistake(test, row) for row in _most_certain_mistakes(test)],
        drawn={name: _drawn(plots_dir, name) for name in ("heat", "embeddings")},
        certainty=_certainty(test, val),
        none_of_these=none_of_these(test, unknown) if unknown else {},
        tops=picture(figures.top_probabilities(test, unknown, sure_above=results.get("sure_above"))) if unknown else "",
        coverage=picture(
            figures.coverage(accuracy_by_coverage(test), sure_above=_sure(test, results.get("sure_above")))
        ),
    )


def _drawn(folder: Path | None, name: str) -> str:
    file = folder / f"{name}.png" if folder else None
    return inside("image/png", file.read_bytes()) if file and file.is_file() else ""


def _sure(test: Predictions, threshold: float | None) -> tuple[float, float] | None:
    """Share and accuracy of the answers that count as sure; None where none does."""
    told = selective(test, threshold) if threshold is not None else {"accuracy": None}
    return None if told["accuracy"] is None else (told["coverage"], told["accuracy"])


def _certainty(test: Predictions, val: Predictions | None) -> dict[str, Any]:
    """The reliability diagrams and the numbers under them, before and, with validation videos, after scaling."""
    shown = {"before": picture(figures.reliability(reliability(test), title="as trained"))}
    shown["error"], shown["expected"] = calibration_error(test)
    if val is not None and len(val.table):
        temperature = fit_temperature(val)
        scaled = with_temperature(test, temperature)
        shown |= {"temperature": temperature, "scaled_error": calibration_error(scaled)[0]}
        shown["after"] = picture(figures.reliability(reliability(scaled), title=f"temperature {temperature:.2f}"))
    return shown


def _most_certain_mistakes(test: Predictions) -> list[int]:
    confidence = np.where(test.predicted == test.targets, -1, test.probabilities.max(axis=1))
    order = np.argsort(-confidence, kind="stable")[:MISTAKES]
    return order[confidence[order] >= 0].tolist()


def _mistake(test: Predictions, row: int) -> dict[str, Any]:
    """What the page shows of a video that was answered wrongly."""
    video = test.table.iloc[row]
    strip, preview = _pictures(str(video["path"]), float(video.get("start", 0.0)), float(video.get("end", np.inf)))
    true, said = test.targets[row], test.predicted[row]
    shares = np.exp(test.logits[row] - test.logits[row].max(axis=1, keepdims=True))
    shares = (shares / shares.sum(axis=1, keepdims=True)).reshape(test.views, test.crops, -1).mean(axis=1)  # (V, K)
    return {
        "name": Path(str(video["path"])).name,
        "true": test.classes[true],
        "said": test.classes[said],
        "shares": [test.probabilities[row, said], test.probabilities[row, true]],
        "strip": strip,
        "preview": preview,
        "lines": [_line(shares[:, number]) for number in (said, true)] if test.views > 1 else [],
        "chart": CHART,
    }


def _line(shares: np.ndarray) -> str:
    """Probabilities over the views of a video as points of an SVG polyline."""
    width, height = CHART
    places = np.linspace(4, width - 4, len(shares))
    return " ".join(f"{x:.1f},{height - 4 - share * (height - 8):.1f}" for x, share in zip(places, shares, strict=True))


def _pictures(path: str, start_s: float, end_s: float) -> tuple[str, str]:
    """A film strip and a small copy of a video, as addresses inside a page; empty where it cannot be read."""
    frames, step = [], 1
    with suppress(VideoError), open_video(path) as video, Preview() as preview:
        for number, frame in enumerate(video):
            if frame.time_s >= end_s:
                break
            if frame.time_s < start_s:
                continue
            preview.add(frame.picture(), frame.time_s)
            if number % step == 0:
                frames.append(frame.scaled((STRIP_HEIGHT, max(round(video.width * STRIP_HEIGHT / video.height), 1))))
            if len(frames) == 16 * STRIP:  # of a long video every second one, then every fourth, ...
                frames, step = frames[::2], 2 * step
        content = preview.finish()
        places = np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
        strip = film_strip([frames[place] for place in places]) if frames else ""
        return strip, inside("video/webm", content) if content else ""
    return "", ""
