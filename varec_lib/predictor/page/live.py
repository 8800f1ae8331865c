"""Live answers as a widget: the camera's picture, and what a model says of its newest seconds (notebook 07)."""

import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from traitlets.log import get_logger

from varec_lib.errors import VarecError
from varec_lib.evaluation.metrics import NEVER_SURE
from varec_lib.models.checkpoint import LoadedModel, load_checkpoint
from varec_lib.predictor.live import SECONDS, LiveStream
from varec_lib.predictor.page.messages import MessageWidget, joined
from varec_lib.predictor.windows import best

THRESHOLD = 0.7  # where validation videos do not tell when answers are right
LARGEST = 512  # pixels of a frame's shorter side that are taken
HELD = 4  # frames that wait for a model that is slower than the camera, of one that encodes them one by one


class LivePredictor(MessageWidget):
    """What a model says of the newest `seconds` before a camera, as often as this machine can.

    `model` is a loaded one, or a checkpoint file or experiment folder. The page says nothing while the best class has
    less than `threshold`, by default the probability from which answers to validation videos were right nine times in
    ten, or 0.7 where that is not known. Frames are looked at in a thread, and forgotten.
    """

    _esm = joined("elements camera live")

    classes = traitlets.List().tag(sync=True)
    threshold = traitlets.Float().tag(sync=True)
    seconds = traitlets.Float().tag(sync=True)  # of a clip
    fps = traitlets.Float().tag(sync=True)  # frames a second that are worth sending
    side = traitlets.Int().tag(sync=True)  # pixels of their shorter side

    def __init__(
        self, model: LoadedModel | Path | str, *, seconds: float = SECONDS, threshold: float | None = None
    ) -> None:
        """Raises `VarecError` for a checkpoint that cannot be used."""
        self._came, self._closed = threading.Event(), threading.Event()
        loaded = model if isinstance(model, LoadedModel) else load_checkpoint(model).on_device()
        self.stream = LiveStream(loaded, seconds=seconds)
        known = loaded.checkpoint.metrics.get("sure_above", NEVER_SURE)
        default = known if known < NEVER_SURE else THRESHOLD
        super().__init__(
            classes=loaded.classes,
            threshold=default if threshold is None else threshold,
            seconds=self.stream.length_s,
            fps=self.stream.fps,
            side=min(2 * max(loaded.clip_spec.frame_size), LARGEST),
        )
        self._waiting: deque[tuple[float, np.ndarray]] = deque(maxlen=HELD if self.stream.by_frame else None)
        self._worker: threading.Thread | None = None

    def close(self) -> None:
        """Ends the thread, and takes the widget off the page."""
        self._closed.set()
        self._came.set()
        super().close()

    def _do_begin(self, *_: Any) -> None:
        self._waiting.clear()

    def _do_frame(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        size = int(content["height"]), int(content["width"]), 4
        self._waiting.append((float(content["time_s"]), np.frombuffer(buffers[0], np.uint8).reshape(size)))
        self.send({"kind": "taken"})
        self._came.set()
        if self._worker is None:
            self._worker = threading.Thread(target=self._answer_all, daemon=True)
            self._worker.start()

    def _answer_all(self) -> None:
        while self._came.wait() and not self._closed.is_set():
            self._came.clear()
            try:
                self._answer()
            except VarecError as error:
                self.send({"kind": "problem", "sentence": str(error)})
            except Exception:  # which would end the thread without a word
                get_logger().exception("A frame of the camera could not be answered.")
                self.send({"kind": "problem", "sentence": "Something went wrong here; the log says what."})

    def _answer(self) -> None:
        """Takes the frames that wait, and answers for the newest clip."""
        latest_s = None
        while self._waiting:
            latest_s, pixels = self._waiting.popleft()
            self.stream.add(pixels[..., :3], latest_s)
        if latest_s is not None and (found := self.stream.answer()) is not None:
            self.send({"kind": "answer", "time_s": latest_s, "top": best(found, self.classes, len(self.classes))})
