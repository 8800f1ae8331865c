"""Previews: a start of any video that every browser plays, made of the frames it is given."""

from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from varec_lib.data.preview import FPS, LONGEST_S, MOST_BYTES, Preview, preview_size
from varec_lib.data.video import open_video, probe, read_frames


def preview_of(path: Path) -> bytes:
    with Preview() as preview:
        with open_video(path) as video:
            for frame in video:
                preview.add(frame.picture(), frame.time_s)
        return preview.finish()


def checked(content: bytes, path: Path) -> tuple[int, int, float]:
    """Height, width and seconds of a preview."""
    assert len(content) <= MOST_BYTES
    path.write_bytes(content)
    info = probe(path)
    fourcc = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert fourcc == b"VP80" and info.fps == pytest.approx(FPS, abs=0.1)
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
    height, width, seconds = checked(preview_of(path), tmp_path / "preview.webm")
    assert abs(height - expected[0]) <= 2 and abs(width - expected[1]) <= 2
    assert seconds == pytest.approx(expected[2], abs=0.15) if expected[2] else 1 < seconds < 20.1


def test_a_preview_of_twenty_seconds_at_most(write_video, tmp_path):
    path = write_video(tmp_path / "v.avi", [n % 256 for n in range(300)], fps=10)
    assert LONGEST_S - 1 < checked(preview_of(path), tmp_path / "preview.webm")[2] <= LONGEST_S + 0.1


def test_its_pictures_are_the_frames_it_was_given_at_their_times(tmp_path):
    """Uneven ones: a grey that lasts a second, one of an eighth, one too soon to be seen, and the last."""
    with Preview() as preview:
        for grey, time_s in ((40, 7.0), (120, 8.0), (250, 8.001), (200, 8.12)):
            preview.add(np.full((64, 96, 3), grey, np.uint8), time_s)
        (tmp_path / "p.webm").write_bytes(preview.finish())
    count = probe(tmp_path / "p.webm").frames
    means = read_frames(tmp_path / "p.webm", range(count)).float().mean(dim=(1, 2, 3)).numpy()
    assert count == 29
    assert means == pytest.approx([40] * 25 + [120] * 3 + [200], abs=6)


@pytest.mark.parametrize("size", [(1, 1), (2, 5000), (5000, 2), (360, 480), (4096, 2304)])
def test_the_size_is_even_and_inside_the_box(size):
    height, width = preview_size(*size)
    assert height % 2 == width % 2 == 0 and 2 <= height <= 360 and 2 <= width <= 480


def test_of_no_frames_there_is_none_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Preview() as preview:
        assert preview.finish() == b""
    with Preview() as preview:
        preview.add(np.zeros((32, 32, 3), np.uint8), 0.0)
    assert [*tmp_path.iterdir()] == []


def test_without_an_encoder_it_is_empty_and_says_so_once(monkeypatch, caplog):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no ffmpeg here")

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", fail)
    with Preview() as preview:
        for number in range(3):
            preview.add(np.zeros((32, 32, 3), np.uint8), number / 10)
        assert preview.finish() == b""
    assert [record.levelname for record in caplog.records] == ["WARNING"]
