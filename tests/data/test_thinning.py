"""Thinning out: which frames stay of a video with more frames a second than are wanted."""

import numpy as np
import pytest

from varec_lib.data.thinning import is_kept, kept_counts, kept_frames


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
