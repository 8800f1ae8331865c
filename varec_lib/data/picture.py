"""From a decoded frame to the picture that a screen shows: upright, with square pixels, in red, green and blue."""

import atexit
import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter

cv2.setNumThreads(1)  # because several videos are read at once
TABLES = Path(__file__).with_name("colours.npz")  # benchmarks/colour_tables.py makes it
BT2020, P3, HDR = 9, (11, 12), {16: "pq", 18: "hlg"}  # FFmpeg's numbers of primaries, and of transfer functions
UNSPECIFIED = 2


def shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width with the shorter side scaled down to `short_side` pixels; unchanged by 0 or a larger one."""
    scale = short_side / min(height, width)
    return (round(height * scale), round(width * scale)) if 0 < scale < 1 else (height, width)


def shrunk(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture `(H, W, 3)` scaled to that height and width: halved as often as possible, then bilinear.

    So no step leaves out source pixels, and it takes an eighth of the time of cv2.INTER_AREA alone.
    """
    while frame.shape[0] >= 2 * size[0] and frame.shape[1] >= 2 * size[1]:
        height, width = frame.shape[0] // 2, frame.shape[1] // 2
        frame = cv2.resize(frame[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    if frame.shape[:2] != size:
        frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
    return frame


def pixel_ratio(stream: av.video.VideoStream) -> float:
    """Width of a stored pixel, where its height is 1."""
    ratio = float(stream.sample_aspect_ratio or 1)
    return ratio if 0.1 < ratio < 10 else 1.0


def orientation(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """Whether rows become columns, and then the steps (1 or -1) down and right through the picture that is upright."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(a) >= abs(c):
        return False, -1 if d < 0 else 1, -1 if a < 0 else 1
    return True, -1 if b < 0 else 1, -1 if c < 0 else 1


class ToRgb:
    """Turns decoded frames into RGB `(H, W, 3)` uint8, as they are stored.

    HDR and wide-gamut colours go through tables of what FFmpeg's scaler makes of them, because it computes such a table
    anew for every file, in 3 to 4 seconds (FFmpeg 8.0, also inside OpenCV 5.0).
    """

    def __init__(self) -> None:
        self.reformatter, self.graph = VideoReformatter(), None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        if name := _table(frame):
            if self.graph is None or not self.graph.fits(frame):
                self.graph = Filters(frame, f"format=gbrp10le,lut3d=file={_table_file(name)},format=rgb24")
            (frame,) = self.graph(frame)
        return _pixels(self._reformatted(frame))

    def _reformatted(self, frame: av.VideoFrame) -> av.VideoFrame:
        try:
            return self.reformatter.reformat(frame, format="rgb24", threads=1)
        except av.FFmpegError:  # a matrix of colours that FFmpeg does not know
            frame.colorspace = UNSPECIFIED
            return self.reformatter.reformat(frame, format="rgb24", threads=1)


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """The pixels of an RGB frame, without copying them."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : 3 * frame.width]
    return rows.reshape(frame.height, frame.width, 3)


class Filters:
    """FFmpeg's filters, one after the other, for frames like `frame`: the options are those of `ffmpeg -vf`."""

    def __init__(self, frame: av.VideoFrame, options: str) -> None:
        self.form, self.graph = _form(frame), Graph()
        self.graph.threads = 1
        width, height, pixels, space, colours = self.form
        source = f"video_size={width}x{height}:pix_fmt={pixels}:time_base={frame.time_base}"
        nodes = [self.graph.add("buffer", f"{source}:colorspace={space}:range={colours}")]
        nodes += [self.graph.add(name, how or None) for name, _, how in (o.partition("=") for o in options.split(","))]
        self.graph.link_nodes(*nodes, self.graph.add("buffersink"))
        self.graph.configure()

    def fits(self, frame: av.VideoFrame) -> bool:
        """Whether a frame is of the kind that the filters were made for."""
        return self.form == _form(frame)

    def __call__(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """What they give back for a frame; all that they still hold for None, the end."""
        self.graph.push(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield self.graph.pull()


def _form(frame: av.VideoFrame) -> tuple[int, int, str, int, int]:
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range


def _table(frame: av.VideoFrame) -> str:
    """The table that a frame's colours need; empty for those of an ordinary screen."""
    if frame.color_primaries == BT2020 or frame.color_trc in HDR:
        return HDR.get(frame.color_trc, "bt2020")
    return "p3" if frame.color_primaries in P3 else ""


@functools.cache
def _table_file(name: str) -> str:
    """The file of a table as FFmpeg's lut3d reads it; it is gone when this process ends."""
    with np.load(TABLES) as tables:
        table = tables[name]  # (red, green, blue, 3), uint8
    shares = [f"{value / 255:.4f}" for value in range(256)]
    rows = table.transpose(2, 1, 0, 3).reshape(-1, 3).tolist()  # red changes fastest
    descriptor, path = tempfile.mkstemp(suffix=".cube")
    atexit.register(Path(path).unlink, missing_ok=True)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"LUT_3D_SIZE {len(table)}\n" + "\n".join(" ".join(map(shares.__getitem__, row)) for row in rows))
    return path
