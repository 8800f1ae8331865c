"""Reading videos: exactly the wanted frames come back, as a screen shows them, at the times at which it does."""

import io
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from varec_lib.data import video as video_module
from varec_lib.data.picture import shrunk_size
from varec_lib.data.thinning import kept_frames
from varec_lib.data.video import Video, open_video, probe, read_frames
from varec_lib.errors import DataError, VideoError


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video):
    return write_video(tmp_path_factory.mktemp("video") / "video.mkv", 50, size=(48, 64), fps=12)


def decoded(path, *, short_side: int = 0, fps: float = 0) -> torch.Tensor:
    """The frames that stay of a video, as `read_frames` would give them: uint8 (T, C, H, W)."""
    with open_video(path) as video:
        frames = [frame.picture(short_side) for frame in video.thinned(fps)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def times_of(path) -> list[float]:
    return probe(path).times.tolist()


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
    assert 0 < frames < 50
    assert frame_numbers(read_frames(path, range(frames))) == list(range(frames))
    with pytest.raises(VideoError, match=rf"\b{frames} frames"):
        read_frames(path, [0, frames])


@pytest.mark.parametrize("indices", [[0], [49], [3, 7, 30], [30, 3, 7], [5, 5, 5], [49, 0, 49], [*range(49, -1, -1)]])
def test_read_frames_returns_what_was_asked_in_the_order_asked(video, frame_numbers, indices):
    clip = read_frames(video, indices)
    assert clip.shape == (len(indices), 3, 48, 64) and clip.dtype == torch.uint8
    assert frame_numbers(clip) == indices


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


@pytest.mark.parametrize(("short_side", "fps"), [(0, 0), (48, 0), (24, 12), (17, 9), (0, 7.9), (100, 100)])
def test_frames_that_stay_are_those_that_read_frames_gives(video, short_side, fps):
    saved = decoded(video, short_side=short_side, fps=fps)
    info = probe(video)
    kept = kept_frames(info.times[:-1], fps, info.promised_s).tolist()
    assert len(kept) == len(saved) == (50 if not 0 < fps < 12 else pytest.approx(50 * fps / 12, abs=1))
    assert torch.equal(saved, read_frames(video, kept, short_side=short_side))


def test_they_agree_on_real_clips(ucf5):
    path = sorted((ucf5 / "videos").glob("*.avi"))[1]
    saved = decoded(path, short_side=128, fps=15)
    info = probe(path)
    kept = kept_frames(info.times[:-1], 15, info.promised_s).tolist()
    assert saved.shape == (len(kept), 3, 128, 171) and 1.5 < info.frames / len(kept) < 2
    assert torch.equal(saved, read_frames(path, kept, short_side=128))


def test_a_picture_does_not_change_when_the_next_frame_is_decoded(video, frame_numbers):
    with open_video(video) as opened:
        pictures = [frame.picture() for frame in opened]
    assert frame_numbers(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)) == [*range(50)]


def test_an_open_file_without_a_name(video):
    with open_video(io.BytesIO(video.read_bytes())) as opened:
        assert len([*opened]) == 50
    with pytest.raises(VideoError) as caught, open_video(io.BytesIO(b"not a video")):
        pass
    assert str(caught.value).startswith("not a video")


# As a screen shows it

MOVING = "testsrc2=size=720x576:rate=50:duration=1"  # of 50 half pictures, 25 pictures are made


@pytest.fixture(scope="module")
def shown(ffmpeg) -> Callable[..., np.ndarray]:
    """`shown(path, filters="null")`: what ffmpeg makes of a video, RGB uint8 (T, H, W, 3)."""

    def show(path: Path, filters: str = "null") -> np.ndarray:
        info = probe(path)
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-v",
            "error",
            "-i",
            path,
            "-vf",
            filters,
            "-fps_mode",
            "passthrough",
        ]
        raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True)
        return np.frombuffer(raw.stdout, np.uint8).reshape(-1, info.height, info.width, 3)

    return show


def difference(path: Path, expected: np.ndarray) -> float:
    """Mean difference of all pixels of all frames, in levels."""
    pictures = decoded(path).permute(0, 2, 3, 1).numpy()
    assert pictures.shape == expected.shape
    return float(np.abs(pictures.astype(int) - expected).mean())


