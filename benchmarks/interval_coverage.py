"""How often 95 % intervals hold the truth, in simulated test sets of groups of videos that resemble each other.

    python benchmarks/interval_coverage.py [--datasets 500] [--videos 16] [--top1 0.5 0.9 0.98]

Shares of groups follow a beta distribution around the truth. Beside the library's interval stand a bootstrap that draws
groups with replacement (percentiles of 2,000 draws), as this library once did, and Clopper and Pearson's interval on
the effective number of videos (Korn and Graubard 1998, Survey Methodology 24). Prints coverage in % and mean width.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv, stdtrit

from varec_lib.evaluation.intervals import share_interval

CORRELATIONS = (0.0, 0.3, 0.8)
GROUPS = (5, 10, 35)
TOP1 = (0.5, 0.9, 0.98)
UNEQUAL = (2, 4, 8, 16, 50)
Interval = Callable[[np.ndarray, np.ndarray], tuple[float, float]]


def draw(rng: np.random.Generator, top1: float, correlation: float, videos: np.ndarray) -> np.ndarray:
    """Right answers in each group of so many videos, `(G,)`."""
    strength = (1 - correlation) / correlation if correlation else math.inf
    shares = rng.beta(top1 * strength, (1 - top1) * strength, len(videos)) if correlation else top1
    return rng.binomial(videos, shares)


def bootstrap(right: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """Percentiles of shares in groups drawn with replacement."""
    picks = np.random.default_rng(0).integers(len(videos), size=(2000, len(videos)))
    low, high = np.percentile(right[picks].sum(axis=1) / videos[picks].sum(axis=1), [2.5, 97.5])
    return low, high


def effective(right: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """Clopper and Pearson's interval of as many independent videos as would vary as much, with Student's quantile."""
    groups, total, share = len(videos), videos.sum(), right.sum() / videos.sum()
    variance = groups / (groups - 1) * ((right - share * videos) ** 2).sum() / total**2
    number = min(share * (1 - share) / variance, total) if variance else total
    number = min(number * (1.96 / stdtrit(groups - 1, 0.975)) ** 2, total)
    hits, misses = share * number, (1 - share) * number
    low = betaincinv(hits, misses + 1, 0.025) if share > 0 else 0.0
    return low, betaincinv(hits + 1, misses, 0.975) if share < 1 else 1.0


METHODS: dict[str, Interval] = {"share_interval": share_interval, "bootstrap": bootstrap, "effective": effective}


def coverage(
    method: Interval, top1: float, correlation: float, videos: np.ndarray, datasets: int, seed: int = 0
) -> tuple[float, float]:
    """Share of simulated test sets whose interval holds the truth, and the mean width of the intervals."""
    rng, drawn = np.random.default_rng(seed), Counter()
    for _ in range(datasets):
        drawn[tuple(sorted(zip(videos.tolist(), draw(rng, top1, correlation, videos).tolist(), strict=True)))] += 1
    found = np.array([method(*np.array(groups).T[::-1]) for groups in drawn]).repeat([*drawn.values()], axis=0)
    return float(((found[:, 0] <= top1) & (top1 <= found[:, 1])).mean()), float((found[:, 1] - found[:, 0]).mean())


def main() -> None:
    """Prints a table row for each truth, number of groups and correlation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=500)
    parser.add_argument("--videos", default="16", help="videos a group, or unequal")
    parser.add_argument("--top1", type=float, nargs="+", default=TOP1)
    parser.add_argument("--correlations", type=float, nargs="+", default=CORRELATIONS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    args = parser.parse_args()
    print("| top-1 | groups | correlation |", " | ".join(args.methods), "|\n" + "|---" * (3 + len(args.methods)) + "|")
    for top1 in args.top1:
        for groups in GROUPS:
            videos = np.resize(UNEQUAL if args.videos == "unequal" else int(args.videos), groups)
            for correlation in args.correlations:
                cells = (coverage(METHODS[name], top1, correlation, videos, args.datasets) for name in args.methods)
                shown = " | ".join(f"{100 * held:.1f} ({width:.3f})" for held, width in cells)
                print(f"| {top1} | {groups} | {correlation} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
