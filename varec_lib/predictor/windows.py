"""An answer that grows with a video: its frames come one by one, and windows of them go through the model."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from varec_lib.data.clip_spec import ClipSpec
from varec_lib.data.sampling import SAME_S
from varec_lib.errors import ConfigError

Top = list[tuple[str, float]]  # classes and their probabilities, best first
WINDOW_S, WINDOW_FRAMES = 4.0, 1000  # length of a segment for a model that takes frames from all over a video; at most
MOST_WINDOWS = 30  # even, so that the newest stays where every other one is dropped


@dataclass(frozen=True)
class Segment:
    """The most probable classes of a stretch of a video, from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    top: Top


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one video, and of its segments where they were asked for.

    `unlike` says whether it is unlike anything the model was trained on, None where nobody measured that. `lost` counts
    what of it is damaged. A video that cannot be read has a sentence in `error` instead.
    """

    path: Path
    top: Top
    segments: list[Segment] = field(default_factory=list)
    error: str = ""
    unlike: bool | None = None
    lost: int = 0


def best(probabilities: torch.Tensor, classes: list[str], top: int) -> Top:
    """The `top` most probable classes of probabilities `(K,)`, all of them if there are fewer."""
    if top < 1:
        raise ConfigError(f"top is {top}, but must be at least 1.")
    values, numbers = probabilities.topk(min(top, len(classes)))
    return list(zip([classes[i] for i in numbers.tolist()], values.tolist(), strict=True))


class Windows:
    """Windows of a video, scored as its frames arrive; it holds no more frames than one window has, and one.

    A window is as long as the clips the model was trained on where these are dense; for a model that takes frames from
    all over a video it has `seconds` (`WINDOW_S` where 0), and no fewer frames than a clip. The next one starts `hop`
    windows later: 1 puts them side by side, 0.5 lets each share half of its time with the one before, or less where
    windows would then start less than `apart_s` apart. In a video of which `promised_s` is known to be long they are
    further apart, so that there are not more than MOST_WINDOWS. `fps` is the rate of the frames, as far as it is known.
    `score` gives the probabilities `(K,)` of uint8 clips `(V, T, C, H, W)`; `distance` how far they are from the
    training, or None; it is kept in `distances`. `on_window` is called with each window's segment and clip, uint8
    `(T, C, H, W)`; what it returns is kept in `kept`.
    """

    def __init__(
        self,
        clip_spec: ClipSpec,
        classes: list[str],
        score: Callable[[torch.Tensor], torch.Tensor],
        *,
        fps: float,
        distance: Callable[[torch.Tensor], float | None] = lambda clips: None,
        promised_s: float = 0.0,
        top: int = 5,
        seconds: float = 0.0,
        hop: float = 0.5,
        apart_s: float = 1.0,
        on_window: Callable[[Segment, torch.Tensor], Any] | None = None,
    ) -> None:
        self.clip_spec = replace(clip_spec, fps=clip_spec.fps or fps)  # a window's own rate is not the video's
        self.classes, self.score, self.top = classes, score, top
        self.on_window, self.distance, self.promised_s = on_window, distance, promised_s
        rate = min(clip_spec.fps, fps) if clip_spec.fps else fps
        if clip_spec.sampling == "dense":
            self.length_s = clip_spec.num_frames * clip_spec.stride / (clip_spec.fps or fps)
        else:
            self.length_s = max(seconds or min(WINDOW_S, WINDOW_FRAMES / rate), clip_spec.num_frames / rate)
        self.hop_s = max(hop * self.length_s, min(apart_s, self.length_s), 1 / rate)
        self.hop_s = max(self.hop_s, (promised_s - self.length_s) / (MOST_WINDOWS - 1))
        self.frame_s = 1 / rate
        held = max(round(self.length_s * rate), WINDOW_FRAMES) + 1
        self.latest: deque[tuple[float, np.ndarray]] = deque(maxlen=held)
        self.segments: list[Segment] = []
        self.parts: list[torch.Tensor] = []
        self.kept: list[Any] = []
        self.distances: list[float] = []

    @property
    def share(self) -> float:
        """How much of the expected time has come, 0 where none was expected."""
        come_s = self.latest[-1][0] + self.frame_s if self.latest else 0.0
        return min(come_s / self.promised_s, 1.0) if self.promised_s else 0.0

    def add(self, frame: np.ndarray, time_s: float) -> None:
        """The next frame, RGB `(H, W, 3)` uint8, and when it is shown, in seconds from the first one."""
        self._score_until(time_s)
        self.latest.append((time_s, frame))
        while len(self.latest) > 1 and self.latest[1][0] <= time_s - self.length_s + SAME_S:
            self.latest.popleft()

    def _score_until(self, time_s: float) -> None:
        """Scores the windows that are over at this time."""
        while time_s > (start_s := len(self.parts) * self.hop_s) + self.length_s - SAME_S:
            self._score(start_s, start_s + self.length_s)
            if len(self.parts) > MOST_WINDOWS:  # the video is longer than its header promised
                self.hop_s *= 2
                for kept in (self.parts, self.segments, self.kept):
                    del kept[1::2]

    def mean(self) -> Top:
        """The most probable classes of all windows so far; empty before the first."""
        return best(torch.stack(self.parts).mean(dim=0), self.classes, self.top) if self.parts else []

    def finish(self, ends_s: float) -> tuple[Top, list[Segment]]:
        """The mean over all windows, and each, of a video that ends then.

        Frames left over make a last window that ends with the video. Only the last eighth of a window may remain
        unseen: as a window of its own it would tell nothing new.
        """
        self._score_until(ends_s)
        if not self.parts or ends_s - self.segments[-1].end_s > self.length_s / 8 + SAME_S:
            self._score(max(ends_s - self.length_s, 0.0), ends_s)
        return self.mean(), self.segments

    def _score(self, start_s: float, end_s: float) -> None:
        shown = [pair for pair in self.latest if pair[0] < end_s - SAME_S]
        while len(shown) > 1 and shown[1][0] <= start_s + SAME_S:
            del shown[0]
        times = np.array([0.0] + [time_s - start_s for time_s, _ in shown[1:]] + [end_s - start_s])
        frames = [shown[i][1] for i in self.clip_spec.indices(times)]
        clip = self.clip_spec.crop(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
        part = self.score(clip[None])
        segment = Segment(start_s, end_s, best(part, self.classes, self.top))
        if (far := self.distance(clip[None])) is not None:
            self.distances.append(far)
        self.parts.append(part)
        self.segments.append(segment)
        if self.on_window:
            self.kept.append(self.on_window(segment, clip))
