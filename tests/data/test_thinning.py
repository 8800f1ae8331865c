"""Thinning out: which frames stay of a video with more frames a second than are wanted."""

import numpy as np
import pytest

from varec_lib.data.thinning import FEW, KeptFrames, Thinning, kept_frames

WHOLE = (0.0, np.inf)


def even(frames: int, fps: float) -> np.ndarray:
    """When the frames of an ordinary video are shown."""
    return np.arange(frames) / fps


def random_rates() -> list[tuple[int, float, float]]:
    """Many triples of a number of frames, the video's rate and the wanted one."""
    rng = np.random.default_rng(0)
    usual = [7.5, 10, 12, 15, 23.976, 24, 24000 / 1001, 25, 29.97, 30000 / 1001, 30, 50, 59.94, 60, 90, 120, 240]
    triples = []
    for _ in range(600):
        native, fps = rng.choice(usual), rng.choice([*usual, rng.uniform(0.1, 100)])
        if rng.random() < 0.5:
            native = rng.uniform(0.5, 240)
        if rng.random() < 0.2:
            fps = native * rng.choice([1 / 2, 1 / 3, 2 / 3, 1 - 1e-7, 0.1])
        triples.append((int(rng.integers(1, 700)), float(native), float(fps)))
    return triples


def test_one_frame_stays_of_each_interval():
    for frames, native, fps in random_rates():
        times = even(frames, native)
        kept = kept_frames(times, fps)
        assert kept[0] == 0 and len(kept) == len(set(kept.tolist()))
        assert (np.diff(times[kept]) > (1 - 0.09) / fps - 1 / native).all()
        if fps < 0.9 * native:
            assert abs(len(kept) - frames * fps / native) <= 1.1, (frames, native, fps)  # the wanted rate
            assert (np.diff(times[kept]) < 1.09 / fps + 1 / native).all()


def test_a_longer_video_keeps_the_same_frames_and_then_more():
    for frames, native, fps in random_rates()[:100]:
        kept, longer = kept_frames(even(frames, native), fps), kept_frames(even(frames + 50, native), fps)
        assert longer[: len(kept)].tolist() == kept.tolist()


@pytest.mark.parametrize(("native", "fps"), [(15, 15), (12, 15), (25, 0), (14.99, 15), (30000 / 1001, 30000 / 1001)])
@pytest.mark.parametrize("rounded", [False, True])
def test_a_rate_that_is_not_exceeded_thins_nothing_out(native, fps, rounded):
    """Nor does one that some files round to milliseconds."""
    times = even(400, native)
    assert kept_frames(times.round(3) if rounded else times, fps).tolist() == [*range(400)]


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(
    ("native", "fps", "expected"),
    [
        (30, 15, [0, 2, 4, 6, 8]),
        (25, 10, [0, 3, 5, 8]),
        (25, 15, [0, 2, 4, 5, 7, 9]),
        (24, 15, [0, 2, 4, 5, 7, 8]),
        (60, 15, [0, 4, 8]),
    ],
)
def test_frames_that_stay_are_as_evenly_spaced_as_can_be(native, fps, expected, rounded):
    times = even(10, native)
    assert kept_frames(times.round(3) if rounded else times, fps).tolist() == expected


def test_time_counts_and_not_the_number_of_frames():
    """A camera that slows down in the dark: 60 frames in the first second, and 10 in each of the nine after it."""
    times = np.concatenate([even(60, 60), 1 + even(90, 10)])
    kept = kept_frames(times, 15)
    assert len(kept) == 105 and (times[kept] < 1).sum() == 15


@pytest.mark.parametrize(
    ("frames", "native", "stay"), [(30, 30, 30), (40, 60, FEW), (240, 240, FEW), (20, 60, 20), (300, 30, 150)]
)
def test_more_frames_stay_of_a_short_video(frames, native, stay):
    """Else a clip of 16 frames would repeat some, where the video has others."""
    kept = kept_frames(even(frames, native), 15, promised_s=frames / native)
    assert len(kept) == stay
    assert len(kept_frames(even(frames, native), 15)) <= min(frames * 15 // native, frames) + 1


def test_frames_are_judged_one_by_one_alike():
    for frames, native, fps in random_rates()[:100]:
        thinning = Thinning(fps, promised_s=frames / native)
        kept = [number for number, time_s in enumerate(even(frames, native)) if thinning.keeps(time_s)]
        assert kept == kept_frames(even(frames, native), fps, frames / native).tolist()


def test_many_videos_in_arrays():
    videos = [(np.append(even(n, fps), n / fps), n / fps) for n, fps in ((100, 15), (1, 30), (100, 30), (70, 10))]
    kept = KeptFrames(videos, 15, [WHOLE] * 4)
    assert kept.frames.tolist() == [100, 1, 50, 70]
    for row, (times, promised_s) in enumerate(videos):
        numbers = kept_frames(times[:-1], 15, promised_s)
        assert kept.numbers(row).tolist() == numbers.tolist()
        assert kept.times(row).tolist() == [*times[numbers], times[-1]]
    assert KeptFrames([], 15, []).frames.tolist() == []


@pytest.mark.parametrize(
    ("start_s", "end_s", "numbers", "times"),
    [
        (1, 1.5, [10, 11, 12, 13, 14], [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (1.05, 1.35, [10, 11, 12, 13], [0, 0.05, 0.15, 0.25, 0.3]),  # with what is shown at its beginning
        (2.8, np.inf, [28, 29], [0, 0.1, 0.2]),
        (0, 0.01, [0], [0, 0.01]),
        (2.5, 99, [25, 26, 27, 28, 29], [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_a_segment_has_the_frames_that_are_shown_in_it(start_s, end_s, numbers, times):
    kept = KeptFrames([(even(31, 10), 3.0), (even(31, 10), 3.0)], 0, [WHOLE, (start_s, end_s)])
    assert kept.numbers(1).tolist() == numbers and kept.times(1) == pytest.approx(times, abs=1e-9)
    assert kept.before.tolist() == [0, numbers[0]] and kept.frames[1] == len(numbers)
