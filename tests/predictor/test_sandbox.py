"""Decoders that hang, crash, talk nonsense or are left alone: none outlives its time, and each ends in a sentence."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import pytest
from page import sandboxes

from varec_lib.errors import VideoError
from varec_lib.predictor import sandbox
from varec_lib.predictor.decoder import FRAME, HEAD, JSON, SIZE
from varec_lib.predictor.sandbox import KEPT_ENVIRONMENT, Cancelled, GuardedVideo, Limits

START = json.dumps({"fps": 10.0, "promised_s": 3.0}).encode()
END = json.dumps({"cut": True, "lost": 2, "ends_s": 5.0, "promised_s": 7.0}).encode()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child, no zombie, no open file more than before; what other tests have forgotten may go meanwhile."""
    this = psutil.Process()
    files, children = this.num_fds(), sandboxes()
    yield
    assert this.num_fds() <= files and sandboxes() == children


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video) -> Path:
    """200 frames of 480x640: more than a pipe holds."""
    return write_video(tmp_path_factory.mktemp("sandbox") / "v.avi", 200, size=(480, 640))


@pytest.fixture(scope="module")
def long_video(tmp_path_factory, ffmpeg) -> Path:
    """4000 frames of 4096x2160: more than 20 seconds of work."""
    folder = tmp_path_factory.mktemp("long")
    source, codec = "testsrc2=s=4096x2160:r=25:d=0.4", ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "48"]
    ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *codec, folder / "short.mkv")
    ffmpeg("-stream_loop", "400", "-i", folder / "short.mkv", "-c", "copy", folder / "long.mkv")
    return folder / "long.mkv"


@pytest.fixture
def opened(video) -> Iterator[Callable[..., GuardedVideo]]:
    """`opened(path=video, rate=0, cancelled=None, **limits)`: a guarded video, not yet entered."""
    files: list[BinaryIO] = []

    def make(path: Path = video, rate: float = 0, cancelled: Any = None, **limits: Any) -> GuardedVideo:
        files.append(path.open("rb"))
        return GuardedVideo(files[-1], short_side=0, rate=rate, limits=Limits(**limits), cancelled=cancelled)

    yield make
    for file in files:
        file.close()


def told(video: GuardedVideo) -> str:
    """The sentence that reading a video ends with."""
    with pytest.raises(VideoError) as caught:
        with video:
            list(video)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence and "/" not in sentence
    return sentence


@pytest.fixture
def instead(monkeypatch) -> Callable[..., None]:
    """`instead(*command)`: this is run, within the limits, where the decoder would be."""

    def use(*command: str) -> None:
        monkeypatch.setattr(sandbox, "_start", lambda _, *rest: original(list(command), *rest))

    original = sandbox._start
    return use


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"])
def test_a_decoder_that_dies_midway(opened, name):
    with opened() as reading:
        frames = iter(reading)
        next(frames)
        os.kill(reading.process.pid, signal.Signals[name])
        with pytest.raises(
            VideoError, match=r"more time or memory" if name == "SIGKILL" else r"made the decoder crash"
        ):
            list(frames)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_decoder_that_dies_before_its_first_word(opened, instead, name):
    instead("/bin/sh", "-c", f"kill -{name[3:]} $$")
    assert "decod" in told(opened())