@pytest.mark.parametrize(
    ("name", "scan", "encoder"),
    [
        ("dvd.mpg", "tff", "-c:v mpeg2video -flags +ildct+ilme -b:v 9M"),
        ("camcorder.mts", "tff", "-c:v libx264 -flags +ildct+ilme -x264opts tff=1 -preset ultrafast -qp 4"),
        ("camcorder.MTS", "bff", "-c:v libx264 -flags +ildct+ilme -x264opts bff=1 -preset ultrafast -qp 4"),
        ("dv.avi", "bff", "-c:v dvvideo -pix_fmt yuv420p"),
        ("xvid.avi", "bff", "-c:v mpeg4 -vtag XVID -flags +ildct+ilme -q:v 1"),
    ],
)
def test_of_two_interlaced_halves_one_picture_is_made(tmp_path, ffmpeg, name, scan, encoder):
    """Nearer to what was filmed than the two halves woven together, which belong to different moments."""
    filmed, path = tmp_path / "filmed.mkv", tmp_path / name
    # The filter keeps every second picture's lines: those that were there when the first half was taken.
    ffmpeg(
        "-f", "lavfi", "-i", MOVING, "-vf", "select=not(mod(n\\,2))", "-fps_mode", "passthrough", "-c:v", "ffv1", filmed
    )
    ffmpeg("-f", "lavfi", "-i", MOVING, "-vf", f"interlace=scan={scan}:lowpass=off", *encoder.split(), path)
    info = probe(path)
    assert (info.frames, info.interlaced, info.lost, round(info.fps)) == (25, True, 0, 25)
    expected = decoded(filmed).float()
    with av.open(str(path)) as container:
        woven = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    woven = torch.from_numpy(np.stack(woven)).permute(0, 3, 1, 2).float()
    assert (decoded(path).float() - expected).abs().mean() < 0.8 * (woven - expected).abs().mean()


def test_progressive_frames_between_interlaced_ones_stay_as_they_are(tmp_path, ffmpeg):
    plain = ["-c:v", "mpeg2video", "-b:v", "9M", "-f", "mpegts"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=1", *plain, tmp_path / "a.ts")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=50:d=1", "-vf", "interlace", "-flags", "+ildct+ilme", *plain,
           tmp_path / "b.ts")  # fmt: skip
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    info = probe(joined)
    assert info.interlaced and info.frames == 49  # the decoder loses one where they were joined
    assert torch.equal(decoded(joined)[:24], decoded(tmp_path / "a.ts")[:24])
    assert np.diff(info.times) == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize(
    ("size", "ratio", "displayed"),
    [("720x576", "64/45", (576, 1024)), ("1440x1080", "4/3", (1080, 1920)), ("352x288", "12/11", (288, 384)),
     ("720x480", "8/9", (480, 640))],
)  # fmt: skip
def test_pixels_become_square(tmp_path, ffmpeg, size, ratio, displayed):
    path = tmp_path / "v.mp4"
    width, height = map(int, size.split("x"))
    box = f"color=black:s={size}:r=5:d=0.4,drawbox={width // 2}:{height // 4}:{width // 4}:{height // 2}:white:fill"
    ffmpeg("-f", "lavfi", "-i", box, "-vf", f"setsar={ratio}", "-c:v", "libx264", "-pix_fmt", "yuv420p", path)
    info = probe(path)
    assert (info.height, info.width) == displayed
    for short_side in (0, 72):
        bright = read_frames(path, [1], short_side=short_side)[0, 0].float() > 127
        assert bright.shape == shrunk_size(*displayed, short_side)
        rows, columns = bright.any(dim=1).nonzero().flatten(), bright.any(dim=0).nonzero().flatten()
        edges = [rows[0] / len(bright), columns[0] / bright.shape[1], columns[-1] / bright.shape[1]]
        assert [float(edge) for edge in edges] == pytest.approx([1 / 4, 1 / 2, 3 / 4], abs=0.02)


