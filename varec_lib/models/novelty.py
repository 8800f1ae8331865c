"""Whether a clip is unlike anything a model was trained on, told from how its pictures look and move.

The distance is Mahalanobis's, as Lee et al. measure it between features of a network (A Simple Unified Framework for
Detecting Out-of-Distribution Samples, 2018, arXiv 1807.03888), but between statistics of the clips themselves: what a
network makes of videos it has never met may be just what it makes of its own (docs/results.md compares both).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

SIDE = 32  # pixels, to which frames are shrunk, so that the sharpness of a camera does not count
SHARES = (0.25, 0.5, 0.75, 0.95)  # quantiles
STEP = 1 / 255  # a difference that a file can hold; smaller ones are all alike
STATISTICS = 3 * 2 * len(SHARES) + 3 + 3 + len(SHARES)
DEVIATIONS = 1.645  # that 95 % of a normal distribution stay below
ENOUGH = 19  # validation videos: fewer say nothing about what one in twenty does


def appearance(clips: torch.Tensor) -> torch.Tensor:
    """Statistics of uint8 clips `(B, T, C, H, W)`: float `(B, STATISTICS)`, on the clips' device.

    Quantiles of the differences in brightness between neighbouring pixels and between frames, at 32, 16 and 8 pixels a
    side; mean and deviation of each colour; quantiles of the colourfulness. All but the means are logarithms, because a
    drawn video has differences of nothing where a filmed one has little.
    """
    small = F.adaptive_avg_pool2d(clips.flatten(0, 1).float() / 255, SIDE).unflatten(0, clips.shape[:2])
    grey, found = small.mean(dim=2), []  # (B, T, SIDE, SIDE)
    for shrunk in (1, 2, 4):
        frames = F.avg_pool2d(grey, shrunk)
        edges = torch.cat([frames.diff(dim=2).flatten(1), frames.diff(dim=3).flatten(1)], dim=1)
        found += [_quantiles(edges.abs(), STEP / shrunk), _quantiles(_changes(frames), STEP / shrunk)]
    colours = small.transpose(1, 2).flatten(2)  # (B, 3, T * SIDE * SIDE)
    found += [colours.mean(dim=2), (colours.std(dim=2) + STEP).log()]
    found.append(_quantiles((small.amax(dim=2) - small.amin(dim=2)).flatten(1), STEP))
    return torch.cat(found, dim=1)


def _changes(frames: torch.Tensor) -> torch.Tensor:
    """Differences from frame to frame of `(B, T, H, W)`: `(B, N)`; those of a single frame are zero."""
    return frames.diff(dim=1).abs().flatten(1) if frames.shape[1] > 1 else torch.zeros_like(frames).flatten(1)


def _quantiles(values: torch.Tensor, least: float) -> torch.Tensor:
    """Logarithms of the quantiles of non-negative values `(B, N)`: `(B, len(SHARES))`."""
    places = [round(share * (values.shape[1] - 1)) for share in SHARES]
    return (values.sort(dim=1).values[:, places] + least).log()  # torch.quantile refuses large tensors


@dataclass(frozen=True)
class Novelty:
    """How a model's training videos look: mean `(S,)` and whitening matrix `(S, S)` of their statistics, float32.

    A clip that is farther from them than `unlike_above` is unlike anything the model was trained on.
    """

    mean: np.ndarray
    whitening: np.ndarray
    unlike_above: float

    def distances(self, clips: torch.Tensor) -> torch.Tensor:
        """How far uint8 clips `(B, T, C, H, W)` are from the training videos: float `(B,)`, about 1 for these."""
        return _distances(appearance(clips), self.mean, self.whitening)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint's metadata, 30 kB as text."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Novelty":
        """What `to_dict` gave; raises `KeyError`, `TypeError` or `ValueError` where it is something else."""
        mean = np.array(values["mean"], np.float32).reshape(STATISTICS)
        whitening = np.array(values["whitening"], np.float32).reshape(STATISTICS, STATISTICS)
        return cls(mean, whitening, float(values["unlike_above"]))


def fit(train: np.ndarray, val: np.ndarray) -> Novelty | None:
    """From statistics of training videos `(N, S)` and validation videos `(M, S)`; None where these are too few.

    `unlike_above` is the distance that 95 % of videos of the validation set's kind stay below if the logarithms of
    theirs are normally distributed. Counting instead would make it the farthest of 30, and a single odd video is far.
    """
    if len(val) < ENOUGH or len(train) < 2:
        return None
    mean, spread = train.mean(axis=0), np.sqrt(train.var(axis=0) + 1e-4)  # something that never varies counts, too
    shrunk = 0.3  # because few videos tell little of how statistics hang together
    correlation = (1 - shrunk) * np.cov((train - mean).T / spread[:, None]) + shrunk * np.eye(STATISTICS)
    values, vectors = np.linalg.eigh(correlation)
    whitening = (vectors / np.sqrt(values * STATISTICS)).T / spread
    mean, whitening = mean.astype(np.float32), whitening.astype(np.float32)
    found = _distances(torch.from_numpy(val.astype(np.float32)), mean, whitening).clamp(min=1e-3).log().double()
    return Novelty(mean, whitening, float((found.mean() + DEVIATIONS * found.std()).exp()))


def _distances(statistics: torch.Tensor, mean: np.ndarray, whitening: np.ndarray) -> torch.Tensor:
    centred = statistics - torch.from_numpy(mean).to(statistics.device)
    return (centred @ torch.from_numpy(whitening).to(statistics.device).T).norm(dim=1)
