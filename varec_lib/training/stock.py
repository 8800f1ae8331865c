"""Training the usual way, for `varec bench --against-stock` to compare with; also its stop watches."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.video import r3d_18
from torchvision.transforms import v2

from varec_lib.config import TrainConfig
from varec_lib.data.decode import read_frames
from varec_lib.data.sampling import uniform_indices
from varec_lib.data.transforms import KINETICS
from varec_lib.models.precision import default_device
from varec_lib.training.feed import ClipFeed


def timed_epoch(batches: Iterable, step: Callable, clips_of: Callable, steps: int) -> tuple[float, float]:
    """Clips per second and share of waiting over `steps` batches, the start of the loader included."""
    start = last = time.perf_counter()
    waited, clips = 0.0, 0
    for number, batch in enumerate(batches, start=1):
        waited += time.perf_counter() - last
        step(batch)
        clips += clips_of(batch)
        last = time.perf_counter()
        if number == steps:
            break
    return clips / (last - start), waited / (last - start)


def repeated(step: Callable, steps: int, clips: int, device: torch.device) -> float:
    """Clips per second of a step on `clips` clips in memory, the median of at least three."""
    times = []
    for _ in range(max(steps, 3)):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return clips / statistics.median(times)


class _StockClips(Dataset):
    """Decodes with OpenCV at every call; torchvision's video presets (references/video_classification)."""

    def __init__(self, paths: np.ndarray, labels: np.ndarray, frames: np.ndarray, config: TrainConfig) -> None:
        self.paths, self.labels, self.frames, self.num_frames = paths, labels, frames, config.num_frames
        size = config.frame_size
        self.transform = v2.Compose(
            [
                v2.Resize(round(min(size) * 8 / 7), antialias=False),
                v2.RandomHorizontalFlip(),
                v2.RandomCrop(size, pad_if_needed=True),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(*KINETICS),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        indices = uniform_indices(int(self.frames[row]), self.num_frames, generator=torch.Generator())
        clip = self.transform(read_frames(self.paths[row], indices))
        return clip.transpose(0, 1).contiguous(), int(self.labels[row])  # (C, T, H, W)


class _StockTraining:
    """torchvision's R3D-18, fp32, contiguous, every clip decoded in every epoch."""

    def __init__(self, clips: _StockClips, config: TrainConfig, num_classes: int, steps: int) -> None:
        self.clips, self.config, self.steps = clips, config, steps
        self.device = default_device()
        self.model = r3d_18(num_classes=num_classes).to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.criterion = nn.CrossEntropyLoss()

    def loader(self) -> DataLoader:
        options = {"batch_size": self.config.batch_size, "num_workers": self.config.num_workers}
        return DataLoader(self.clips, shuffle=True, **options)

    def step(self, batch: list[torch.Tensor]) -> None:
        clips, labels = (part.to(self.device) for part in batch)
        self.criterion(self.model(clips), labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def epoch(self) -> tuple[float, float]:
        """Clips per second and share of waiting over some steps, the loader's start included."""
        return timed_epoch(self.loader(), self.step, lambda batch: len(batch[1]), self.steps)

    def step_speed(self) -> float:
        """Clips per second on one batch in memory."""
        batch = next(iter(self.loader()))
        return repeated(lambda: self.step(batch), self.steps, len(batch[1]), self.device)


def _serve(connection: Connection, *what: Any) -> None:
    training = _StockTraining(*what)
    while (wanted := connection.recv()) != "stop":
        connection.send(getattr(training, wanted)())


class _Remote:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _ask(self, wanted: str) -> Any:
        self.connection.send(wanted)
        return self.connection.recv()

    def epoch(self) -> tuple[float, float]:
        return self._ask("epoch")

    def step_speed(self) -> float:
        return self._ask("step_speed")


@contextmanager
def stock_training(feed: ClipFeed, steps: int) -> Iterator[_Remote]:
    """The usual training on a feed's videos, in a fresh process: none of this library's settings reach it."""
    clips = _StockClips(feed.paths, feed.labels, feed.split("train")["frames"].to_numpy(), feed.config)
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, clips, feed.config, len(feed.about.classes), steps))
    process.start()
    there.close()
    try:
        yield _Remote(here)
        here.send("stop")
        process.join()
    finally:
        process.kill()
