"""An answer that grows frame by frame: where its windows lie, what they share, and what they cost."""

import weakref
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.video import open_video
from varec_lib.errors import ConfigError
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.windows import Windows

CLASSES = ["even", "odd"]
DENSE = {"sampling": "dense", "stride": 2}  # 4 frames 2 apart: windows of 8


@pytest.fixture
def windows_of() -> Callable[..., Windows]:
    """`make(fps=10, spec={}, **options)`: a model that says how bright the frames are that it is shown."""

    def score(clips: torch.Tensor) -> torch.Tensor:
        bright = clips.float().mean() / 255
        return torch.stack([1 - bright, bright])

    def make(fps: float = 10, spec: dict | None = None, **options: object) -> Windows:
        spec = ClipSpec(4, (2, 2), *IMAGENET, **(spec or {}))
        return Windows(spec, CLASSES, score, fps=fps, **({"hop": 1.0, "apart_s": 0.0} | options))

    return make


def frame(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number % 256, np.uint8)


def fed(windows: Windows, frames: int, fps: float = 10) -> Windows:
    for number in range(frames):
        windows.add(frame(number), number / fps)
    windows.finish(frames / fps)
    return windows


def spans(windows: Windows, fps: float = 10) -> list[tuple[int, int]]:
    """First frame and end of each window."""
    return [(round(s.start_s * fps), round(s.end_s * fps)) for s in windows.segments]


@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        (1.0, [(0, 8), (8, 16), (16, 24)]),
        (0.5, [(0, 8), (4, 12), (8, 16), (12, 20), (16, 24)]),
        (0.25, [(start, start + 8) for start in range(0, 17, 2)]),
        (2.0, [(0, 8), (16, 24)]),
        (0.01, [(start, start + 8) for start in range(17)]),  # one frame at least
    ],
)
def test_the_next_window_starts_hop_windows_later(windows_of, hop, expected):
    assert spans(fed(windows_of(spec=DENSE, hop=hop), 24)) == expected


def test_windows_half_a_length_apart_share_half_of_their_frames(windows_of):
    seen = []
    fed(
        windows_of(spec=DENSE, hop=0.5, on_window=lambda segment, clip: seen.append(set(clip[:, 0, 0, 0].tolist()))), 24
    )
    assert [len(a & b) for a, b in pairwise(seen)] == [2, 2, 2, 2]  # of 4
    assert not any(a & b for a, b in zip(seen, seen[2:], strict=False))


@pytest.mark.parametrize(
    ("frames", "last"),
    [(24, (16, 24)), (25, (16, 24)), (26, (18, 26)), (28, (20, 28)), (29, (20, 28)), (8, (0, 8)), (3, (0, 3))],
)
def test_frames_left_over_make_a_last_window_where_they_are_more_than_an_eighth_of_one(windows_of, frames, last):
    assert spans(fed(windows_of(spec=DENSE, hop=0.5), frames))[-1] == last


def test_every_frame_is_in_a_window_but_for_an_eighth_of_one_at_the_end(windows_of):
    for frames in range(1, 80):
        for hop in (0.3, 0.5, 1.0):
            windows = fed(windows_of(spec=DENSE, hop=hop), frames)
            reached = 0
            for start, end in spans(windows):
                assert start <= reached, (frames, hop)
                reached = end
            assert 0 <= frames - reached <= 1, (frames, hop)


@pytest.mark.parametrize(
    ("native", "spec", "seconds", "length", "rate"),
    [
        (10, {}, 0.0, 40, 10),  # 4 s
        (10, {}, 1.5, 15, 10),
        (10, {}, 0.1, 4, 10),  # never less than a clip
        (30, {"fps": 15.0}, 0.0, 60, 15),
        (10, {"fps": 15.0}, 0.0, 40, 10),
        (2000, {}, 0.0, 1000, 2000),  # which must be held
        (2000, {}, 1.0, 2000, 2000),  # as it was asked for
        (30, DENSE, 9.0, 8, 30),
        (30, DENSE | {"fps": 15.0}, 0.0, 8, 15),
    ],
)
def test_a_window_is_as_long_as_clips_or_seconds(windows_of, native, spec, seconds, length, rate):
    windows = fed(windows_of(native, spec, seconds=seconds), max(length, 250), rate)
    assert spans(windows, rate)[0] == (0, length)
    assert windows.segments[0].end_s == pytest.approx(length / rate)


def test_the_answer_is_the_mean_of_the_windows_each_of_its_own_frames(windows_of):
    windows = windows_of(top=1)
    for number in range(80):
        windows.add(frame(15 + 3 * number), number / 10)
    top, segments = windows.finish(8.0)
    bright = [np.mean([15 + 3 * (start + i) for i in (5, 15, 25, 35)]) / 255 for start in (0, 40)]
    assert [segment.top[0][1] for segment in segments] == pytest.approx([1 - bright[0], bright[1]])
    assert [segment.top[0][0] for segment in segments] == ["even", "odd"]
    assert top == [("odd", pytest.approx(np.mean(bright)))]
    with pytest.raises(ConfigError, match="top is 0"):
        fed(windows_of(top=0), 8)


