"""Reads, checks and predicts damaged videos: `python fuzzing.py CHECKPOINT FOLDER FIRST LAST VIDEO...`.

Each number from FIRST to LAST is the seed of a damage, and is printed before it is tried, so that whoever watches knows
at which one this process crashed or hung. What is raised but `VarecError` is a fault of ours and ends it.
"""

import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from varec_lib.data.check import check_videos
from varec_lib.data.looks import looks_of
from varec_lib.data.video import read_frames
from varec_lib.errors import VarecError
from varec_lib.predictor.predict import Predictor


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with up to six faults: bytes that changed, holes, parts left out, doubled or moved, a lost end."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 7)):
        start = int(rng.integers(len(data))) if rng.random() < 0.7 else int(rng.integers(min(len(data), 2000)))
        length = int(2 ** rng.uniform(0, 13))
        part = bytes(data[start : start + length])
        match rng.integers(6):
            case 0:
                data[start : start + length] = bytes(len(part))
            case 1:
                data[start : start + min(length, 64)] = rng.bytes(len(part[:64]))
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = part
            case 4:
                data[start] ^= 1 << int(rng.integers(8))
            case _:
                del data[max(start, 200) :]
    return bytes(data)


def main(checkpoint: str, folder: str, first: str, last: str, *videos: str) -> None:
    """Tries the damages with these numbers."""
    predictor = Predictor.load(checkpoint, precision="fp32")
    for seed in range(int(first), int(last)):
        print(seed, flush=True)
        rng = np.random.default_rng(seed)
        source = Path(videos[rng.integers(len(videos))])
        path = Path(folder) / f"{seed}{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), rng))
        with suppress(VarecError):
            read_frames(path, [0, 5, 3], short_side=32)
        table = pd.DataFrame({"path": [str(path)], "label": "a", "group": "g", "split": "train"})
        good, bad = check_videos(table, progress=False)
        assert len(good) + len(bad) == 1
        looks_of(table, progress=False)
        with suppress(VarecError):
            predictor.predict(path)
        with suppress(VarecError):
            predictor.predict_along(path)
        path.unlink()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
