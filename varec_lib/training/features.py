"""The features of a frozen backbone: computed once per clip, stored, and trained on instead of clips (notebook 04).

    <store_dir>/<dataset>-<hash of its path>/features/<hash of what computes them>/
        3f/3f09...bin      one file per clip, as safetensors

As in the frame store, a file appears in one step and is named by all that decides its content: what is there is done,
a computation that was killed goes on where it stopped, and a changed video has features of its own.
"""

import hashlib
from math import inf
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import EvalClips, TrainBatch, make_loader
from varec_lib.data.manifest import segments_of
from varec_lib.data.store import FrameStore, file_of
from varec_lib.evaluation.apply import clips_at_a_time
from varec_lib.evaluation.metrics import Predictions
from varec_lib.files import check_room, filling, gigabytes, replacing
from varec_lib.models.precision import autocast
from varec_lib.training.feed import ClipFeed

VALIDATED = 1024  # clips whose features go through the head at a time


class FeatureFeed(ClipFeed):
    """Features of a frozen backbone instead of clips.

    Each clip is read once, so no frames are stored for it; a frame store that is there already is used.
    """

    @staticmethod
    def fits(config: TrainConfig) -> bool:
        """Whether every epoch would show a frozen backbone the same clips."""
        fixed = config.freeze_backbone and (config.fixed_views > 0 or not config.augment)
        return fixed and config.store != "off" and not (config.mixup or config.cutmix)

    def prepare(self, model: nn.Module) -> None:
        """Computes the features that are not stored yet."""
        model.eval()
        draws = [(view, row) for view in range(self.fixed_views) for row in range(len(self.clips))]
        val = EvalClips(self.frames("val"), self.checkpoint.clip_spec)
        self.train_files = self._stored(model, "train", self.clips, draws)
        self.val_files = self._stored(model, "val", val, [*range(len(val))])
        clips = _FeatureClips(self.train_files, self.labels)
        self.loader = make_loader(clips, num_workers=0, batches=self.batches)
        self.inputs = lambda batch: (batch.clips, batch.labels)

    def network(self, model: nn.Module) -> nn.Module:
        return _Head(model)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Predictions:
        model.eval()
        device, parts = self.accelerator.device, []
        for start in range(0, len(self.val_files), VALIDATED):
            features = torch.stack([_read(file) for file in self.val_files[start : start + VALIDATED]]).to(device)
            with autocast(self.precision, device):
                scores = model.classify(features)
            parts.append((np.arange(start, start + len(features)), scores.float()[:, None].cpu().numpy()))
        return Predictions.gathered(self.split("val"), self.checkpoint.classes, parts)

    def _stored(self, model: nn.Module, split: str, clips: Dataset, keys: list) -> list[Path]:
        """The files with the features of `clips[key]` for every key; computes those that are missing or damaged."""
        files = self._files(model, split, keys)
        with filling(files[0].parents[1]):
            missing = [number for number, file in enumerate(files) if not _is_whole(file)]
            if damaged := sum(files[number].exists() for number in missing):
                print(f"The stored features of {damaged} {split} clips are damaged and computed again.")
            if missing:
                chosen = [keys[number] for number in missing]
                self._compute(model, split, clips, chosen, [files[number] for number in missing])
        return files

    def _files(self, model: nn.Module, split: str, keys: list) -> list[Path]:
        """Where the features of each clip lie: named by the model, the video, and the draw of a training clip."""
        config, checkpoint, rows = self.config, self.checkpoint, self.split(split)
        digest = hashlib.sha256()
        for name, tensor in model.backbone.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        frames = config.store if self.store else None
        how = (checkpoint.model, checkpoint.arguments, checkpoint.clip_spec, self.precision, frames, torch.__version__)
        digest.update(repr(how).encode())
        store = FrameStore.of(config)
        folder = store.folder.parent / "features" / digest.hexdigest()[:16]
        keys_of = store.keys(rows)
        cut = [f" {segment}" if segment != (0.0, inf) else "" for segment in segments_of(rows)]
        videos = [keys_of[path] + segment for path, segment in zip(rows["path"], cut, strict=True)]
        clips = [videos[number % len(videos)] for number in range(len(keys))]
        if split == "train":
            clips = [
                f"{clip} {key} {config.seed} {config.augment} {config.flip}"
                for clip, key in zip(clips, keys, strict=True)
            ]
        names = (hashlib.blake2b(clip.encode(), digest_size=12).hexdigest() for clip in clips)
        return [file_of(folder, name) for name in names]

    def _compute(self, model: nn.Module, split: str, clips: Dataset, keys: list, files: list[Path]) -> None:
        device, spec = self.accelerator.device, self.checkpoint.clip_spec
        loader = DataLoader(
            clips, clips_at_a_time(spec, self.config.batch_size), sampler=keys,
            num_workers=self.config.num_workers, generator=torch.Generator(),
        )  # fmt: skip
        left = iter(files)
        bar = tqdm(total=len(files), desc=f"features of {split}", unit="clip", leave=False, disable=not self.progress)
        with bar, torch.inference_mode(), autocast(self.precision, device):
            for number, batch in enumerate(loader):
                if isinstance(batch, TrainBatch):
                    pixels, _ = self.inputs(TrainBatch(*(part.to(device) for part in batch)))
                else:
                    pixels = spec.normalise(batch[0][:, 0].to(device))
                features = model.features(pixels).float().cpu().numpy()
                if number == 0:
                    self._announce(split, files, features[0].nbytes)
                for values in features:
                    _write(next(left), values)
                bar.update(len(features))

    def _announce(self, split: str, files: list[Path], clip_bytes: int) -> None:
        """Says how much disk the features will take; refuses if there is less."""
        need = len(files) * clip_bytes
        check_room(files[0].parents[1], need, "another --store_dir, fewer --fixed_views, or --store off")
        what = f"the frozen backbone's features of {len(files)} {split} clips"
        print(f"Computing {what} once: {gigabytes(need)}", flush=True)


def _is_whole(file: Path) -> bool:
    try:
        with safe_open(file, "np"):  # which compares the size of the file with what its header says
            return True
    except (OSError, SafetensorError):
        return False


def _read(file: Path) -> torch.Tensor:
    return torch.from_numpy(load(file.read_bytes())["features"])


def _write(file: Path, features: np.ndarray) -> None:
    file.parent.mkdir(exist_ok=True)
    with replacing(file) as partial:
        partial.write_bytes(save({"features": np.ascontiguousarray(features)}))


class _FeatureClips(Dataset):
    """Item `(epoch, row)` is that row's features in the epoch's draw; `files` has all rows of a draw after another."""

    def __init__(self, files: list[Path], labels: np.ndarray) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> TrainBatch:
        epoch, row = key
        file = self.files[(epoch * len(self.labels) + row) % len(self.files)]
        return TrainBatch(_read(file), int(self.labels[row]), row, 0)


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
