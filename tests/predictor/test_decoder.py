"""What comes out of the process that decodes: the frames of `open_video`, within limits, and of videos only."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from varec_lib.data.video import open_video, probe
from varec_lib.errors import VideoError
from varec_lib.predictor.sandbox import GuardedVideo, Limits

CODECS = {
    "h264.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p"],
    "h264_444.mov": ["-c:v", "libx264", "-pix_fmt", "yuv444p"],
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=error"],
    "mpeg4.avi": ["-c:v", "mpeg4"],
    "vp8.webm": ["-c:v", "libvpx"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"],
    "wmv2.wmv": ["-c:v", "wmv2"],
    "theora.ogv": ["-c:v", "libtheora"],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-r", "25"],
    "stream.ts": ["-c:v", "mpeg2video", "-r", "25"],
    "flash.flv": ["-c:v", "flv"],
    "prores.mov": ["-c:v", "prores"],
    "moving.gif": [],
    "gray.mkv": ["-c:v", "ffv1", "-pix_fmt", "gray"],
    "odd.mkv": ["-vf", "crop=89:61", "-c:v", "ffv1"],
    "narrow.mkv": ["-vf", "crop=90:2", "-c:v", "ffv1"],
}


def guarded(path: Path, *, short_side: int = 0, rate: float = 0, **limits: Any) -> tuple[GuardedVideo, list]:
    """Opens a video in the sandbox, and reads all its frames."""
    with path.open("rb") as file:
        video = GuardedVideo(file, short_side=short_side, rate=rate, limits=Limits(**limits))
        with video:
            return video, list(video)


def assert_alike(path: Path, *, short_side: int = 0, rate: float = 0) -> None:
    with open_video(path) as opened:
        expected = [(frame.picture(short_side), frame.time_s) for frame in opened.thinned(rate)]
    video, frames = guarded(path, short_side=short_side, rate=rate)
    assert (video.fps, video.ends_s, video.lost, video.cut) == (opened.promised_fps, opened.ends_s, opened.lost, False)
    assert len(frames) == len(expected) and video.time_s == expected[-1][1]
    assert all(np.array_equal(a, b) for a, (b, _) in zip(frames, expected, strict=True))


@pytest.fixture(scope="session")
def encoded(tmp_path_factory, ffmpeg) -> Callable[[str], Path]:
    """`encoded(name)`: a moving picture in one of `CODECS`, with a sound track where the container takes one."""
    folder = tmp_path_factory.mktemp("encoded")

    def make(name: str) -> Path:
        sound = ["-f", "lavfi", "-i", "sine=d=1.5", "-shortest"] if name.endswith((".mp4", ".mov")) else []
        if not (folder / name).exists():
            ffmpeg("-f", "lavfi", "-i", "testsrc2=s=90x62:r=12:d=1.5", *sound, *CODECS[name], folder / name)
        return folder / name

    return make


@pytest.mark.parametrize("name", CODECS)
def test_frames_are_those_of_the_reader(encoded, name):
    assert probe(encoded(name)).frames > 10
    assert_alike(encoded(name))


@pytest.mark.parametrize(("short_side", "rate"), [(40, 0), (0, 5), (17, 7.9), (500, 100)])
def test_frames_are_thinned_out_and_scaled_down_alike(encoded, short_side, rate):
    assert_alike(encoded("h264.mp4"), short_side=short_side, rate=rate)


def test_a_phone_held_upright(encoded, ffmpeg, tmp_path):
    ffmpeg("-display_rotation", "90", "-i", encoded("h264.mp4"), "-c", "copy", tmp_path / "phone.mp4")
    assert guarded(tmp_path / "phone.mp4")[1][0].shape == (90, 62, 3)
    assert_alike(tmp_path / "phone.mp4", short_side=40)


def test_a_recording_of_a_browser(record, tmp_path):
    path = record(tmp_path / "camera.webm", 45)
    video, _ = guarded(path)
    assert video.promised_s == 0 and video.ends_s == pytest.approx(1.5, abs=0.1)
    assert_alike(path, rate=15)


def test_the_name_of_a_file_means_nothing(encoded, tmp_path):
    path = tmp_path / "no ending; $(touch x) %d"
    path.write_bytes(encoded("h264.mp4").read_bytes())
    assert len(guarded(path)[1]) == 18


def test_a_file_that_is_deleted_and_stands_at_its_end(encoded, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(encoded("h264.mp4").read_bytes())
    with path.open("rb") as file:
        path.unlink()
        file.seek(0, os.SEEK_END)
        with GuardedVideo(file, short_side=0, rate=0, limits=Limits()) as video:
            assert len(list(video)) == 18


@pytest.mark.parametrize("number", [0, 87, 249])
def test_real_clips_alike(ucf5, number):
    path = sorted((ucf5 / "videos").glob("*.avi"))[number]
    assert_alike(path, short_side=128, rate=15)


def test_a_damaged_video_gives_the_same_frames_as_far_as_it_goes(write_video, tmp_path):
    path = write_video(tmp_path / "cut.avi", 50)
    path.write_bytes(path.read_bytes()[:-4000])
    video, frames = guarded(path)
    assert 10 < len(frames) < 50 and not video.cut
    assert_alike(path)


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4", "v.webm"])
def test_a_video_of_uneven_rate_reaches_as_far_as_its_header_promises(encoded, ffmpeg, tmp_path, name):
    """A quarter of its frames is there in the second half."""
    uneven = ["-vf", "tpad=stop=60,select='lt(t,3)+not(mod(n,4))'", "-fps_mode", "vfr"]
    ffmpeg("-i", encoded("h264.mp4"), "-an", *uneven, tmp_path / name)
    video, frames = guarded(tmp_path / name)
    assert 40 < len(frames) < 70
    assert video.ends_s == pytest.approx(6.4, abs=0.3)
    assert video.promised_s == pytest.approx(6.4, abs=1)


# Limits


@pytest.mark.parametrize("limits", [{"seconds": 2.0}, {"frames": 30}])
def test_a_longer_video_is_looked_at_as_far_as_the_limits_reach(write_video, tmp_path, limits):
    video, frames = guarded(write_video(tmp_path / "v.mkv", 31), **limits)
    assert len(frames) == 30 and video.cut and video.ends_s == pytest.approx(2)
    video, frames = guarded(write_video(tmp_path / "w.mkv", 30), **limits)
    assert len(frames) == 30 and not video.cut


def test_limits_count_the_frames_of_the_video_not_those_that_are_kept(write_video, tmp_path):
    path = write_video(tmp_path / "v.mkv", 120)
    for limits in ({"seconds": 2.0}, {"frames": 30}):
        video, frames = guarded(path, rate=5, **limits)
        assert len(frames) == 10 and video.cut


@pytest.mark.parametrize("fps", [0.01, 480.0])
def test_the_limit_of_seconds_at_odd_rates(write_video, tmp_path, fps):
    video, frames = guarded(write_video(tmp_path / "v.mkv", 20, fps=fps), seconds=0.025)
    assert (len(frames), video.cut) == (1 if fps < 1 else 12, True)


def test_pictures_that_are_too_large(write_video, tmp_path):
    path = write_video(tmp_path / "v.mkv", 3, size=(64, 80))
    assert len(guarded(path, pixels=64 * 80)[1]) == 3
    with pytest.raises(VideoError) as caught:
        guarded(path, pixels=64 * 80 - 1)
    assert str(caught.value) == "its pictures of 80x64 are larger than the 0.0051 megapixels that are taken here."


def test_pictures_that_are_larger_than_the_header_says(ffmpeg, tmp_path):
    honest, lying = tmp_path / "honest.webm", tmp_path / "lying.webm"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=4000x4000:r=5:d=0.6", "-pix_fmt", "yuv420p", "-c:v", "libvpx",
           "-deadline", "realtime", "-cpu-used", "16", honest)  # fmt: skip
    width_height = b"\xb0\x82\x0f\xa0\xba\x82\x0f\xa0"  # of Matroska
    assert honest.read_bytes().count(width_height) == 1
    lying.write_bytes(honest.read_bytes().replace(width_height, b"\xb0\x82\x00\x40\xba\x82\x00\x40"))
    for path in (honest, lying):
        with pytest.raises(VideoError, match="4000x4000 are larger than"):
            guarded(path)


@pytest.mark.parametrize(
    "size", [(0, "the file is empty"), (1_000_001, "larger than the 1 MB"), (1_000_000, "not a video")]
)
def test_the_size_of_the_file(tmp_path, size):
    (tmp_path / "v").write_bytes(bytes(size[0]))
    with pytest.raises(VideoError, match=size[1]):
        guarded(tmp_path / "v", megabytes=1)


# What is no video


@pytest.fixture
def playlists(encoded, ffmpeg, tmp_path) -> dict[str, Path]:
    """Small texts that name a video of this computer, in formats that FFmpeg follows."""
    secret = tmp_path / "secret.ts"
    ffmpeg("-i", encoded("h264.mp4"), "-c", "copy", secret)
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.5,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1.5S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1000"><BaseURL>{encoded("h264.mp4")}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    texts = {
        "list.m3u8": hls.format(secret),
        "url.m3u8": hls.format(f"file:{secret}"),
        "relative.m3u8": hls.format("secret.ts"),
        "concat.mp4": f"ffconcat version 1.0\nfile {secret}\n",
        "concat.ffconcat": "ffconcat version 1.0\nfile secret.ts\n",
        "dash.mpd": dash,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in texts}


def test_lists_of_other_files_are_no_videos(playlists):
    opened = {name for name, path in playlists.items() if cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).grab()}
    assert opened >= {"list.m3u8", "relative.m3u8", "concat.ffconcat"}  # OpenCV by itself shows the other video
    for path in playlists.values():
        with pytest.raises(VideoError, match="not a video that can be decoded"):
            guarded(path)
    for path in playlists.values():
        with pytest.raises(VideoError, match="not a video that can be decoded"):
            probe(path)


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"\x1aE\xdf\xa3", b"RIFF\xff\xff\xff\x7fAVI LIST", b"%PDF-1.7\n", b"\0" * 5000]
)
def test_beginnings_and_other_kinds_of_files(tmp_path, content):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(VideoError) as caught:
        guarded(tmp_path / "v")
    assert re.search(r"decoded|no moving pictures", str(caught.value))
    assert str(tmp_path) not in str(caught.value) and "/dev" not in str(caught.value)


def test_sound_alone_and_pictures_alone_are_no_videos(ffmpeg, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "1", tmp_path / "picture.png")
    for name in ("sound.mp4", "picture.png"):
        with pytest.raises(VideoError, match=r"decoded|no moving pictures"):
            guarded(tmp_path / name)
