"""How much longer building the frame store takes than decoding every file once, with as many processes.

    python benchmarks/store_building.py DIR [--short_side 128] [--fps 15] [--store raw] [--rounds 15]

Decoding here is the least that any reader does: every frame of every file read by OpenCV and turned to RGB. Each round
builds a new store between two such passes and compares it with their mean.
"""

import argparse
import os
import statistics
import tempfile
import time
from multiprocessing import get_context

import cv2

from varec_lib.data.manifest import load_manifest
from varec_lib.data.store import FrameStore


def read_all(path: str) -> None:
    """Every frame of one file as RGB."""
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while True:
        ok, frame = capture.read()
        if not ok:
            return
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def decoding(paths: list[str]) -> float:
    """Seconds for all files, with as many processes as there are processors."""
    start = time.perf_counter()
    with get_context("fork").Pool(os.cpu_count()) as pool:
        for _ in pool.imap_unordered(read_all, paths):
            pass
    return time.perf_counter() - start


def main() -> None:
    """Prints one line per round and the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--short_side", type=int, default=128)
    parser.add_argument("--fps", type=float, default=15)
    parser.add_argument("--store", choices=["raw", "jpeg"], default="raw")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    table = load_manifest(args.data_dir)
    paths = table["path"].tolist()
    decoding(paths)  # so that all files are in memory
    ratios = []
    for _ in range(args.rounds):
        before = decoding(paths)
        with tempfile.TemporaryDirectory() as folder:
            store = FrameStore(args.data_dir, folder, args.short_side, args.fps, args.store)
            start = time.perf_counter()
            store.update(table, progress=False, num_workers=os.cpu_count())
            building = time.perf_counter() - start
        decode = (before + decoding(paths)) / 2
        ratios.append(building / decode)
        print(f"store {building:.2f} s, decoding {decode:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
