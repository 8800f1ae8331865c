"""The one reader of video files: upright pictures with square pixels in the colours of a screen, each with its time.

A file is not yet a video (notebook 01): pictures may be stored in halves, turned or stretched, in colours that few
screens show, at uneven times, with holes. Imports torch only where tensors are asked for, because a process starts for
each video that a stranger uploads.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import numpy as np

from varec_lib.data.frame_folder import FrameFolder
from varec_lib.data.picture import Filters, ToRgb, orientation, shrunk, shrunk_size
from varec_lib.data.thinning import Thinning
from varec_lib.data.video_file import NO_FILE as NO_FILE
from varec_lib.data.video_file import VideoFile, open_file
from varec_lib.errors import VideoError

if TYPE_CHECKING:
    import torch

LONGEST_GAP_S = 600.0  # between two frames; more is a jump of the file's clock
ROUNDED_S = 0.0011  # by how much a time may be wrong in a file that rounds them to milliseconds
UNEVEN = 0.1  # of the usual time, by which some frame is shown longer or shorter


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts of a video file, or the problem for which it cannot be used (a sentence without the path)."""

    frames: int = 0  # that can be decoded, whatever the header promises
    fps: float = 0.0  # their mean rate
    height: int = 0  # pixels, as displayed
    width: int = 0
    promised_s: float = 0.0  # duration by the header, 0 where it tells none
    codec: str = ""
    interlaced: bool = False
    uneven: bool = False  # not all frames are shown for the same time
    lost: int = 0  # frames or parts of them that are damaged
    problem: str = ""
    times: np.ndarray = field(default_factory=lambda: np.zeros(1), compare=False)  # s, of each frame and of the end


class Frame:
    """A frame that is shown `time_s` seconds after the first one; its picture is made only for those who want it."""

    __slots__ = ("_decoded", "_rgb", "_video", "time_s")

    def __init__(self, video: "Video", decoded: av.VideoFrame, time_s: float) -> None:
        self._video, self._decoded, self._rgb, self.time_s = video, decoded, None, time_s

    def picture(self, short_side: int = 0) -> np.ndarray:
        """RGB `(H, W, 3)` uint8, scaled down so that the shorter side has that many pixels (0: as it is)."""
        return self.scaled(shrunk_size(self._video.height, self._video.width, short_side))

    def scaled(self, size: tuple[int, int]) -> np.ndarray:
        """RGB uint8 of that height and width."""
        if self._rgb is None:
            self._rgb = self._video.to_rgb(self._decoded)
        turned, down, right = self._video.orientation
        pixels = shrunk(self._rgb, size[::-1] if turned else size)
        return np.ascontiguousarray((pixels.transpose(1, 0, 2) if turned else pixels)[::down, ::right])


