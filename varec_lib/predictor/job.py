"""One video on its way to an answer, and then with it."""

import threading
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import torch

from varec_lib.predictor.along import Prediction, Segment
from varec_lib.predictor.choices import Choice
from varec_lib.predictor.samples import as_jpeg
from varec_lib.predictor.upload import Upload

MOST_PICTURES = 16  # of a window


@dataclass(eq=False)
class Job:
    """One video: `state` is uploading, waiting, loading (the model), predicting, done, failed or cancelled."""

    key: str
    name: str  # as the page shows it, never a path
    state: str
    upload: Upload | None = None
    file: BinaryIO | None = None
    choice: Choice | None = None
    wants_preview: bool = False
    sentence: str = ""  # why it failed, or what is to be known of the answer
    prediction: Prediction | None = None
    sure_above: float | None = None
    sure_rests_on: dict[str, Any] | None = None  # how many validation videos were that sure, how many of them right
    clip_frames: int = 0  # frames of a window that the model saw
    seconds: float = 0.0  # from the open file to the answer
    pictures: list[list[bytes]] = field(default_factory=list)  # JPEGs of each window's frames
    preview: bytes = b""
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def sure(self) -> bool | None:
        """Whether the answer is as sure as the model was where it was right; None where nobody measured that."""
        if self.sure_above is None or not self.prediction:
            return None
        return self.prediction.top[0][1] >= self.sure_above

    def row(self) -> dict[str, Any]:
        """What a table shows of it."""
        best = self.prediction.top[0] if self.prediction else ("", 0.0)
        return {
            "key": self.key, "name": self.name, "state": self.state, "sentence": self.sentence,
            "model": self.choice.label if self.choice else "", "label": best[0], "share": best[1], "sure": self.sure,
            "seconds": self.seconds, "preview": bool(self.preview),
        }  # fmt: skip

    def see(self, _: Segment, clip: torch.Tensor) -> list[bytes]:
        """Pictures of a window's clip, uint8 `(T, C, H, W)`."""
        self.clip_frames = len(clip)
        chosen = np.linspace(0, len(clip) - 1, min(len(clip), MOST_PICTURES)).round().astype(int)
        return [as_jpeg(clip[i]) for i in chosen]

    def release(self) -> None:
        """Gives the room of the file back."""
        for file in (self.upload, self.file):
            if file:
                file.close()
        self.upload = self.file = None
