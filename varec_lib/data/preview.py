"""A small copy of a video that every browser plays, made of the frames that the model is given too."""

import logging
import os
import sys
import tempfile
from contextlib import ExitStack, closing

import imageio_ffmpeg
import numpy as np

from varec_lib.data.picture import shrunk

LONGEST_S = 20.0
BOX = (360, 480)  # height and width, at most
FPS = 25.0
MOST_BYTES = 1_500_000  # in one message; Jupyter's limit of data is 1 MB a second, averaged over three
OPTIONS = (
    f"-deadline realtime -cpu-used 8 -threads 1 -fs {MOST_BYTES - 200_000} -cluster_size_limit 50000 -f webm".split()
)


def preview_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the preview of such frames: inside `BOX`, and even, as VP8 stores it."""
    scale = min(BOX[0] / height, BOX[1] / width, 1.0)
    return tuple(max(round(side * scale) // 2 * 2, 2) for side in (height, width))


class Preview:
    """Encodes the start of a video as WebM (VP8), without sound: `LONGEST_S` and `MOST_BYTES` at most.

    A context manager: what it keeps in the temporary folder is gone when it is left. What cannot be encoded, for want
    of room or of ffmpeg, is logged and has an empty preview: it never fails what it is a preview of.
    """

    def __init__(self) -> None:
        self.files, self.encoder, self.written, self.ended = ExitStack(), None, 0, False
        self.start_s = 0.0

    def __enter__(self) -> "Preview":
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def add(self, frame: np.ndarray, time_s: float) -> None:
        """The next frame, RGB `(H, W, 3)` uint8, shown at `time_s` in seconds; the first one may begin anywhere."""
        if not self.written:
            self.start_s = time_s
        copies = (
            round(min(time_s - self.start_s, LONGEST_S) * FPS) + 1 - self.written
        )  # none of a frame that comes too soon
        if copies < 1 or self.ended:
            return
        try:
            if self.encoder is None:
                self._start(frame)
            picture = np.ascontiguousarray(shrunk(frame, self.size))
            for _ in range(copies - 1):  # the frame before is shown until now
                self.encoder.send(self.picture)
            self.encoder.send(picture)
            self.picture, self.written = picture, self.written + copies
        except (OSError, RuntimeError):  # also the end of ffmpeg, when the file is as large as it may be
            self.ended = True
            if not self.written:
                logging.getLogger(__name__).warning("A preview could not be made.", exc_info=True)

    def _start(self, frame: np.ndarray) -> None:
        # Without a name, where the system can do without: of a process that is killed nothing stays.
        nameless = sys.platform == "linux"
        self.file = self.files.enter_context(tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile())
        path = f"/proc/{os.getpid()}/fd/{self.file.fileno()}" if nameless else self.file.name
        self.size = preview_size(*frame.shape[:2])
        self.encoder = self.files.enter_context(closing(imageio_ffmpeg.write_frames(
            path, self.size[::-1], fps=FPS, codec="libvpx", macro_block_size=2, bitrate="500k",
            ffmpeg_log_level="quiet", ffmpeg_timeout=5, output_params=OPTIONS,
        )))  # fmt: skip
        self.encoder.send(None)

    def finish(self) -> bytes:
        """The encoded file; empty where no frame came, or none could be encoded."""
        if not self.written:
            return b""
        self.encoder.close()
        self.file.seek(0)
        return self.file.read(MOST_BYTES)
