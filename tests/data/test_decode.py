"""Decoding: frames are counted by decoding, and exactly the wanted ones come back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from varec_lib.data import decode
from varec_lib.data.decode import cv2, decode_video, probe, read_frames, read_header, shrunk_size
from varec_lib.data.thinning import kept_frames
from varec_lib.errors import DataError, VideoError


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video):
    return write_video(tmp_path_factory.mktemp("decode") / "video.mkv", 50, size=(48, 64), fps=12)


def decoded(path, *, short_side: int = 0, fps: float = 0) -> torch.Tensor:
    """What `decode_video` saves, as `read_frames` would give it: uint8 (T, C, H, W)."""
    frames: list[np.ndarray] = []
    decode_video(path, lambda frame, _: frames.append(frame.copy()), short_side=short_side, fps=fps)
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


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
    with pytest.raises(VideoError, match=rf"\b{frames} frames"):
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
    ("size", "short_side", "expected"),
    [
        ((240, 320), 128, (128, 171)),
        ((320, 240), 128, (171, 128)),
        ((64, 64), 64, (64, 64)),
        ((48, 64), 0, (48, 64)),
        ((48, 64), 49, (48, 64)),  # never larger
        ((16, 640), 8, (8, 320)),
        ((2, 2), 1, (1, 1)),
    ],
)
def test_the_shorter_side_is_scaled_down_and_the_proportions_stay(size, short_side, expected):
    assert shrunk_size(*size, short_side) == expected


@pytest.mark.parametrize("short_side", [128, 57, 30, 20, 7])
@pytest.mark.parametrize("shape", [(120, 160), (161, 121)])
def test_frames_are_scaled_down_without_leaving_out_pixels(tmp_path, ffmpeg, shape, short_side):
    """Noise gets as calm as by averaging over the exact area of each new pixel: single pixels do not shine through."""
    path = tmp_path / "fine.mkv"
    noise = f"nullsrc=s={shape[1]}x{shape[0]}:r=5:d=0.6,geq=random(1)*255:128:128"
    ffmpeg("-f", "lavfi", "-i", noise, "-pix_fmt", "yuv444p", "-c:v", "ffv1", path)
    whole, small = read_frames(path, [1])[0], read_frames(path, [1], short_side=short_side)[0]
    size = shrunk_size(*shape, short_side)
    assert small.shape == (3, *size) and min(size) == min(short_side, *shape)
    area = cv2.resize(whole.permute(1, 2, 0).numpy(), size[::-1], interpolation=cv2.INTER_AREA)
    assert abs(small.float().mean() - area.mean()) < 2
    assert small.float().std() < 1.3 * area.std()


def test_scaling_keeps_the_picture_in_its_place(tmp_path, ffmpeg):
    path = tmp_path / "box.mkv"
    box = "color=black:s=160x120:r=5:d=0.4,drawbox=80:30:40:60:white:fill"
    ffmpeg("-f", "lavfi", "-i", box, "-pix_fmt", "gray", "-c:v", "ffv1", path)
    for short_side in (120, 60, 50, 24):
        frame = read_frames(path, [0], short_side=short_side)[0, 0].float()
        rows, columns = (frame / frame.sum()).sum(dim=1), (frame / frame.sum()).sum(dim=0)
        centre = [
            float((weights * (torch.arange(len(weights)) + 0.5)).sum() / len(weights)) for weights in (rows, columns)
        ]
        assert centre == pytest.approx([60 / 120, 100 / 160], abs=0.01)


@pytest.mark.parametrize(("short_side", "fps"), [(0, 0), (48, 0), (24, 12), (17, 5), (0, 7.9), (100, 100)])
def test_decode_video_saves_the_kept_frames_as_read_frames_gives_them(video, short_side, fps):
    saved = decoded(video, short_side=short_side, fps=fps)
    kept = kept_frames(50, 12, fps).tolist()
    assert len(kept) == len(saved) == (50 if not 0 < fps < 12 else -(-50 * fps // 12))
    assert torch.equal(saved, read_frames(video, kept, short_side=short_side))


def test_decode_video_agrees_on_real_clips(ucf5):
    path = sorted((ucf5 / "videos").glob("*.avi"))[1]
    saved = decoded(path, short_side=128, fps=15)
    info = probe(path)
    kept = kept_frames(info.frames, info.fps, 15).tolist()
    assert saved.shape == (len(kept), 3, 128, 171) and 1.5 < info.frames / len(kept) < 2
    assert torch.equal(saved, read_frames(path, kept, short_side=128))


def test_decode_video_counts_all_frames_and_tells_what_probe_tells(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mkv", 50)
    data = path.read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))])
    saved = []
    assert decode_video(path, lambda frame, _: saved.append(frame.shape), short_side=32, fps=5) == probe(path)
    assert set(saved) == {(32, 32, 3)} and len(saved) == len(kept_frames(probe(path).frames, 15, 5)) < 20


def test_a_saved_frame_does_not_change_when_the_next_one_is_decoded(video, frame_numbers):
    """The decoder reuses its memory; what it hands out must be read before the next frame, not copied by luck."""
    numbers = []
    decode_video(
        video, lambda frame, _: numbers.extend(frame_numbers(torch.from_numpy(frame).permute(2, 0, 1)[None])),
        short_side=0, fps=0,
    )  # fmt: skip
    assert numbers == [*range(50)]


@pytest.mark.parametrize("short_side", [0, 24])
def test_read_header_gives_the_header_and_the_first_frame(video, short_side):
    info, first = read_header(video, short_side=short_side)
    assert info == replace(probe(video), frames=0)  # it promises, and does not count
    assert np.array_equal(first, read_frames(video, [0], short_side=short_side)[0].permute(1, 2, 0))


def header_rate(path) -> float:
    return cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)


def test_the_rate_of_a_recording_without_one_is_that_of_its_frames(tmp_path, record, frame_numbers):
    """A browser's: its header has the clock's rate, with which thinning would leave one frame of 66."""
    path = record(tmp_path / "camera.webm", 90)
    assert header_rate(path) == 1000 and header_count(path) < 0
    info = probe(path)
    assert info.frames == 90 and info.fps == pytest.approx(30, rel=0.01)
    assert read_header(path, short_side=0)[0].fps == info.fps
    saved = decoded(path, fps=15)
    assert 44 <= len(saved) <= 46
    assert frame_numbers(saved) == kept_frames(90, info.fps, 15).tolist()


@pytest.mark.parametrize("codec", ["wmv2", "msmpeg4"])
def test_the_rate_of_a_windows_media_file_with_uneven_times(tmp_path, write_video, ffmpeg, codec):
    source, path = write_video(tmp_path / "even.mkv", 60, fps=30), tmp_path / "uneven.wmv"
    times = "settb=1/1000,setpts=PTS+floor(random(0)*25)"
    clock = ["-enc_time_base", "1:1000", "-fps_mode", "passthrough"]
    ffmpeg("-i", source, "-vf", times, *clock, "-c:v", codec, "-b:v", "2M", path)
    assert header_rate(path) == 1000
    info = probe(path)
    assert info.frames == 60 and info.fps == pytest.approx(30, rel=0.02)
    assert 29 <= len(decoded(path, fps=15)) <= 31


def test_the_rate_of_a_long_recording_takes_no_longer_to_find(tmp_path, record, monkeypatch):
    path = record(tmp_path / "camera.webm", 90)
    monkeypatch.setattr(decode, "RATE_FRAMES", 40)
    grabs = 0

    class Counted:
        def __init__(self, *arguments: object) -> None:
            self.capture = original(*arguments)

        def grab(self) -> bool:
            nonlocal grabs
            grabs += 1
            return self.capture.grab()

        def __getattr__(self, name: str):
            return getattr(self.capture, name)

    original = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Counted)
    assert read_header(path, short_side=0)[0].fps == pytest.approx(30, rel=0.03)
    assert grabs == 40


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_in_av1_is_not_called_damaged(tmp_path, ffmpeg, suffix):
    path = tmp_path / f"video{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=5:d=1", "-c:v", "libaom-av1", "-cpu-used", "8", path)
    if cv2.VideoCapture(str(path)).grab():
        pytest.skip("this OpenCV decodes AV1")
    for read in (probe, decoded, lambda path: read_header(path, short_side=0)):
        with pytest.raises(VideoError, match="AV1"):
            read(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.avi", None, "no such"),
        ("notes.txt", b"notes", "extension"),
        ("empty.avi", b"", "0 bytes"),
        ("text.mp4", b"not a video\n" * 200, "a video"),
    ],
)
def test_unusable_files_are_named_with_the_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    readers = [
        probe,
        lambda path: read_frames(path, [0]),
        lambda path: read_header(path, short_side=16),
        lambda path: decode_video(path, lambda frame, _: None, short_side=16, fps=0),
    ]
    for read in readers:
        with pytest.raises(VideoError) as caught:
            read(path)
        assert str(path) in str(caught.value) and reason in str(caught.value)
        assert isinstance(caught.value, DataError)
