"""Where the time of a training goes, measured part by part, and against the usual way of doing it (notebook 04)."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import Frames, VideoFiles
from varec_lib.errors import ConfigError
from varec_lib.models.backbone import train_mode
from varec_lib.models.precision import processor
from varec_lib.training.feed import ClipFeed
from varec_lib.training.loop import Trainer
from varec_lib.training.setup import build, make_accelerator, prepare
from varec_lib.training.step import OptimiserStep, make_optimizer
from varec_lib.training.stock import repeated, stock_training, timed_epoch

Figures = dict[str, float | int | str | None]


def bench(
    config: TrainConfig, steps: int = 3, rounds: int = 3, *, against_stock: bool = False, to_top1: float = 0.0
) -> Figures:
    """Clips per second of each part of a training, medians over `rounds` of `steps` steps each; nothing is saved.

    `decode` and `store` read the frames of clips in one process; `loader` is the whole input pipeline with its
    workers; `step` is forward, backward and optimiser on one batch in memory; `train` is both together, as in an epoch
    after the first: our workers live on. With `against_stock`, rounds of the usual way alternate with ours; it starts
    its workers in every round, as it does in every epoch, so give `steps` as many as an epoch has. With `to_top1`, both
    then train from scratch until validation reaches it, or `config.epochs` are over.
    """
    if against_stock and config.model != "r3d18":
        raise ConfigError("--against-stock compares R3D-18: use --model r3d18.")
    if min(steps, rounds) < 1:
        raise ConfigError(f"steps and rounds must be at least 1, but are {steps} and {rounds}.")
    accelerator = make_accelerator(config)
    model, feed = build(config, accelerator, progress=True)
    ours = _Ours(model, feed, steps)
    sources = _read_speeds(feed)
    with stock_training(feed, steps) if against_stock else nullcontext() as stock:
        # The first round pays for page tables, thread pools and the choice of kernels.
        found = [(ours.epoch(), stock.epoch() if stock else (0.0, 0.0)) for _ in range(rounds + 1)][1:]
        stock_step = stock.step_speed() if stock else 0.0
        usual_to, usual_best = stock.seconds_to(to_top1) if stock and to_top1 else (None, 0.0)
    train, wait, usual, usual_wait = (statistics.median(part) for part in zip(*(a + b for a, b in found), strict=True))
    figures: Figures = {
        "model": config.model,
        "num_frames": config.num_frames,
        "frame_size": "x".join(map(str, config.frame_size)),
        "batch_size": config.batch_size,
        "device": str(accelerator.device),
        "precision": feed.precision,
        "processor": processor(accelerator.device),
        "threads": torch.get_num_threads(),
        **sources,
        "loader_clips_per_s": ours.loader_speed(),
        "step_clips_per_s": ours.step_speed(),
        "train_clips_per_s": train,
        "data_wait_share": wait,
        "peak_memory_mb": _peak_memory_mb(),
    }
    if stock:
        figures |= {
            "stock_step_clips_per_s": stock_step,
            "stock_train_clips_per_s": usual,
            "stock_data_wait_share": usual_wait,
            "ratio_train_clips_per_s": train / usual,
            "ratio_step_clips_per_s": figures["step_clips_per_s"] / stock_step,
        }
    if stock and to_top1:
        figures |= _to_accuracy(config, to_top1, usual_to, usual_best)
    if "store_clips_per_s" in figures:
        figures["ratio_store_to_decode"] = figures["store_clips_per_s"] / figures["decode_clips_per_s"]
    return figures


def _to_accuracy(config: TrainConfig, top1: float, usual: float | None, usual_best: float) -> Figures:
    """The seconds of our training beside those of the usual one."""
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
        trainer = _Timed(*prepare(config.replaced(experiments_dir=folder), False, stack))
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


def advice(figures: Figures) -> str:
    """One line that names the bottleneck and what to do about it."""
    wait, loader, step = (figures[name] for name in ("data_wait_share", "loader_clips_per_s", "step_clips_per_s"))
    if wait > 0.05 or loader < step:
        cure = "raise --num_workers" if "store_clips_per_s" in figures else "keep frames with --store raw"
        return (
            f"Bottleneck: data ({loader:.0f} clips/s, the model takes {step:.0f}; waiting {wait:.0%}). First, {cure}."
        )
    return (
        f"Bottleneck: the model ({step:.1f} clips/s; data could bring {loader:.0f}, waiting {wait:.1%}). Smaller "
        "--frame_size or --num_frames, --model cnnlstm, --freeze_backbone, or a GPU make it faster."
    )


def _read_speeds(feed: ClipFeed) -> Figures:
    """Clips per second that one process reads: from the video files, and from the frame store."""
    rows, preprocess = feed.split("train"), feed.about.preprocess
    speeds: Figures = {"decode_clips_per_s": _reading(VideoFiles(rows, preprocess), feed, 40)}
    if feed.store:
        _reading(feed.frames("train"), feed, len(rows))  # map the pages
        speeds["store_clips_per_s"] = _reading(feed.frames("train"), feed, 400)
    return speeds


def _reading(source: Frames, feed: ClipFeed, clips: int) -> float:
    generator, threads = torch.Generator().manual_seed(0), torch.get_num_threads()
    rows = torch.randperm(len(source.frames), generator=generator).repeat(-(-clips // len(source.frames)))[:clips]
    torch.set_num_threads(1)  # as in a loader's worker
    start = time.perf_counter()
    for row in rows.tolist():
        source.read(row, feed.about.preprocess.indices(int(source.frames[row]), generator=generator))
    seconds = time.perf_counter() - start
    torch.set_num_threads(threads)
    return clips / seconds


class _Ours:
    """This library's way: the parts that `Trainer` is made of, without its bookkeeping."""

    def __init__(self, model: nn.Module, feed: ClipFeed, steps: int) -> None:
        accelerator, config = feed.accelerator, feed.config
        model.to(accelerator.device)
        feed.prepare(model)
        network = feed.network(model)
        if config.compile:
            network.compile()
        optimizer = make_optimizer(model, 1e-5, config.weight_decay)
        self.network, optimizer = accelerator.prepare(network, optimizer)
        train_mode(self.network)
        self.feed, self.steps = feed, steps
        self.update = OptimiserStep(accelerator, self.network, optimizer, feed.inputs, 0.0, 0.0)

    def _loader(self) -> DataLoader:
        self.feed.batches.epoch += 1
        return self.feed.loader

    def _step(self, batch: tuple) -> None:
        self.update([batch], len(batch.labels))

    def epoch(self) -> tuple[float, float]:
        return timed_epoch(self._loader(), self._step, lambda batch: len(batch.labels), self.steps)

    def loader_speed(self) -> float:
        speed, _ = timed_epoch(self._loader(), lambda batch: None, lambda batch: len(batch.labels), 10 * self.steps)
        return speed

    def step_speed(self) -> float:
        batch = next(iter(self._loader()))
        return repeated(lambda: self._step(batch), self.steps, len(batch.labels), self.feed.accelerator.device)


def _peak_memory_mb() -> float:
    """The most memory this process held, or on a GPU the most that was allocated there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
