"""Sampling: which frames of a video make a clip, over many lengths."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from varec_lib.data import sampling

PAIRS = [(frames, num) for num in (1, 2, 3, 4, 8, 16, 32) for frames in (*range(1, 60), 141, 299, 1776)]
LONG = [(frames, num) for frames, num in PAIRS if frames >= num]


FPS = 15


def even(frames: int, fps: float = FPS) -> np.ndarray:
    """When the frames of an ordinary video are shown, and when it ends."""
    return np.arange(frames + 1) / fps


def uniform_indices(frames: int, num_frames: int, **how: object) -> list[int]:
    """Of an ordinary video with so many frames."""
    return sampling.uniform_indices(even(frames), num_frames, **how)


def dense_indices(frames: int, num_frames: int, stride: int, **how: object) -> list[int]:
    """Of an ordinary video, every `stride`-th frame."""
    return sampling.dense_indices(even(frames), num_frames, stride / FPS, **how)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_index_lies_inside_the_video():
    for frames, num in PAIRS:
        for how in ({}, {"view": 2, "views": 3}, {"generator": seeded(frames)}):
            clips = [uniform_indices(frames, num, **how), *(dense_indices(frames, num, s, **how) for s in (1, 2, 5))]
            for clip in clips:
                assert len(clip) == num and all(0 <= i < frames for i in clip), (frames, num, how)


def test_uniform_frames_are_strictly_increasing():
    for frames, num in LONG:
        for view in range(3):
            clip = uniform_indices(frames, num, view=view, views=3)
            assert all(a < b for a, b in pairwise(clip)), (frames, num, view)


def test_uniform_takes_the_middle_of_each_segment():
    assert uniform_indices(40, 4) == [5, 15, 25, 35]
    for frames, num in LONG:
        for segment, index in enumerate(uniform_indices(frames, num)):
            assert segment * frames / num - 1 < index < (segment + 1) * frames / num, (frames, num)


def test_uniform_without_a_generator_is_deterministic():
    torch.manual_seed(0)
    first = [uniform_indices(frames, num) for frames, num in PAIRS]
    torch.manual_seed(1)
    assert first == [uniform_indices(frames, num) for frames, num in PAIRS]


def test_jitter_draws_one_frame_from_each_segment():
    for frames, num in LONG:
        for seed in range(5):
            for segment, index in enumerate(uniform_indices(frames, num, generator=seeded(seed))):
                assert segment * frames // num <= index < (segment + 1) * frames // num, (frames, num, seed)


def test_jitter_never_repeats_a_frame():
    for frames in range(16, 48):
        for seed in range(20):
            assert len(set(uniform_indices(frames, 16, generator=seeded(seed)))) == 16, (frames, seed)


def test_jitter_reaches_every_frame_and_follows_its_seed():
    draws = [uniform_indices(40, 4, generator=seeded(seed)) for seed in range(300)]
    assert {i for clip in draws for i in clip} == set(range(40))
    assert draws[7] == uniform_indices(40, 4, generator=seeded(7))
    generator = seeded(7)
    assert uniform_indices(40, 4, generator=generator) != uniform_indices(40, 4, generator=generator)


def test_uniform_views_show_different_frames_of_every_segment():
    views = [uniform_indices(60, 4, view=view, views=3) for view in range(3)]
    assert views == [[2, 17, 32, 47], [7, 22, 37, 52], [12, 27, 42, 57]]
    assert uniform_indices(60, 4, view=1, views=3) == uniform_indices(60, 4)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_dense_frames_are_a_stride_apart_and_wrap_to_the_start(stride):
    for frames, num in PAIRS:
        for how in ({}, {"view": 2, "views": 3}, {"generator": seeded(1)}):
            clip = dense_indices(frames, num, stride, **how)
            assert all((a + stride) % frames == b for a, b in pairwise(clip)), (frames, num, how)


def test_a_dense_stretch_that_fits_does_not_wrap():
    for seed in range(50):
        clip = dense_indices(20, 8, 2, generator=seeded(seed))
        assert clip == sorted(clip) and clip[-1] - clip[0] == 14


def test_dense_takes_the_middle_and_spreads_its_views():
    assert dense_indices(101, 11, 2) == [*range(40, 61, 2)]
    assert [dense_indices(101, 11, 2, view=v, views=4)[0] for v in range(4)] == [10, 30, 50, 70]


def test_dense_training_starts_everywhere_the_stretch_fits():
    starts = {dense_indices(12, 4, 2, generator=seeded(seed))[0] for seed in range(200)}
    assert starts == set(range(6))


def test_short_videos_are_looped():
    assert uniform_indices(3, 8) == uniform_indices(3, 8, generator=seeded(0)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert uniform_indices(1, 4) == dense_indices(1, 4, 2) == [0, 0, 0, 0]
    assert dense_indices(5, 4, 2) == [0, 2, 4, 1]


# In time

# 60 frames in the first second, and 10 in each of the nine after it; as a file rounds them to milliseconds.
SLOWER = np.concatenate([np.arange(60) / 60, 1 + np.arange(91) / 10]).round(3)


def test_clips_spread_over_the_time_that_a_video_lasts():
    clip = sampling.uniform_indices(SLOWER, 20)
    assert SLOWER[clip] == pytest.approx(np.arange(20) / 2 + 0.25, abs=0.06)
    for seed in range(50):
        draws = SLOWER[sampling.uniform_indices(SLOWER, 10, generator=seeded(seed))]
        assert (draws.astype(int) == np.arange(10)).all()


def test_dense_frames_are_as_far_apart_in_time_wherever_they_lie():
    for view in range(4):
        times = SLOWER[sampling.dense_indices(SLOWER, 5, 0.2, view=view, views=4)]
        assert times - times[0] == pytest.approx(np.arange(5) / 5, abs=0.1), view  # one of the slow frames


def test_a_picture_that_stands_for_long_is_taken_as_often_as_it_is_shown():
    slides = np.array([0, 60, 70, 80, 100.0])  # the first of four stays for a minute
    assert sampling.uniform_indices(slides, 4) == [0, 0, 1, 3]
    assert sampling.dense_indices(slides, 4, 20) == [
        0,
        0,
        1,
        1,
    ]  # a picture every 20 s, and the one that comes next where it is nearer
