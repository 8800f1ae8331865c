"""The answer to one video of unknown origin: its windows, how far they reach, and how much to trust them."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from varec_lib.data.findings import cut_short
from varec_lib.data.preview import Preview
from varec_lib.data.video import damage
from varec_lib.evaluation.intervals import wilson_interval
from varec_lib.predictor.page.samples import as_jpeg
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.sandbox import GuardedVideo, Limits
from varec_lib.predictor.windows import Prediction, Segment, Top

MOST_PICTURES = 16  # of a window
TOLD_EVERY_S = 0.25


@dataclass(frozen=True)
class Progress:
    """How far an answer is: the share done (0: unknown), the seconds left (None: unknown), and the answer so far.

    `top` is the mean of the windows up to `reached_s` seconds of the video, empty before the first.
    """

    share: float
    left_s: float | None
    top: Top
    reached_s: float


@dataclass(frozen=True)
class Answer:
    """What a model says of a video; `pictures` are JPEGs of the frames of each window that it saw.

    `sure_above` is the model's line of trust, None where nobody measured it; `rests_on` are the validation videos above
    it: how many there were, how many of them were right, and the interval of that share.
    """

    prediction: Prediction
    seconds: float  # from the open file to the answer
    sentence: str  # what is to be known of it
    clip_frames: int  # of a window that the model saw
    pictures: list[list[bytes]]
    sure_above: float | None = None
    rests_on: dict[str, Any] | None = None

    @property
    def sure(self) -> bool | None:
        """Whether it is as sure as the model was where it was right, of a video like those; None: not measured."""
        if self.sure_above is None:
            return None
        return self.prediction.top[0][1] >= self.sure_above and not self.prediction.unlike


def answer(
    file: BinaryIO,
    predictor: Predictor,
    limits: Limits,
    told: Callable[[Progress], None],
    *,
    cancelled: threading.Event,
    wants_preview: bool,
) -> tuple[Answer, bytes]:
    """The answer to an open video, and its preview where one is wanted; `told` hears of its progress.

    Raises `VideoError` with a sentence that names no file, and `Cancelled`.
    """
    clips, start = predictor.model.clip_spec, time.perf_counter()
    with ExitStack() as stack:
        preview = stack.enter_context(Preview())
        video = stack.enter_context(GuardedVideo(
            file, short_side=clips.short_side, rate=clips.fps, limits=limits, cancelled=cancelled, preview=wants_preview
        ))  # fmt: skip
        windows = predictor.windows(fps=video.fps, promised_s=video.promised_s, on_window=_pictures)
        told_at = start
        for frame in video:
            # Whole pictures can be large: those of a model that wants them whole are made small as they come.
            windows.add(frame if clips.short_side else _cropped(frame, predictor), video.time_s)
            if video.larger is not None:
                preview.add(video.larger, video.time_s)
            now = time.perf_counter()
            if now - told_at > TOLD_EVERY_S:
                told_at, share = now, windows.share
                left_s = (now - start) * (1 / share - 1) if share > 0 else None
                told(Progress(share, left_s, windows.mean(), windows.segments[-1].end_s if windows.segments else 0.0))
        top, segments = windows.finish(video.ends_s)
        seconds, encoded = time.perf_counter() - start, preview.finish()
    found = Answer(
        Prediction(Path(), top, segments, unlike=predictor.unlike(windows.distances), lost=video.lost),
        seconds,
        _left_out(video),
        clips.num_frames,
        windows.kept,
        *_line_of_trust(predictor.model.checkpoint.metrics),
    )
    return found, encoded


def _pictures(_: Segment, clip: torch.Tensor) -> list[bytes]:
    """JPEGs of a window's clip, uint8 `(T, C, H, W)`."""
    chosen = np.linspace(0, len(clip) - 1, min(len(clip), MOST_PICTURES)).round().astype(int)
    return [as_jpeg(clip[i]) for i in chosen]


def _line_of_trust(metrics: dict[str, Any]) -> tuple[float | None, dict[str, Any] | None]:
    """From which probability on a model is sure, and the validation videos that this rests on."""
    sure_above, right, videos = (metrics.get(name) for name in ("sure_above", "sure_right", "sure_videos"))
    rests_on = None
    if isinstance(right, int) and isinstance(videos, int) and 0 < videos >= right >= 0:
        low, high = wilson_interval(right, videos)
        rests_on = {"right": right, "videos": videos, "low": float(low), "high": float(high)}
    return (sure_above if isinstance(sure_above, int | float) else None), rests_on


def _left_out(video: GuardedVideo) -> str:
    """What is to be known of an answer that does not rest on the whole video; empty where it does."""
    if video.cut:
        return f"Only its first {video.ends_s:.0f} seconds were looked at."
    if cut_short(video.ends_s, video.promised_s):
        reached, promised = f"{video.ends_s:.1f}", f"{video.promised_s:.1f}"
        return f"Its pictures end after {reached} of the {promised} seconds that it should have; it may be cut short."
    return f"{damage(video.lost)}." if video.lost else ""


def _cropped(frame: np.ndarray, predictor: Predictor) -> np.ndarray:
    clip = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
    return predictor.model.clip_spec.crop(clip).permute(1, 2, 0).numpy()
