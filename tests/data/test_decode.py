"""Decoding: frames are counted by decoding, and exactly the wanted ones come back."""

import numpy as np
import pytest
import torch

from varec_lib.data.decode import cv2, probe, read_frames
from varec_lib.errors import DataError, VideoError


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video):
    return write_video(tmp_path_factory.mktemp("decode") / "video.mkv", 50, size=(48, 64), fps=12)


def header_count(path) -> int:
    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mp4"])
def test_probe_reports_count_rate_and_size(tmp_path, write_video, suffix):
    info = probe(write_video(tmp_path / f"video{suffix}", 37, size=(48, 80), fps=12))
    assert (info.frames, info.fps, info.height, info.width) == (37, 12, 48, 80)


@pytest.mark.parametrize(("suffix", "kept"), [(".mkv", 0.6), (".avi", 0.95)])
def test_probe_counts_frames_where_the_header_lies(tmp_path, write_video, frame_numbers, suffix, kept):
    path = write_video(tmp_path / f"video{suffix}", 50)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    frames = probe(path).frames
    assert 0 < frames < 50 == header_count(path)
    assert frame_numbers(read_frames(path, range(frames))) == list(range(frames))
    with pytest.raises(VideoError, match=f"ends after {frames} frames"):
        read_frames(path, [0, frames])


@pytest.mark.parametrize("indices", [[0], [49], [3, 7, 30], [30, 3, 7], [5, 5, 5], [49, 0, 49], [*range(49, -1, -1)]])
def test_read_frames_returns_what_was_asked_in_the_order_asked(video, frame_numbers, indices):
    clip = read_frames(video, indices)
    assert clip.shape == (len(indices), 3, 48, 64) and clip.dtype == torch.uint8
    assert frame_numbers(clip) == indices


def test_selected_frames_equal_those_of_a_full_sequential_decode(tiny_stick_actions):
    path = sorted((tiny_stick_actions / "videos").rglob("*.webm"))[0]
    capture, every = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        every.append(frame[..., ::-1].transpose(2, 0, 1))  # BGR to RGB, channels first
    chosen = [len(every) - 1, 2, 11, 2]
    assert probe(path).frames == len(every)
    assert torch.equal(read_frames(path, chosen), torch.from_numpy(np.stack([every[i] for i in chosen])))


def test_colours_come_as_red_green_blue(tmp_path, ffmpeg):
    path = tmp_path / "red.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32:r=10:d=0.5", "-c:v", "ffv1", path)
    red, green, blue = read_frames(path, [0])[0].float().mean(dim=(1, 2)).tolist()
    assert red > 240 and green < 10 and blue < 10


def test_real_clips_read_alike_whole_and_in_parts(ucf5):
    path = sorted((ucf5 / "videos").glob("*.avi"))[0]
    frames = probe(path).frames
    whole = read_frames(path, range(frames))
    assert whole.shape == (frames, 3, 240, 320) and frames > 20
    parts = [frames - 1, 0, frames // 2]
    assert torch.equal(read_frames(path, parts), whole[parts])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.avi", None, "no such file"),
        ("notes.txt", b"notes", "extension is not a known video format"),
        ("empty.avi", b"", "0 bytes"),
        ("text.mp4", b"not a video\n" * 200, "not a video that can be decoded"),
    ],
)
def test_unusable_files_are_named_with_the_reason(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (probe, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError) as caught:
            read(path)
        assert str(path) in str(caught.value) and words in str(caught.value)
        assert isinstance(caught.value, DataError)
