"""An answer that grows with a video: its frames come one by one, and windows of them go through the model."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from varec_lib.data.clip_spec import ClipSpec
from varec_lib.errors import ConfigError

Top = list[tuple[str, float]]  # classes and their probabilities, best first
UNKNOWN_RATE = 25.0  # fps of a file that does not tell, for the times of segments
SLACK_S, LONGEST_FRAME_S = 0.05, 60.0  # timestamps may differ from the rate by so much; a longer gap is damage
WINDOW_S, WINDOW_FRAMES = 4.0, 1000  # length of a segment for a model that takes frames from all over a video, at most
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

    `unlike` says whether it is unlike anything the model was trained on, None where nobody measured that. A video that
    cannot be read has a sentence in `error` instead.
    """

    path: Path
    top: Top
    segments: list[Segment] = field(default_factory=list)
    error: str = ""
    unlike: bool | None = None


def best(probabilities: torch.Tensor, classes: list[str], top: int) -> Top:
    """The `top` most probable classes of probabilities `(K,)`, all of them if there are fewer."""
    if top < 1:
        raise ConfigError(f"top is {top}, but must be at least 1.")
    values, numbers = probabilities.topk(min(top, len(classes)))
    return list(zip([classes[i] for i in numbers.tolist()], values.tolist(), strict=True))


class Clock:
    """When a video shows its frames, in seconds from the first: at its `rate`, until the file's timestamps differ.

    Cameras slow down in the dark; the rate of a file is then their mean, or what they can do by day. Timestamps that
    make no sense are not trusted, nor any after them.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.count, self.trusts_timestamps = rate, 0, True
        self.start_s = self.timestamp_s = self.drift_s = self.latest_s = 0.0

    @property
    def now_s(self) -> float:
        """The time of the frame that is next, or of the end."""
        return max(self.count / self.rate + self.drift_s, self.latest_s)

    def tick(self, timestamp_s: float) -> float:
        """The time of the next frame, which the file says is shown at `timestamp_s`."""
        if self.count == 0:
            self.start_s = timestamp_s
        else:
            step_s = timestamp_s - self.timestamp_s
            self.trusts_timestamps = self.trusts_timestamps and 0 < step_s < LONGEST_FRAME_S
        error_s = timestamp_s - self.start_s - (self.count / self.rate + self.drift_s)
        if self.trusts_timestamps and abs(error_s) > SLACK_S:
            self.drift_s += error_s
        self.timestamp_s, self.latest_s = timestamp_s, self.now_s
        self.count += 1
        return self.latest_s


class Windows:
    """Windows of a video, scored as its frames arrive; it never holds more frames than one window has.

    A window is as long as the clips the model was trained on where these are dense; for a model that takes frames from
    all over a video it has `seconds`. The next one starts `hop` windows later: 1 puts them side by side, 0.5 lets each
    share half of its frames with the one before, or fewer where windows would then start less than `apart_s` apart.
    Of a video of more than `frames` (0: unknown) they are further apart, so that there are not more than MOST_WINDOWS.
    `native_fps` is the video's rate before it was thinned out to the specification's, 0 where it is unknown. `score`
    gives the probabilities `(K,)` of uint8 clips `(V, T, C, H, W)`; `distance` how far they are from the training, or
    None; it is kept in `distances`.
    `on_window` is called with each window's segment and clip, uint8 `(T, C, H, W)`; what it returns is kept in `kept`.
    """

    def __init__(
        self,
        clip_spec: ClipSpec,
        classes: list[str],
        score: Callable[[torch.Tensor], torch.Tensor],
        *,
        native_fps: float,
        distance: Callable[[torch.Tensor], float | None] = lambda clips: None,
        frames: int = 0,
        top: int = 5,
        seconds: float = 0.0,
        hop: float = 0.5,
        apart_s: float = 1.0,
        on_window: Callable[[Segment, torch.Tensor], Any] | None = None,
    ) -> None:
        self.clip_spec, self.classes, self.score, self.top = clip_spec, classes, score, top
        self.on_window, self.distance = on_window, distance
        self.rate = native_fps if native_fps > 0 else UNKNOWN_RATE
        if 0 < clip_spec.fps < native_fps:  # of the frames that are kept
            self.rate = clip_spec.fps
        dense = clip_spec.num_frames * clip_spec.stride
        usual = min(WINDOW_S * self.rate, WINDOW_FRAMES)
        length = dense if clip_spec.sampling == "dense" else round(seconds * self.rate or usual)
        self.length = max(length, clip_spec.num_frames)
        self.hop = max(round(hop * self.length), min(round(apart_s * self.rate), self.length), 1)
        self.expected = round(frames * min(self.rate / native_fps, 1)) if native_fps > 0 else frames
        self.hop = max(self.hop, -((self.length - self.expected) // (MOST_WINDOWS - 1)))
        self.latest: deque[np.ndarray] = deque(maxlen=self.length)
        self.times: deque[float] = deque(maxlen=self.length)  # of these
        self.clock = Clock(self.rate)
        self.segments: list[Segment] = []
        self.parts: list[torch.Tensor] = []
        self.kept: list[Any] = []
        self.distances: list[float] = []
        self.scored = 0

    @property
    def share(self) -> float:
        """How much of the expected frames has come, 0 where none were expected."""
        return min(self.clock.count / self.expected, 1.0) if self.expected else 0.0

    def add(self, frame: np.ndarray, timestamp_s: float = 0.0) -> None:
        """The next frame, RGB `(H, W, 3)` uint8, and the time in seconds that the file gives it, 0 where none."""
        self.times.append(self.clock.tick(timestamp_s))
        self.latest.append(frame)
        count = self.clock.count
        if count >= self.length and (count - self.length) % self.hop == 0:
            self._score()
            if len(self.parts) > MOST_WINDOWS:  # the video has more frames than its header promised
                self.hop *= 2
                for kept in (self.parts, self.segments, self.kept):
                    del kept[1::2]

    def mean(self) -> Top:
        """The most probable classes of all windows so far; empty before the first."""
        return best(torch.stack(self.parts).mean(dim=0), self.classes, self.top) if self.parts else []

    def finish(self) -> tuple[Top, list[Segment]]:
        """The mean over all windows, and each; frames left over make a last window that ends with the video.

        Only the last eighth of a window may remain unseen: as a window of its own it would tell nothing new.
        """
        if not self.parts or self.clock.count - self.scored > self.length // 8:
            self._score()
        return self.mean(), self.segments

    def _score(self) -> None:
        frames = [self.latest[i] for i in self.clip_spec.indices(len(self.latest))]
        clip = self.clip_spec.crop(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
        part = self.score(clip[None])
        self.scored = self.clock.count
        segment = Segment(self.times[0], self.clock.now_s, best(part, self.classes, self.top))
        if (far := self.distance(clip[None])) is not None:
            self.distances.append(far)
        self.parts.append(part)
        self.segments.append(segment)
        if self.on_window:
            self.kept.append(self.on_window(segment, clip))
