"""How videos look, small, by which copies are found; each is looked at once, and again when its file changes."""

import hashlib
import zlib
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from varec_lib.data import facts
from varec_lib.data.frame_folder import files_of
from varec_lib.data.manifest import rates_of
from varec_lib.data.video import Frame, VideoInfo, open_video
from varec_lib.errors import VideoError

RATE, SIDE, MOST = 10, 16, 300  # pictures a second, of so many pixels square, and of a video: of its first 30 s


class Look(NamedTuple):
    """A video's content as a hash, its small grey pictures, and what only an open file tells."""

    digest: bytes
    pictures: bytes  # compressed; `series` gives them
    sound: bool
    hdr: bool  # or colours that an ordinary screen does not show
    turned: bool  # by its display matrix: on its side, upside down, mirrored
    non_square: bool  # pixels, by more than one in a hundred

    def series(self) -> np.ndarray:
        """Its pictures at `RATE` a second, uint8 `(N, SIDE, SIDE)`."""
        steps = np.frombuffer(zlib.decompress(self.pictures), np.uint8).reshape(-1, SIDE, SIDE)
        return np.cumsum(steps, axis=0, dtype=np.uint8)


def look_at(path: str, rate: float = 0.0) -> tuple[VideoInfo, Look]:
    """Decodes a video, as `open_video` takes it, once for its facts and its look. Raises `VideoError`."""
    grey, before = [], None
    with open_video(path, rate) as video:
        for frame in video:
            if before:
                grey += _shown_until(frame.time_s, before, len(grey))
            before = frame
        grey += _shown_until(max(video.ends_s, 1 / RATE), before, len(grey))
        wide, high = video.coded_size[:: -1 if video.orientation[0] else 1]
        stretched = abs(np.log(wide * video.height / (high * video.width))) > 0.01  # but not by rounding
        told = video.sound, video.to_rgb.graph is not None, video.orientation != (False, 1, 1), bool(stretched)
    steps = np.diff(grey, axis=0, prepend=np.zeros_like(grey[:1]))  # modulo 256
    return video.info(), Look(_digest(path), zlib.compress(steps.tobytes()), *told)


def _shown_until(time_s: float, frame: Frame, known: int) -> list[np.ndarray]:
    """The picture of a frame for each moment until then, from that of number `known` on."""
    count = min(int(np.ceil(time_s * RATE - 0.5)), MOST) - known
    if count < 1:
        return []
    picture = cv2.cvtColor(frame.picture(4 * SIDE), cv2.COLOR_RGB2GRAY)
    return [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)] * count


def _digest(path: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in files_of(path):
        with open(part, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.digest()


def looks_of(table: pd.DataFrame, *, progress: bool = True) -> dict[str, Look]:
    """The looks of the videos of a manifest, by path; of those that can be read. Their facts are kept as well."""
    rates = dict(zip(table["path"], rates_of(table), strict=True))
    keys = facts.identities(rates.keys(), rates.values())
    found = {key: _look(*row) for key, *row in facts.rows("looks", keys.values())}

    def look(path: str) -> tuple[VideoInfo, Look] | None:
        with suppress(VideoError, OSError):  # `check_videos` says why
            return look_at(path, rates[path])
        return None

    new = [path for path, key in keys.items() if key not in found]
    for some in facts.examined(new, look, "looking at videos", progress):
        fresh = {keys[path]: both for path, both in some if both}
        facts.remember({key: info for key, (info, _) in fresh.items()})
        facts.add_rows("looks", [(key, *_row(seen)) for key, (_, seen) in fresh.items()])
        found |= {key: seen for key, (_, seen) in fresh.items()}
    return {path: found[key] for path, key in keys.items() if key in found}


def _row(look: Look) -> tuple[bytes, bytes, int]:
    return look.digest, look.pictures, sum(flag << bit for bit, flag in enumerate(look[2:]))


def _look(digest: bytes, pictures: bytes, flags: int) -> Look:
    return Look(digest, pictures, *(bool(flags >> bit & 1) for bit in range(len(Look._fields) - 2)))
