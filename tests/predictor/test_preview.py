"""Previews: a start of any video that every browser plays, small and soon, or none."""

import time
from pathlib import Path

import pytest
from page import sandboxes

from varec_lib.data.decode import cv2, probe
from varec_lib.predictor import sandbox
from varec_lib.predictor.sandbox import PREVIEW_BYTES, Limits, preview


def checked(content: bytes, path: Path) -> tuple[int, int, float]:
    """Height, width and seconds of a preview."""
    assert len(content) <= PREVIEW_BYTES
    path.write_bytes(content)
    info = probe(path)
    fourcc = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert fourcc == b"VP80" and info.fps <= 25.01
    assert info.frames / info.fps <= 20.1
    return info.height, info.width, info.frames / info.fps


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("testsrc2=s=1280x720:r=30:d=3", (270, 480, 3)),
        ("testsrc2=s=61x97:r=10:d=2", (96, 60, 2)),  # even, as VP8 has it
        ("testsrc2=s=1000x40:r=10:d=2", (18, 480, 2)),
        ("testsrc2=s=360x1000:r=60:d=2", (360, 128, 2)),
        ("nullsrc=s=480x360:r=25:d=25,noise=alls=100:allf=t", (360, 480, None)),
    ],
)
def test_a_preview_is_small_and_plays(ffmpeg, tmp_path, source, expected):
    path = tmp_path / "v.avi"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mjpeg", "-q:v", "5", path)
    with path.open("rb") as file:
        height, width, seconds = checked(preview(file, Limits(stall_s=30)), tmp_path / "preview.webm")
    assert abs(height - expected[0]) <= 2 and abs(width - expected[1]) <= 2
    assert seconds == pytest.approx(expected[2], abs=0.15) if expected[2] else 1 < seconds < 20.1


def test_a_preview_of_twenty_seconds_at_most(write_video, tmp_path):
    path = write_video(tmp_path / "v.avi", [n % 256 for n in range(300)], fps=10)
    with path.open("rb") as file:
        assert 19 < checked(preview(file, Limits(stall_s=30)), tmp_path / "preview.webm")[2] <= 20.1


@pytest.mark.parametrize("content", [b"", b"this is not a video", bytes(10_000)])
def test_what_is_no_video_has_no_preview(tmp_path, content):
    (tmp_path / "v").write_bytes(content)
    with (tmp_path / "v").open("rb") as file:
        assert preview(file, Limits()) == b""


@pytest.mark.alone
def test_a_preview_takes_no_longer_than_a_stall_may(ffmpeg, tmp_path):
    """Which is asked for in vain of 500 frames of 4096x2160."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=4096x2160:r=25:d=0.4", "-c:v", "mjpeg", tmp_path / "short.avi")
    ffmpeg("-stream_loop", "50", "-i", tmp_path / "short.avi", "-c", "copy", tmp_path / "long.avi")
    start, before = time.monotonic(), sandboxes()
    with (tmp_path / "long.avi").open("rb") as file:
        content = preview(file, Limits(stall_s=1.5))
    assert sandboxes() == before
    assert time.monotonic() - start < 8
    assert 0 < checked(content, tmp_path / "preview.webm")[2] < 15  # so far it came


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; sleep 60"], ids=["ends when told", "is killed"])
@pytest.mark.alone
def test_of_a_decoder_that_says_nothing_there_is_no_preview(monkeypatch, write_video, tmp_path, script):
    (tmp_path / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setattr(sandbox.imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "ffmpeg"))
    start, before = time.monotonic(), sandboxes()
    with write_video(tmp_path / "v.avi", 30).open("rb") as file:
        assert preview(file, Limits(stall_s=0.5)) == b""
    assert sandboxes() == before
    assert time.monotonic() - start < 8
