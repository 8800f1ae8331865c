"""Reading video files: sequential decoding with OpenCV, frames counted by decoding them (notebook 01)."""

import os

# FFmpeg and OpenCV print to stderr from C; what they find wrong is reported by `VideoError` instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from varec_lib.errors import VideoError

VIDEO_EXTENSIONS = frozenset(
    ".avi .mp4 .m4v .mov .mkv .webm .mpg .mpeg .wmv .flv .3gp .ogv .ts .gif".split()
)  # what OpenCV's FFmpeg opens; anything else is refused by name before it is opened


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds: decodable frames, header frame rate in fps, height and width in pixels (upright)."""

    frames: int
    fps: float
    height: int
    width: int


@contextmanager
def _open(path: Path) -> Iterator[cv2.VideoCapture]:
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file. Check the name in the CSV, or the folder.")
    if path.suffix.lower() not in VIDEO_EXTENSIONS:
        raise VideoError(f"{path}: {path.suffix or 'no'} extension is not a known video format.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
    cv2.setNumThreads(1)  # loaders run several of us at once
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise VideoError(f"{path}: not a video that can be decoded. Is it damaged, or another kind of file?")
        yield capture
    finally:
        capture.release()


def probe(path: Path | str) -> VideoInfo:
    """Decodes the whole file once and counts its frames (header counts lie).

    Raises `VideoError` where the file is missing, empty, not a video, or holds no decodable frame.
    """
    with _open(path) as capture:
        if not capture.grab():
            raise VideoError(f"{path}: no frame can be decoded. The file is damaged; copy or download it again.")
        ok, first = capture.retrieve()
        if not ok:
            raise VideoError(f"{path}: the first frame cannot be decoded. Copy or download the file again.")
        frames = 1
        while capture.grab():
            frames += 1
        return VideoInfo(frames, capture.get(cv2.CAP_PROP_FPS), *first.shape[:2])


def read_frames(path: Path | str, indices: Sequence[int]) -> torch.Tensor:
    """The frames with these indices (any order, repeats allowed) as uint8 RGB `(T, C, H, W)`.

    Decodes sequentially up to the last wanted frame and converts only the wanted ones. Raises `VideoError`
    where the file cannot be opened or ends before the last wanted frame.
    """
    wanted = set(indices)
    frames: dict[int, np.ndarray] = {}
    with _open(path) as capture:
        for position in range(max(wanted) + 1):
            if not capture.grab():
                raise VideoError(
                    f"{path}: ends after {position} frames, frame {max(wanted)} was expected. Has it changed?"
                )
            if position in wanted:
                ok, frame = capture.retrieve()
                if not ok:
                    raise VideoError(f"{path}: frame {position} cannot be decoded.")
                frames[position] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return torch.from_numpy(np.stack([frames[i] for i in indices])).permute(0, 3, 1, 2)
