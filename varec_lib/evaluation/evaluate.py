"""Runs a model over the videos of a table."""

import math
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import EvalClips, Frames, Order, VideoFiles, make_loader
from varec_lib.data.doctor import load_dataset
from varec_lib.data.transforms import PreprocessSpec
from varec_lib.errors import CheckpointError, ConfigError, DataError
from varec_lib.evaluation.metrics import Predictions
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.models.precision import autocast, default_device, keep_freed_memory, resolve_precision, warn_if_imitated

PIXELS = 2**24  # of the clips that go through a network at a time when nothing is trained: 5 of I3D's, 83 of R3D-18's


def clips_at_a_time(preprocess: PreprocessSpec, batch_size: int) -> int:
    """`batch_size`, or less where clips are so large that their activations would fill the memory of a laptop."""
    return max(min(batch_size, PIXELS // (preprocess.num_frames * math.prod(preprocess.frame_size))), 1)


@torch.inference_mode()
def class_probabilities(
    model: nn.Module, clips: torch.Tensor, preprocess: PreprocessSpec, precision: str
) -> torch.Tensor:
    """Softmax averaged over views: uint8 clips `(B, V, T, C, H, W)` to float `(B, K)` on the CPU."""
    device = next(model.parameters()).device
    batch, views = clips.shape[:2]
    inputs = preprocess.normalise(clips.flatten(0, 1).to(device, non_blocking=True))
    with autocast(precision, device):
        scores = model(inputs)
    return scores.float().softmax(dim=1).unflatten(0, (batch, views)).mean(dim=1).cpu()


def predict_table(
    model: nn.Module,
    table: pd.DataFrame,
    classes: list[str],
    preprocess: PreprocessSpec,
    *,
    source: Frames | None = None,
    views: int = 1,
    order: Order = "forward",
    batch_size: int = 32,
    num_workers: int = 0,
    precision: str = "auto",
    progress: bool = True,
) -> Predictions:
    """Predictions for every row of a checked table (`path, label, group, frames, fps`), on the model's device.

    Every video counts once, with its probabilities averaged over `views` clips. `order` reverses or shuffles the
    frames of each clip. `source` gives the frames, by default decoded from the files. Several processes share the
    rows, and all return all predictions. Leaves the model in evaluation mode. Raises `ConfigError` without views,
    `DataError` without rows, `VideoError`.
    """
    if not len(table):
        raise DataError("There is no video to evaluate: the split is empty.")
    source = source or VideoFiles(table, preprocess)
    loader = evaluation_loader(
        source, preprocess, views=views, order=order, batch_size=batch_size, num_workers=num_workers
    )
    return predict_batches(model, loader, table, classes, preprocess, precision=precision, progress=progress)


def evaluation_loader(
    source: Frames, preprocess: PreprocessSpec, *, views: int = 1, order: Order = "forward", batch_size: int = 32,
    num_workers: int = 0,
) -> DataLoader:  # fmt: skip
    """Batches of this process's share of the videos, `batch_size` clips at most: `(B, V, T, C, H, W)` and rows."""
    if views < 1:
        raise ConfigError(f"views is {views}, but must be at least 1.")
    clips, processes = EvalClips(source, preprocess, views=views, order=order), PartialState()
    mine = Subset(clips, range(processes.process_index, len(clips), processes.num_processes))
    size = max(clips_at_a_time(preprocess, batch_size) // views, 1)
    return make_loader(mine, batch_size=size, num_workers=num_workers)


def predict_batches(
    model: nn.Module,
    loader: DataLoader,
    table: pd.DataFrame,
    classes: list[str],
    preprocess: PreprocessSpec,
    *,
    precision: str = "auto",
    progress: bool = True,
) -> Predictions:
    """As `predict_table`, from a loader of its rows that may be used again."""
    model.eval()
    keep_freed_memory()
    precision, views = resolve_precision(precision, next(model.parameters()).device), loader.dataset.dataset.views
    # An iterator, not the loader: tqdm in a notebook would start a second one, with workers of its own.
    bar = tqdm(iter(loader), total=len(loader), desc="evaluating", unit="batch", leave=False, disable=not progress)
    found = [(rows.numpy(), class_probabilities(model, batch, preprocess, precision).numpy()) for batch, rows in bar]
    return Predictions.gathered(table, classes, gather_object(found), views)


def evaluate_checkpoint(
    checkpoint: Path | str,
    data_dir: Path | str,
    *,
    split: str = "test",
    views: int = 1,
    order: Order = "forward",
    batch_size: int = 32,
    num_workers: int = 0,
    precision: str = "auto",
    strict: bool = False,
    ucf_split: int = 1,
    progress: bool = True,
) -> Predictions:
    """Predictions of a checkpoint (or experiment folder) for one split of a dataset folder.

    Raises `CheckpointError` if the split has classes that the checkpoint does not know, `DataError` if it is empty,
    `ConfigError` for a precision that the device does not have.
    """
    device = default_device()
    warn_if_imitated(resolve_precision(precision, device), device)
    model, about = load_checkpoint(checkpoint)
    table = split_table(data_dir, split, strict=strict, ucf_split=ucf_split, progress=progress)
    unknown = sorted(set(table["label"]) - set(about.classes))
    if unknown:
        raise CheckpointError(
            f"{checkpoint}: knows {', '.join(about.classes)}; {data_dir} also has {', '.join(unknown)}. "
            "Train on this dataset, or evaluate on the one it was trained on."
        )
    return predict_table(
        model.to(device),
        table,
        about.classes,
        about.preprocess,
        views=views,
        order=order,
        batch_size=batch_size,
        num_workers=num_workers,
        precision=precision,
        progress=progress,
    )


def split_table(
    data_dir: Path | str, split: str, *, strict: bool = False, ucf_split: int = 1, progress: bool = True
) -> pd.DataFrame:
    """The checked videos of one split of a dataset folder; raises `DataError` if there are none."""
    table = load_dataset(TrainConfig(data_dir=data_dir, strict=strict, ucf_split=ucf_split), progress=progress)
    table = table[table["split"] == split]
    if not len(table):
        raise DataError(f"{data_dir}: the {split} split has no video.")
    return table
