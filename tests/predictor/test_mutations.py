"""300 damaged videos, each by its own seed: every one gets a prediction or a sentence, and none takes long."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from page import Page, assert_sentence, make_experiment, sandboxes

from varec_lib.predictor.page.queue import FAILED_INSIDE

pytestmark = pytest.mark.alone
HANG_S = 10
BATCH = 30
REAL, GENERATED = range(0, 120, BATCH), range(120, 300, BATCH)
HEADERS = [
    b"RIFF\x10\x27\x00\x00AVI LIST",
    b"\x1aE\xdf\xa3\x01\x00\x00\x00\x00\x00\x00\x1f",
    b"GIF89a\xff\xff\xff\xff\xf7\x00\x00",
    b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00",
    b"\x00\x00\x01\xba\x44\x00\x04\x00",
    b"OggS\x00\x02",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa",
    b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    b"ffconcat version 1.0\n",
]
SUFFIXES = [".mp4", ".avi", ".webm", ".mkv", ".gif", ".txt", ".exe", "", ".mp4.avi", ".m3u8"]
CODECS = {
    "h264.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p"],
    "mjpeg.avi": ["-c:v", "mjpeg"],
    "mpeg4.avi": ["-c:v", "mpeg4"],
    "vp8.webm": ["-c:v", "libvpx"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"],
    "ffv1.mkv": ["-c:v", "ffv1"],
    "moving.gif": [],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-r", "25"],
    "wmv2.wmv": ["-c:v", "wmv2"],
    "hevc.mov": ["-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=error"],
}

Rng = np.random.Generator


def span(data: bytearray, rng: Rng, most: float) -> slice:
    """A stretch of at most that share of a file."""
    length = int(rng.integers(1, max(int(most * len(data)), 2)))
    start = int(rng.integers(0, max(len(data) - length, 1)))
    return slice(start, start + length)


def truncate(data: bytearray, rng: Rng) -> None:
    del data[int(rng.integers(1, len(data))) :]


def behead(data: bytearray, rng: Rng) -> None:
    del data[: int(rng.integers(1, min(len(data), 4000)))]


def flip_bits(data: bytearray, rng: Rng, end: int | None = None) -> None:
    for at in rng.integers(0, end or len(data), int(rng.integers(1, 200))):
        data[at] ^= 1 << int(rng.integers(8))


def flip_bits_of_the_header(data: bytearray, rng: Rng) -> None:
    flip_bits(data, rng, min(600, len(data)))


def zero_a_block(data: bytearray, rng: Rng) -> None:
    where = span(data, rng, 0.3)
    data[where] = bytes(len(data[where]))


def fill_a_block_of_the_header(data: bytearray, rng: Rng) -> None:
    at = int(rng.integers(0, min(400, len(data) - 8)))
    data[at : at + int(rng.integers(1, 9))] = b"\xff" * 8


def scramble_a_block(data: bytearray, rng: Rng) -> None:
    where = span(data, rng, 0.1)
    data[where] = rng.bytes(len(data[where]))


def remove_a_block(data: bytearray, rng: Rng) -> None:
    del data[span(data, rng, 0.3)]


def repeat_a_block(data: bytearray, rng: Rng) -> None:
    where = span(data, rng, 0.2)
    data[where.start : where.start] = data[where] * 3


def wrong_header(data: bytearray, rng: Rng) -> None:
    header = HEADERS[int(rng.integers(len(HEADERS)))]
    data[: len(header) if rng.random() < 0.5 else 0] = header


def nothing_but_the_name(data: bytearray, rng: Rng) -> None:
    pass


MUTATIONS = [
    truncate, truncate, behead, flip_bits, flip_bits, flip_bits_of_the_header, flip_bits_of_the_header, zero_a_block,
    fill_a_block_of_the_header, fill_a_block_of_the_header, scramble_a_block, remove_a_block, repeat_a_block,
    wrong_header, nothing_but_the_name,
]  # fmt: skip


def mutated(sources: list[Path], seed: int) -> tuple[str, bytes]:
    """A name and a content, always the same for a seed."""
    rng = np.random.default_rng(seed)
    source = sources[int(rng.integers(len(sources)))]
    data = bytearray(source.read_bytes())
    for _ in range(int(rng.integers(1, 3))):
        MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng)
        data = data or bytearray(b"\0")
    return source.stem + SUFFIXES[int(rng.integers(len(SUFFIXES)))], bytes(data)


@pytest.fixture(scope="module")
def generated(tmp_path_factory, ffmpeg, record) -> list[Path]:
    folder = tmp_path_factory.mktemp("generated")
    for name, options in CODECS.items():
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=15:d=3", *options, folder / name)
    record(folder / "camera.webm", 60)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def real(ucf5) -> list[Path]:
    return sorted((ucf5 / "videos").glob("*.avi"))[::25]


@pytest.fixture(scope="module")
def pages(tiny_checkpoint, tmp_path_factory) -> Iterator[list[Page]]:
    folder = tmp_path_factory.mktemp("mutations") / "experiments"
    make_experiment(folder, tiny_checkpoint)
    pages = [Page(folder), Page(folder)]
    yield pages
    for page in pages:
        page.widget.close()


@pytest.fixture
def answers(pages) -> Callable[[list[tuple[str, bytes]]], list[str]]:
    """`answers(videos)`: the state of each, its answer checked; the two pages are busy side by side."""

    def one(number: int, page: Page, name: str, content: bytes) -> str:
        key = page.upload(content, name, preview=number % 5 == 0)
        assert page.widget._queue.all[key].ended.wait(HANG_S), f"no answer within {HANG_S} s"
        row = page.answered(key)
        assert row["state"] in ("done", "failed")
        if row["state"] == "failed":
            assert_sentence(row["sentence"])
            assert row["sentence"] != FAILED_INSIDE and row["label"] == ""
        else:
            top = page.widget._queue.all[key].prediction.top
            assert math.fsum(share for _, share in top) == pytest.approx(1, abs=1e-3) and row["label"] == top[0][0]
        return row["state"]

    def all_of(videos: list[tuple[str, bytes]], first: int = 0) -> list[str]:
        def half(which: int) -> list[str]:
            states = []
            for number in range(which, len(videos), 2):
                try:
                    states.append(one(number, pages[which], *videos[number]))
                except AssertionError as error:
                    states.append(f"seed {first + number}: {error}")
            return states

        before = psutil.Process().num_fds()
        with ThreadPoolExecutor(2) as pool:
            states = [state for states in pool.map(half, (0, 1)) for state in states]
        for page in pages:
            page.settle()
        assert [state for state in states if state not in ("done", "failed")] == []
        assert psutil.Process().num_fds() <= before and not sandboxes()
        return states

    return all_of


def test_undamaged_each_has_a_prediction(answers, generated):
    videos = [(path.name, path.read_bytes()) for path in generated]
    assert answers(videos) == ["done"] * len(videos)


@pytest.mark.slow
@pytest.mark.parametrize("first", REAL)
def test_damaged_real_videos(answers, real, first):
    states = answers([mutated(real, seed) for seed in range(first, first + BATCH)], first)
    assert {"done", "failed"} == {*states}


@pytest.mark.slow
@pytest.mark.parametrize("first", GENERATED)
def test_damaged_generated_videos(answers, generated, first):
    states = answers([mutated(generated, seed) for seed in range(first, first + BATCH)], first)
    assert {"done", "failed"} == {*states}


def test_the_same_seed_makes_the_same_damage(generated):
    names = [mutated(generated, seed) for seed in range(120, 170)]
    assert names == [mutated(generated, seed) for seed in range(120, 170)]
    assert len({content for _, content in names}) > 45