@pytest.mark.alone
def test_a_decoder_that_stops_is_given_up(opened):
    with opened(stall_s=30) as reading:  # to begin
        frames = iter(reading)
        next(frames)
        reading.limits = Limits(stall_s=0.7)
        os.kill(reading.process.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(VideoError, match=r"given up after 1 s"):
            list(frames)
        assert 0.6 < time.monotonic() - start < 20  # the decoder would have stood still for good


@pytest.mark.alone
def test_a_decoder_that_never_says_anything_is_given_up(opened, instead):
    instead("sleep", "60")
    start = time.monotonic()
    assert "given up" in told(opened(stall_s=0.5))
    assert time.monotonic() - start < 40  # seconds; its 60 are not waited for


@pytest.mark.alone
def test_a_decoder_that_closes_its_mouth_and_lives_on(opened, instead):
    instead("/bin/sh", "-c", "exec >&-; sleep 60")
    start = time.monotonic()
    assert "nonsense" in told(opened())
    assert time.monotonic() - start < 40  # seconds; its 60 are not waited for


@pytest.mark.alone
def test_who_is_slow_to_read_does_not_end_it(opened):
    with opened(stall_s=1.5) as reading:
        for number, _ in enumerate(reading):
            if number == 100:
                time.sleep(2)
    assert number == 199


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.alone
def test_cancelling_ends_it_at_once(opened, stopped):
    cancelled = threading.Event()
    with opened(cancelled=cancelled) as reading:
        frames = iter(reading)
        next(frames)
        if stopped:
            os.kill(reading.process.pid, signal.SIGSTOP)
        threading.Timer(0.3, cancelled.set).start()
        with pytest.raises(Cancelled):
            while True:
                list(frames) if stopped else next(frames, time.sleep(0.01))


def test_cancelled_before_it_begins(opened):
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled), opened(cancelled=cancelled):
        pass


def test_who_stops_reading_ends_it(opened):
    with opened() as reading:
        next(iter(reading))
    with pytest.raises(ZeroDivisionError), opened():
        _ = 1 / 0


# Nonsense


