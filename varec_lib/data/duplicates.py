"""Copies of one video by way of another encoding, size, brightness, rate, a mirror or a cut.

A copy is told from another take of the same scene by its *motion*: small grey pictures of both at fixed moments, less
their mean over time, must agree, with the best shift of one against the other, and so must these means. Two clips of
one film are not copies, however much they look alike: of the 31,125 pairs of 250 clips of UCF-101 all but one agree to
0.95 at most, and that one is the beginning of another clip. Of 21 clips, the re-encoded, scaled, brightened and
mirrored copies agree to 0.976 at least, 8 in 10 of the cut ones to 0.97. Pictures that never move have no motion to
compare.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

from varec_lib.data.looks import RATE, Look

SAME_SCENE, SAME_PLACE = 0.9, 0.99  # correlation of the mean pictures: to be compared at all, and where both are shown
SAME_MOTION = 0.97
LEAST_S, LEAST_SHARE = 2.0, 0.6  # for how long they must agree, and for which share of the shorter one
FLAT = 4.0  # grey levels (standard deviation) below which a picture is noise


def near_copies(looks: dict[str, Look], *, progress: bool = True) -> Iterator[tuple[str, str]]:
    """Pairs of paths that show the same, or its mirror image; of videos that are equal byte for byte, one is taken."""
    paths = list({look.digest: path for path, look in reversed(looks.items())}.values())
    if len(paths) < 2:
        return
    series = lru_cache(maxsize=1000)(lambda number: _normalised(looks[paths[number]].series()))
    means = np.stack([_direction(series(number).mean(axis=0)) for number in range(len(paths))])
    scenes = NearestNeighbors(radius=(2 - 2 * SAME_SCENE) ** 0.5).fit(means.reshape(len(means), -1))
    pairs: dict[tuple[int, int], list[int]] = {}  # and how they are alike: as they are (1), mirrored (-1)
    for step in (1, -1):
        alike = scenes.radius_neighbors(means[:, :, ::step].reshape(len(means), -1), return_distance=False)
        for one, others in enumerate(alike):
            for other in others[others > one].tolist():
                pairs.setdefault((one, other), []).append(step)
    bar = tqdm(pairs.items(), desc="comparing videos", unit="pair", leave=False, disable=not (pairs and progress))
    for (one, other), steps in bar:
        if any(are_copies(series(one)[:, :, ::step], series(other)) for step in steps):
            yield paths[one], paths[other]


def are_copies(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two series `(N, H, W)` of normalised pictures move alike in one place, with the best shift in time."""
    motion, place = _agreement(first, second)
    return motion >= SAME_MOTION and place >= SAME_PLACE


def _agreement(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Correlations of what moves in two series at their best shift, and of the mean pictures of what both show there.

    All shifts at once: sums over what overlaps are sums along the diagonals of one product of matrices.
    """
    first, second = (series.reshape(len(series), -1).astype(np.float64) for series in (first, second))
    shorter = min(len(first), len(second))
    least = max(min(round(LEAST_S * RATE), shorter), round(LEAST_SHARE * shorter))
    shifts = np.arange(least - len(second), len(first) - least + 1)
    starts, ends = np.maximum(shifts, 0), np.minimum(len(first), len(second) + shifts)
    diagonal = np.arange(len(first))[:, None] - np.arange(len(second)) + len(second) - 1
    products = np.bincount(diagonal.ravel(), (first @ second.T).ravel())[shifts + len(second) - 1]
    mean_one, square_one = _moments(first, starts, ends)
    mean_other, square_other = _moments(second, starts - shifts, ends - shifts)
    together = products / (ends - starts) - (mean_one * mean_other).sum(axis=1)
    apart = np.sqrt(np.maximum(square_one * square_other, 0))
    motion = np.divide(together, apart, out=np.zeros_like(together), where=apart > 1e-6)
    best = int(motion.argmax())
    return float(motion[best]), float(np.vdot(_direction(mean_one[best]), _direction(mean_other[best])))


def _moments(series: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean picture of each part `(S, P)`, and the variance around it over time and pixels `(S,)`."""
    summed = np.vstack([np.zeros(series.shape[1]), np.cumsum(series, axis=0)])
    squares = np.append(0.0, np.cumsum((series**2).sum(axis=1)))
    counts = ends - starts
    mean = (summed[ends] - summed[starts]) / counts[:, None]
    return mean, (squares[ends] - squares[starts]) / counts - (mean**2).sum(axis=1)


def _normalised(series: np.ndarray) -> np.ndarray:
    """Pictures without their brightness and contrast."""
    pictures = series - series.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), FLAT)


def _direction(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.linalg.norm(values)), 1e-6)
