"""How videos look, small, by which copies are found; each is looked at once, and again when its file changes."""

import hashlib
import os
import zlib
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from varec_lib.data import facts
from varec_lib.data.video import open_video
from varec_lib.errors import VideoError

RATE, SIDE, MOST = 10, 16, 300  # pictures a second, of so many pixels square, and of a video: of its first 30 s
REMEMBERED = 200  # videos at a time


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


def look_at(path: str, times: np.ndarray) -> Look:
    """Decodes the beginning of a video with these `times` (s, of each frame and of the end). Raises `VideoError`."""
    count = min(max(round(times[-1] * RATE), 1), MOST)
    wanted = np.searchsorted(times[:-1], (np.arange(count) + 0.5) / RATE, side="right") - 1
    needed, last, grey = set(wanted.tolist()), wanted[-1], {}
    with open_video(path) as video:
        for number, frame in enumerate(video):
            if number in needed:
                picture = cv2.cvtColor(frame.picture(4 * SIDE), cv2.COLOR_RGB2GRAY)
                grey[number] = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            if number == last:
                break
        wide, high = video.coded_size[:: -1 if video.orientation[0] else 1]
        stretched = abs(np.log(wide * video.height / (high * video.width))) > 0.01  # but not by rounding
        told = video.sound, video.to_rgb.graph is not None, video.orientation != (False, 1, 1), bool(stretched)
    pictures = np.stack([grey[number] for number in wanted.tolist() if number in grey])
    steps = np.diff(pictures, axis=0, prepend=np.zeros_like(pictures[:1]))  # modulo 256
    return Look(_digest(path), zlib.compress(steps.tobytes()), *told)


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def looks_of(table: pd.DataFrame, *, progress: bool = True) -> dict[str, Look]:
    """The looks of the videos of a checked table (`path, times`), by path; of those that could be read again."""
    times = dict(zip(table["path"], table["times"], strict=True))
    keys = {path: facts.identity(path) for path in times if os.path.exists(path)}
    found = {key: _look(*row) for key, *row in facts.rows("looks", keys.values())}
    new = [path for path, key in keys.items() if key not in found]
    threads = Parallel(n_jobs=-1, prefer="threads", return_as="generator")  # decoding releases the GIL
    looks = threads(delayed(_looked)(path, times[path]) for path in new)
    bar = tqdm(looks, total=len(new), desc="looking at videos", unit="video", leave=False,
               disable=not (new and progress))  # fmt: skip
    seen = zip(new, bar, strict=True)
    while some := list(islice(seen, REMEMBERED)):
        fresh = {keys[path]: look for path, look in some if look}
        facts.add_rows("looks", [(key, *_row(look)) for key, look in fresh.items()])
        found |= fresh
    return {path: found[key] for path, key in keys.items() if key in found}


def _looked(path: str, times: np.ndarray) -> Look | None:
    with suppress(VideoError, OSError):  # it has gone, or changed, since it was checked
        return look_at(path, times)
    return None


def _row(look: Look) -> tuple[bytes, bytes, int]:
    return look.digest, look.pictures, sum(flag << bit for bit, flag in enumerate(look[2:]))


def _look(digest: bytes, pictures: bytes, flags: int) -> Look:
    return Look(digest, pictures, *(bool(flags >> bit & 1) for bit in range(len(Look._fields) - 2)))
