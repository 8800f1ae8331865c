"""Answers while a camera runs: what a model says of the newest seconds, again and again (notebook 07)."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from varec_lib.data.picture import shrunk, shrunk_size
from varec_lib.data.sampling import SAME_S
from varec_lib.data.video import open_video
from varec_lib.models.checkpoint import LoadedModel
from varec_lib.models.precision import autocast, resolve_precision

SECONDS = 3.0  # the length of the recorder's clips


class LiveStream:
    """The newest `seconds` of a stream of frames, of which a clip goes through the model at every answer.

    A network with `features_per_frame` encodes each frame once, when it comes, so an answer costs no more than what
    follows: an LSTM's eight steps, say. Any other network sees a whole clip at each answer. A model trained on dense
    clips has their length instead of `seconds`.
    """

    def __init__(self, model: LoadedModel, *, seconds: float = SECONDS) -> None:
        self.model, spec = model, model.clip_spec
        if spec.sampling == "dense":
            fps = spec.fps or spec.num_frames * spec.stride / seconds
            spec, seconds = replace(spec, fps=fps), spec.num_frames * spec.stride / fps
        self.clip_spec, self.length_s = spec, seconds
        self.by_frame = getattr(model.network, "features_per_frame", False)
        self.latest: deque[tuple[float, torch.Tensor]] = deque()

    @property
    def fps(self) -> float:
        """Frames a second that the answers can make use of."""
        return self.clip_spec.fps or max(10.0, 2 * self.clip_spec.num_frames / self.length_s)

    def add(self, frame: np.ndarray, time_s: float) -> None:
        """The next frame, RGB `(H, W, 3)` uint8, and its time; one older than the latest begins a new stream."""
        if self.latest and time_s <= self.latest[-1][0]:
            self.latest.clear()
        frame = shrunk(np.ascontiguousarray(frame), shrunk_size(*frame.shape[:2], self.clip_spec.short_side))
        picture = self.clip_spec.crop(torch.from_numpy(frame).permute(2, 0, 1))  # (C, H, W)
        self.latest.append((time_s, self._encoded(picture) if self.by_frame else picture))
        while len(self.latest) > 1 and self.latest[1][0] <= self._starts_s() + SAME_S:
            self.latest.popleft()

    def answer(self) -> torch.Tensor | None:
        """Probabilities `(K,)` of the newest clip, on the CPU; None until the stream is as long as a clip."""
        starts_s = self._starts_s()
        if not self.latest or self.latest[0][0] > starts_s + SAME_S:
            return None
        times = [0.0, *(time_s - starts_s for time_s, _ in [*self.latest][1:]), self.length_s]
        clip = torch.stack([self.latest[i][1] for i in self.clip_spec.indices(np.array(times))])
        if not self.by_frame:
            return self.model.probabilities(clip[None, None])[0]
        with torch.inference_mode(), self._precision():
            return self.model.network.classify(clip[None])[0].float().softmax(dim=0).cpu()

    def _starts_s(self) -> float:
        """When the newest clip begins: the newest frame is a part of it for as long as the one before was shown."""
        times = [time_s for time_s, _ in self.latest][-2:]
        shown_s = min(times[1] - times[0], 1 / self.fps) if len(times) > 1 else 0.0
        return times[-1] + shown_s - self.length_s if times else 0.0

    def along(self, path: Path | str, *, every_s: float = 0.25) -> Iterator[tuple[float, torch.Tensor]]:
        """What it would have said at a video's times, had that come from a camera: seconds and probabilities `(K,)`.

        Raises `VideoError`.
        """
        self.latest.clear()
        due_s = 0.0
        with open_video(path) as video:
            for frame in video.thinned(self.fps):
                self.add(frame.picture(self.clip_spec.short_side), frame.time_s)
                if frame.time_s >= due_s and (answer := self.answer()) is not None:
                    yield frame.time_s, answer
                    due_s = frame.time_s + every_s - SAME_S

    def _precision(self) -> torch.autocast:
        return autocast(resolve_precision(self.model.precision, self.model.device), self.model.device)

    @torch.inference_mode()
    def _encoded(self, picture: torch.Tensor) -> torch.Tensor:
        """What the network makes of a picture `(C, H, W)` by itself: `(F,)`."""
        with self._precision():
            clip = self.clip_spec.normalise(picture[None, None].to(self.model.device))
            return self.model.network.features(clip)[0, 0].float()