@pytest.mark.parametrize(
    "turn",
    ["-display_rotation 90", "-display_rotation 180", "-display_rotation 270", "-display_hflip", "-display_vflip",
     "-display_rotation 90 -display_hflip", "-display_rotation 270 -display_vflip"],
)  # fmt: skip
def test_pictures_stand_as_the_camera_was_held(tmp_path, ffmpeg, shown, turn):
    stored, path = tmp_path / "stored.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=1", "-c:v", "libx264", "-pix_fmt", "yuv420p", stored)
    ffmpeg(*turn.split(), "-i", stored, "-c", "copy", path)
    assert probe(path).height == (64 if "90" in turn or "270" in turn else 48)
    assert difference(path, shown(path)) == 0
    assert difference(stored, shown(stored)) == 0


HDR = {  # tags, and a decoder's levels of grey 128 on an ordinary screen
    "hlg": ("bt2020", "arib-std-b67", "bt2020nc"),
    "pq": ("bt2020", "smpte2084", "bt2020nc"),
    "bt2020": ("bt2020", "bt2020-10", "bt2020nc"),
    "p3": ("smpte432", "iec61966-2-1", "bt709"),
}


@pytest.mark.parametrize("name", HDR)
def test_colours_of_hdr_and_wide_gamut_are_those_of_an_ordinary_screen(tmp_path, ffmpeg, name):
    """As FFmpeg's scaler maps them, which takes 3 to 4 s for every file."""
    path = tmp_path / "v.mp4"
    primaries, transfer, matrix = HDR[name]
    tags = f"setparams=color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}:range=tv"
    # Stripes of single colours: at edges, ways of scaling colour planes differ.
    ffmpeg("-f", "lavfi", "-i", "smptehdbars=s=320x240:r=25:d=0.2", "-vf", f"format=yuv420p10le,{tags}", "-c:v",
           "libx265", "-x265-params", "log-level=none:lossless=1", "-tag:v", "hvc1", path)  # fmt: skip
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    after = 13 if name == "p3" else 1  # the transfer function of an ordinary screen
    expected = frame.reformat(format="rgb24", dst_color_trc=after, dst_color_primaries=1).to_ndarray().astype(int)
    plain = frame.to_ndarray(format="rgb24").astype(int)
    found = decoded(path)[0].permute(1, 2, 0).numpy()
    assert np.percentile(np.abs(found - expected), 90) <= 6  # all but pure blue, which no such screen can show
    assert np.abs(plain - expected).mean() > 5 * np.abs(found - expected).mean()


@pytest.mark.parametrize(
    ("tags", "pixels"),
    [("bt709:range=tv", "yuv420p"), ("smpte170m:range=tv", "yuv420p"), ("bt709:range=pc", "yuvj420p")],
)
def test_colours_are_those_that_were_encoded(tmp_path, ffmpeg, tags, pixels):
    path, (matrix, span) = tmp_path / "v.mp4", tags.split(":range=")
    convert = (
        f"format=gbrp,scale=out_color_matrix={matrix}:out_range={span},format={pixels},setparams=colorspace={tags}"
    )
    ffmpeg("-f", "lavfi", "-i", "color=0xC86432:s=64x64:r=5:d=0.6", "-vf", convert, "-c:v", "libx264", "-qp", "1", path)
    assert read_frames(path, [1])[0].float().mean(dim=(1, 2)).tolist() == pytest.approx([200, 100, 50], abs=4)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("v.mp4", "-c:v libsvtav1 -pix_fmt yuv420p"),
        ("v.webm", "-vf format=yuva420p -c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
        ("v.mov", "-c:v prores"),
        ("v.mkv", "-c:v ffv1 -pix_fmt gray16le"),
        ("v.avi", "-c:v mjpeg -pix_fmt yuvj420p"),
        ("v.nut", "-c:v rawvideo"),
        ("v.gif", ""),
        *((f"v.{ending}", "-c:v libx264 -pix_fmt yuv420p") for ending in "MTS m2ts f4v mov qt 3g2 h264 MP4".split()),
        *((f"v.{ending}", "-c:v mpeg2video -r 25") for ending in ("vob", "mxf")),
        ("v.asf", "-c:v wmv2"),
        ("v.divx", "-c:v mpeg4 -f avi"),
        ("v.dv", "-c:v dvvideo -s 720x576 -pix_fmt yuv420p -r 25"),
    ],
)
def test_what_cameras_and_programs_write_can_be_read(tmp_path, ffmpeg, name, encoder):
    path = tmp_path / name
    container = {"qt": ["-f", "mov"]}.get(name.split(".")[1], [])
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1.2", *encoder.split(), *container, path)
    info = probe(path)
    assert info.frames == pytest.approx(30, abs=2) and info.lost == 0
    assert info.times[-1] == pytest.approx(1.2, abs=0.1)
    assert read_frames(path, [10]).float().std() > 20