class Video:
    """An open video, whose frames are to be gone through once, in the order in which they are shown.

    Of its source it has what a header says: `codec`, `coded_size`, `sound`, `promised_fps`, `promised_s`, and `lost`.
    While frames come, `frames` counts them, `interlaced` says whether any was, and `height` and `width` are those of
    all.
    """

    def __init__(self, source: VideoFile | FrameFolder) -> None:
        self._source = source
        self.height = self.width = 0
        self.interlaced, self.to_rgb, self._clock = False, ToRgb(), _Clock(source.promised_fps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __iter__(self) -> Iterator[Frame]:
        """All frames. Raises `VideoError` where there is none."""
        tick = self._clock.tick
        for decoded in self.decoded():
            yield Frame(self, decoded, tick(decoded))

    def decoded(self) -> Iterator[av.VideoFrame]:
        """All frames for those who ask neither for times nor for most of the pictures. Raises `VideoError` likewise."""
        decoded = None
        for decoded in self._progressive():
            if not self.height:
                self.orientation = orientation(decoded)
                size = decoded.height, max(round(decoded.width * self.pixel_ratio), 1)
                self.height, self.width = size[::-1] if self.orientation[0] else size
            yield decoded
        if decoded is None:
            raise VideoError("no frame can be decoded. The file is damaged; copy or download it again.")

    @property
    def frames(self) -> int:
        """How many have come."""
        return len(self._clock.times)

    @property
    def ends_s(self) -> float:
        """When the latest frame has been shown, in seconds from the first."""
        return self._clock.ends_s

    def thinning(self, fps: float) -> Thinning:
        """Which frames stay of it at `fps` frames a second, all of them for 0."""
        return Thinning(fps, self.promised_s)

    def thinned(self, fps: float) -> Iterator[Frame]:
        """The frames that stay of it at `fps` frames a second, all of them for 0. Raises `VideoError`."""
        keeps = self.thinning(fps).keeps
        return (frame for frame in self if keeps(frame.time_s))

    def info(self) -> VideoInfo:
        """Its facts, when all frames have come."""
        times = np.array([*self._clock.times, self.ends_s])
        shown = np.diff(times)[:-1]  # how long the last one is shown is a guess in some files
        return VideoInfo(
            frames=self.frames,
            fps=self.promised_fps if self._clock.even else self.frames / self.ends_s,
            height=self.height,
            width=self.width,
            promised_s=self.promised_s,
            codec=self.codec,
            interlaced=self.interlaced,
            uneven=len(shown) > 0 and bool(np.ptp(shown) > 2 * ROUNDED_S + UNEVEN * np.median(shown)),
            lost=self.lost,
            times=times,
        )

    def _progressive(self) -> Iterator[av.VideoFrame]:
        """Whole pictures: of two interlaced halves, which belong to different moments, one picture is made."""
        filters = None
        for frame in self._source:
            if filters and not filters.fits(frame):  # in a file that was joined of two
                yield from filters(None)
                filters = None
            if frame.interlaced_frame:
                self.interlaced = True
                filters = filters or Filters(frame, "bwdif=mode=send_frame:deint=interlaced")
            if filters:
                yield from filters(frame)
            else:
                yield frame
        if filters:
            yield from filters(None)


class _Clock:
    """When frames are shown, in seconds from the first: at the header's rate, until the file's times differ from that.

    A time that does not come after the one before starts a new count.
    """

    def __init__(self, fps: float) -> None:
        self.step_s, self.even, self.first_s, self.latest = 1 / fps, True, 0.0, None
        self.times: list[float] = []

    def tick(self, frame: av.VideoFrame) -> float:
        told_s, evenly_s = frame.time, len(self.times) * self.step_s
        if self.latest is None:
            self.first_s = told_s or 0.0
        time_s = self.ends_s if told_s is None else told_s - self.first_s
        self.even = self.even and abs(time_s - evenly_s) < ROUNDED_S
        if self.even:
            time_s = evenly_s
        elif not 0 < time_s - self.times[-1] <= LONGEST_GAP_S:
            self.first_s += time_s - self.ends_s
            time_s = self.ends_s
        self.times.append(time_s)
        self.latest = frame
        return time_s

    @property
    def ends_s(self) -> float:
        """When the latest frame has been shown: after its duration, which some files do not tell, or the usual one."""
        if self.even:
            return len(self.times) * self.step_s
        told_s = float(self.latest.duration * self.latest.time_base) if self.latest.duration else 0.0
        usual_s = float(np.median(np.diff(self.times[-100:]))) if len(self.times) > 1 else self.step_s
        return self.times[-1] + max(told_s, usual_s)


@contextmanager
def open_video(source: Path | str | BinaryIO, rate: float = 0.0) -> Iterator[Video]:
    """A video by its path, or of an open file; or a folder of pictures, `rate` of them a second (0: `FRAME_RATE`).

    Raises `VideoError`; it names the path, if there is one.
    """
    try:
        if not hasattr(source, "read") and Path(source).is_dir():
            yield Video(FrameFolder(str(source), rate))
        else:
            with open_file(source) as file:
                yield Video(file)
    except VideoError as error:
        raise error if hasattr(source, "read") else VideoError(f"{source}: {error}") from error
    except av.FFmpegError as error:
        raise VideoError(f"{source}: cannot be decoded ({error.strerror}).") from error


def probe(source: Path | str | BinaryIO, rate: float = 0.0) -> VideoInfo:
    """Decodes a whole video, as `open_video` takes it, for its facts, because headers lie. Raises `VideoError`."""
    with open_video(source, rate) as video:
        for _ in video:
            pass
    return video.info()


def damage(lost: int) -> str:
    """A sentence about so many damaged frames, without its full stop."""
    return f"{lost} of its frames {'is' if lost == 1 else 'are'} damaged"


def read_frames(source: Path | str | BinaryIO, indices: Sequence[int], *, short_side: int = 0) -> "torch.Tensor":
    """The frames with these numbers (any order, repeats allowed) as uint8 RGB `(T, C, H, W)`.

    Decodes up to the last of them, and makes pictures of these only, as `Frame.picture` does. Raises `VideoError`,
    also where the file ends before.
    """
    import torch

    wanted, last = set(indices), max(indices)
    pictures: dict[int, np.ndarray] = {}
    with open_video(source) as video:
        for number, decoded in enumerate(video.decoded()):
            if number in wanted:
                pictures[number] = Frame(video, decoded, math.nan).picture(short_side)
            if number == last:
                break
        else:
            raise VideoError(f"ends after {number + 1} frames, frame {last} was expected. Has it changed?")
    return torch.from_numpy(np.stack([pictures[i] for i in indices])).permute(0, 3, 1, 2)
