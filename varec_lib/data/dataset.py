"""From rows of a manifest to batches of clips. One function, `load_views`, feeds evaluation and prediction alike."""

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from varec_lib.data.clip_spec import ClipSpec, random_crop
from varec_lib.data.manifest import segments_of
from varec_lib.data.thinning import KeptFrames
from varec_lib.data.video import read_frames
from varec_lib.errors import ConfigError


class Frames(Protocol):
    """Where the frames of a table's videos come from: `VideoFiles`, or `StoredFrames` of the frame store."""

    frames: np.ndarray  # frames of each video, after thinning out to `ClipSpec.fps`

    def times(self, row: int) -> np.ndarray:
        """When these frames of the video in this row begin to be shown, and when it ends: seconds `(F + 1,)`."""

    def read(self, row: int, indices: list[int]) -> torch.Tensor:
        """Frames of the video in this row as uint8 RGB `(T, C, H, W)`, scaled down to `ClipSpec.short_side`."""


class VideoFiles:
    """Frames decoded at every call from a checked table's files (`path, times, promised_s[, start, end]`)."""

    def __init__(self, table: pd.DataFrame, clip_spec: ClipSpec) -> None:
        # Arrays, not lists: workers share them, where reference counts of list items would copy them bit by bit.
        self.paths = np.array([os.fsencode(path) for path in table["path"]])
        self.short_side = clip_spec.short_side
        videos = zip(table["times"], table["promised_s"], strict=True)
        self.kept = KeptFrames(videos, clip_spec.fps, segments_of(table))
        self.frames, self.times = self.kept.frames, self.kept.times

    def read(self, row: int, indices: list[int]) -> torch.Tensor:
        """As `Frames.read`. Raises `VideoError`."""
        numbers = self.kept.numbers(row)[indices].tolist()
        return read_frames(os.fsdecode(self.paths[row]), numbers, short_side=self.short_side)


def load_views(source: Frames, row: int, clip_spec: ClipSpec, *, views: int = 1, crops: int = 1) -> torch.Tensor:
    """What a network sees of a video when it is evaluated: uint8 `(V * crops, T, C, H, W)`, the same on every call.

    V views along the video, of each `crops` along the longer side of its pictures. Raises `VideoError`.
    """
    times = source.times(row)
    frames = [i for view in range(views) for i in clip_spec.indices(times, view=view, views=views)]
    cropped = clip_spec.crops(source.read(row, frames), crops)  # (crops, V * T, C, H, W)
    return cropped.unflatten(1, (views, clip_spec.num_frames)).transpose(0, 1).flatten(0, 1)


class TrainBatch(NamedTuple):
    """Clips uint8 `(B, T, C, H, W)`, class numbers, rows of the table, and a seed each for `apply_each`, `(B,)`."""

    clips: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    seeds: torch.Tensor


class TrainClips(Dataset):
    """One random clip per video: jittered frames, cropped at random if `augment`; items make up a `TrainBatch`.

    Keys are `(epoch, row)`, as `EpochBatches` yields them: all randomness comes from seed, epoch and row, so clips do
    not depend on the number of workers or on the order in which they are read. With `fixed_views`, epochs repeat that
    many draws in turn. Flips and colours are left to the device that trains (`random_colours`).
    """

    def __init__(
        self, source: Frames, labels: np.ndarray, clip_spec: ClipSpec, *, augment: bool, seed: int, fixed_views: int = 0
    ) -> None:
        self.source, self.labels = source, labels
        self.clip_spec, self.seed, self.fixed_views = clip_spec, seed, fixed_views
        self.geometry = random_crop(clip_spec.frame_size) if augment else clip_spec.crop

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> TrainBatch:
        epoch, row = key
        draw = epoch % self.fixed_views if self.fixed_views else epoch
        seeds = np.random.SeedSequence([self.seed, draw, row]).generate_state(3, np.uint32).tolist()
        generator = torch.Generator().manual_seed(seeds[0])
        clip = self.source.read(row, self.clip_spec.indices(self.source.times(row), generator=generator))
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the global generator
            torch.default_generator.manual_seed(seeds[1])
            return TrainBatch(self.geometry(clip), int(self.labels[row]), row, seeds[2])