# When


def test_the_times_of_an_ordinary_video(video):
    assert times_of(video) == pytest.approx(np.arange(51) / 12)
    assert not probe(video).uneven


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_the_times_of_a_camera_that_slows_down(tmp_path, ffmpeg, suffix):
    path = tmp_path / f"v.{suffix}"
    slower = "select=lt(n\\,60)+not(mod(n\\,6))"
    codec = ["-c:v", "libvpx", "-deadline", "realtime"] if suffix == "webm" else ["-c:v", "libx264"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=60:d=10", "-vf", slower, "-fps_mode", "vfr", *codec, path)
    info = probe(path)
    assert info.uneven and info.frames == 150
    assert info.times == pytest.approx(np.append(np.arange(60) / 60, 1 + np.arange(91) / 10), abs=0.02)
    kept = kept_frames(info.times[:-1], 15, info.promised_s)
    assert (len(kept), (info.times[kept] < 1).sum()) == (105, 15)
    assert len(decoded(path, fps=15)) == 105


@pytest.mark.parametrize("codec", ["libx264", "libxvid"])
@pytest.mark.parametrize("rate", [25, 29.97])
def test_the_times_of_an_avi_with_frames_that_refer_to_later_ones(
    tmp_path, ffmpeg, frame_numbers, write_video, codec, rate
):
    """Its own times jump to and fro: PyAV 18.1 hands out guessed ones (findings/pyav_times_of_avi_jump.sh)."""
    path = tmp_path / "v.avi"
    source = write_video(tmp_path / "numbered.mkv", 60, fps=rate)
    ffmpeg("-i", source, "-c:v", codec, "-bf", "2", "-q:v", "2", "-pix_fmt", "yuv420p", path)
    info = probe(path)
    numbers = frame_numbers(decoded(path))  # libxvid loses one at the end
    assert not info.uneven and numbers[:57] == [*range(57)] and numbers == sorted(numbers)
    assert info.times == pytest.approx(np.arange(len(numbers) + 1) / rate, abs=0.002)


def test_a_recording_of_a_browser_has_the_rate_of_its_frames(tmp_path, record, frame_numbers):
    """Its header has that of its clock, 1000 a second, and no duration."""
    path = record(tmp_path / "camera.webm", 90)
    info = probe(path)
    assert info.frames == 90 and info.fps == pytest.approx(30, rel=0.02)
    assert frame_numbers(decoded(path, fps=15)) == kept_frames(info.times[:-1], 15, info.promised_s).tolist()
    assert 44 <= len(decoded(path, fps=15)) <= 46


@pytest.mark.parametrize("codec", ["wmv2", "msmpeg4"])
def test_the_rate_of_a_windows_media_file_with_uneven_times(tmp_path, write_video, ffmpeg, codec):
    source, path = write_video(tmp_path / "even.mkv", 120, fps=30), tmp_path / "uneven.wmv"
    times = "settb=1/1000,setpts=PTS+floor(random(0)*25)"
    clock = ["-enc_time_base", "1:1000", "-fps_mode", "passthrough"]
    ffmpeg("-i", source, "-vf", times, *clock, "-c:v", codec, "-b:v", "2M", path)
    info = probe(path)
    assert info.frames == 120 and info.fps == pytest.approx(30, rel=0.02) and info.uneven
    assert 52 <= len(decoded(path, fps=15)) <= 64


def test_of_a_trimmed_file_what_its_edit_list_shows(tmp_path, ffmpeg, frame_numbers, write_video):
    whole, path = tmp_path / "whole.mp4", tmp_path / "trimmed.mp4"
    source = write_video(tmp_path / "numbered.mkv", 200, fps=10)
    ffmpeg("-i", source, "-c:v", "libx264", "-g", "50", "-bf", "0", "-qp", "8", "-pix_fmt", "yuv420p", whole)
    ffmpeg("-ss", "7", "-t", "6", "-i", whole, "-c", "copy", path)
    info = probe(path)
    assert frame_numbers(decoded(path)) == [*range(70, 130)]
    assert (info.times[-1], info.promised_s) == (pytest.approx(6), pytest.approx(6, abs=0.1))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_slide_film_with_sound(tmp_path, ffmpeg, frame_numbers, write_video, suffix):
    """A picture a minute, and sound between them."""
    path = tmp_path / f"slides.{suffix}"
    source = write_video(tmp_path / "numbered.mkv", 5, fps=10)
    ffmpeg("-itsscale", "600", "-i", source, "-f", "lavfi", "-i", "sine=r=8000:d=300", "-fps_mode", "passthrough",
           "-c:v", "libx264", "-qp", "8", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "16k", path)  # fmt: skip
    info = probe(path)
    assert frame_numbers(decoded(path)) == [*range(5)] and info.lost == 0
    assert info.times[:5] == pytest.approx([0, 60, 120, 180, 240], abs=0.2)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([5.0, 1.0, 1.1, 1.2], [0, 0.1, 0.2, 0.3]),  # a clock that is set back after the first frame
        ([0.0, 0.1, 0.2, 9000.0, 9000.2], [0, 0.1, 0.2, 0.3, 0.5]),  # one that leaps
        ([0.0, 0.1, 0.2, 0.0, 0.1], [0, 0.1, 0.2, 0.3, 0.4]),  # a file that was joined of two
        ([None] * 4, [0, 0.1, 0.2, 0.3]),  # none
        ([0.0, 0.5, None, 0.7], [0, 0.5, 1.0, 1.5]),  # some
        ([0.0, 0.1001, 0.1999, 0.3], [0, 0.1, 0.2, 0.3]),  # rounded by the container
        ([3.0, 3.3, 3.9, 63.9], [0, 0.3, 0.9, 60.9]),  # a picture that stands for a minute
    ],
)
def test_times_go_on_whatever_the_file_tells(told, expected):
    clock = video_module._Clock(10)
    for time in told:
        clock.tick(SimpleNamespace(time=time, duration=0, time_base=Fraction(1, 1000)))
    assert clock.times == pytest.approx(expected)
    assert clock.ends_s > clock.times[-1]


