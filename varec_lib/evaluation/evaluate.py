"""Runs a model over the videos of a table."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from varec_lib.data.check import accept, check_videos
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.data.dataset import EvalClips, Frames, Order, VideoFiles, make_loader, worker_trouble
from varec_lib.data.manifest import load_manifest, video_keys
from varec_lib.errors import CheckpointError, ConfigError, DataError
from varec_lib.evaluation.metrics import Predictions
from varec_lib.models.checkpoint import LoadedModel, TrainingData, load_checkpoint
from varec_lib.models.device import keep_freed_memory
from varec_lib.models.novelty import ENOUGH, Novelty, appearance, fit

PIXELS = 2**24  # of the clips that go through a network at a time when nothing is trained: 5 of I3D's, 83 of R3D-18's
LOOKED_AT = 512  # videos of a split, evenly spread over it, that tell how its videos look


def clips_at_a_time(clip_spec: ClipSpec, batch_size: int) -> int:
    """`batch_size`, or less where clips are so large that their activations would fill the memory of a laptop."""
    return max(min(batch_size, PIXELS // (clip_spec.num_frames * math.prod(clip_spec.frame_size))), 1)


def predict_table(
    model: LoadedModel,
    table: pd.DataFrame,
    *,
    source: Frames | None = None,
    views: int = 1,
    order: Order = "forward",
    batch_size: int = 32,
    num_workers: int = 0,
    progress: bool = True,
) -> Predictions:
    """Predictions for every row of a checked table (`path, label, group, frames, fps`), on the model's device.

    Every video counts once, with its probabilities averaged over `views` clips. `order` reverses or shuffles the
    frames of each clip. `source` gives the frames, by default decoded from the files. Several processes share the
    rows, and all return all predictions. Leaves the network in evaluation mode. Raises `ConfigError` without views,
    `DataError` without rows, `VideoError`.
    """
    if not len(table):
        raise DataError("There is no video to evaluate: the split is empty.")
    source = source or VideoFiles(table, model.clip_spec)
    loader = evaluation_loader(
        source, model.clip_spec, views=views, order=order, batch_size=batch_size, num_workers=num_workers
    )
    return predict_batches(model, loader, table, novelty=True, progress=progress)


def evaluation_loader(
    source: Frames, clip_spec: ClipSpec, *, views: int = 1, order: Order = "forward", batch_size: int = 32,
    num_workers: int = 0,
) -> DataLoader:  # fmt: skip
    """Batches of this process's share of the videos, `batch_size` clips at most: `(B, V, T, C, H, W)` and rows."""
    if views < 1:
        raise ConfigError(f"views is {views}, but must be at least 1.")
    clips, processes = EvalClips(source, clip_spec, views=views, order=order), PartialState()
    mine = Subset(clips, range(processes.process_index, len(clips), processes.num_processes))
    size = max(clips_at_a_time(clip_spec, batch_size) // views, 1)
    return make_loader(mine, batch_size=size, num_workers=num_workers)


def predict_batches(
    model: LoadedModel, loader: DataLoader, table: pd.DataFrame, *, novelty: bool = False, progress: bool = True
) -> Predictions:
    """As `predict_table`, from a loader of its rows that may be used again; they are only judged with `novelty`."""
    model.network.eval()
    keep_freed_memory()
    # An iterator, not the loader: tqdm in a notebook would start a second one, with workers of its own.
    bar = tqdm(iter(loader), total=len(loader), desc="evaluating", unit="batch", leave=False, disable=not progress)
    # A copy of the rows: a tensor of a worker is shared memory, and keeps a file open as long as it lives.
    found, views = [], 1
    for clips, rows in bar:
        distances = model.distances(clips) if novelty else None
        unlike = [] if distances is None else [(distances > model.unlike_above).numpy()]
        found.append((np.array(rows), model.probabilities(clips).numpy(), *unlike))
        views = clips.shape[1]
    return Predictions.gathered(table, model.classes, gather_object(found), views)


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
    split: str = "test",
    views: int = 1,
    order: Order = "forward",
    batch_size: int = 32,
    num_workers: int = 0,
    precision: str = "auto",
    strict: bool = False,
    ucf_split: int | None = None,
    progress: bool = True,
) -> Predictions:
    """Predictions of a checkpoint (or experiment folder) for one split of a dataset folder.

    `ucf_split` is that of the training if it is None. Says aloud which videos the model was trained on. Raises
    `CheckpointError` if the split has classes that the checkpoint does not know, `DataError` if it is empty,
    `ConfigError` for a precision that the device does not have.
    """
    model = load_checkpoint(checkpoint).on_device(precision)
    data = model.checkpoint.data
    ucf_split = ucf_split or (data.ucf_split if data else 1)
    table = split_table(data_dir, split, strict=strict, ucf_split=ucf_split, progress=progress)
    if data and split != "train":
        _warn_of_training_videos(table, data, split)
    unknown = sorted(set(table["label"]) - set(model.classes))
    if unknown:
        raise CheckpointError(
            f"{checkpoint}: knows {', '.join(model.classes)}; {data_dir} also has {', '.join(unknown)}. "
            "Train on this dataset, or evaluate on the one it was trained on."
        )
    options = {"views": views, "order": order, "batch_size": batch_size, "num_workers": num_workers}
    with workers_named():
        return predict_table(model, table, progress=progress, **options)


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
