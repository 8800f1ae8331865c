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

from varec_lib.config import TrainConfig, changeable_on_resume
from varec_lib.data.manifest import SEGMENT
from varec_lib.errors import ConfigError, ResumeError
from varec_lib.files import replacing
from varec_lib.models.checkpoint import Checkpoint
from varec_lib.training.experiment import Experiment

FORMAT = 2
LAST = Path("checkpoints") / "last" / "state.pt"


def dataset_fingerprint(table: pd.DataFrame, data_dir: Path) -> str:
    """A hash of which videos a table holds: names below the dataset folder, labels, splits, frames and file sizes."""
    root = os.path.realpath(data_dir)
    names = [os.path.relpath(path, root) if not path.startswith(root) else path[len(root) :] for path in table["path"]]
    sizes = [os.stat(path).st_size for path in table["path"]]  # hashing all of UCF-101 would take minutes
    segments = [name for name in SEGMENT if name in table]
    rows = table[["label", "split", "frames", *segments]].assign(name=names, size=sizes)
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


def identity(config: TrainConfig, checkpoint: Checkpoint, table: pd.DataFrame) -> dict[str, Any]:
    """What must be the same for a saved state to make sense."""
    arguments = {name: str(value) for name, value in checkpoint.arguments.items()}
    dataset = dataset_fingerprint(table, config.data_dir)
    return {"model": checkpoint.model, "arguments": arguments, "classes": checkpoint.classes, "dataset": dataset}


def continued_config(config: TrainConfig) -> TrainConfig:
    """The configuration as it is, or with `resume` set where torchrun starts a run anew after a process died.

    Raises `ResumeError` if a run that is to be resumed had other settings, or is no run.
    """
    if config.resume is None:
        # Of several machines, only some may have counted the restart; the main process looks for all.
        restarted = any(gather_object([os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"]))
        found = broadcast_object_list([_unfinished_experiment(config, restarted)])[0]
        if found is None:
            return config
        config = Experiment(found).config.replaced(resume=found)
    folder = config.resume
    for name in ("config.json", "launch.json"):
        if not (folder / name).is_file():
            raise ResumeError(f"{folder}: not an experiment folder (it has no {name}).")
    before = Experiment(folder).config
    fixed = [field.name for field in fields(TrainConfig) if field.name not in changeable_on_resume()]
    changed = [name for name in fixed if getattr(config, name) != getattr(before, name)]
    if changed:
        listed = ", ".join(f"{name} was {getattr(before, name)} and is now {getattr(config, name)}" for name in changed)
        raise ResumeError(f"{folder} cannot be continued with other settings: {listed}. Start a new run for these.")
    return _with_steps_as_before(config, Experiment(folder).launch["clips_per_step"])


def _with_steps_as_before(config: TrainConfig, clips: int) -> TrainConfig:
    """Batch size and accumulation with which a step takes as many clips as before, however many processes there are.

    Else schedule and place in the epoch would mean something else. Raises `ResumeError` where that cannot be.
    """
    processes = PartialState().num_processes
    share = clips // processes
    if clips % processes:
        raise ResumeError(f"A step of this run takes {clips} clips, which {processes} processes cannot share equally.")
    batch_size = next(size for size in range(min(config.batch_size, share), 0, -1) if share % size == 0)
    if batch_size == 1 < min(config.batch_size, share):  # batch norm needs more than single clips
        raise ResumeError(
            f"A step of this run takes {share} clips in each process, which cannot be cut into batches of 2 to "
            f"{config.batch_size}: give a --batch_size that divides {share}."
        )
    adapted = config.replaced(batch_size=batch_size, accumulate=share // batch_size)
    if (adapted.batch_size, adapted.accumulate) != (config.batch_size, config.accumulate):
        print(
            f"A step takes {clips} clips as before: {processes} process{'es' * (processes > 1)} with --batch_size "
            f"{adapted.batch_size} and --accumulate {adapted.accumulate}."
        )
    return adapted


def launch(config: TrainConfig) -> dict[str, Any]:
    """What a resumed run must know of how this one was started."""
    clips = config.batch_size * config.accumulate * PartialState().num_processes
    return {"clips_per_step": clips, "torchrun_id": _torchrun_id()}


def _torchrun_id() -> str | None:
    """What torchrun calls this job, over restarts and changes of its machines; None where it has no name of its own."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name


def _unfinished_experiment(config: TrainConfig, restarted: bool) -> Path | None:
    """The newest experiment with this configuration that has no results, if torchrun has started this job before.

    When a machine joins or leaves, torchrun starts all processes anew without counting it; the job's name tells then.
    """
    if not PartialState().is_main_process or not (restarted or _torchrun_id()):
        return None
    own = config.replaced(batch_size=1, accumulate=1).to_dict()  # a restart with other processes may have changed them
    for file in sorted(config.experiments_dir.glob("*/config.json"), key=os.path.getmtime, reverse=True):
        folder = file.parent
        if (folder / "results.json").exists():
            continue
        with contextlib.suppress(ConfigError):  # written by another version, or damaged
            same = Experiment(folder).config.replaced(batch_size=1, accumulate=1).to_dict() == own
            if same and (restarted or Experiment(folder).launch["torchrun_id"] == _torchrun_id()):
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
    with replacing(file, sync=True) as partial:
        torch.save({"format": FORMAT, **state}, partial)


def load_state(config: TrainConfig, checkpoint: Checkpoint, table: pd.DataFrame) -> dict[str, Any] | None:
    """What `save_state` wrote into `config.resume`, on the CPU; None where the run ended before it saved anything.

    Raises `ResumeError` where the state is damaged or lost, or belongs to another model or dataset.
    """
    file = config.resume / LAST
    if not file.is_file():
        experiment = Experiment(config.resume)
        # It is saved after every epoch, so a run that was killed before has one line of history at the most.
        if (config.resume / "results.json").exists() or experiment.epochs_recorded() > 1:
            raise ResumeError(f"{config.resume}: {LAST} is gone, nothing to go on from. The best checkpoint is there.")
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler and zip reader do
        raise ResumeError(f"{file}: damaged ({type(error).__name__}); the best checkpoint is still there.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ResumeError(f"{file}: written by another version of varec.")
    expected, found = identity(config, checkpoint, table), state["identity"]
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
