"""How often 95 % intervals of the difference of two models hold it, and how often two models are told apart.

    python benchmarks/difference_coverage.py [--datasets 200] [--videos 16]

In each group of videos the shares that only the second, only the first, and both or neither have right follow a
Dirichlet distribution around the truth. Prints coverage and pairs told apart in %, and the mean width.
"""

import argparse

import numpy as np

from varec_lib.evaluation.intervals import difference_interval, mcnemar

SHARES = ((0.02, 0.02), (0.1, 0.1), (0.05, 0.01), (0.2, 0.05), (0.25, 0.01))  # won and lost
GROUPS = (5, 10, 35)
CORRELATIONS = (0.0, 0.3, 0.8)


def draw(rng: np.random.Generator, won: float, lost: float, correlation: float, videos: np.ndarray) -> np.ndarray:
    """Videos won and lost in each group, `(2, G)`."""
    shares = np.array([won, lost, 1 - won - lost])
    if correlation:
        shares = rng.dirichlet(shares * (1 - correlation) / correlation, len(videos))
    return rng.multinomial(videos, shares).T[:2]


def figures(won: float, lost: float, correlation: float, videos: np.ndarray, datasets: int) -> tuple[float, ...]:
    """Coverage, mean width and the share of test sets that tell the two apart."""
    rng, found = np.random.default_rng(0), []
    for _ in range(datasets):
        counts = draw(rng, won, lost, correlation, videos)
        low, high = difference_interval(*counts, videos)
        found.append((low <= won - lost <= high, high - low, (low > 0 or high < 0) and mcnemar(*counts) < 0.05))
    return tuple(np.mean(found, axis=0).tolist())


def main() -> None:
    """Prints a table row for each truth, number of groups and correlation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=200)
    parser.add_argument("--videos", type=int, default=16, help="videos a group")
    args = parser.parse_args()
    print("| won | lost | groups | correlation | held | width | told apart |\n|---|---|---|---|---|---|---|")
    for won, lost in SHARES:
        for groups in GROUPS:
            for correlation in CORRELATIONS:
                held, width, told = figures(won, lost, correlation, np.full(groups, args.videos), args.datasets)
                shown = f"{100 * held:.1f} | {width:.3f} | {100 * told:.1f}"
                print(f"| {won} | {lost} | {groups} | {correlation} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