def test_a_gif_with_uneven_delays(tmp_path, ffmpeg):
    path = tmp_path / "v.gif"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=2", "-vf", "select=lt(n\\,5)+not(mod(n\\,5))", "-fps_mode",
           "vfr", path)  # fmt: skip
    assert times_of(path)[:8] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.5], abs=0.02)


# Which stream, and what is in its way


def test_the_default_of_two_films_and_never_a_cover(tmp_path, ffmpeg):
    red, green = ("-f", "lavfi", "-i", "color=red:s=64x48:r=5:d=1"), ("-f", "lavfi", "-i", "color=lime:s=96x64:r=5:d=1")
    two, cover, picture = tmp_path / "two.mkv", tmp_path / "cover.mp4", tmp_path / "cover.png"
    ffmpeg(*red, *green, "-map", "0", "-map", "1", "-c:v", "ffv1", "-disposition:v:0", "0", "-disposition:v:1",
           "default", two)  # fmt: skip
    assert (probe(two).height, probe(two).frames) == (64, 5)
    ffmpeg(*green, "-frames:v", "1", picture)
    ffmpeg("-i", picture, *red, "-map", "0", "-map", "1", "-c:v:0", "copy", "-c:v:1", "libx264", "-disposition:v:0",
           "attached_pic", cover)  # fmt: skip
    assert (probe(cover).height, probe(cover).frames) == (48, 5)


