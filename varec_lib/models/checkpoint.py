"""Checkpoints that describe themselves: safetensors with classes, model and preprocessing in the file's metadata."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import varec_lib
from varec_lib.config import BEST
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.errors import CheckpointError
from varec_lib.files import replacing
from varec_lib.models.device import default_device, keep_freed_memory
from varec_lib.models.novelty import Novelty
from varec_lib.models.precision import autocast, resolve_precision, warn_if_imitated
from varec_lib.models.registry import build_model

FORMAT = 2


@dataclass(frozen=True)
class TrainingData:
    """What a model was trained on: `videos` are the `video_keys` of its training videos, `lists` a hash of the splits.

    A path is not among it, because checkpoints are given away.
    """

    dataset: str
    ucf_split: int
    lists: str
    videos: bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint's metadata."""
        return vars(self) | {"videos": base64.b64encode(self.videos).decode()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingData":
        """What `to_dict` gave."""
        return cls(**values | {"videos": base64.b64decode(values["videos"])})

    def among(self, keys: np.ndarray) -> np.ndarray:
        """Which of these keys are those of training videos, bool `(N,)`."""
        return np.isin(keys, np.frombuffer(self.videos, "<u8"))


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself; of published weights and in older checkpoints `data` and `novelty` are None."""

    model: str
    arguments: dict[str, Any]  # of the model's builder: backbone, frame_size, num_frames
    classes: list[str]
    clip_spec: ClipSpec
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    data: TrainingData | None = None
    novelty: Novelty | None = None  # None also where there were too few validation videos


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    return {"varec": varec_lib.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}


def save_checkpoint(path: Path, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Writes weights and description in one file, atomically: an interrupted write leaves the former file."""
    metadata = {
        "format": FORMAT,
        "model": checkpoint.model,
        "arguments": checkpoint.arguments,
        "classes": checkpoint.classes,
        "clip_spec": checkpoint.clip_spec.to_dict(),
        "metrics": checkpoint.metrics,
        "versions": versions(),
        "data": checkpoint.data and checkpoint.data.to_dict(),
        "novelty": checkpoint.novelty and checkpoint.novelty.to_dict(),
    }
    copy = {"memory_format": torch.contiguous_format}  # safetensors takes no tensors that share memory (tied weights)
    tensors = {name: tensor.detach().cpu().clone(**copy) for name, tensor in model.state_dict().items()}
    try:
        with replacing(path) as partial:
            save_file(tensors, partial, metadata={"varec": json.dumps(metadata)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the checkpoint could not be written ({error}). Is the disk full?") from error


class LoadedModel(NamedTuple):
    """A network in evaluation mode, what its checkpoint says of it, and the number format it computes in."""

    network: nn.Module
    checkpoint: Checkpoint
    precision: str = "auto"

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the network's outputs."""
        return self.checkpoint.classes

    @property
    def clip_spec(self) -> ClipSpec:
        """How a video becomes the network's input."""
        return self.checkpoint.clip_spec

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters(), torch.empty(0)).device  # a model of one's own may have none

    def on_device(self, precision: str = "auto") -> "LoadedModel":
        """The same on a GPU if there is one, with the precision decided; says beforehand where that will be slow.

        Raises `ConfigError` for a precision that the device does not have.
        """
        device = default_device()
        precision = resolve_precision(precision, device)
        warn_if_imitated(precision, device)
        keep_freed_memory()
        return LoadedModel(self.network.to(device).eval(), self.checkpoint, precision)

    @property
    def unlike_above(self) -> float | None:
        """The distance above which a clip is unlike anything the model was trained on; None where not measured."""
        return self.checkpoint.novelty and self.checkpoint.novelty.unlike_above

    @torch.inference_mode()
    def distances(self, clips: torch.Tensor) -> torch.Tensor | None:
        """How far from its training, averaged over views: uint8 clips `(B, V, T, C, H, W)` to float `(B,)` on the CPU.

        To be compared with `unlike_above`, and None where that is. The network is not asked.
        """
        if self.checkpoint.novelty is None:
            return None
        found = self.checkpoint.novelty.distances(clips.flatten(0, 1).to(self.device, non_blocking=True))
        return found.unflatten(0, clips.shape[:2]).mean(dim=1).cpu()

    def probabilities(self, clips: torch.Tensor) -> torch.Tensor:
        """Softmax averaged over views: uint8 clips `(B, V, T, C, H, W)` to float `(B, K)` on the CPU."""
        return self.logits(clips).softmax(dim=2).mean(dim=1)

    def logits(self, clips: torch.Tensor) -> torch.Tensor:
        """Class scores of uint8 clips `(B, V, T, C, H, W)`: float `(B, V, K)` on the CPU."""
        return self.logits_in_orders(clips, [None])[0]

    @torch.inference_mode()
    def logits_in_orders(self, clips: torch.Tensor, orders: Sequence[list[int] | None]) -> list[torch.Tensor]:
        """As `logits`, with the frames of each clip in one order of indices after the other; None leaves them.

        A network with `features_per_frame` encodes its frames once for all orders.
        """
        inputs = self.clip_spec.normalise(clips.flatten(0, 1).to(self.device, non_blocking=True))
        with autocast(resolve_precision(self.precision, self.device), self.device):
            network = self.network
            if len(orders) > 1 and getattr(network, "features_per_frame", False):
                inputs, network = network.features(inputs), network.classify  # (B * V, T, F)
            found = [network(inputs if order is None else inputs[:, order]) for order in orders]
        return [scores.detach().float().unflatten(0, clips.shape[:2]).cpu() for scores in found]


def load_checkpoint(path: Path | str) -> LoadedModel:
    """The model of a checkpoint or an experiment folder, on the CPU.

    Raises `CheckpointError` for a file that is missing, truncated, not a varec checkpoint, or that does not fit the
    model it names; `ConfigError` if that model is not registered.
    """
    path = Path(path)
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint. `varec train` writes one into experiments/.")
    checkpoint = read_description(path)
    try:
        network = build_model(checkpoint.model, len(checkpoint.classes), **checkpoint.arguments)
        network.load_state_dict(load_file(path))
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"{path}: its weights do not fit the model {checkpoint.model!r} of this code: {reason}"
        ) from error
    return LoadedModel(network.eval(), checkpoint)


def read_description(path: Path) -> Checkpoint:
    """What a checkpoint file says of itself, without its weights. Raises `CheckpointError`."""
    try:
        with safe_open(path, framework="pt") as file:
            return _described(path, (file.metadata() or {}).get("varec"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}). Copy it again.") from error


def _described(path: Path, metadata: str | None) -> Checkpoint:
    if metadata is None:
        raise CheckpointError(
            f"{path}: has weights but no description; it was not written by varec. --weights takes such files."
        )
    try:
        values = json.loads(metadata)
        if values["format"] not in (1, FORMAT):
            raise CheckpointError(f"{path}: has format {values['format']}, this version reads format {FORMAT}.")
        if not isinstance(values["arguments"], dict) or not isinstance(values["classes"], list):
            raise TypeError("arguments or classes have the wrong type")
        return Checkpoint(
            model=values["model"],
            arguments=values["arguments"],
            classes=values["classes"],
            clip_spec=ClipSpec(**values["preprocess" if values["format"] == 1 else "clip_spec"]),
            metrics=values["metrics"],
            versions=values["versions"],
            data=TrainingData.from_dict(values["data"]) if values.get("data") else None,
            novelty=Novelty.from_dict(values["novelty"]) if values.get("novelty") else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description is incomplete ({error}); it comes from other code.") from error
