"""Runs a model over the videos of a table."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from varec_lib.data.check import accept, check_videos
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.data.dataset import EvalClips, Frames, VideoFiles, make_loader, worker_trouble
from varec_lib.data.manifest import load_manifest, plain, video_keys
from varec_lib.errors import CheckpointError, ConfigError, DataError
from varec_lib.evaluation.metrics import Predictions
from varec_lib.models.checkpoint import LoadedModel, TrainingData, load_checkpoint
from varec_lib.models.device import keep_freed_memory
from varec_lib.models.novelty import ENOUGH, Novelty, appearance, fit
from varec_lib.models.registry import model_entry

PIXELS = 2**24  # of the clips that go through a network at a time when nothing is trained: 5 of I3D's, 83 of R3D-18's
VIEWS = {"r3d18": 5, "i3d": 1}  # clips of a video in the published protocol of these models
Protocol = Literal["own", "published"]
LOOKED_AT = 512  # videos of a split, evenly spread over it, that tell how its videos look


def clips_at_a_time(clip_spec: ClipSpec, batch_size: int) -> int:
    """`batch_size`, or less where clips are so large that their activations would fill the memory of a laptop."""
    return max(min(batch_size, PIXELS // (clip_spec.num_frames * math.prod(clip_spec.frame_size))), 1)


def predict_table(model: LoadedModel, table: pd.DataFrame, **how: Any) -> Predictions:
    """Predictions for every row of a checked table (`path, label, group, frames, fps`); `how` as in `predict_orders`.

    Every video counts once, with its probabilities averaged over its clips.
    """
    return predict_orders(model, table, [None], **how)[0]


def predict_orders(
    model: LoadedModel,
    table: pd.DataFrame,
    orders: Sequence[list[int] | None],
    *,
    source: Frames | None = None,
    views: int = 1,
    crops: int = 1,
    batch_size: int = 32,
    num_workers: int = 0,
    progress: bool = True,
) -> list[Predictions]:
    """Predictions for every row of a checked table, once for each order of a clip's frames; all are read once.

    An order is frame numbers of a clip, `(T,)`, None the order of time. Each video is seen in `views` clips along it
    times `crops` along the longer side of its pictures. `source` gives the frames, by default decoded from the files.
    Several processes share the rows, and all return all predictions. Leaves the network in evaluation mode. Raises
    `ConfigError` without views, `DataError` without rows or where scores are not numbers, `VideoError`.
    """
    if not len(table):
        raise DataError("There is no video to evaluate: the split is empty.")
    source = source or VideoFiles(table, model.clip_spec)
    loader = evaluation_loader(
        source, model.clip_spec, views=views, crops=crops, batch_size=batch_size, num_workers=num_workers
    )
    found = predict_batches(model, loader, table, orders=orders, crops=crops, novelty=True, progress=progress)
    broken = np.isnan(found[0].logits).any(axis=(1, 2))
    if broken.any():
        raise DataError(
            f"The model's scores for {broken.sum()} of {len(table)} videos (such as "
            f"{table['path'].iloc[broken.argmax()]}) are not numbers: its training must have diverged. Lower --lr."
        )
    return found


def evaluation_loader(
    source: Frames, clip_spec: ClipSpec, *, views: int = 1, crops: int = 1, batch_size: int = 32, num_workers: int = 0
) -> DataLoader:
    """Batches of this process's share of the videos, `batch_size` clips at most: `(B, V, T, C, H, W)` and rows."""
    for name, count in {"views": views, "crops": crops}.items():
        if count < 1:
            raise ConfigError(f"{name} is {count}, but must be at least 1.")
    clips, processes = EvalClips(source, clip_spec, views=views, crops=crops), PartialState()
    mine = Subset(clips, range(processes.process_index, len(clips), processes.num_processes))
    size = max(clips_at_a_time(clip_spec, batch_size) // (views * crops), 1)
    return make_loader(mine, batch_size=size, num_workers=num_workers)


def predict_batches(
    model: LoadedModel, loader: DataLoader, table: pd.DataFrame, *, orders: Sequence[list[int] | None] = (None,),
    crops: int = 1, novelty: bool = False, progress: bool = True,
) -> list[Predictions]:  # fmt: skip
    """As `predict_orders`, from a loader of its rows that may be used again; they are only judged with `novelty`."""
    model.network.eval()
    keep_freed_memory()
    # An iterator, not the loader: tqdm in a notebook would start a second one, with workers of its own.
    bar = tqdm(iter(loader), total=len(loader), desc="evaluating", unit="batch", leave=False, disable=not progress)
    # A copy of the rows: a tensor of a worker is shared memory, and keeps a file open as long as it lives.
    found = []
    for clips, rows in bar:
        distances = model.distances(clips) if novelty else None
        unlike = [] if distances is None else [(distances > model.unlike_above).numpy()]
        found.append((np.array(rows), [scores.numpy() for scores in model.logits_in_orders(clips, orders)], unlike))
    rows, scores, unlike = zip(*gather_object(found), strict=True)
    by_order = [zip(rows, of_order, *zip(*unlike, strict=True), strict=True) for of_order in zip(*scores, strict=True)]
    return [Predictions.gathered(table, model.classes, [*parts], crops) for parts in by_order]


def fit_novelty(train: Frames, val: Frames, clip_spec: ClipSpec, *, num_workers: int = 0) -> Novelty | None:
    """What `LoadedModel.distances` needs, from up to `LOOKED_AT` videos of each split, without any network.

    None, and nothing is read, where there are fewer than `ENOUGH` validation videos. Several processes share the
    videos, and all return the same. Raises `VideoError`.
    """
    if len(val.frames) < ENOUGH:
        return None
    statistics, processes = [], PartialState()
    for source in (train, val):
        rows = np.linspace(0, len(source.frames) - 1, min(len(source.frames), LOOKED_AT)).round().astype(int)
        mine = Subset(EvalClips(source, clip_spec), rows[processes.process_index :: processes.num_processes].tolist())
        loader = make_loader(mine, batch_size=clips_at_a_time(clip_spec, 16), num_workers=num_workers)
        statistics.append(np.concatenate(gather_object([appearance(clips[:, 0]).numpy() for clips, _ in loader])))
    return fit(*statistics)


def evaluate_checkpoint(
    checkpoint: Path | str,
    data_dir: Path | str,
    *,
    protocol: Protocol = "own",
    views: int | None = None,
    crops: int = 1,
    batch_size: int = 32,
    num_workers: int = 0,
    progress: bool = True,
    **opened: Any,
) -> Predictions:
    """Predictions of a checkpoint (or experiment folder) for one split of a dataset folder; `opened` as `open_split`.

    Of `views` None means those of the protocol. Raises as `open_split` and `predict_orders`.
    """
    model, table = open_split(checkpoint, data_dir, protocol=protocol, progress=progress, **opened)
    how = {"crops": crops, "batch_size": batch_size, "num_workers": num_workers, "progress": progress}
    with workers_named():
        return predict_table(model, table, views=views_of(model, protocol, views), **how)


def open_split(
    checkpoint: Path | str,
    data_dir: Path | str,
    *,
    split: str = "test",
    protocol: Protocol = "own",
    precision: str = "auto",
    strict: bool = False,
    ucf_split: int | None = None,
    unknown: bool = False,
    progress: bool = True,
) -> tuple[LoadedModel, pd.DataFrame]:
    """A checkpoint's (or experiment folder's) model on its device, and the checked videos of a split of a dataset.

    `ucf_split` is that of the training if it is None. With `unknown` only videos of classes that the model does not
    know. Says aloud which videos the model was trained on. Raises `CheckpointError` if the split has classes that the
    checkpoint does not know, `DataError` if it is empty, `ConfigError` for a precision that the device does not have,
    or a model without a published protocol.
    """
    model = load_checkpoint(checkpoint).on_device(precision)
    model = published(model) if protocol == "published" else model
    data = model.checkpoint.data
    ucf_split = ucf_split or (data.ucf_split if data else 1)
    table = split_table(data_dir, split, strict=strict, ucf_split=ucf_split, progress=progress)
    if data and split != "train":
        _warn_of_training_videos(table, data, split)
    if unknown:
        return model, _of_unknown_classes(table, model.classes, data_dir)
    others = sorted(set(table["label"]) - set(model.classes))
    if others:
        raise CheckpointError(
            f"{checkpoint}: knows {', '.join(model.classes)}; {data_dir} also has {', '.join(others)}. "
            "Train on this dataset, or evaluate on the one it was trained on."
        )
    return model, table


def _of_unknown_classes(table: pd.DataFrame, classes: list[str], data_dir: Path | str) -> pd.DataFrame:
    """The rows whose labels are none of `classes`, however these are spelled."""
    known = {plain(name) for name in classes}
    strange = table[~table["label"].map(plain).isin(known)].reset_index(drop=True)
    if not len(strange):
        raise DataError(f"{data_dir}: the model knows all of its classes. Name a dataset with others.")
    return strange


def views_of(model: LoadedModel, protocol: Protocol, views: int | None) -> int:
    """`views`, or how many clips along each video the protocol looks at."""
    return views if views is not None else VIEWS[model.checkpoint.model] if protocol == "published" else 1


def published(model: LoadedModel) -> LoadedModel:
    """A model that is shown the clips of its published protocol, cropped from frames of the published short side.

    R3D-18: 16 frames at 15 fps, 128x171, crop 112; I3D: 64 frames at 25 fps, short side 256, crop 224. `VIEWS` are the
    views that go with it. Raises `ConfigError` for a model without a published protocol.
    """
    name, own = model.checkpoint.model, model.clip_spec
    if name not in VIEWS:
        raise ConfigError(f"{name} has no published protocol; {' and '.join(VIEWS)} have one. Leave --protocol out.")
    clips = model_entry(name).clip_spec
    clips = replace(clips, crop_side=clips.short_side, mean=own.mean, std=own.std)
    return model._replace(checkpoint=replace(model.checkpoint, clip_spec=clips))


@contextmanager
def workers_named() -> Iterator[None]:
    """Turns PyTorch's complaints about data workers into a `DataError` with advice."""
    try:
        yield
    except RuntimeError as error:
        if not (said := worker_trouble(error)):
            raise
        raise DataError(f"{said}.") from error


def _warn_of_training_videos(table: pd.DataFrame, data: TrainingData, split: str) -> None:
    known = data.among(video_keys(table))
    if known.any():
        first = Path(table["path"].to_numpy()[known.argmax()]).name
        print(
            f"Warning: the model was trained on {known.sum()} of these {len(table)} {split} videos (such as {first}): "
            "the result says little about new ones."
        )


def split_table(
    data_dir: Path | str, split: str, *, strict: bool = False, ucf_split: int = 1, progress: bool = True
) -> pd.DataFrame:
    """The checked videos of one split of a dataset folder; raises `DataError` if there are none."""
    listed = load_manifest(data_dir, split=split, ucf_split=ucf_split)
    table = accept(*check_videos(listed, progress=progress), strict=strict)
    if not len(table):
        raise DataError(f"{data_dir}: the {split} split has no video.")
    return table
