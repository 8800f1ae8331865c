"""The end of a run: the test, `results.json` and the pictures."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from accelerate import Accelerator

from varec_lib import plots
from varec_lib.evaluation.metrics import report
from varec_lib.models.checkpoint import versions
from varec_lib.models.precision import processor
from varec_lib.models.registry import parameter_count
from varec_lib.training.multigrid import Stage

if TYPE_CHECKING:
    from varec_lib.training.loop import Trainer


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


def write_report(trainer: "Trainer") -> None:
    """Tests the best checkpoint, writes `results.json` and the pictures. After Ctrl-C the test is left out."""
    config, experiment, history, best = trainer.config, trainer.experiment, trainer.history, trainer.best
    has_test = (trainer.feed.table["split"] == "test").any()
    threshold = best.get("sure_above") if best else None  # absent in the state of a run that an older version began
    test = trainer.test() if best and has_test and trainer.stopped != "interrupted" else None
    if not trainer.accelerator.is_main_process:
        return
    results: dict[str, Any] = {
        "model": config.model,
        "num_parameters": parameter_count(trainer.model),
        "epochs_run": len(history),
        "best_epoch": best["epoch"] if best else None,
        "best_val_top1": best["val_top1"] if best else None,
        "sure_above": threshold,
        "stages": [
            {"clip": str(s), "first_epoch": s.first_epoch, "batch_size": s.batches * config.batch_size}
            for s in trainer.stages
        ],
        "stopped": trainer.stopped,
        "train_seconds": sum(row["seconds"] for row in history),
        "clips_per_second": pd.DataFrame(history)["clips_per_second"].mean() if history else None,
        "device": str(trainer.accelerator.device),
        "processor": processor(trainer.accelerator.device),
        "processes": trainer.accelerator.num_processes,
        "precision": trainer.feed.precision,
        "seed": config.seed,
        "versions": versions(),
        "test": report(test, threshold) if test else None,
    }
    plot_folder = experiment.folder / "plots"
    if history:
        plots.save(plots.training_curves(pd.DataFrame(history)), plot_folder / "training_curves.png")
    if test:
        plots.save(plots.confusion_matrix(test.confusion(), test.classes), plot_folder / "confusion_matrix.png")
        low, high = results["test"]["top1_ci95"]
        print(f"test top-1 {results['test']['top1']:.3f} (95 % interval {low:.3f} to {high:.3f})")
    experiment.write_results(results)
