"""A folder of numbered pictures is a video too: so Jester, Something-Something and many tools hand out their clips."""

import os
import re
import struct
from collections.abc import Iterable, Iterator
from stat import S_ISDIR

import av
import numpy as np

from varec_lib.errors import VideoError

FRAME_RATE = 12.0  # pictures a second where a list has no column `fps`; those of the two datasets above
NUMBERED = re.compile(r"(?P<series>.*?)(?P<number>\d+)\.(?P<ending>jpe?g|png|webp|bmp)", re.IGNORECASE)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error)  # what Pillow raises


def numbered_pictures(names: Iterable[str]) -> list[str]:
    """The names of numbered pictures in the order of their numbers, 2 before 10. Raises `VideoError` without any."""
    found = [match for match in map(NUMBERED.fullmatch, names) if match and match[0][0] != "."]
    series = sorted({match["series"] for match in found})
    if len(series) > 1:
        raise VideoError(f"pictures of several series ({', '.join(map(repr, series))}). Give each a folder of its own.")
    if not found:
        raise VideoError("a folder without numbered pictures, such as img_00001.jpg. Check the name in the CSV.")
    return [match[0] for match in sorted(found, key=lambda match: (int(match["number"]), match[0]))]


def files_of(path: str) -> list[str]:
    """The files that a video is made of: itself, or the pictures in a folder. Raises `VideoError` without any."""
    try:
        return [os.path.join(path, name) for name in numbered_pictures(os.listdir(path))]
    except NotADirectoryError:
        return [path]
    except OSError as error:
        raise VideoError(f"cannot be opened ({error.strerror}).") from error


def state_of(path: str, rate: float = 0.0) -> tuple[int, str]:
    """Size of a video file in bytes, and what else tells that it has changed; of a folder, that of all that is in it.

    `rate` is that of its pictures, as `FrameFolder` has it. Raises `OSError` where there is nothing.
    """
    stat = os.stat(path)
    if not S_ISDIR(stat.st_mode):
        return stat.st_size, str(stat.st_mtime_ns)
    with os.scandir(path) as entries:
        stats = [entry.stat() for entry in entries]
    changed = stat.st_mtime_ns + sum(one.st_mtime_ns for one in stats)  # the folder's own tells of new names
    return sum(one.st_size for one in stats), f"{changed}/{rate or FRAME_RATE:g}"


class FrameFolder:
    """The frames of a folder of numbered pictures, `rate` of them a second (`FRAME_RATE` where 0).

    Has what `VideoFile` has. Gaps in the numbers do not count; a picture that is damaged is `lost`. Pictures are
    turned as their EXIF data say, and lose what is transparent.
    """

    sound, pixel_ratio = False, 1.0

    def __init__(self, path: str, rate: float = 0.0) -> None:
        self._paths = files_of(path)
        ending = self._paths[0].rpartition(".")[2].lower()
        self.codec = "mjpeg" if ending in ("jpg", "jpeg") else ending
        self.promised_fps = rate or FRAME_RATE
        self.promised_s = len(self._paths) / self.promised_fps
        self.coded_size, self.lost = (0, 0), 0

    def __iter__(self) -> Iterator[av.VideoFrame]:
        from PIL import Image, ImageOps  # not for those who only read video files

        for path in self._paths:
            try:
                with Image.open(path, formats=FORMATS) as picture:
                    pixels = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
            except (*DAMAGED, Image.DecompressionBombError):
                self.lost += 1
                continue
            if self.coded_size == (0, 0):
                self.coded_size = pixels.shape[1::-1]
            yield av.VideoFrame.from_ndarray(pixels, format="rgb24")
