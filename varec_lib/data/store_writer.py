"""How frames get into the store, and what its files look like.

A file holds one video: its kept frames (raw pixels or JPEGs, one after the other), their times in seconds (float64),
the sizes of the JPEGs (uint32), and at the end its facts as JSON with their length (uint32).
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from varec_lib.data.decode import VideoInfo, cv2, decode_video, read_header
from varec_lib.data.thinning import kept_counts
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
            found = cls(**json.loads(tail[-4 - length : -4]))
        except (OSError, ValueError, TypeError):
            return None
        rows = found.kept * (12 if form == "jpeg" else 8)
        return found if size == found.frame_bytes + rows + length + 4 else None


def store_video(path: str, name: str, file: Path, *, short_side: int, fps: float, form: str) -> None:
    """Decodes a video into its file of the store, or writes there why it cannot be used. Raises `OSError`."""
    sizes, times, shape = [], [], (0, 0)
    file.parent.mkdir(exist_ok=True)
    with replacing(file) as partial, partial.open("wb", buffering=1 << 20) as stream:

        def save(frame: np.ndarray, time_s: float) -> None:
            nonlocal shape
            shape = frame.shape[:2]
            if form == "jpeg":
                frame = _as_jpeg(frame)
            sizes.append(frame.nbytes)
            times.append(time_s)
            stream.write(frame.data)

        try:
            info = decode_video(Path(path), save, short_side=short_side, fps=fps)
            facts = StoredVideo(
                **vars(info), name=name, kept=len(sizes), stored_height=shape[0], stored_width=shape[1],
                frame_bytes=sum(sizes),
            )  # fmt: skip
            stream.write(np.array(times, np.float64).data)
            if form == "jpeg":
                stream.write(np.array(sizes, np.uint32).data)
        except VideoError as error:
            stream.seek(0)
            stream.truncate()
            facts = StoredVideo(name=name, problem=str(error).removeprefix(f"{path}: ")[: MOST_FACTS // 4])
        text = json.dumps(asdict(facts)).encode()
        stream.write(text + len(text).to_bytes(4, "little"))


def _as_jpeg(frame: np.ndarray) -> np.ndarray:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


def expected_bytes(path: str, *, short_side: int, fps: float, form: str) -> int | None:
    """Bytes that a video will take, from its header and first frame; None where it cannot be read."""
    try:
        info, first = read_header(path, short_side=short_side)
    except VideoError:
        return None
    kept = int(kept_counts(np.array(max(info.promised_frames, 1)), np.array(info.fps), fps))
    return kept * (_as_jpeg(first).nbytes if form == "jpeg" else first.nbytes)
