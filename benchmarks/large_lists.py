"""How long it takes to load the lists of 60,000 videos, and to compute intervals for as many videos as UCF-101 tests.

    python benchmarks/large_lists.py [--rounds 3]

Each is the best of some runs, in processor seconds. The videos are listed and empty; nothing is decoded.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from varec_lib.data.manifest import load_manifest
from varec_lib.evaluation.intervals import difference_interval, mcnemar, share_interval

VIDEOS = 60_000


def write_lists(root: Path) -> None:
    """100 classes of 60 groups, ten videos each, in no order."""
    names = [f"v_Class{row % 100:03d}_g{row // 100 % 60:02d}_c{row // 6000:02d}.avi" for row in range(VIDEOS)]
    table = pd.DataFrame({"video_name": names, "label": [f"Class{row % 100:03d}" for row in range(VIDEOS)]})
    table["group"] = [name[2:-8] for name in names]
    table = table.sample(frac=1, random_state=0)
    (root / "videos").mkdir()
    for name in names:
        (root / "videos" / name).touch()
    table[VIDEOS // 10 :].to_csv(root / "train.csv", index=False)
    table[: VIDEOS // 10].to_csv(root / "test.csv", index=False)


def intervals() -> None:
    """Everything that a comparison of two models asks for."""
    rng = np.random.default_rng(0)
    videos = np.resize([40, 50, 60, 66], 70)
    right, other = rng.binomial(videos, 0.9), rng.binomial(videos, 0.1)
    share_interval(right, videos), difference_interval(videos - right, other // 2, videos), mcnemar(other, right // 9)


def seconds(job: Callable[[], object], rounds: int) -> float:
    """The best of so many runs."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Prints one line per job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        write_lists(Path(folder))
        print(f"lists of {VIDEOS:,} videos: {seconds(lambda: load_manifest(folder), rounds):.2f} s")
    print(f"intervals of 3,780 videos: {seconds(intervals, rounds):.2f} s")


if __name__ == "__main__":
    main()
