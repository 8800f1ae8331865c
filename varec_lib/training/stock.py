"""Training the usual way, for `varec bench --against-stock` to compare with; also its stop watches."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.video import r3d_18
from torchvision.transforms import v2

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import class_numbers
from varec_lib.data.decode import read_frames
from varec_lib.data.sampling import uniform_indices
from varec_lib.data.transforms import KINETICS
from varec_lib.models.precision import default_device
from varec_lib.training.feed import ClipFeed
from varec_lib.training.schedule import LearningRate


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

    def __init__(self, feed: ClipFeed, split: str) -> None:
        rows, config = feed.split(split), feed.config
        self.paths, self.labels = rows["path"].to_numpy(), class_numbers(rows, feed.about.classes)
        self.frames, self.num_frames, size = rows["frames"].to_numpy(), config.num_frames, config.frame_size
        random = split == "train" and config.augment
        geometry = [v2.RandomHorizontalFlip(), v2.RandomCrop(size, pad_if_needed=True)] if random else []
        self.transform = v2.Compose(
            [
                v2.Resize(round(min(size) * 8 / 7), antialias=False),
                *(geometry or [v2.CenterCrop(size)]),
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

    def __init__(self, clips: _StockClips, val: _StockClips, config: TrainConfig, num_classes: int, steps: int) -> None:
        self.clips, self.val, self.config, self.steps = clips, val, config, steps
        self.device = default_device()
        self.model = r3d_18(num_classes=num_classes).to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.criterion = nn.CrossEntropyLoss()

    def loader(self) -> DataLoader:
        return self._load(self.clips, shuffle=True)

    def _load(self, clips: _StockClips, shuffle: bool) -> DataLoader:
        options = {"batch_size": self.config.batch_size, "num_workers": self.config.num_workers}
        return DataLoader(clips, shuffle=shuffle, **options)

    def step(self, batch: list[torch.Tensor]) -> None:
        clips, labels = (part.to(self.device) for part in batch)
        self.criterion(self.model(clips), labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def epoch(self) -> tuple[float, float]:
        """Clips per second and share of waiting over some steps, the loader's start included."""
        return timed_epoch(self.loader(), self.step, lambda batch: len(batch[1]), self.steps)

    def seconds_to(self, top1: float) -> tuple[float | None, float]:
        """Seconds of a training from scratch until validation reaches `top1` (None: it did not), and the best it had.

        Batch size, learning rate and its schedule are those of the configuration.
        """
        config, start, best = self.config, time.perf_counter(), 0.0
        torch.manual_seed(config.seed)
        self.model = r3d_18(num_classes=self.model.fc.out_features).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        steps = len(self.loader())
        warmup, total = round(steps * config.warmup_epochs), steps * config.epochs
        rate = LearningRate(self.optimizer, config.scheduler, warmup_steps=warmup, total_steps=total)
        for _ in range(config.epochs):
            self.model.train()
            for batch in self.loader():
                self.step(batch)
                rate.step()
            loss, found = self._validate()
            rate.epoch_end(loss)
            best = max(best, found)
            if found >= top1:
                return time.perf_counter() - start, best
        return None, best

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        self.model.eval()
        loss = right = 0.0
        for clips, labels in self._load(self.val, shuffle=False):
            scores = self.model(clips.to(self.device)).cpu()
            loss += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
            right += (scores.argmax(dim=1) == labels).sum().item()
        return loss / len(self.val), right / len(self.val)

    def step_speed(self) -> float:
        """Clips per second on one batch in memory."""
        batch = next(iter(self.loader()))
        return repeated(lambda: self.step(batch), self.steps, len(batch[1]), self.device)


def _serve(connection: Connection, *what: Any) -> None:
    training = _StockTraining(*what)
    while (asked := connection.recv()) != "stop":
        wanted, arguments = asked
        connection.send(getattr(training, wanted)(*arguments))


class _Remote:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _ask(self, wanted: str, *arguments: Any) -> Any:
        self.connection.send((wanted, arguments))
        return self.connection.recv()

    def epoch(self) -> tuple[float, float]:
        return self._ask("epoch")

    def step_speed(self) -> float:
        return self._ask("step_speed")

    def seconds_to(self, top1: float) -> tuple[float | None, float]:
        return self._ask("seconds_to", top1)


@contextmanager
def stock_training(feed: ClipFeed, steps: int) -> Iterator[_Remote]:
    """The usual training on a feed's videos, in a fresh process: none of this library's settings reach it."""
    clips = _StockClips(feed, "train"), _StockClips(feed, "val")
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, *clips, feed.config, len(feed.about.classes), steps))
    process.start()
    there.close()
    try:
        yield _Remote(here)
        here.send("stop")
        process.join()
    finally:
        process.kill()
