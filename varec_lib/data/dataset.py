"""From rows of a manifest to batches of clips. One function, `load_views`, feeds evaluation and prediction alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from varec_lib.data.decode import read_frames
from varec_lib.data.transforms import Preprocess, clip_augmentation

Order = Literal["forward", "reversed", "shuffled"]


def in_order(indices: list[int], order: Order) -> list[int]:
    """Frame indices as they are, back to front, or in one fixed random order (the same for every video)."""
    if order == "reversed":
        return indices[::-1]
    if order == "shuffled":
        permutation = np.random.default_rng(0).permutation(len(indices))
        return [indices[i] for i in permutation]
    return indices


def load_views(
    path: Path | str, frames: int, preprocess: Preprocess, *, views: int = 1, order: Order = "forward"
) -> torch.Tensor:
    """What a network sees of a video when it is evaluated: uint8 `(V, T, C, H, W)`, the same on every call.

    `frames` is the number of decodable frames (`probe(path).frames`). Raises `VideoError`.
    """
    clips = [in_order(preprocess.indices(frames, view=view, views=views), order) for view in range(views)]
    decoded = preprocess.crop(read_frames(path, [i for clip in clips for i in clip]))
    return decoded.unflatten(0, (views, preprocess.num_frames))


class TrainClips(Dataset):
    """One random clip per video: jittered frames, augmented; items are `(uint8 (T, C, H, W), class number)`.

    Keys are `(epoch, row)`, as `EpochSampler` yields them: all randomness comes from seed, epoch and row, so clips do
    not depend on the number of workers or on the order in which they are read.
    """

    def __init__(
        self, table: pd.DataFrame, classes: list[str], preprocess: Preprocess, *, augment: bool, flip: bool, seed: int
    ) -> None:
        self.paths = table["path"].tolist()
        self.frames = table["frames"].tolist()
        self.labels = [classes.index(label) for label in table["label"]]
        self.preprocess, self.seed = preprocess, seed
        self.transform = clip_augmentation(preprocess.frame_size, flip=flip) if augment else preprocess.crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, row = key
        seed = int(np.random.SeedSequence([self.seed, epoch, row]).generate_state(1, np.uint32)[0])
        indices = self.preprocess.indices(self.frames[row], generator=torch.Generator().manual_seed(seed))
        clip = read_frames(self.paths[row], indices)
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the global generator
            torch.manual_seed(seed)
            return self.transform(clip), self.labels[row]


class EvalClips(Dataset):
    """Every video in a fixed order with fixed frames; items are `(uint8 (V, T, C, H, W), row)`."""

    def __init__(
        self, table: pd.DataFrame, preprocess: Preprocess, *, views: int = 1, order: Order = "forward"
    ) -> None:
        self.paths = table["path"].tolist()
        self.frames = table["frames"].tolist()
        self.preprocess, self.views, self.order = preprocess, views, order

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        clips = load_views(self.paths[row], self.frames[row], self.preprocess, views=self.views, order=self.order)
        return clips, row


class EpochSampler(Sampler[tuple[int, int]]):
    """All rows in a new random order each epoch, as keys `(epoch, row)`; the order depends on seed and epoch alone."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed, self.epoch = rows, seed, 0

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        return iter([(self.epoch, int(row)) for row in order])


def make_loader(dataset: Dataset, *, batch_size: int, num_workers: int, sampler: Sampler | None = None) -> DataLoader:
    """A loader whose workers live from epoch to epoch and leave one processor thread each to OpenCV and torch."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        # Batch norm needs two samples: in training, a last batch of a single clip is left out of the epoch.
        drop_last=sampler is not None and len(dataset) > batch_size and len(dataset) % batch_size == 1,
        num_workers=num_workers,
        persistent_workers=num_workers > 0 and sampler is not None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else workers' seeds are drawn from the global one, and dropout depends on them
    )
