"""Training, to be read from top to bottom: `train` prepares, `Trainer.run` is the loop, `finish` tests and reports."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from varec_lib import plots
from varec_lib.config import TrainConfig
from varec_lib.data.dataset import EpochSampler, TrainClips, make_loader
from varec_lib.data.doctor import load_dataset
from varec_lib.data.manifest import SPLITS, classes_of
from varec_lib.data.transforms import Preprocess
from varec_lib.errors import ConfigError, VarecError
from varec_lib.evaluation.evaluate import predict_table
from varec_lib.evaluation.metrics import Predictions, report
from varec_lib.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, versions
from varec_lib.models.precision import default_device, resolve_precision
from varec_lib.models.registry import build_model, load_plugin, model_entry, parameter_count
from varec_lib.models.weights import fetch, freeze, load_backbone, pretrained_url, train_mode
from varec_lib.training.experiment import Experiment
from varec_lib.training.schedule import LearningRate


def train(config: TrainConfig, *, progress: bool = True) -> Experiment:
    """Trains a model as configured, tests the best one, and returns the experiment folder it wrote.

    The best epoch is chosen on the validation split, never on test. Ctrl-C ends the training early: the best
    checkpoint so far is kept and `results.json` says so. Raises `VarecError` before anything is written if the
    configuration, the dataset or the weights cannot be used.
    """
    if config.plugin:
        load_plugin(config.plugin)
    entry = model_entry(config.model)
    precision = resolve_precision(config.precision, default_device())
    set_seed(config.seed)
    table = load_dataset(config, progress=progress)
    classes = classes_of(table)
    arguments = {"backbone": config.backbone, "frame_size": config.frame_size, "num_frames": config.num_frames}
    preprocess = Preprocess(
        config.num_frames, config.frame_size, entry.mean, entry.std, sampling=config.sampling, stride=config.stride
    )
    model = build_model(config.model, len(classes), **arguments)
    prepare_backbone(model, config)
    about = Checkpoint(config.model, arguments, classes, preprocess)
    experiment = Experiment.create(config)
    counts = table["split"].value_counts()
    print(f"{', '.join(f'{counts.get(split, 0)} {split}' for split in SPLITS)} videos of {len(classes)} classes")
    size = parameter_count(model) / 1e6
    print(f"{config.model}: {size:.1f} M parameters, {precision}. Experiment {experiment.folder.name}")
    trainer = Trainer(config, model, about, table, experiment, precision, progress)
    trainer.run()
    return trainer.finish()


def prepare_backbone(model: nn.Module, config: TrainConfig) -> None:
    """Loads and freezes the backbone as configured; raises `ConfigError` if the model has none to load or freeze."""
    backbone = getattr(model, "backbone", None)
    if backbone is None and (config.pretrained or config.weights or config.freeze_backbone):
        raise ConfigError(f"model {config.model} has no attribute `backbone` to load weights into or to freeze.")
    if config.pretrained or config.weights:
        file = config.weights or fetch(pretrained_url(config.model, config.backbone))
        print(f"{file.name}: {load_backbone(backbone, file)}")
    if config.freeze_backbone:
        freeze(backbone)


def channels_last(model: nn.Module) -> nn.Module:
    """Lays convolution weights out channels-last, in place: several times faster in bf16 on a processor."""
    for parameter in model.parameters():
        if parameter.dim() in (4, 5):
            layout = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


@contextmanager
def interrupt_as_event() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of raising wherever the program happens to be; a second one raises as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread receives signals
        return
    former = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, former)


class Trainer:
    """State of one run. Better means higher validation top-1, and between equals lower validation loss."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        about: Checkpoint,
        table: pd.DataFrame,
        experiment: Experiment,
        precision: str,
        progress: bool,
    ) -> None:
        self.config, self.about, self.table, self.experiment = config, about, table, experiment
        self.precision, self.progress = precision, progress
        AcceleratorState._reset_state(reset_partial_state=True)  # notebooks train several models in one process
        # Accelerate runs the prepared model's forward under autocast, and scales the loss where fp16 needs it.
        self.accelerator = Accelerator(
            gradient_accumulation_steps=config.accumulate, mixed_precision="no" if precision == "fp32" else precision
        )
        rows = table[table["split"] == "train"]
        clips = TrainClips(
            rows, about.classes, about.preprocess, augment=config.augment, flip=config.flip, seed=config.seed
        )
        self.sampler = EpochSampler(len(rows), config.seed)
        loader = make_loader(clips, batch_size=config.batch_size, num_workers=config.num_workers, sampler=self.sampler)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(channels_last(model), optimizer, loader)
        steps = -(-len(self.loader) // config.accumulate)
        self.learning_rate = LearningRate(
            optimizer,
            config.scheduler,
            warmup_steps=round(steps * config.warmup_epochs),
            total_steps=steps * config.epochs,
        )
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.stopped = "all epochs done"

    def run(self) -> None:
        """The training loop: an epoch, its validation, the best checkpoint, early stopping."""
        with SummaryWriter(self.experiment.folder / "tensorboard") as board, interrupt_as_event() as interrupted:
            try:
                for epoch in range(1, self.config.epochs + 1):
                    row = {
                        "epoch": epoch,
                        "lr": self.optimizer.param_groups[0]["lr"],
                        **self.train_epoch(epoch, interrupted),
                    }
                    val = self.evaluate("val")
                    row |= {"val_loss": val.loss(), "val_top1": val.top_k(1)}
                    self.learning_rate.epoch_end(row["val_loss"])
                    self.record(row, board)
                    if self.config.patience and epoch - self.best["epoch"] >= self.config.patience:
                        self.stopped = f"no better validation result for {self.config.patience} epochs"
                        break
            except KeyboardInterrupt:
                self.stopped = "interrupted"
                kept = (
                    f"the best checkpoint so far (epoch {self.best['epoch']}) is kept"
                    if self.best
                    else "nothing to keep yet"
                )
                print(f"Interrupted: {kept}.")

    def train_epoch(self, epoch: int, interrupted: threading.Event) -> dict[str, float]:
        """One pass over the training clips; returns loss and top-1 (weighted by clips), seconds and clips/s.

        Raises `KeyboardInterrupt` between two batches once `interrupted` is set.
        """
        self.sampler.epoch = epoch
        train_mode(self.model)
        loss_sum, correct, seen, start = 0.0, 0, 0, time.perf_counter()
        batches = iter(self.loader)  # tqdm in a notebook would start a second iterator, with workers of its own
        bar = tqdm(
            batches, total=len(self.loader), desc=f"epoch {epoch}", unit="batch", leave=False, disable=not self.progress
        )
        for clips, labels in bar:
            if interrupted.is_set():
                raise KeyboardInterrupt
            with self.accelerator.accumulate(self.model):
                scores = self.model(self.about.preprocess.normalise(clips))
                loss = self.criterion(scores, labels)
                if not torch.isfinite(loss):
                    raise VarecError(
                        f"The loss became {loss.item()} in epoch {epoch}. Lower --lr, or use --precision fp32."
                    )
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()
                if self.accelerator.sync_gradients:
                    self.learning_rate.step()
            loss_sum += loss.item() * len(labels)
            correct += int((scores.argmax(dim=1) == labels).sum())
            seen += len(labels)
            bar.set_postfix_str(f"loss {loss_sum / seen:.3f}, {seen / (time.perf_counter() - start):.1f} clips/s")
        seconds = time.perf_counter() - start
        return {
            "train_loss": loss_sum / seen,
            "train_top1": correct / seen,
            "seconds": seconds,
            "clips_per_second": seen / seconds,
        }

    def evaluate(self, split: str, views: int = 1) -> Predictions:
        """Predictions for one split with the model as it is now."""
        return predict_table(
            self.accelerator.unwrap_model(self.model),
            self.table[self.table["split"] == split],
            self.about.classes,
            self.about.preprocess,
            views=views,
            batch_size=self.config.batch_size,
            num_workers=self.config.num_workers,
            precision=self.precision,
            progress=self.progress,
        )

    def record(self, row: dict[str, Any], board: SummaryWriter) -> None:
        """Writes history and TensorBoard, prints the epoch, and saves the checkpoint if it is the best so far."""
        self.history.append(row)
        self.experiment.write_history(self.history)
        for name, value in row.items():
            board.add_scalar(name, value, row["epoch"])
        better = self.best is None or (row["val_top1"], -row["val_loss"]) > (
            self.best["val_top1"],
            -self.best["val_loss"],
        )
        if better:
            self.best = row
            metrics = {name: row[name] for name in ("epoch", "val_top1", "val_loss")}
            about = Checkpoint(**{**vars(self.about), "metrics": metrics})
            save_checkpoint(self.experiment.best_checkpoint, self.accelerator.unwrap_model(self.model), about)
        print(
            f"epoch {row['epoch']:3d}/{self.config.epochs}"
            f"  train loss {row['train_loss']:.3f} top-1 {row['train_top1']:.3f}"
            f"  val loss {row['val_loss']:.3f} top-1 {row['val_top1']:.3f}{'*' if better else ' '}"
            f"  lr {row['lr']:.1e}  {row['clips_per_second']:.1f} clips/s"
        )

    def finish(self) -> Experiment:
        """Tests the best checkpoint, writes `results.json` and the pictures. After Ctrl-C the test is left out."""
        results: dict[str, Any] = {
            "model": self.config.model,
            "num_parameters": parameter_count(self.model),
            "epochs_run": len(self.history),
            "best_epoch": self.best["epoch"] if self.best else None,
            "best_val_top1": self.best["val_top1"] if self.best else None,
            "stopped": self.stopped,
            "train_seconds": sum(row["seconds"] for row in self.history),
            "clips_per_second": pd.DataFrame(self.history)["clips_per_second"].mean() if self.history else None,
            "device": str(self.accelerator.device),
            "precision": self.precision,
            "seed": self.config.seed,
            "versions": versions(),
            "test": None,
        }
        plot_folder = self.experiment.folder / "plots"
        if self.history:
            plots.save(plots.training_curves(pd.DataFrame(self.history)), plot_folder / "training_curves.png")
        if self.best and self.stopped != "interrupted" and (self.table["split"] == "test").any():
            best, _ = load_checkpoint(self.experiment.best_checkpoint)
            self.accelerator.unwrap_model(self.model).load_state_dict(best.state_dict())
            test = self.evaluate("test", views=self.config.views)
            results["test"] = report(test)
            plots.save(plots.confusion_matrix(test.confusion(), test.classes), plot_folder / "confusion_matrix.png")
            low, high = results["test"]["top1_ci95"]
            print(f"test top-1 {results['test']['top1']:.3f} (95 % interval {low:.3f} to {high:.3f})")
        self.experiment.write_results(results)
        return self.experiment
