"""The end of a run: the test, `results.json` and the pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator

from varec_lib.config import TrainConfig
from varec_lib.evaluation.metrics import Predictions, report
from varec_lib.models.checkpoint import Checkpoint, versions
from varec_lib.models.precision import processor
from varec_lib.training.experiment import Experiment
from varec_lib.training.multigrid import Stage


def rank(row: dict[str, Any]) -> tuple[float, ...]:
    """What makes an epoch better: higher validation top-1, between equals lower loss; before both, a later stage."""
    return row.get("stage", 1), row["val_top1"], -row["val_loss"]


def epoch_figures(accelerator: Accelerator, sums: torch.Tensor, lr: float) -> dict[str, float]:
    """An epoch's row of the history, from sums `(5,)` of loss, right answers, clips, seconds and seconds waiting."""
    processes = accelerator.num_processes
    loss, right, seen, seconds, waited = (
        accelerator.reduce(sums.to(accelerator.device)) if processes > 1 else sums
    ).tolist()
    seconds, waited = seconds / processes, waited / processes
    return {
        "lr": lr,
        "train_loss": loss / seen,
        "train_top1": right / seen,
        "seconds": seconds,
        "clips_per_second": seen / seconds,
        "data_wait": waited / seconds,
    }


def epoch_line(row: dict[str, Any], epochs: int, stage: Stage, *, best: bool) -> str:
    """An epoch in a line; a star marks the best so far."""
    return (
        f"epoch {row['epoch']:3d}/{epochs}  {stage}"
        f"  train loss {row['train_loss']:.3f} top-1 {row['train_top1']:.3f}"
        f"  val loss {row['val_loss']:.3f} top-1 {row['val_top1']:.3f}{'*' if best else ' '}"
        f"  lr {row['lr']:.1e}  {row['clips_per_second']:.1f} clips/s, data wait {row['data_wait']:.0%}"
    )


@dataclass(frozen=True)
class Outcome:
    """How a training ended: its epochs, the best of them if there was any, and what it ran on."""

    history: list[dict[str, Any]]
    best: dict[str, Any] | None
    stopped: str
    stages: list[Stage]
    num_parameters: int
    precision: str
    device: torch.device
    processes: int
    checkpoint: Checkpoint

    @property
    def sure_above(self) -> float | None:
        """The best epoch's threshold; absent in the state of a run that an older version began."""
        return self.best.get("sure_above") if self.best else None

    def results(self, config: TrainConfig, test: Predictions | None) -> dict[str, Any]:
        """What `results.json` holds."""
        history, best = self.history, self.best or {}
        return {
            "model": config.model,
            "num_parameters": self.num_parameters,
            "epochs_run": len(history),
            "best_epoch": best.get("epoch"),
            "best_val_top1": best.get("val_top1"),
            "sure_above": self.sure_above,
            "unlike_above": self.checkpoint.novelty and self.checkpoint.novelty.unlike_above,
            "stages": [
                {"clip": str(s), "first_epoch": s.first_epoch, "batch_size": s.batches * config.batch_size}
                for s in self.stages
            ],
            "stopped": self.stopped,
            "train_seconds": sum(row["seconds"] for row in history),
            "clips_per_second": pd.DataFrame(history)["clips_per_second"].mean() if history else None,
            "device": str(self.device),
            "processor": processor(self.device),
            "processes": self.processes,
            "precision": self.precision,
            "seed": config.seed,
            "data": {name: value for name, value in self.checkpoint.data.to_dict().items() if name != "videos"},
            "versions": versions(),
            "test": report(test, self.sure_above) if test else None,
        }


def finish(
    experiment: Experiment,
    config: TrainConfig,
    outcome: Outcome,
    test: Callable[[], Predictions] | None,
    *,
    writes: bool,
) -> None:
    """Writes the results, tests (in all processes) if there is something to test, and draws the pictures.

    In this order: what fails after the last epoch leaves a run that can be used.
    """
    if writes:
        experiment.write_results(outcome.results(config, None))
    tested = test() if test else None
    if not writes:
        return
    if tested:
        results = outcome.results(config, tested)
        experiment.write_results(results)
        tested.save(experiment.predictions("test"))
        low, high = results["test"]["top1_ci95"]
        print(f"test top-1 {results['test']['top1']:.3f} (95 % interval {low:.3f} to {high:.3f})")
    _draw(experiment.folder / "plots", outcome.history, tested)


def _draw(folder: Path, history: list[dict[str, Any]], test: Predictions | None) -> None:
    from varec_lib import plots  # matplotlib and seaborn, which no training needs to wait for

    if history:
        plots.save(plots.training_curves(pd.DataFrame(history)), folder / "training_curves.png")
    if test:
        plots.save(plots.confusion_matrix(test.confusion(), test.classes), folder / "confusion_matrix.png")