def message(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    return HEAD.pack(kind, len(body) if length is None else length) + body


def picture(height: int, width: int, missing: int = 0) -> bytes:
    return message(FRAME, SIZE.pack(height, width, 4.9) + bytes(3 * height * width - missing))


FIRST = message(JSON, START)
NONSENSE = {
    "nothing": b"",
    "noise": np.random.default_rng(0).bytes(5000),
    "text": b"Segmentation fault\n" * 20,
    "not JSON": message(JSON, b"{'fps': 10}"),
    "not UTF-8": message(JSON, b"\xff\xfe{}"),
    "nested": message(JSON, b"[" * 9000),
    "a list": message(JSON, b"[1, 2]"),
    "a number": message(JSON, b"7"),
    "null": message(JSON, b"null"),
    "no rate": message(JSON, b'{"promised_s": 3}'),
    "a rate of text": message(JSON, b'{"fps": "10", "promised_s": 3}'),
    "a rate that is none": message(JSON, b'{"fps": NaN, "promised_s": 3}'),
    "an endless rate": message(JSON, b'{"fps": Infinity, "promised_s": 3}'),
    "an immense rate": message(JSON, b'{"fps": 1e300, "promised_s": 3}'),
    "a negative rate": message(JSON, b'{"fps": -1, "promised_s": 3}'),
    "a duration below zero": message(JSON, b'{"fps": 10, "promised_s": -3}'),
    "long JSON": message(JSON, b" " * 10_000 + START),
    "JSON that is longer than said": message(JSON, START, length=len(START) - 1),
    "JSON that is shorter than said": message(JSON, START, length=len(START) + 1),
    "a picture first": picture(2, 2),
    "an unknown kind": FIRST + message(b"X", b"abc"),
    "nothing after the first word": FIRST,
    "no picture at all": FIRST + message(JSON, END),
    "an end without its word": FIRST + picture(2, 2) + message(JSON, b"{}"),
    "an end at no time": FIRST + picture(2, 2) + message(JSON, END.replace(b"5.0", b"NaN")),
    "a picture of nothing": FIRST + picture(0, 0),
    "a picture without a width": FIRST + picture(5, 0),
    "a picture of another size": FIRST + message(FRAME, SIZE.pack(2, 3, 0) + bytes(12)),
    "a picture that is too large": FIRST + message(FRAME, SIZE.pack(70_000, 70_000, 0), length=2**32 - 1),
    "half a picture": FIRST + picture(20, 20)[:-1],
    "endless pictures": FIRST + 60 * picture(2, 2),
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_from_a_decoder(opened, instead, tmp_path, content):
    (tmp_path / "said").write_bytes(content)
    instead("cat", str(tmp_path / "said"))
    told(opened(frames=50))


def test_an_error_from_a_decoder_is_its_sentence(opened, instead, tmp_path):
    (tmp_path / "said").write_bytes(FIRST + picture(2, 2) + message(JSON, b'{"error": "it is Tuesday."}'))
    instead("cat", str(tmp_path / "said"))
    assert told(opened()) == "it is Tuesday."


def test_sense_from_a_decoder(opened, instead, tmp_path):
    """So that the tests above fail at what they say."""
    (tmp_path / "said").write_bytes(FIRST + 50 * picture(2, 3) + message(JSON, END))
    instead("cat", str(tmp_path / "said"))
    with opened(frames=50) as reading:
        assert {frame.shape for frame in reading} == {(2, 3, 3)}
        assert (reading.cut, reading.lost, reading.time_s) == (True, 2, 4.9)
        assert (reading.ends_s, reading.promised_s) == (5, 7)


@pytest.mark.parametrize("at_s", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_picture_at_no_time_has_that_of_the_one_before(opened, instead, tmp_path, at_s):
    picture_then = message(FRAME, SIZE.pack(2, 2, at_s) + bytes(12))
    (tmp_path / "said").write_bytes(FIRST + picture(2, 2) + picture_then + message(JSON, END))
    instead("cat", str(tmp_path / "said"))
    with opened() as reading:
        assert [reading.time_s for _ in reading] == [4.9, 4.9]


# What a decoder has


def test_memory_and_time_are_limited(opened, instead, long_video):
    with opened(memory_gb=1.0, cpu_s=7) as reading:
        process = psutil.Process(reading.process.pid)
        assert process.rlimit(psutil.RLIMIT_AS) == (2**30, 2**30)
        assert process.rlimit(psutil.RLIMIT_CPU) == (7, 7)
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert "decod" in told(opened(memory_gb=0.1))
    assert told(opened(long_video, cpu_s=1)) == "decoding it takes more time or memory than a video is given here."
    instead(sys.executable, "-c", "bytearray(2**29)")
    assert "crash" in told(opened(memory_gb=0.4))


def test_a_decoder_knows_no_secrets(instead, opened, monkeypatch, video):
    monkeypatch.setenv("VERY_SECRET_TOKEN", "hunter2")
    with video.open("rb") as file, video.open("rb") as _:
        process = sandbox._start(["/bin/sh", "-c", "ls -l /proc/self/fd; env"], Limits(), file)
        said = process.stdout.read().decode()
        sandbox._end(process)
    names = {line.split("=")[0] for line in said.splitlines() if "=" in line}
    assert "hunter2" not in said and "PATH" in names
    assert names <= {*KEPT_ENVIRONMENT, "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "PWD", "OLDPWD", "SHLVL", "_"}
    assert said.count(str(video)) == 1  # its standard input; nothing else that we have open
    assert said.count("pipe:") == 1


def test_modules_that_lie_around_are_not_run(opened, tmp_path, monkeypatch):
    for name in ("json", "cv2", "struct", "varec_lib", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(9)")
    monkeypatch.chdir(tmp_path)
    with opened() as reading:
        assert len(next(iter(reading))) == 480


PARENT = """
import sys, time
from varec_lib.data.preview import Preview
from varec_lib.predictor.sandbox import GuardedVideo, Limits
file, rate, limits = open(sys.argv[1], "rb"), float(sys.argv[2]), Limits(stall_s=2)
with Preview() as preview, GuardedVideo(file, short_side=0, rate=rate, limits=limits, preview=True) as video:
    next(iter(video))
    preview.add(video.larger, 0)
    print("reading", flush=True)
    time.sleep(60)
"""


def busy(process: psutil.Process) -> bool:
    try:
        return process.cpu_times().user > 0.4
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("rate", ["0", "0.001"], ids=["waits for us", "decodes"])
def test_it_ends_with_the_process_that_started_it_and_so_does_its_preview(long_video, rate):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(long_video), rate], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"reading\n"
    children: list[psutil.Process] = []
    while len(children) < 2 or (rate != "0" and not any(map(busy, children))):
        assert parent.poll() is None
        children = psutil.Process(parent.pid).children(recursive=True)
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs(children, timeout=60)[1] == []
