"""A video file as FFmpeg decodes it: what its header says, and its frames as they are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.stream import Disposition

from varec_lib.data.picture import pixel_ratio
from varec_lib.errors import VideoError

av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is said by `VideoError` instead
# FFmpeg also opens pictures, subtitles, and lists of other files and addresses: none of these is a video here.
FORMATS = "avi,mov,matroska,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,m4v,h264,hevc,ivf,obu,mxf,nut,rm,dv,wtv"
OPTIONS = {"format_whitelist": f"{FORMATS},mjpeg,yuv4mpegpipe", "protocol_whitelist": "fd"}
UNKNOWN_FPS, CLOCK_RATE = 25.0, 500  # of a file that tells no rate; more than this is the tick of a clock
NO_VIDEO = "not a video that can be decoded. Is it damaged, or another kind of file?"
NO_FILE = "no such file. Check the name in the CSV, or the folder."


class VideoFile:
    """An open file: its header, which may be wrong, and its frames, to be gone through once.

    A frame has `coded_size` (width, height) and pixels of `pixel_ratio` (width by height), the file has `sound` or
    none, and the video lasts `promised_s` (0 where it does not say) at `promised_fps`. While frames come, `lost` counts
    what is damaged.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        self._container, self._stream = container, _chosen_stream(container)
        context, self._is_avi = self._stream.codec_context, container.format.name == "avi"
        context.thread_count = 1  # because several videos are read at once
        self.codec = context.codec.canonical_name
        self.coded_size, self.sound = (context.width, context.height), bool(container.streams.audio)
        guessed = self._stream.guessed_rate or CLOCK_RATE  # which may be the tick of a clock
        self.promised_fps = float(self._stream.average_rate or (guessed < CLOCK_RATE and guessed) or UNKNOWN_FPS)
        told = [(self._stream.duration, self._stream.time_base), (container.duration, Fraction(1, av.time_base))]
        if self._is_avi:  # of a file that was cut short, the duration is that of what is there
            told.insert(0, (self._stream.frames, 1 / self.promised_fps))
        self.promised_s = next((float(count * unit) for count, unit in told if count and count > 0), 0.0)
        self.lost = 0

    @property
    def pixel_ratio(self) -> float:
        """Width of a stored pixel, where its height is 1; some files tell it with the first frame."""
        return pixel_ratio(self._stream)

    def __iter__(self) -> Iterator[av.VideoFrame]:
        """What the decoder gives; it goes on behind damage."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # the rest of the file cannot be read
                self.lost += 1
                return
            try:
                for frame in self._stream.decode(packet):
                    self.lost += frame.is_corrupt
                    if self._is_avi:  # it tells no other times; those for showing are guessed, and jump to and fro
                        frame.pts = frame.dts
                    yield frame
            except av.FFmpegError:
                self.lost += 1


@contextmanager
def open_file(source: Path | str | BinaryIO) -> Iterator[VideoFile]:
    """A video file by its path, or of an open file. Raises `VideoError`, without the path, or `av.FFmpegError`."""
    with _opened(source) as file, _container(file) as container:
        yield VideoFile(container)


@contextmanager
def _opened(source: Path | str | BinaryIO) -> Iterator[BinaryIO]:
    """An open file, because FFmpeg takes some names for addresses or for patterns of names."""
    if hasattr(source, "read"):
        yield source
        return
    path = Path(source)
    if not path.is_file():
        raise VideoError(NO_FILE)
    if not path.stat().st_size:
        raise VideoError("the file is empty (0 bytes). Copy or download it again.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise VideoError(f"cannot be opened ({error.strerror}).") from error
    with file:
        yield file


@contextmanager
def _container(file: BinaryIO) -> Iterator[av.container.InputContainer]:
    try:
        container = av.open(file, options=OPTIONS, metadata_errors="replace", buffer_size=1 << 18)
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(NO_VIDEO) from error
    with container:
        yield container


def _chosen_stream(container: av.container.InputContainer) -> av.video.VideoStream:
    """The pictures that players show: the default ones, and never a cover."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise VideoError("has no moving pictures, only sound or a cover." if len(container.streams) else NO_VIDEO)
    known = [stream for stream in streams if stream.codec_context and stream.codec_context.codec]
    if not known:
        raise VideoError("its pictures are encoded in a way that is not known here. Convert it to H.264.")
    return next((stream for stream in known if stream.disposition & Disposition.default), known[0])
