r"""Training the usual way and this library's, in turn: clips per second, and seconds to an accuracy.

    python benchmarks/against_stock.py --data DIR --num_frames 8 --frame_size 64 64 --batch_size 16 --steps 8
    python benchmarks/against_stock.py --num_frames 8 --frame_size 32 32 --stock_frame_size 64 64 --batch_size 16 \
        --lr 3e-4 --scheduler cosine --epochs 6 --to_top1 0.95

The usual way is torchvision's R3D-18 in fp32, contiguous, every clip decoded in every epoch, in a process of its own.
It starts its workers in every round, as it does in every epoch, so give --steps as many as an epoch has.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.video import r3d_18
from torchvision.transforms import v2

from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import KINETICS
from varec_lib.data.dataset import class_numbers
from varec_lib.data.sampling import uniform_indices
from varec_lib.data.video import read_frames
from varec_lib.errors import ConfigError, VarecError
from varec_lib.models.device import default_device
from varec_lib.training.bench import Figures, TrainingParts, repeated, timed_epoch
from varec_lib.training.feed import ClipFeed
from varec_lib.training.loop import Trainer
from varec_lib.training.schedule import LearningRate
from varec_lib.training.setup import prepare


@dataclass
class Options:
    """Compare the training of R3D-18 with the usual way of doing it; prints JSON."""

    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=lambda: TrainConfig(batch_size=8))
    """The run to measure: the flags of `varec train`."""
    steps: int = 3
    """Training steps in a round."""
    rounds: int = 3
    """Rounds; figures are medians over them."""
    to_top1: float = 0.0
    """Also the seconds until validation top-1 reaches this, within --epochs; 0 leaves it out."""
    stock_frame_size: tuple[int, int] | None = None
    """Height and width of the usual training's clips, where ours shall have smaller ones; the same if not given."""


def compare(options: Options) -> Figures:
    """What `varec bench` prints, and the same of the usual training, with ratios."""
    if options.config.model != "r3d18":
        raise ConfigError(f"This compares R3D-18, not {options.config.model}: use --model r3d18.")
    ours = TrainingParts(options.config, options.steps)
    usual_config = options.config.replaced(frame_size=options.stock_frame_size or options.config.frame_size)
    with stock_training(ours.feed, usual_config, options.steps) as stock:
        rounds = [(ours.epoch(), stock.epoch()) for _ in range(options.rounds + 1)]
        stock_step = stock.step_speed()
        usual = stock.seconds_to(options.to_top1) if options.to_top1 else None
    figures = ours.figures([own for own, _ in rounds])
    speed, wait = map(statistics.median, zip(*(other for _, other in rounds[1:]), strict=True))
    figures |= {
        "stock_frame_size": "x".join(map(str, usual_config.frame_size)),
        "stock_step_clips_per_s": stock_step,
        "stock_train_clips_per_s": speed,
        "stock_data_wait_share": wait,
        "ratio_train_clips_per_s": figures["train_clips_per_s"] / speed,
        "ratio_step_clips_per_s": figures["step_clips_per_s"] / stock_step,
    }
    return figures | (to_accuracy(ours.config, options.to_top1, *usual) if usual else {})


def to_accuracy(config: TrainConfig, top1: float, usual: float | None, usual_best: float) -> Figures:
    """The seconds of our training beside those of the usual one; validation sees clips of the stage's size."""
    seconds, best = _seconds_to(config, top1)
    return {
        "to_top1": top1,
        "seconds_to_top1": seconds,
        "best_val_top1": best,
        "stock_seconds_to_top1": usual,
        "stock_best_val_top1": usual_best,
        "ratio_seconds_to_top1": usual / seconds if usual and seconds else None,
    }


def _seconds_to(config: TrainConfig, top1: float) -> tuple[float | None, float]:
    """As `seconds_to` of the usual training; the frame store lies there already."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        start = time.perf_counter()
        trainer = _Timed(prepare(config.replaced(experiments_dir=folder), False, stack))
        trainer.enough = top1
        trainer.run()
        best = max(row["val_top1"] for row in trainer.history)
        return trainer.reached_at - start if best >= top1 else None, best


class _Timed(Trainer):
    """Ends as soon as validation is good enough."""

    def record(self, row: dict[str, Any], board: Callable[..., None]) -> None:
        super().record(row, board)
        self.reached_at = time.perf_counter()

    def _patience_is_over(self) -> bool:
        return bool(self.history and self.history[-1]["val_top1"] >= self.enough) or super()._patience_is_over()


class _StockClips(Dataset):
    """Decodes with OpenCV at every call; torchvision's video presets (references/video_classification)."""

    def __init__(self, feed: ClipFeed, config: TrainConfig, split: str) -> None:
        rows = feed.split(split)
        self.paths, self.labels = rows["path"].to_numpy(), class_numbers(rows, feed.checkpoint.classes)
        self.times, self.num_frames, size = rows["times"].to_numpy(), config.num_frames, config.frame_size
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
        indices = uniform_indices(self.times[row], self.num_frames, generator=torch.Generator())
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
def stock_training(feed: ClipFeed, config: TrainConfig, steps: int) -> Iterator[_Remote]:
    """The usual training on a feed's videos, in a fresh process: none of this library's settings reach it."""
    clips = _StockClips(feed, config, "train"), _StockClips(feed, config, "val")
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, *clips, config, len(feed.checkpoint.classes), steps))
    process.start()
    there.close()
    try:
        yield _Remote(here)
        here.send("stop")
        process.join()
    finally:
        process.kill()


def main(words: list[str] | None = None) -> int:
    """Prints the figures as JSON, notes to stderr; 2 for an error of use."""
    try:
        options = tyro.cli(Options, args=words)
        with redirect_stdout(sys.stderr):
            figures = compare(options)
    except VarecError as error:
        print(f"against_stock: {error}", file=sys.stderr)
        return 2
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
