"""Copies of one video by way of another encoding, size, brightness, rate, a mirror or a cut.

A copy is told from another take of the same scene by its *motion*: small grey pictures of both at fixed moments, less
their mean over time, must agree, with the best shift of one against the other. Two clips of one film are not copies,
however much they look alike: of the 31,125 pairs of 250 clips of UCF-101 all but one agree to 0.95 at most, and that
one is the beginning of another clip. Of 21 clips, the re-encoded, scaled, brightened and mirrored copies agree to 0.976
at least, 9 in 10 of the cut ones to 0.97. Pictures that never move have no motion to compare.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from sklearn.neighbors import NearestNeighbors

from varec_lib.data.looks import RATE, Look

SAME_SCENE = 0.9  # correlation of the mean pictures, from which two videos are compared at all
SAME_MOTION = 0.97
LEAST_S, LEAST_SHARE = 2.0, 0.6  # for how long they must agree, and for which share of the shorter one
FLAT = 4.0  # grey levels (standard deviation) below which a picture is noise


def near_copies(looks: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Pairs of paths that show the same, or its mirror image; of videos that are equal byte for byte, one is taken."""
    paths = list({look.digest: path for path, look in reversed(looks.items())}.values())
    if len(paths) < 2:
        return
    series = lru_cache(maxsize=1000)(lambda number: _normalised(looks[paths[number]].series()))
    means = np.stack([_direction(series(number).mean(axis=0)) for number in range(len(paths))])
    scenes = NearestNeighbors(radius=(2 - 2 * SAME_SCENE) ** 0.5).fit(means.reshape(len(means), -1))
    for step in (1, -1):  # as they are, and mirrored
        alike = scenes.radius_neighbors(means[:, :, ::step].reshape(len(means), -1), return_distance=False)
        for one, other in ((one, other) for one, others in enumerate(alike) for other in others if one < other):
            if motion_agreement(series(one)[:, :, ::step], series(other)) >= SAME_MOTION:
                yield paths[one], paths[other]


def motion_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """How well two series `(N, H, W)` of normalised pictures move alike, with the best shift in time: -1 to 1."""
    first, second = first.reshape(len(first), -1), second.reshape(len(second), -1)
    shorter, best = min(len(first), len(second)), -1.0
    least = max(min(round(LEAST_S * RATE), shorter), round(LEAST_SHARE * shorter))
    for shift in range(least - len(second), len(first) - least + 1):
        start, end = max(0, shift), min(len(first), len(second) + shift)
        one, other = first[start:end], second[start - shift : end - shift]
        best = max(best, float(np.vdot(_direction(one - one.mean(axis=0)), _direction(other - other.mean(axis=0)))))
    return best


def _normalised(series: np.ndarray) -> np.ndarray:
    """Pictures without their brightness and contrast."""
    pictures = series - series.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), FLAT)


def _direction(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.linalg.norm(values)), 1e-6)
