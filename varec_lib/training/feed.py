"""What a run trains and validates on: clips from the frame store or from the video files (notebook 04)."""

from dataclasses import replace

import pandas as pd
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import (
    EpochBatches,
    Frames,
    TrainClips,
    VideoFiles,
    balancing_weights,
    class_numbers,
    make_loader,
)
from varec_lib.data.store import FrameStore
from varec_lib.evaluation.apply import evaluation_loader, predict_batches, predict_table
from varec_lib.evaluation.metrics import Predictions
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.training.multigrid import Stage, stages_of
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
        """How many versions of each clip there are: 0 = a new one every epoch; 1 for a frozen, unaugmented backbone."""
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
        return predict_batches(self.loaded(model), self.val_loader, self.split("val"), progress=self.progress)[0]
