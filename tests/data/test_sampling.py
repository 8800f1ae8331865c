"""Sampling: which frames of a video make a clip, over many lengths."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from varec_lib.data.sampling import dense_indices, uniform_indices
from varec_lib.data.thinning import is_kept, kept_counts, kept_frames

PAIRS = [(frames, num) for num in (1, 2, 3, 4, 8, 16, 32) for frames in (*range(1, 60), 141, 299, 1776)]
LONG = [(frames, num) for frames, num in PAIRS if frames >= num]


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


def test_thinning_agrees_whoever_asks():
    triples = random_rates()
    thinned = 0
    for frames, native, fps in triples:
        kept = kept_frames(frames, native, fps).tolist()
        assert kept == [position for position in range(frames) if is_kept(position, native, fps)], (frames, native, fps)
        assert kept_counts(np.array([frames]), np.array([native]), fps).tolist() == [len(kept)], (frames, native, fps)
        thinned += len(kept) < frames
    assert thinned > 200


def test_thinned_frames_are_the_first_and_then_evenly_spaced():
    for frames, native, fps in random_rates():
        kept = kept_frames(frames, native, fps)
        assert kept[0] == 0 and len(kept) == len(set(kept.tolist()))
        if fps < native:
            assert abs(len(kept) - frames * fps / native) <= 1  # the wanted rate
            distances = np.diff(kept)
            assert (np.abs(distances - native / fps) < 1 + 1e-6).all(), (frames, native, fps)


def test_a_longer_video_keeps_the_same_frames_and_then_more():
    for frames, native, fps in random_rates()[:100]:
        longer = kept_frames(frames + 50, native, fps)
        assert longer[: len(kept_frames(frames, native, fps))].tolist() == kept_frames(frames, native, fps).tolist()


@pytest.mark.parametrize(("native", "fps"), [(15, 15), (12, 15), (25, 0), (0, 15), (float("nan"), 15), (0, 0)])
def test_a_rate_that_is_not_exceeded_or_not_known_thins_nothing_out(native, fps):
    assert all(is_kept(position, native, fps) for position in range(40))
    assert kept_frames(40, native, fps).tolist() == [*range(40)]
    assert kept_counts(np.array([40, 1]), np.array([native, native]), fps).tolist() == [40, 1]


def test_thinning_to_half_the_rate_keeps_every_other_frame():
    assert kept_frames(9, 30, 15).tolist() == [0, 2, 4, 6, 8]
    assert kept_frames(10, 25, 10).tolist() == [0, 3, 5, 8]
    assert kept_counts(np.array([9, 10, 1]), np.array([30, 30, 30]), 15).tolist() == [5, 5, 1]


def test_counts_of_many_videos_thin_each_by_its_own_rate():
    counts = kept_counts(np.array([100, 100, 100, 0]), np.array([15.0, 30.0, 0.0, 30.0]), 15)
    assert counts.tolist() == [100, 50, 100, 0]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_rate_that_differs_by_rounding_alone_is_the_same(steps):
    """Else the counted frames are more than the kept ones, and the last of them cannot be read."""
    for native in (29.97, 30000 / 1001, 39.30245753803712, 106.84905228753102):
        fps = native
        for _ in range(steps):
            fps = np.nextafter(fps, 0)
        count = int(kept_counts(np.array([400]), np.array([native]), fps)[0])
        assert count == len(kept_frames(400, native, fps)) == sum(is_kept(i, native, fps) for i in range(400))
