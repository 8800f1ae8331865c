"""Files that are never half written, folders that one process fills at a time, and room on the disk."""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from varec_lib.errors import StoreError


@contextmanager
def replacing(file: Path, *, sync: bool = False) -> Iterator[Path]:
    """A path beside `file` to write to, which replaces `file` in one step at the end.

    A process that is killed leaves the former file as it was; after an exception nothing half-written is left. The next
    success removes what killed processes left. With `sync`, all this holds for a loss of power too.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        if sync:
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
        os.replace(partial, file)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    for left in file.parent.glob(f"{glob.escape(file.name)}.*.partial"):
        with suppress(OSError):
            left.unlink()


def write_text(file: Path, text: str) -> None:
    """Writes a small file in UTF-8, in one step."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def locked(file: Path, waiting: str = "") -> Iterator[None]:
    """Held by one process at a time; prints `waiting` where another has it. Raises `OSError`."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0.3 if waiting else -1)
    except Timeout:
        print(waiting, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def filling(folder: Path, waiting: str = "") -> Iterator[None]:
    """As `locked`, for the folder of a store, which it makes. An `OSError` inside becomes a `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", waiting):
            yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}). What is finished is kept. Make room, or choose another "
            "--store_dir, --store jpeg, or --store off."
        ) from error


def check_room(folder: Path, need: int, advice: str) -> None:
    """Raises `StoreError` where the disk of a folder has less room than `need` bytes."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise StoreError(f"{folder}: {gigabytes(need)} are needed, but {gigabytes(free)} are free. Choose {advice}.")


def gigabytes(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