def test_windows_are_as_long_in_time_whatever_the_rate(windows_of):
    """Of a camera that slows down in the dark, and of a slide that stands for long."""
    times = [n / 10 for n in range(8)] + [0.8 + n / 5 for n in range(8)] + [10, 12]
    seen: list[list[int]] = []
    windows = windows_of(spec=DENSE, on_window=lambda segment, clip: seen.append(clip[:, 0, 0, 0].tolist()))
    for number, time_s in enumerate(times):
        windows.add(frame(number), time_s)
    windows.finish(12.1)
    assert [(s.start_s, s.end_s) for s in windows.segments][:4] == [
        pytest.approx((0.8 * n, 0.8 * n + 0.8)) for n in range(4)
    ]
    assert seen[:3] == [[0, 2, 4, 6], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert seen[4] == [15] * 4 and windows.segments[-1].end_s == pytest.approx(12.0)


def test_windows_come_as_the_frames_do(windows_of):
    """So that a page can show progress, and a video need not have ended."""
    windows, told = windows_of(spec=DENSE, hop=0.5), []
    windows.on_window = lambda segment, clip: told.append(round(segment.end_s * 10))
    for number in range(20):
        windows.add(frame(number), number / 10)
        assert told == [end for end in (8, 12, 16, 20) if end <= number]


def test_never_more_frames_are_held_than_a_window_has(windows_of):
    class Frame(np.ndarray):
        __hash__ = object.__hash__

    alive, most = weakref.WeakSet(), 0
    windows = windows_of(spec=DENSE, hop=0.5)
    for number in range(500):
        picture = frame(number).view(Frame)
        alive.add(picture)
        windows.add(picture, number / 10)
        del picture
        most = max(most, len(alive))
    assert most == 9  # of a window, and the one that shows that it is over


# Many windows


@pytest.mark.parametrize("frames", [100, 101, 899, 900, 1000, 7200])
@pytest.mark.parametrize("hop", [0.5, 1.0])
def test_a_long_video_has_its_windows_further_apart(windows_of, frames, hop):
    windows = fed(windows_of(spec=DENSE, hop=hop, promised_s=frames / 10), frames)
    starts = [start for start, _ in spans(windows)]
    assert 20 <= len(starts) <= 31 or (frames < 110 and len(starts) >= 12)
    apart = np.diff(starts[:-1])
    assert np.ptp(apart) <= 1  # evenly
    assert frames - spans(windows)[-1][1] <= 1


@pytest.mark.parametrize(
    ("apart_s", "starts"), [(0, [0, 4, 8, 12]), (0.3, [0, 4, 8, 12]), (0.6, [0, 6, 12]), (5, [0, 8, 12])]
)
def test_windows_start_apart_but_leave_no_frame_out(windows_of, apart_s, starts):
    """Eight frames each at ten a second: half of one is 0.4 s, and a whole one the most they may be apart."""
    windows = windows_of(spec=DENSE, hop=0.5, apart_s=apart_s)
    assert spans(fed(windows, 20)) == [(start, start + 8) for start in starts]


def test_a_short_video_is_not_spread(windows_of):
    windows = windows_of(spec=DENSE, hop=0.5, promised_s=2.0)
    assert spans(fed(windows, 20)) == [(0, 8), (4, 12), (8, 16), (12, 20)]


@pytest.mark.parametrize("told", [0, 0.1, 5])
@pytest.mark.parametrize("frames", [200, 3000, 7200])
def test_a_video_with_more_frames_than_it_said_has_no_more_windows(windows_of, told, frames):
    scored = 0

    def see(segment, clip):
        nonlocal scored
        scored += 1
        return round(segment.start_s * 10)

    windows = fed(windows_of(spec=DENSE, hop=0.5, promised_s=told, on_window=see), frames)
    starts = [start for start, _ in spans(windows)]
    assert starts == windows.kept and len(windows.parts) == len(starts)  # of the same windows
    assert 15 <= len(starts) <= 31
    assert scored <= 30 + 16 * np.log2(frames / 100)  # what is forgotten was work, too
    assert len(set(np.diff(starts[:-1]).tolist())) == 1 and starts[0] == 0
    assert frames - spans(windows)[-1][1] <= 1


def test_a_video_with_fewer_frames_than_it_said_has_an_answer(windows_of):
    windows = windows_of(spec=DENSE, hop=0.5, promised_s=1e8)
    assert spans(fed(windows, 30)) == [(0, 8), (22, 30)]
    windows = windows_of(spec=DENSE, promised_s=1e8)
    assert spans(fed(windows, 3)) == [(0, 3)]


# A real model


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint):
    return Predictor.load(tiny_checkpoint, precision="fp32")


def test_predict_along_has_the_windows_of_the_page(predictor, write_video, tmp_path):
    for number, (frames, fps) in enumerate([(130, 15), (61, 15), (20, 60), (3, 10)]):
        video = write_video(tmp_path / f"{number}.mkv", frames, fps=fps)
        windows = predictor.windows(fps=fps, promised_s=frames / fps)
        with open_video(video) as opened:
            for shown in opened:
                windows.add(shown.picture(), shown.time_s)
        expected = predictor.predict_along(video)
        assert windows.finish(opened.ends_s) == (expected.top, expected.segments)
