"""How frames get into the store, and what its files look like.

A file holds one video: its kept frames (raw pixels or JPEGs, one after the other), the sizes of the JPEGs (uint32), the
times of all its frames and of its end (float64, seconds), and at the end its facts as JSON with their length (uint32).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from varec_lib.data.video import VideoInfo, open_video
from varec_lib.errors import VideoError
from varec_lib.files import replacing

JPEG_QUALITY = 90
MOST_FACTS = 4096  # bytes


@dataclass(frozen=True, kw_only=True)
class StoredVideo(VideoInfo):
    """Facts of a video in the store: of the file it comes from, and of what is stored."""

    name: str  # below the dataset folder
    kept: int = 0  # frames that are stored
    stored_height: int = 0
    stored_width: int = 0
    frame_bytes: int = 0  # of all kept frames together

    @classmethod
    def read(cls, file: Path, form: str) -> "StoredVideo | None":
        """The facts at the end of a file of the store; None where there is none, or a damaged one."""
        try:
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                tail = os.pread(stream.fileno(), MOST_FACTS, max(size - MOST_FACTS, 0))
                length = int.from_bytes(tail[-4:], "little")
                facts = json.loads(tail[-4 - length : -4])
                known = 8 * (facts.get("frames", -1) + 1)
                start = size - 4 - length - known
                times = np.frombuffer(os.pread(stream.fileno(), known, max(start, 0)), np.float64)
            found = cls(**facts, times=times)
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return found if start == found.frame_bytes + (4 * found.kept if form == "jpeg" else 0) else None


def store_video(path: str, rate: float, name: str, file: Path, *, short_side: int, fps: float, form: str) -> None:
    """Decodes a video into its file of the store, or writes there why it cannot be used. Raises `OSError`.

    `rate` is that of a folder of pictures, as in `open_video`.
    """
    file.parent.mkdir(exist_ok=True)
    with replacing(file) as partial, partial.open("wb", buffering=1 << 20) as stream:
        try:
            facts = _write_frames(stream, path, rate, name, short_side, fps, form)
        except VideoError as error:
            stream.seek(0)
            stream.truncate()
            facts = {"name": name, "problem": str(error).removeprefix(f"{path}: ")[: MOST_FACTS // 4]}
        text = json.dumps(facts).encode()
        stream.write(text + len(text).to_bytes(4, "little"))


def _write_frames(
    stream: BinaryIO, path: str, rate: float, name: str, short_side: int, fps: float, form: str
) -> dict[str, Any]:
    """Writes frames, times and sizes; returns the facts."""
    sizes, shape = [], (0, 0)
    with open_video(path, rate) as video:
        for frame in video.thinned(fps):
            picture = frame.picture(short_side)
            shape = picture.shape[:2]
            picture = _as_jpeg(picture) if form == "jpeg" else picture
            stream.write(picture.data)
            sizes.append(picture.nbytes)
    info = video.info()
    if form == "jpeg":
        stream.write(np.array(sizes, np.uint32).data)
    stream.write(info.times.data)
    facts = {name: value for name, value in vars(info).items() if name != "times"}
    return facts | {
        "name": name, "kept": len(sizes), "stored_height": shape[0], "stored_width": shape[1],
        "frame_bytes": sum(sizes),
    }  # fmt: skip


def _as_jpeg(frame: np.ndarray) -> np.ndarray:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


def expected_bytes(path: str, *, short_side: int, fps: float, form: str) -> int | None:
    """Bytes that a video will take, from its header and first frame; None where it cannot be read."""
    try:
        with open_video(path) as video:
            first = next(iter(video)).picture(short_side)
    except VideoError:
        return None
    rate = min(video.thinning(fps).fps or video.promised_fps, video.promised_fps)
    kept = max(round(video.promised_s * rate), 1)
    return kept * (_as_jpeg(first).nbytes if form == "jpeg" else first.nbytes)
