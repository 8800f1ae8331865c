"""`varec data store`: decodes a dataset once, for fast training."""

import time
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import FrameSize, NotNegative, Settings, TrainConfig, UserPath, Whole


@dataclass
class Options(Settings):
    """Decode every video of a dataset once into the frame store that training reads (else training does)."""

    data: Positional[UserPath]
    """Dataset folder."""
    frame_size: FrameSize = (112, 112)
    """Height and width that models will see; decides the stored size unless --short_side does."""
    short_side: Whole = 0
    """Shorter side of the stored frames in pixels; 0: 8/7 of the frame size's."""
    fps: NotNegative = 15.0
    """Frames a second to keep, where a video has more; 0 keeps all."""
    store: Literal["raw", "jpeg"] = "raw"
    """raw pixels, or JPEG: a tenth of the disk, slightly lossy."""
    store_dir: UserPath = Path("data/store")
    """Folder of the frame stores."""
    ucf_split: Literal[1, 2, 3] = 1
    """Which official list to use where the folder is UCF-101 or HMDB51 itself."""


def run(options: Options) -> int:
    """Decodes a dataset into the frame store; 1 where a video cannot be used."""
    from varec_lib.data.manifest import load_manifest
    from varec_lib.data.store import FrameStore
    from varec_lib.files import gigabytes

    how = {name: getattr(options, name) for name in ("frame_size", "short_side", "fps", "store", "store_dir")}
    store = FrameStore.of(TrainConfig(data_dir=options.data, **how))
    start = time.perf_counter()
    good, bad = store.update(load_manifest(options.data, ucf_split=options.ucf_split))
    total, unused = store.used_bytes()
    frames = int(store.frames_of(good).frames.sum())
    print(
        f"Frame store {store}: {len(good)} videos, {frames} frames, {gigabytes(total)}, "
        f"{time.perf_counter() - start:.1f} s"
    )
    if unused:
        print(
            f"{gigabytes(unused)} belong to videos that have changed or are not listed; delete {store.folder} to free."
        )
    for problem in bad["problem"]:
        print(problem)
    return 1 if len(bad) else 0
