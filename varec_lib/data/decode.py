"""Reading video files: sequential decoding with OpenCV, frames counted by decoding them (notebook 01).

Imports torch only where tensors are asked for: the process that decodes what a stranger uploads should start at once.
"""

import os

# FFmpeg and OpenCV print to stderr from C; what they find wrong is reported by `VideoError` instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from varec_lib.data.thinning import is_kept
from varec_lib.errors import VideoError

if TYPE_CHECKING:
    import torch

VIDEO_EXTENSIONS = frozenset(
    ".avi .mp4 .m4v .mov .mkv .webm .mpg .mpeg .wmv .flv .3gp .ogv .ts .gif".split()
)  # what OpenCV's FFmpeg opens; anything else is refused by name before it is opened
CLOCK_RATE = (
    500  # fps; a larger rate in a header (1000 in a browser's recordings) is the clock's tick, not the frame rate
)
AV1 = [cv2.VideoWriter_fourcc(*code) for code in ("av01", "AV01")]  # in MP4 and WebM
RATE_FRAMES = 100  # frames whose times then give the rate: three seconds of a camera, decoded in less than one
OnFrame = Callable[[np.ndarray, float], None]  # takes a frame and its time in seconds
FIRST_ONLY = 1e-9  # fps at which only the first frame of a video is kept
NO_FILE = "no such file. Check the name in the CSV, or the folder."


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video file, or the problem for which it cannot be used (a sentence without the path).

    The rate is the header's; where that is none (0, or the tick of the container's clock) it is taken from the times of
    the first frames, and 0 where these tell none either.
    """

    frames: int = 0  # counted by decoding; 0: not counted
    fps: float = 0.0
    height: int = 0  # pixels, upright
    width: int = 0
    promised_frames: int = 0  # what the header says, which may be wrong
    problem: str = ""


@contextmanager
def _open(path: Path) -> Iterator[cv2.VideoCapture]:
    """A capture of a file that exists, is not empty and has a known extension. Raises `VideoError`."""
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: {NO_FILE}")
    if path.suffix.lower() not in VIDEO_EXTENSIONS:
        raise VideoError(f"{path}: {path.suffix or 'no'} extension is not a known video format.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
    with open_capture(path) as capture:
        yield capture


@contextmanager
def open_capture(path: Path) -> Iterator[cv2.VideoCapture]:
    """OpenCV's capture of a video, whatever its name. Raises `VideoError` where the file is no video."""
    cv2.setNumThreads(1)  # because data workers run several decoders at once
    name = os.path.abspath(path)  # absolute, because FFmpeg takes what stands before a colon for a protocol
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise VideoError(f"{path}: not a video that can be decoded. Is it damaged, or another kind of file?")
        yield capture
    finally:
        capture.release()


def _undecodable(name: Path | str, capture: cv2.VideoCapture) -> VideoError:
    """The error for a video that opens, but has no frame that can be decoded."""
    if capture.get(cv2.CAP_PROP_FOURCC) in AV1:
        return VideoError(f"{name}: is encoded as AV1, which this OpenCV cannot decode. Convert it to H.264.")
    return VideoError(f"{name}: no frame can be decoded. The file is damaged; copy or download it again.")


def frame_rate(path: Path, capture: cv2.VideoCapture) -> float:
    """Frames per second of an open video, as in `VideoInfo`."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    if 0 < rate < CLOCK_RATE:
        return rate
    with open_capture(path) as again:  # a second one, because the first must stay at its frame
        frames, first, last = 0, 0.0, 0.0
        while frames < RATE_FRAMES and again.grab():
            frames, last = frames + 1, again.get(cv2.CAP_PROP_POS_MSEC)
            first = first if frames > 1 else last
    return 1000 * (frames - 1) / (last - first) if frames > 1 and last > first else 0.0


def probe(path: Path | str) -> VideoInfo:
    """Decodes the whole file once and counts its frames (header counts lie).

    Raises `VideoError` where the file is missing, empty, not a video, or holds no decodable frame.
    """
    return decode_video(path, lambda frame, time_s: None, short_side=0, fps=FIRST_ONLY)


def _promised_frames(capture: cv2.VideoCapture) -> int:
    return max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)


def shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width with the shorter side scaled down to `short_side` pixels; unchanged by 0 or a larger one."""
    scale = short_side / min(height, width)
    return (round(height * scale), round(width * scale)) if 0 < scale < 1 else (height, width)


