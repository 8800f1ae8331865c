"""What a run trains and validates on: clips, or the stored features of a frozen backbone (notebook 04)."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import (
    EpochBatches,
    EvalClips,
    Frames,
    TrainBatch,
    TrainClips,
    VideoFiles,
    balancing_weights,
    class_numbers,
    make_loader,
)
from varec_lib.data.store import FrameStore
from varec_lib.errors import StoreError
from varec_lib.evaluation.evaluate import clips_at_a_time, evaluation_loader, predict_batches, predict_table
from varec_lib.evaluation.metrics import Predictions
from varec_lib.files import gigabytes, lacking, locked, write_text
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.models.precision import autocast
from varec_lib.training.multigrid import Stage, stages_of
from varec_lib.training.state import dataset_fingerprint
from varec_lib.training.step import Inputs


class ClipFeed:
    """Clips from the frame store (or the video files), for training and evaluation."""

    def __init__(
        self,
        config: TrainConfig,
        checkpoint: Checkpoint,
        table: pd.DataFrame,
        store: FrameStore | None,
        accelerator: Accelerator,
        precision: str,
        progress: bool,
    ) -> None:
        self.config, self.checkpoint, self.table, self.store = config, checkpoint, table, store
        self.accelerator, self.precision, self.progress = accelerator, precision, progress
        rows = self.split("train")
        self.labels = class_numbers(rows, checkpoint.classes)
        self.paths = rows["path"].to_numpy()
        self.inputs = Inputs(config, checkpoint.clip_spec, len(checkpoint.classes))
        self.stage: Stage | None = None
        self.enter(stages_of(config)[-1])

    def enter(self, stage: Stage) -> None:
        """From now on, clips and batches are those of this stage of the training; all come from the same frames."""
        if stage == self.stage:
            return
        self.stage, config = stage, self.config
        clips = replace(self.checkpoint.clip_spec, num_frames=stage.num_frames, frame_size=stage.frame_size)
        self.checkpoint = replace(self.checkpoint, clip_spec=clips)
        self.clips = TrainClips(
            self.frames("train"), self.labels, clips,
            augment=config.augment, seed=config.seed, fixed_views=self.fixed_views,
        )  # fmt: skip
        self.batches = self.batches_of(stage)
        self.loader = make_loader(self.clips, num_workers=config.num_workers, batches=self.batches)
        self.val_loader: DataLoader | None = None

    def batches_of(self, stage: Stage) -> EpochBatches:
        """What each step of a stage trains on."""
        weights = balancing_weights(self.labels) if self.config.balanced else None
        return EpochBatches(
            len(self.labels), stage.batches * self.config.batch_size, self.config.seed, weights=weights,
            rank=self.accelerator.process_index, processes=self.accelerator.num_processes,
        )  # fmt: skip

    @property
    def fixed_views(self) -> int:
        """Draws that epochs repeat in turn; a frozen backbone without augmentation needs no second one."""
        config = self.config
        return config.fixed_views or int(config.freeze_backbone and not config.augment)

    def prepare(self, model: nn.Module) -> None:
        """Anything to be computed with the model, on its device, before training."""

    def network(self, model: nn.Module) -> nn.Module:
        """The module that maps this feed's inputs to scores."""
        return model

    def split(self, split: str) -> pd.DataFrame:
        return self.table[self.table["split"] == split]

    def frames(self, split: str) -> Frames:
        """Frames of a split. JPEG frames differ slightly from the video's, so testing then reads the files."""
        rows = self.split(split)
        if self.store is None or (split == "test" and self.config.store == "jpeg"):
            return VideoFiles(rows, self.checkpoint.clip_spec)
        return self.store.frames_of(rows)

    def predict(self, model: nn.Module, split: str, views: int = 1) -> Predictions:
        """Predictions for a split; every process gets all of them."""
        config = self.config
        return predict_table(
            self.loaded(model), self.split(split), source=self.frames(split), views=views,
            batch_size=config.batch_size, num_workers=config.num_workers, progress=self.progress,
        )  # fmt: skip

    def loaded(self, model: nn.Module) -> LoadedModel:
        """The model as evaluation takes it."""
        return LoadedModel(model, self.checkpoint, self.precision)

    def validate(self, model: nn.Module) -> Predictions:
        """Predictions for the validation split."""
        if self.val_loader is None:
            self.val_loader = evaluation_loader(
                self.frames("val"), self.checkpoint.clip_spec, batch_size=self.config.batch_size,
                num_workers=self.config.num_workers,
            )  # fmt: skip
        return predict_batches(self.loaded(model), self.val_loader, self.split("val"), progress=self.progress)


