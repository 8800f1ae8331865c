"""What is known of video files, so that a start on known ones opens none of them: an index in the user's cache."""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from joblib import Parallel, delayed
from platformdirs import user_cache_path
from tqdm.auto import tqdm

from varec_lib.data.frame_folder import state_of
from varec_lib.data.video import VideoInfo

READER = 1  # raise it when the reader finds other facts
# `used` is a table by itself, because older versions of the library read all columns of the others.
TABLES = {"videos": "facts TEXT, times BLOB", "looks": "digest BLOB, pictures BLOB, facts INTEGER",
          "used": "day INTEGER"}  # fmt: skip
KEPT_DAYS, NOTED_DAYS = 180, 30  # rows are deleted that long after their last use, which is noted only so often
AT_ONCE = 200  # videos: what was examined before Ctrl-C is known the next time
WAIT_S = 30.0  # for another process that writes


def index_file() -> Path:
    """Where the index lies."""
    return user_cache_path("varec") / "videos.sqlite3"


def identities(paths: Iterable[str], rates: Iterable[float]) -> dict[str, str]:
    """A hash of each video that is there, by its path: of path, size, time of change, and of what reads it.

    `rates` are those of folders of pictures, as in `open_video`.
    """
    keys = {}
    for path, rate in zip(paths, rates, strict=True):
        with suppress(OSError):  # there is no such file
            size, changed = state_of(path, rate)
            known_by = f"{os.path.abspath(path)}/{size}/{changed}/{READER}/{av.__version__}"
            keys[path] = hashlib.blake2b(os.fsencode(known_by), digest_size=16).hexdigest()
    return keys


def examined(
    paths: list[str], examine: Callable[[str], Any], doing: str, progress: bool
) -> Iterator[list[tuple[str, Any]]]:
    """What `examine` says of each path, with all processors; some at a time, so that Ctrl-C loses few."""
    threads = Parallel(n_jobs=-1, prefer="threads", return_as="generator")  # decoding releases the GIL
    found = threads(delayed(examine)(path) for path in paths)
    bar = tqdm(found, total=len(paths), desc=doing, unit="video", leave=False, disable=not (paths and progress))
    pairs = zip(paths, bar, strict=True)
    while some := list(islice(pairs, AT_ONCE)):
        yield some


def known(keys: Iterable[str]) -> dict[str, VideoInfo]:
    """The facts that are in the index, by their `identities`; none where it cannot be read."""
    return {key: _info(json.loads(facts), times) for key, facts, times in rows("videos", keys)}


def remember(facts: dict[str, VideoInfo]) -> None:
    """Adds facts by their `identities`, but of no video that cannot be used: it is opened again the next time."""
    add_rows("videos", [(key, *_row(info)) for key, info in facts.items() if not info.problem])


def rows(table: str, keys: Iterable[str]) -> list[tuple]:
    """The rows of a table of the index with these keys; none where it cannot be read."""
    found, keys = [], list(keys)
    with suppress(sqlite3.Error, OSError), closing(_opened()) as index, index:
        for some in (keys[start : start + 500] for start in range(0, len(keys), 500)):
            marks = ",".join("?" * len(some))
            found += index.execute(f"SELECT * FROM {table} WHERE key IN ({marks})", some)
        lately = {key for (key,) in index.execute("SELECT key FROM used WHERE day > ?", (_today() - NOTED_DAYS,))}
        _note_use(index, (key for key, *_ in found if key not in lately))
    return found


def add_rows(table: str, new: list[tuple]) -> None:
    """Adds rows, each with its key first, or replaces them, and deletes those long unused. Does without an index."""
    if not new:
        return
    with suppress(sqlite3.Error, OSError), closing(_opened()) as index, index:
        index.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(new[0]))})", new)
        _note_use(index, (key for key, *_ in new))
        for each in TABLES:  # `used` is the last
            unused = "SELECT key FROM used WHERE day < ?"
            index.execute(f"DELETE FROM {each} WHERE key IN ({unused})", (_today() - KEPT_DAYS,))


def _note_use(index: sqlite3.Connection, keys: Iterable[str]) -> None:
    """Notes that these rows are used today; locks the index for writing only if there are some."""
    index.executemany("INSERT OR REPLACE INTO used VALUES (?, ?)", [(key, _today()) for key in keys])


def _today() -> int:
    return int(time.time() // 86400)


def _opened() -> sqlite3.Connection:
    file = index_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    index = sqlite3.connect(file, timeout=WAIT_S)
    for table, columns in TABLES.items():
        index.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {columns}) WITHOUT ROWID")
    return index


def _row(info: VideoInfo) -> tuple[str, bytes]:
    even = np.array_equal(info.times, _even(info))
    facts = {name: value for name, value in vars(info).items() if name != "times"}
    return json.dumps(facts), b"" if even else info.times.tobytes()


def _info(facts: dict, times: bytes) -> VideoInfo:
    info = VideoInfo(**facts)
    object.__setattr__(info, "times", np.frombuffer(times, np.float64) if times else _even(info))
    return info


def _even(info: VideoInfo) -> np.ndarray:
    """The times of a video that shows all frames equally long, which need not be kept."""
    return np.arange(info.frames + 1) * (1 / info.fps)