def shrunk(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture `(H, W, 3)` scaled down to that height and width: halved as often as possible, then bilinear.

    So no step leaves out source pixels, and it takes an eighth of the time of cv2.INTER_AREA alone.
    """
    while frame.shape[0] >= 2 * size[0] and frame.shape[1] >= 2 * size[1]:
        height, width = frame.shape[0] // 2, frame.shape[1] // 2
        frame = cv2.resize(frame[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    if frame.shape[:2] != size:
        frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
    return frame


def _picture(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """OpenCV's BGR frame as RGB `(H, W, 3)` of that size."""
    return cv2.cvtColor(shrunk(frame, size), cv2.COLOR_BGR2RGB)


def read_header(path: Path | str, *, short_side: int) -> tuple[VideoInfo, np.ndarray]:
    """Facts without a count of frames, and the first frame as `read_frames` gives it, but `(H, W, 3)`."""
    with _open(path) as capture:
        ok, frame = capture.read()
        if not ok:
            raise _undecodable(path, capture)
        shape = frame.shape[:2]
        info = VideoInfo(0, frame_rate(path, capture), *shape, _promised_frames(capture))
        return info, _picture(frame, shrunk_size(*shape, short_side))


def read_frames(path: Path | str, indices: Sequence[int], *, short_side: int = 0) -> "torch.Tensor":
    """The frames with these indices (any order, repeats allowed) as uint8 RGB `(T, C, H, W)`.

    Decodes sequentially up to the last wanted frame and converts only the wanted ones, scaled down so that the
    shorter side has `short_side` pixels (0: as they are). Raises `VideoError` where the file cannot be opened or ends
    before the last wanted frame.
    """
    import torch

    wanted = set(indices)
    frames: dict[int, np.ndarray] = {}
    size: tuple[int, int] | None = None
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
                size = size or shrunk_size(*frame.shape[:2], short_side)
                frames[position] = _picture(frame, size)
    return torch.from_numpy(np.stack([frames[i] for i in indices])).permute(0, 3, 1, 2)


def decode_video(path: Path | str, on_frame: OnFrame, *, short_side: int, fps: float) -> VideoInfo:
    """Calls `on_frame(frame, time_s)` for every kept frame, RGB `(H, W, 3)` uint8; memory does not grow with the video.

    Times are those of the file: they may begin anywhere, and are 0 where the file has none. The frames are those that
    `kept_frames` names for `fps`, pixel for pixel as `read_frames` gives them. Returns what `probe` would. Raises
    `VideoError`.
    """
    with _open(path) as capture:
        return decode_frames(
            capture, frame_rate(path, capture), on_frame, short_side=short_side, fps=fps, name=str(path)
        )


def decode_frames(
    capture: cv2.VideoCapture,
    native_fps: float,
    on_frame: OnFrame,
    *,
    short_side: int,
    fps: float,
    name: str,
    most: int | None = None,
) -> VideoInfo:
    """As `decode_video`, from an open video, and no further than `most` frames. Raises `VideoError`."""
    position, shape, frame = 0, None, None
    while position != most and capture.grab():
        if is_kept(position, native_fps, fps):
            ok, frame = capture.retrieve(frame)  # into the same memory
            if not ok:
                raise VideoError(f"{name}: frame {position} cannot be decoded.")
            shape = shape or frame.shape[:2]
            on_frame(_picture(frame, shrunk_size(*shape, short_side)), capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        position += 1
    if shape is None:
        raise _undecodable(name, capture)
    return VideoInfo(position, native_fps, *shape, _promised_frames(capture))