class EvalClips(Dataset):
    """Every video in a fixed order with fixed frames; items are `(uint8 (V * crops, T, C, H, W), row)`."""

    def __init__(self, source: Frames, clip_spec: ClipSpec, *, views: int = 1, crops: int = 1) -> None:
        self.source, self.clip_spec, self.views, self.crops = source, clip_spec, views, crops

    def __len__(self) -> int:
        return len(self.source.frames)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return load_views(self.source, row, self.clip_spec, views=self.views, crops=self.crops), row


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of keys `(epoch, row)`: all rows in a new random order each epoch, which depends on seed and epoch alone.

    `weights` `(rows,)` draw rows with replacement instead (class-balanced sampling). Among several processes each
    batch of `batch_size * processes` rows is shared out, so that together they do what one process with the larger
    batch would; none is padded or repeated. Set `epoch` before, and `start` to skip batches already trained on.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        *,
        weights: np.ndarray | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        whole = batch_size * processes
        self.sizes = [min(whole, rows - first) for first in range(0, rows, whole)]  # over all processes
        if self.sizes[0] < processes:
            raise ConfigError(f"{rows} training videos are too few for {processes} processes.")
        # Batch norm needs two clips in every process; a last batch with fewer is left out of the epoch.
        if len(self.sizes) > 1 and self.sizes[-1] < min(2, batch_size) * processes:
            self.sizes.pop()
        self.rows, self.whole, self.seed, self.weights = rows, whole, seed, weights
        self.rank, self.processes = rank, processes
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.sizes) - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, rng = self.epoch, np.random.default_rng([self.seed, self.epoch])
        if self.weights is None:
            order = rng.permutation(self.rows)
        else:
            order = rng.choice(self.rows, self.rows, p=self.weights / self.weights.sum())
        for number in range(self.start, len(self.sizes)):
            batch = order[number * self.whole : (number + 1) * self.whole]
            yield [(epoch, int(row)) for row in np.array_split(batch, self.processes)[self.rank]]


def make_loader(
    dataset: Dataset, *, num_workers: int, batch_size: int = 1, batches: EpochBatches | None = None
) -> DataLoader:
    """A loader over `batches` (training) or in order (evaluation); its workers live as long as it does.

    A worker is a copy of the process that starts it, and afterwards every page of memory that either writes to must be
    copied: new workers in every epoch made R3D-18's epochs a fifth slower.
    """
    chosen = {"batch_sampler": batches} if batches is not None else {"batch_size": batch_size}
    return DataLoader(
        dataset,
        **chosen,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else workers' seeds are drawn from the global one, and dropout depends on them
    )


def worker_trouble(error: RuntimeError) -> str:
    """What one of PyTorch's errors says of data workers, in a sentence; empty for an error of another kind."""
    said = str(error)
    if "Too many open files" in said or "ancdata" in said:  # which is how a worker's tensor fails to arrive
        return "More files are open than this system allows: raise the limit (`ulimit -n`), or use --num_workers 0"
    if "shared memory" in said:
        return "Too little shared memory (/dev/shm) for data workers: lower --num_workers or --batch_size"
    if "DataLoader worker" in said:
        return "A data worker died: too little memory (lower --num_workers or --batch_size), or a damaged file"
    return ""


def class_numbers(table: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """The class number of each row's label, int64 `(N,)`."""
    return pd.Categorical(table["label"], categories=classes).codes.astype(np.int64)


def balancing_weights(labels: np.ndarray) -> np.ndarray:
    """A weight per row `(N,)` with which every class is drawn equally often."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]