@pytest.mark.parametrize("codec", ["mpeg2video", "mjpeg"])
def test_size_and_format_may_change_in_the_middle(tmp_path, ffmpeg, codec):
    parts = []
    for size, colour, pixels in (("96x64", "red", "yuv420p"), ("128x96", "lime", "yuv422p")):
        parts.append(tmp_path / f"{colour}.part")
        form = ["-f", "mpegts"] if codec == "mpeg2video" else ["-f", "mjpeg", "-strict", "-1"]
        source = f"color={colour}:s={size}:r=25:d=1"
        ffmpeg("-f", "lavfi", "-i", source, "-c:v", codec, "-pix_fmt", pixels, *form, parts[-1])
    joined = tmp_path / ("v.ts" if codec == "mpeg2video" else "v.mjpeg")
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = decoded(joined).float().mean(dim=(2, 3))
    assert decoded(joined).shape[1:] == (3, 64, 96) and len(clip) >= 49
    assert clip[5].tolist() == pytest.approx([254, 0, 0], abs=25) and clip[44].tolist() == pytest.approx(
        [0, 254, 0], abs=25
    )
    assert (np.diff(times_of(joined)) > 0).all()


def zeroed(path: Path, start: int, count: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + count] = bytes(count)
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 30])
def test_reading_goes_on_behind_a_damaged_frame(tmp_path, write_video, frame_numbers, place):
    path = write_video(tmp_path / "v.avi", 60)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][place]
    zeroed(path, packet.pos + 8, packet.size - 16)
    info = probe(path)
    assert (info.frames, info.lost) == (59, 1)
    assert frame_numbers(decoded(path)) == [number for number in range(60) if number != place]


def test_reading_goes_on_behind_damage_in_h264(tmp_path, ffmpeg):
    path = tmp_path / "v.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=4.76", "-c:v", "libx264", "-g", "250", path)
    zeroed(path, path.stat().st_size // 2, 4000)
    info = probe(path)
    assert info.frames > 100 and info.lost > 0
    assert info.times[-1] == pytest.approx(4.76, abs=0.2)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.avi", None, "no such"),
        ("notes.txt", b"notes\n" * 100, "a video"),
        ("empty.avi", b"", "0 bytes"),
        ("text.mp4", b"not a video\n" * 200, "a video"),
    ],
)
def test_unusable_files_are_named_with_the_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (probe, decoded, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError) as caught:
            read(path)
        assert str(path) in str(caught.value) and reason in str(caught.value)
        assert isinstance(caught.value, DataError)


def test_sound_and_still_pictures_are_no_videos(tmp_path, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "1", tmp_path / "picture.png")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "1", tmp_path / "picture.jpg")
    for name, word in (("sound.mp4", "sound"), ("picture.png", "not a video"), ("picture.jpg", "not a video")):
        with pytest.raises(VideoError, match=word):
            probe(tmp_path / name)


@pytest.mark.parametrize("name", ["2024-11-14T22:57:44.mp4", "100 %d done.mp4", "体操.mp4", "no ending", "-i.mp4"])
def test_names_mean_nothing(tmp_path, ffmpeg, monkeypatch, name):
    """FFmpeg itself would take some of them for an address, or for a pattern of names."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=1", tmp_path / "plain.mp4")
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(name).frames == probe(tmp_path / name).frames == 5


def test_a_decoder_is_handed_an_open_file_and_never_a_name(video, monkeypatch):
    """Some names end the process inside a decoder, and with it the answers for all other files."""
    real, given = av.open, []

    def stand_in(file: object, **how: object) -> object:
        given.append(file)
        return real(file, **how)

    monkeypatch.setattr(av, "open", stand_in)
    probe(video)
    read_frames(str(video), [0])
    with open(video, "rb") as file:
        probe(file)
    assert len(given) == 3 and all(isinstance(file, io.BufferedReader) for file in given)


def test_facts_of_a_video_are_told_before_it_is_decoded(video):
    with open_video(video) as opened:
        assert isinstance(opened, Video) and opened.coded_size == (64, 48)
        assert (opened.promised_s, opened.promised_fps) == (pytest.approx(50 / 12, abs=0.1), pytest.approx(12))
        assert opened.frames == 0