class FeatureFeed(ClipFeed):
    """Features that a frozen backbone computes once per clip, kept beside the frame store.

    Each clip is read once, so no frames are stored for it; a frame store that is there already is used.
    """

    @staticmethod
    def fits(config: TrainConfig) -> bool:
        """Whether every epoch would show a frozen backbone the same clips."""
        fixed = config.freeze_backbone and (config.fixed_views > 0 or not config.augment)
        return fixed and config.store != "off" and not (config.mixup or config.cutmix)

    @property
    def folder(self) -> Path:
        """Where the features of this dataset lie."""
        return FrameStore.of(self.config).folder.parent / "features"

    def prepare(self, model: nn.Module) -> None:
        """Computes the features that are not stored yet."""
        model.eval()
        keys = [(view, row) for view in range(self.fixed_views) for row in range(len(self.clips))]
        self.train_features = self._stored(model, "train", self.clips, keys)
        self.val_features = self._stored(model, "val", EvalClips(self.frames("val"), self.checkpoint.clip_spec), None)
        self.loader = make_loader(
            _FeatureClips(self.train_features, self.labels, self.fixed_views), num_workers=0, batches=self.batches
        )
        self.inputs = lambda batch: (batch.clips, batch.labels)

    def network(self, model: nn.Module) -> nn.Module:
        return _Head(model)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Predictions:
        model.eval()
        device, parts, size = self.accelerator.device, [], 1024
        for start in range(0, len(self.val_features), size):
            features = torch.from_numpy(np.array(self.val_features[start : start + size])).to(device)
            with autocast(self.precision, device):
                scores = model.classify(features)
            parts.append((np.arange(start, start + len(features)), scores.float().softmax(dim=1).cpu().numpy()))
        return Predictions.gathered(self.split("val"), self.checkpoint.classes, parts, views=1)

    def _stored(self, model: nn.Module, split: str, clips: Dataset, keys: list | None) -> np.ndarray:
        """Features of all clips as a memory map `(N, ...)`; an interrupted computation goes on where it stopped."""
        order = list(range(len(clips))) if keys is None else keys
        folder = self.folder
        file = folder / f"{split}-{self._key(model, split)}.bin"
        partial, facts = file.with_suffix(".partial"), file.with_suffix(".json")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(file.with_suffix(".lock")):
                if not _whole(file, facts, len(order)):
                    if file.exists():
                        print(f"The stored features of {split} are damaged and computed again.")
                        file.unlink()
                    self._compute(model, split, clips, order, partial, facts)
                    os.replace(partial, file)
        except OSError as error:
            raise StoreError(
                f"{folder}: features could not be stored ({error.strerror}). What is finished is kept. Make room, or "
                "choose another --store_dir, or --store off."
            ) from error
        return np.memmap(file, np.float32, "r", shape=(len(order), *_row_shape(facts)))

    def _key(self, model: nn.Module, split: str) -> str:
        """A hash of everything that decides the features."""
        config, digest = self.config, hashlib.sha256()
        for name, tensor in model.backbone.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        draws = (config.augment, config.flip, self.fixed_views, config.seed) if split == "train" else ()
        table = self.split(split)
        times = [os.stat(path).st_mtime_ns for path in table["path"]]  # a video may be replaced by one of the same size
        rows = (dataset_fingerprint(table, config.data_dir), times)
        frames = config.store if self.store else None
        what = (
            self.checkpoint.model,
            self.checkpoint.arguments,
            self.checkpoint.clip_spec,
            self.precision,
            frames,
            rows,
        )
        digest.update(repr((what, draws, torch.__version__)).encode())
        return digest.hexdigest()[:16]

    def _compute(self, model: nn.Module, split: str, clips: Dataset, order: list, partial: Path, facts: Path) -> None:
        done, device = 0, self.accelerator.device
        if partial.exists() and (shape := _row_shape(facts)):
            row_bytes = 4 * int(np.prod(shape))
            done = min(partial.stat().st_size // row_bytes, len(order))
            os.truncate(partial, done * row_bytes)
        else:
            partial.unlink(missing_ok=True)
            facts.unlink(missing_ok=True)
        loader = DataLoader(
            clips, batch_size=clips_at_a_time(self.checkpoint.clip_spec, self.config.batch_size), sampler=order[done:],
            num_workers=self.config.num_workers, generator=torch.Generator(),
        )  # fmt: skip
        bar = tqdm(
            iter(loader), total=len(loader), desc=f"features of {split}", unit="batch", leave=False,
            disable=not self.progress,
        )  # fmt: skip
        with partial.open("ab") as stream, torch.inference_mode(), autocast(self.precision, device):
            for batch in bar:
                if isinstance(batch, TrainBatch):
                    pixels, _ = self.inputs(TrainBatch(*(part.to(device) for part in batch)))
                else:
                    pixels = self.checkpoint.clip_spec.normalise(batch[0][:, 0].to(device))
                features = model.features(pixels).float().cpu().numpy()
                if not facts.exists():
                    self._check_space(split, len(order), features[0].nbytes)
                    write_text(facts, json.dumps({"shape": features.shape[1:]}) + "\n")
                stream.write(np.ascontiguousarray(features).data)

    def _check_space(self, split: str, count: int, row_bytes: int) -> None:
        """Says how much disk the features will take; refuses if there is less."""
        need = count * row_bytes
        if lack := lacking(self.folder, need):
            raise StoreError(
                f"The features of {split} need {lack}. Choose another --store_dir, fewer --fixed_views, or --store off."
            )
        print(f"Computing the frozen backbone's features of {count} {split} clips once: {gigabytes(need)}", flush=True)


def _row_shape(facts: Path) -> list[int] | None:
    """The shape of one clip's features, or None where it was not noted or is damaged."""
    try:
        return json.loads(facts.read_text(encoding="utf-8"))["shape"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _whole(file: Path, facts: Path, rows: int) -> bool:
    shape = _row_shape(facts)
    return shape is not None and file.exists() and file.stat().st_size == 4 * rows * int(np.prod(shape))


class _FeatureClips(Dataset):
    """Item `(epoch, row)` is that row's features in the epoch's draw."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, views: int) -> None:
        self.features, self.labels, self.views = features, labels, views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> TrainBatch:
        epoch, row = key
        features = np.array(self.features[epoch % self.views * len(self.labels) + row])
        return TrainBatch(torch.from_numpy(features), int(self.labels[row]), row, 0)


class _Head(nn.Module):
    """The part of a model behind its backbone, as a network on features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def backbone(self) -> nn.Module:
        return self.model.backbone

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model.classify(features)
