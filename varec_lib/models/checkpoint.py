"""Checkpoints that describe themselves: safetensors with classes, model and preprocessing in the file's metadata."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

import varec_lib
from varec_lib.data.transforms import PreprocessSpec
from varec_lib.errors import CheckpointError
from varec_lib.models.registry import build_model

FORMAT = 1
BEST = Path("checkpoints") / "best_model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself."""

    model: str
    arguments: dict[str, Any]  # of the model's builder: backbone, frame_size, num_frames
    classes: list[str]
    preprocess: PreprocessSpec
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    return {"varec": varec_lib.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}


def save_checkpoint(path: Path, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Writes weights and description in one file, atomically: an interrupted write leaves the former file."""
    about = {
        "format": FORMAT,
        "model": checkpoint.model,
        "arguments": checkpoint.arguments,
        "classes": checkpoint.classes,
        "preprocess": checkpoint.preprocess.to_dict(),
        "metrics": checkpoint.metrics,
        "versions": versions(),
    }
    copy = {"memory_format": torch.contiguous_format}  # safetensors takes no tensors that share memory (tied weights)
    tensors = {name: tensor.detach().cpu().clone(**copy) for name, tensor in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, metadata={"varec": json.dumps(about)})
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise CheckpointError(f"{path}: the checkpoint could not be written ({error}). Is the disk full?") from error


def load_checkpoint(path: Path | str) -> tuple[nn.Module, Checkpoint]:
    """The model in evaluation mode on the CPU, and the checkpoint's description.

    `path` is a checkpoint or an experiment folder. Raises `CheckpointError` for a file that is missing, truncated,
    not a varec checkpoint, or that does not fit the model it names; `ConfigError` if that model is not registered.
    """
    path = Path(path)
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint. `varec train` writes one into experiments/.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("varec")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}). Copy it again.") from error
    about = _described(path, metadata)
    try:
        model = build_model(about.model, len(about.classes), **about.arguments)
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"{path}: its weights do not fit the model {about.model!r} of this code: {reason}"
        ) from error
    return model.eval(), about


def _described(path: Path, metadata: str | None) -> Checkpoint:
    if metadata is None:
        raise CheckpointError(
            f"{path}: has weights but no description; it was not written by varec. --weights takes such files."
        )
    try:
        about = json.loads(metadata)
        if about["format"] != FORMAT:
            raise CheckpointError(f"{path}: has format {about['format']}, this version reads format {FORMAT}.")
        if not isinstance(about["arguments"], dict) or not isinstance(about["classes"], list):
            raise TypeError("arguments or classes have the wrong type")
        return Checkpoint(
            model=about["model"],
            arguments=about["arguments"],
            classes=about["classes"],
            preprocess=PreprocessSpec(**about["preprocess"]),
            metrics=about["metrics"],
            versions=about["versions"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description is incomplete ({error}); it comes from other code.") from error
