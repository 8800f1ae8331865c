"""Training, to be read from top to bottom: `train` prepares, `Trainer.run` is the loop (notebook 04)."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.errors import ResumeError
from varec_lib.evaluation.metrics import Predictions, sure_above, sure_answers
from varec_lib.models.backbone import train_mode
from varec_lib.models.checkpoint import save_checkpoint
from varec_lib.models.registry import parameter_count
from varec_lib.training import state
from varec_lib.training.experiment import Experiment
from varec_lib.training.interrupt import diverged, failures_named, interrupt_as_event
from varec_lib.training.multigrid import RunningStatistics, plan, stage_at
from varec_lib.training.report import Outcome, epoch_figures, epoch_line, finish, rank
from varec_lib.training.schedule import LearningRate
from varec_lib.training.setup import Run, prepare, with_novelty
from varec_lib.training.step import NonFinite, OptimiserStep, average_of, make_optimizer


def train(config: TrainConfig, *, progress: bool = True) -> Experiment:
    """Trains a model as configured, tests the best one, and returns the experiment folder it wrote.

    The best epoch is chosen on the validation split, never on test. Ctrl-C ends the training early: the best
    checkpoint so far is kept and `results.json` says so. With `config.resume` it continues that experiment; on a
    processor in fp32 it reaches the very weights of an uninterrupted run. Under `torchrun` or `accelerate launch`
    every process calls it. Raises `VarecError` before anything is written if the configuration, the dataset, the
    weights or the saved state cannot be used.
    """
    with ExitStack() as stack:
        run = prepare(config, progress, stack)
        stack.enter_context(failures_named(run.experiment))
        trainer = Trainer(run)
        trainer.run()
        trainer.finish()
        trainer.accelerator.wait_for_everyone()
        return trainer.experiment


class Trainer:
    """State of one run."""

    def __init__(self, run: Run) -> None:
        self.config, self.model, self.feed, self.experiment, saved = run
        config, model, feed = self.config, self.model, self.feed
        self.accelerator, self.progress = feed.accelerator, feed.progress
        self.identity = state.identity(config, feed.checkpoint, feed.table)
        model.to(self.accelerator.device)
        feed.prepare(model)
        optimizer = make_optimizer(model, config.lr, config.weight_decay, config.backbone_lr)
        network = feed.network(model)
        if config.compile:
            network.compile()
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.average = average_of(model, config.ema) if config.ema else None
        self.stages = plan(config, saved)
        self.steps = {s: -(-len(feed.batches_of(s).sizes) // config.accumulate) for s in self.stages}
        warmup = round(self.steps[self.stages[0]] * config.warmup_epochs)
        total = sum(self.steps[stage_at(self.stages, epoch)] for epoch in range(1, config.epochs + 1))
        self.learning_rate = LearningRate(optimizer, config.scheduler, warmup_steps=warmup, total_steps=total)
        self.statistics = RunningStatistics(model)
        self.step = OptimiserStep(
            self.accelerator, self.network, self.optimizer, feed.inputs, config.label_smoothing, config.clip_grad
        )
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.stopped = "all epochs done"
        self.epoch, self.epoch_lr, self.saved_at = 1, config.lr, time.monotonic()
        self.sums = torch.zeros(5, dtype=torch.float64)  # of this epoch and process: loss, right, clips, s, s waiting
        if saved:
            self.load_state_dict(saved)
            print(f"Continuing in epoch {self.epoch} after {feed.batches.start} batches.")

    @property
    def tested_model(self) -> nn.Module:
        """The model that is validated, saved and tested: the average of the weights if one is kept."""
        return self.average.module if self.average else self.model

    def run(self) -> None:
        """The training loop: an epoch, its validation, the best checkpoint, early stopping."""
        with ExitStack() as stack:
            many = self.accelerator.num_processes > 1  # processes that stopped at different batches would wait forever
            interrupted = threading.Event() if many else stack.enter_context(interrupt_as_event())
            board = self._board(stack)
            try:
                while self.epoch <= self.config.epochs and not self._patience_is_over():
                    self.enter_stage()
                    row = {"epoch": self.epoch, "stage": self.feed.stage.number} | self.train_epoch(interrupted)
                    self._share_statistics()
                    self._check_weights()
                    val = self.feed.validate(self.tested_model)
                    row |= {"val_loss": val.loss(), "val_top1": val.top_k(1), "sure_above": sure_above(val)}
                    row["sure_right"], row["sure_videos"] = sure_answers(val, row["sure_above"])
                    self.learning_rate.epoch_end(row["val_loss"])
                    self.record(row, board)
                    self.epoch, self.feed.batches.start = self.epoch + 1, 0
                    self.sums.zero_()
                    self.save()
                    # Printed only after the state is on disk.
                    print(epoch_line(row, self.config.epochs, self.feed.stage, best=self.best is row), flush=True)
            except KeyboardInterrupt:
                self.stopped = "interrupted"
                kept = (
                    f"the best checkpoint so far (epoch {self.best['epoch']}) is kept" if self.best else "no epoch done"
                )
                print(f"Interrupted: {kept}. Go on with: varec train --resume {self.experiment.folder}")

    def _share_statistics(self) -> None:
        """Batch norm's running statistics come from each process's own clips; validate what the main one saves."""
        if self.accelerator.num_processes > 1:
            broadcast(list(self.tested_model.buffers()))

    def _board(self, stack: ExitStack) -> Callable[..., None]:
        if not self.accelerator.is_main_process:
            return lambda *_: None
        folder = self.experiment.folder / "tensorboard"
        return stack.enter_context(SummaryWriter(folder, purge_step=self.epoch)).add_scalar

    def enter_stage(self) -> None:
        """Goes on with clips of the size that this epoch has; what was averaged over others starts anew."""
        stage = stage_at(self.stages, self.epoch)
        self.feed.enter(stage)
        new = stage.number > 1 and self.epoch == stage.first_epoch and self.feed.batches.start == 0
        self.learning_rate.enter_stage(stage.lr_scale, new=new)
        if new and self.average:
            self.average.n_averaged.zero_()

    def _patience_is_over(self) -> bool:
        patience = self.config.patience
        last = self.best and self.best.get("stage", 1) == self.stages[-1].number
        over = bool(patience and last and self.epoch - 1 - self.best["epoch"] >= patience)
        if over:
            self.stopped = f"no better validation result for {patience} epochs"
        return over

    def train_epoch(self, interrupted: threading.Event) -> dict[str, float]:
        """The rest of this epoch's batches; returns loss and top-1 (weighted by clips), seconds and clips/s.

        `data_wait` is the share of the time in which nothing was computed because the next clips were not ready.
        Raises `KeyboardInterrupt` between two steps once `interrupted` is set.
        """
        batches, window = self.feed.batches, self.config.accumulate
        batches.epoch = self.epoch
        if batches.start == 0:
            self.epoch_lr = self.optimizer.param_groups[0]["lr"]
        train_mode(self.network)
        with tqdm(
            desc=f"epoch {self.epoch}", total=len(batches.sizes), initial=batches.start, unit="batch", leave=False,
            disable=not self.progress,
        ) as bar:  # fmt: skip
            last = time.perf_counter()
            loader = iter(self.feed.loader)
            while batches.start < len(batches.sizes):
                if interrupted.is_set():
                    self.save()
                    raise KeyboardInterrupt
                group = list(islice(loader, window))
                waited = time.perf_counter() - last
                total = sum(batches.sizes[batches.start : batches.start + window])
                loss, right = self._step(group, total)
                clips = sum(len(batch.labels) for batch in group)
                last, before = time.perf_counter(), last
                self.sums += torch.tensor([loss, right, clips, last - before, waited], dtype=torch.float64)
                batches.start += len(group)
                loss_sum, _, seen, seconds, waiting = self.sums.tolist()
                speed, wait = seen / seconds, waiting / seconds
                shown = f"loss {loss_sum / seen:.3f}, {speed:.1f} clips/s, data wait {wait:.0%}"
                bar.set_postfix_str(shown, refresh=False)
                bar.update(len(group))
                if self._save_is_due():
                    self.save()
                    last = time.perf_counter()
            bar.refresh()
        return epoch_figures(self.accelerator, self.sums, self.epoch_lr)

    def _step(self, group: list, total: int) -> tuple[float, int]:
        stage = self.feed.stage
        if stage.number > 1:
            epochs = self.epoch - stage.first_epoch
            self.statistics.renew(epochs * self.steps[stage] + self.feed.batches.start // self.config.accumulate)
        try:
            result = self.step(group, total)
        except NonFinite as error:
            batch = self.feed.batches.start + error.batch_among(group)
            where = f"epoch {self.epoch}, batch {batch} ({error.videos(self.feed.paths)})"
            raise diverged(f"{error} in {where}", self.experiment) from error
        self.learning_rate.step()
        if self.average:
            self.average.update_parameters(self.model)
        return result

    def _check_weights(self) -> None:
        """Raises `TrainingError` before weights are saved or validated that are infinite or not numbers."""
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            where = f"epoch {self.epoch}, batch {self.feed.batches.start}"
            raise diverged(f"Weights became infinite in {where}", self.experiment)

    def record(self, row: dict[str, Any], board: Callable[..., None]) -> None:
        """Writes history and TensorBoard, and saves the checkpoint if it is the best so far."""
        self.feed.checkpoint = with_novelty(self.feed)
        self.history.append(row)
        better = self.best is None or rank(row) > rank(self.best)
        self.best = row if better else self.best
        for name, value in row.items():
            board(name, value, row["epoch"])
        if self.accelerator.is_main_process:
            self.experiment.write_history(self.history)
            if better:
                names = ("epoch", "val_top1", "val_loss", "sure_above", "sure_right", "sure_videos")
                videos = int((self.feed.table["split"] == "val").sum())
                metrics = {name: row[name] for name in names} | {"val_videos": videos}
                checkpoint = replace(self.feed.checkpoint, metrics=metrics)
                save_checkpoint(self.experiment.best_checkpoint, self.tested_model, checkpoint)

    def finish(self) -> None:
        """Writes `results.json`, tests the best checkpoint unless Ctrl-C ended the run, and draws the pictures."""
        outcome = Outcome(
            self.history, self.best, self.stopped, self.stages, parameter_count(self.model), self.feed.precision,
            self.accelerator.device, self.accelerator.num_processes, self.feed.checkpoint,
        )  # fmt: skip
        has_test = self.best and (self.feed.table["split"] == "test").any() and self.stopped != "interrupted"
        writes = self.accelerator.is_main_process
        finish(self.experiment, self.config, outcome, self.test if has_test else None, writes=writes)

    def test(self) -> Predictions:
        """Predictions of the best checkpoint for the test split."""
        self.accelerator.wait_for_everyone()
        self.tested_model.load_state_dict(self.experiment.load_best().state_dict())
        return self.feed.predict(self.tested_model, "test", views=self.config.views)

    def _save_is_due(self) -> bool:
        due = time.monotonic() - self.saved_at > 60 * self.config.save_minutes
        if self.accelerator.num_processes > 1:
            due = broadcast_object_list([due])[0]
        return due

    def save(self) -> None:
        """Writes everything a resume needs; see `varec_lib.training.state`."""
        self._check_weights()
        own = {"random": state.random_states(), "sums": self.sums.tolist()}
        processes = gather_object([own])
        if self.accelerator.is_main_process:
            state.save_state(self.experiment.folder, self.state_dict() | {"processes": processes})
        self.saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """All that training changes, and what identifies the run."""
        scaler = self.accelerator.scaler
        return {
            "identity": self.identity,
            "stages": [vars(stage) for stage in self.stages],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "scaler": scaler.state_dict() if scaler else None,
            "learning_rate": self.learning_rate.state_dict(),
            "epoch": self.epoch,
            "epoch_lr": self.epoch_lr,
            "steps_done": -(-self.feed.batches.start // self.config.accumulate),  # in this epoch
            "pieces": self.step.pieces,
            "history": self.history,
            "best": self.best,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Takes up where `state_dict` was written, in the middle of an epoch if need be."""
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.average:
                self.average.load_state_dict(saved["average"])
        except (RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ResumeError(f"{self.experiment.folder} trained another {self.config.model}: {said}") from error
        if self.accelerator.scaler and saved["scaler"]:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.learning_rate.load_state_dict(saved["learning_rate"])
        self.epoch, self.epoch_lr = saved["epoch"], saved["epoch_lr"]
        self.feed.enter(stage_at(self.stages, self.epoch))
        batches = self.feed.batches
        batches.start = min(saved["steps_done"] * self.config.accumulate, len(batches.sizes))
        self.step.pieces, self.history, self.best = saved["pieces"], saved["history"], saved["best"]
        processes, rank = saved["processes"], self.accelerator.process_index
        if len(processes) == self.accelerator.num_processes:
            self.sums = torch.tensor(processes[rank]["sums"], dtype=torch.float64)
            state.restore_random_states(processes[rank]["random"])
        elif rank == 0:  # continued by another number of processes
            self.sums = torch.tensor([process["sums"] for process in processes], dtype=torch.float64).sum(dim=0)
