"""Everything a run needs to go on after a crash, in one file that is replaced in one step (notebook 04)."""

import contextlib
import hashlib
import os
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError, ResumeError
from varec_lib.models.checkpoint import Checkpoint
from varec_lib.training.experiment import Experiment

FORMAT = 1
LAST = Path("checkpoints") / "last" / "state.pt"
# Settings that a resumed run may change: they do not alter what the saved state means.
CHANGEABLE = {
    "data_dir", "epochs", "lr", "patience", "clip_grad", "views", "store", "store_dir", "num_workers", "precision",
    "save_minutes", "plugin", "strict", "experiments_dir", "experiment_name", "resume",
}  # fmt: skip


def dataset_fingerprint(table: pd.DataFrame, data_dir: Path) -> str:
    """A hash of which videos (by name below the dataset folder, label, split and number of frames) a table holds."""
    root = os.path.realpath(data_dir)
    names = [os.path.relpath(path, root) if not path.startswith(root) else path[len(root) :] for path in table["path"]]
    rows = pd.DataFrame({"name": names, **{c: table[c].to_numpy() for c in ("label", "split", "frames")}})
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


def identity(config: TrainConfig, about: Checkpoint, table: pd.DataFrame) -> dict[str, Any]:
    """What must be the same for a saved state to make sense."""
    arguments = {name: str(value) for name, value in about.arguments.items()}
    dataset = dataset_fingerprint(table, config.data_dir)
    return {"model": about.model, "arguments": arguments, "classes": about.classes, "dataset": dataset}


def continued_config(config: TrainConfig) -> TrainConfig:
    """The configuration as it is, or with `resume` set where torchrun starts a run anew after a process died.

    Raises `ResumeError` if a run that is to be resumed had other settings, or is no run.
    """
    # Of several machines, only some may have counted the restart; the main process looks for all.
    if config.resume is None and any(gather_object([os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"])):
        found = [_unfinished_experiment(config) if PartialState().is_main_process else None]
        config = config.replaced(resume=broadcast_object_list(found)[0])
    if config.resume is None:
        return config
    folder = config.resume
    if not (folder / "config.json").is_file():
        raise ResumeError(f"{folder}: not an experiment folder (it has no config.json).")
    before = Experiment(folder).config
    names = [field.name for field in fields(TrainConfig) if field.name not in CHANGEABLE]
    changed = [name for name in names if getattr(config, name) != getattr(before, name)]
    if changed:
        listed = ", ".join(f"{name} was {getattr(before, name)} and is now {getattr(config, name)}" for name in changed)
        raise ResumeError(f"{folder} cannot be continued with other settings: {listed}. Start a new run for these.")
    return config


def _unfinished_experiment(config: TrainConfig) -> Path | None:
    """The newest experiment with exactly this configuration that saved a state but no results: it was killed."""
    for file in sorted(config.experiments_dir.glob("*/config.json"), key=os.path.getmtime, reverse=True):
        folder = file.parent
        if (folder / LAST).is_file() and not (folder / "results.json").exists():
            with contextlib.suppress(ConfigError):  # written by another version, or damaged
                if Experiment(folder).config.to_dict() == config.to_dict():
                    return folder
    return None


def random_states() -> dict[str, Any]:
    """States of the global random number generators of this process."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  (a plugin may draw from it)
    states = {"python": random.getstate(), "numpy": (kind, keys.tolist(), *rest), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Sets the generators to what `random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes `checkpoints/last/state.pt`; killed at any moment, the former state is still there."""
    file = folder / LAST
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name("state.pt.partial")
    with partial.open("wb") as stream:
        torch.save({"format": FORMAT, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)


def load_state(config: TrainConfig, about: Checkpoint, table: pd.DataFrame) -> dict[str, Any]:
    """What `save_state` wrote into `config.resume`, on the CPU.

    Raises `ResumeError` where there is none, where it is damaged, or where it belongs to another model or dataset.
    """
    file = config.resume / LAST
    if not file.is_file():
        raise ResumeError(f"{config.resume}: has no {LAST}: the run ended before its first epoch did. Start it again.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler and zip reader do
        raise ResumeError(f"{file}: damaged ({type(error).__name__}); the best checkpoint is still there.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ResumeError(f"{file}: written by another version of varec.")
    expected, found = identity(config, about, table), state["identity"]
    if found["classes"] != expected["classes"]:
        raise ResumeError(
            f"{config.resume} was trained on the classes {', '.join(found['classes'])}, but {config.data_dir} has "
            f"{', '.join(expected['classes'])}. Start a new run."
        )
    if found["dataset"] != expected["dataset"]:
        raise ResumeError(
            f"{config.data_dir} is not the dataset of {config.resume}: videos, labels or splits have changed since. "
            "Restore it, or start a new run."
        )
    if found != expected:
        raise ResumeError(f"{config.resume} trained {found['model']} {found['arguments']}: start a new run.")
    return state
