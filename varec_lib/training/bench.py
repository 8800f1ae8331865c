"""Where the time of a training goes, measured part by part (notebook 04)."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable

import torch
from torch.utils.data import DataLoader

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import Frames, VideoFiles
from varec_lib.errors import ConfigError
from varec_lib.models.backbone import train_mode
from varec_lib.models.precision import processor
from varec_lib.training.feed import ClipFeed
from varec_lib.training.setup import build, make_accelerator, resolved
from varec_lib.training.step import OptimiserStep, make_optimizer

Figures = dict[str, float | int | str | None]


def bench(config: TrainConfig, steps: int = 3, rounds: int = 3) -> Figures:
    """Clips per second of each part of a training, medians over `rounds` of `steps` steps each; nothing is saved."""
    parts = TrainingParts(config, steps)
    return parts.figures([parts.epoch() for _ in range(rounds + 1)])


class TrainingParts:
    """The parts that `Trainer` is made of, without its bookkeeping. Raises `ConfigError` for no steps, `VarecError`."""

    def __init__(self, config: TrainConfig, steps: int) -> None:
        if steps < 1:
            raise ConfigError(f"steps is {steps}, but must be at least 1.")
        config = resolved(config)
        accelerator = make_accelerator(config)
        model, feed = build(config, accelerator, progress=True)
        model.to(accelerator.device)
        feed.prepare(model)
        network = feed.network(model)
        if config.compile:
            network.compile()
        optimizer = make_optimizer(model, 1e-5, config.weight_decay)
        self.network, optimizer = accelerator.prepare(network, optimizer)
        train_mode(self.network)
        self.config, self.feed, self.steps = config, feed, steps
        self.update = OptimiserStep(accelerator, self.network, optimizer, feed.inputs, 0.0, 0.0)

    def _loader(self) -> DataLoader:
        self.feed.batches.epoch += 1
        return self.feed.loader

    def _step(self, batch: tuple) -> None:
        self.update([batch], len(batch.labels))

    def epoch(self) -> tuple[float, float]:
        """Clips per second and share of waiting over some steps, as in an epoch after the first: workers live on."""
        return timed_epoch(self._loader(), self._step, lambda batch: len(batch.labels), self.steps)

    def loader_speed(self) -> float:
        """Clips per second of the whole input pipeline with its workers."""
        speed, _ = timed_epoch(self._loader(), lambda batch: None, lambda batch: len(batch.labels), 10 * self.steps)
        return speed

    def step_speed(self) -> float:
        """Clips per second of forward, backward and optimiser on one batch in memory."""
        batch = next(iter(self._loader()))
        return repeated(lambda: self._step(batch), self.steps, len(batch.labels), self.feed.accelerator.device)

    def figures(self, epochs: list[tuple[float, float]]) -> Figures:
        """All figures, from what `epoch` returned some times; the first of them is left out.

        It pays for page tables, thread pools and the choice of kernels.
        """
        speeds, waits = zip(*epochs[1:], strict=True)
        config, device = self.config, self.feed.accelerator.device
        figures: Figures = {
            "model": config.model,
            "num_frames": config.num_frames,
            "frame_size": "x".join(map(str, config.frame_size)),
            "batch_size": config.batch_size,
            "device": str(device),
            "precision": self.feed.precision,
            "processor": processor(device),
            "threads": torch.get_num_threads(),
            **_read_speeds(self.feed),
            "loader_clips_per_s": self.loader_speed(),
            "step_clips_per_s": self.step_speed(),
            "train_clips_per_s": statistics.median(speeds),
            "data_wait_share": statistics.median(waits),
            "peak_memory_mb": _peak_memory_mb(),
        }
        if "store_clips_per_s" in figures:
            figures["ratio_store_to_decode"] = figures["store_clips_per_s"] / figures["decode_clips_per_s"]
        return figures


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
    rows, clip_spec = feed.split("train"), feed.checkpoint.clip_spec
    speeds: Figures = {"decode_clips_per_s": _reading(VideoFiles(rows, clip_spec), feed, 40)}
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
        source.read(row, feed.checkpoint.clip_spec.indices(source.times(row), generator=generator))
    seconds = time.perf_counter() - start
    torch.set_num_threads(threads)
    return clips / seconds


def _peak_memory_mb() -> float:
    """The most memory this process held, or on a GPU the most that was allocated there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
