"""Videos of unknown origin: decoded by processes of their own that are watched, limited and, if need be, killed.

The file is handed over open, so no name of it is ever used, and what comes back are pixels, numbers and sentences.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from varec_lib.data.preview import BOX
from varec_lib.errors import VarecError, VideoError
from varec_lib.predictor.decoder import FRAME, HEAD, JSON, PREVIEW, SIZE

KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
LIMITED = 'ulimit -c 0; ulimit -t "$1"; ulimit -v "$0" 2>/dev/null; shift; exec "$@"'  # macOS knows no -v
UNKNOWN_FPS = 25.0
BROKEN = "its decoder sent nonsense; the video is damaged, or made to do so."


class Cancelled(VarecError):
    """Whoever asked for an answer does not want it any more."""


@dataclass(frozen=True)
class Limits:
    """What a video of unknown origin may cost. A longer one is looked at as far as these reach."""

    megabytes: int = 200  # of the file; 1 MB is 10^6 bytes
    seconds: float = 120.0  # of the video
    frames: int = 7200
    pixels: int = 4096 * 2304  # of a picture
    stall_s: float = 5.0  # without a sign of life from the decoder
    cpu_s: int = 90  # of its work
    memory_gb: float = 2.0  # of its address space

    @property
    def bytes(self) -> int:
        """Of the file."""
        return self.megabytes * 1_000_000


def check_size(size: int, limits: Limits) -> None:
    """Raises `VideoError` for a file that is empty or too large."""
    if size <= 0:
        raise VideoError("the file is empty (0 bytes).")
    if size > limits.bytes:
        raise VideoError(f"it is larger than the {limits.megabytes} MB that are taken here.")


def _start(command: list[str], limits: Limits, source: BinaryIO) -> subprocess.Popen:
    """Runs a command on an open file, in a session of its own, within the limits, and with nothing else open."""
    memory = str(round(limits.memory_gb * 2**20))
    source.seek(0)  # macOS opens it where it stands
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return subprocess.Popen(
        ["/bin/sh", "-c", LIMITED, memory, str(limits.cpu_s), *command],
        stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        env=environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}, bufsize=0,
    )  # fmt: skip


class GuardedVideo:
    """The frames of an open video file, decoded in a process of its own; a context manager to iterate over.

    `fps` and `promised_s` are rate and duration within the limits, as the header tells them (it may lie, or tell no
    duration: 0); `time_s` is when the latest frame is shown. Known when all were read: `cut`, whether the limits ended
    it early, `ends_s`, where it or the limits end, `promised_s`, how far it should reach (0 where it was cut), and
    `lost`, how much of it is damaged. Frames are RGB `(H, W, 3)` uint8, thinned out to `rate`, with `short_side`.
    With `preview`, `larger` is the same frame at the size of a preview, None after its longest time.
    Raises `VideoError` with a sentence that names no file.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        short_side: int,
        rate: float,
        limits: Limits,
        cancelled: threading.Event | None = None,
        preview: bool = False,
    ) -> None:
        check_size(os.fstat(file.fileno()).st_size, limits)
        self.file, self.limits, self.cancelled = file, limits, cancelled or threading.Event()
        self.larger: np.ndarray | None = None
        self.most_pixels = {FRAME: limits.pixels} | ({PREVIEW: BOX[0] * BOX[1]} if preview else {})
        order = {"short_side": short_side, "fps": rate, "preview": preview, "parent": os.getpid()}
        self.order = json.dumps(asdict(limits) | order)
        self.fps = self.promised_s = self.time_s = self.ends_s = 0.0
        self.cut, self.lost = False, 0

    def __enter__(self) -> "GuardedVideo":
        command = [sys.executable, "-P", "-m", "varec_lib.predictor.decoder", self.order]
        self.process = _start(command, self.limits, self.file)
        try:
            kind, facts = self._message()
            if kind != JSON:
                raise VideoError(BROKEN)
            self.fps, self.promised_s = _number(facts, "fps") or UNKNOWN_FPS, _number(facts, "promised_s")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _end(self.process)

    def __iter__(self) -> Iterator[np.ndarray]:
        for count in range(self.limits.frames + 1):
            kind, body = self._message()
            self.larger = None
            if kind == PREVIEW:
                self.larger = body
                kind, body = self._message()
            if kind == FRAME:
                yield body
                continue
            if kind == JSON and count:
                self.cut, self.lost = _number(body, "cut") > 0, int(_number(body, "lost"))
                self.ends_s, self.promised_s = _number(body, "ends_s"), _number(body, "promised_s")
                return
            break
        raise VideoError(BROKEN)

    def _message(self) -> tuple[bytes, Any]:
        """The next message: JSON as a dictionary, a frame as an array."""
        kind, length = HEAD.unpack(self._read(HEAD.size))
        if kind == JSON and length < 10_000:
            try:
                facts = json.loads(self._read(length))
            except (ValueError, RecursionError):
                facts = None
            if isinstance(facts, dict):
                if "error" in facts:
                    raise VideoError(str(facts["error"]))
                return kind, facts
        if length <= 3 * self.most_pixels.get(kind, 0) + SIZE.size:
            height, width, at_s = SIZE.unpack(self._read(SIZE.size))
            if length == SIZE.size + 3 * height * width > SIZE.size:
                self.time_s = at_s if self.time_s < at_s < 1e9 else self.time_s
                return kind, np.frombuffer(self._read(length - SIZE.size), np.uint8).reshape(height, width, 3)
        raise VideoError(BROKEN)

    def _read(self, count: int) -> bytearray:
        """So many bytes of the decoder's output, as long as it shows signs of life."""
        buffer, have, pipe = bytearray(count), 0, self.process.stdout
        view, last = memoryview(buffer), time.monotonic()
        while have < count:
            if self.cancelled.is_set():
                raise Cancelled("Cancelled.")
            if select.select([pipe], [], [], 0.1)[0]:
                got = pipe.readinto(view[have:])
                if not got:
                    raise VideoError(self._how_it_ended())
                have, last = have + got, time.monotonic()
            elif time.monotonic() - last > self.limits.stall_s:
                raise VideoError(f"decoding it was given up after {self.limits.stall_s:.0f} seconds without a picture.")
        return buffer

    def _how_it_ended(self) -> str:
        try:
            with_signal = -self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return BROKEN
        if with_signal in (signal.SIGXCPU, signal.SIGKILL):
            return "decoding it takes more time or memory than a video is given here."
        return "decoding it made the decoder crash; it is damaged or made to do so."


def _number(facts: dict, name: str) -> float:
    """One of the numbers that a decoder sent."""
    number = facts.get(name)
    if not isinstance(number, int | float) or not 0 <= number < 1e9:
        raise VideoError(BROKEN)
    return float(number)


def _end(process: subprocess.Popen) -> None:
    """Kills a process and all it started, and forgets it."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says the second of one that has just ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
