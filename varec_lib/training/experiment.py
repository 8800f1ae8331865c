"""The folder of one training run, and how to find it again.

experiments/<experiment_name>_<YYYYmmdd-HHMMSS>/
    config.json  launch.json  results.json  history.csv  predictions/  plots/  tensorboard/
    checkpoints/best_model.safetensors  checkpoints/last/
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from varec_lib.config import BEST, TrainConfig
from varec_lib.errors import ConfigError
from varec_lib.files import write_text

if TYPE_CHECKING:  # what reads results alone does not wait for torch
    from torch import nn


@dataclass(frozen=True)
class Experiment:
    """Paths and contents of an experiment folder."""

    folder: Path

    @classmethod
    def create(cls, config: TrainConfig, launch: dict[str, Any] | None = None) -> "Experiment":
        """Makes the folder and writes `launch.json` and `config.json`. Raises `ConfigError` where it cannot be written.

        `launch` is what a resumed run must know of how this one was started; `config.json` comes last and makes a
        folder an experiment.
        """
        stamp = f"{config.experiment_name}_{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            for attempt in range(1, 100):
                folder = config.experiments_dir / (stamp if attempt == 1 else f"{stamp}-{attempt}")
                try:
                    folder.mkdir(parents=True)
                    break
                except FileExistsError:
                    if not folder.is_dir():
                        raise
            for sub in ("checkpoints", "plots"):
                (folder / sub).mkdir()
            write_text(folder / "launch.json", json.dumps(launch or {}) + "\n")
            config.save(folder / "config.json")
        except OSError as error:
            raise ConfigError(
                f"{config.experiments_dir}: no experiment can be written there ({error.strerror})."
            ) from error
        return cls(folder)

    @property
    def best_checkpoint(self) -> Path:
        return self.folder / BEST

    def predictions(self, split: str) -> Path:
        """The file with the scores of the best model for a split of its own data, where somebody computed them."""
        return self.folder / "predictions" / f"{split}.npz"

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.load(self.folder / "config.json")

    @property
    def launch(self) -> dict[str, Any]:
        file = self.folder / "launch.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read ({error}).") from error

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.folder / "results.json").read_text(encoding="utf-8"))

    @property
    def computed_on(self) -> str:
        """The kind of processor and the number format that its times belong to, for tables: `CPU, bf16`."""
        results = self.results
        return f"{'CPU' if results['device'] == 'cpu' else 'GPU'}, {results['precision']}"

    @property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "history.csv")

    def epochs_recorded(self) -> int:
        """Lines of `history.csv`."""
        return len(self.history) if (self.folder / "history.csv").exists() else 0

    def load_best(self) -> "nn.Module":
        """The best model, in evaluation mode on the CPU."""
        from varec_lib.models.checkpoint import load_checkpoint

        return load_checkpoint(self.best_checkpoint).network

    def write_results(self, results: dict[str, Any]) -> None:
        """Writes `results.json` in one step, so that a reader never sees half of it."""
        write_text(self.folder / "results.json", json.dumps(results, indent=2) + "\n")

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Writes `history.csv`, one row per epoch."""
        write_text(self.folder / "history.csv", pd.DataFrame(rows).to_csv(index=False))


def finished_experiments(experiments_dir: Path | str) -> Iterator[Experiment]:
    """All finished experiments of a folder, newest first; what another version wrote is passed over."""
    files = sorted(Path(experiments_dir).glob("*/results.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        experiment = Experiment(file.parent)
        try:
            _, stopped = experiment.config, experiment.results["stopped"]
        except (ConfigError, OSError, ValueError, TypeError, KeyError):
            continue  # not an experiment
        if stopped != "interrupted" and experiment.best_checkpoint.is_file():
            yield experiment


def latest_experiment(experiments_dir: Path | str, **settings: Any) -> Experiment | None:
    """The newest finished experiment whose configuration has these settings (`model="r3d18"`, ...), or None."""
    wanted = {name: getattr(TrainConfig(**{name: value}), name) for name, value in settings.items()}
    for experiment in finished_experiments(experiments_dir):
        config = experiment.config
        if all(_same(getattr(config, k), v) for k, v in wanted.items()):
            return experiment
    return None


def _same(value: Any, wanted: Any) -> bool:
    both_paths = isinstance(value, Path) and isinstance(wanted, Path)
    return value.resolve() == wanted.resolve() if both_paths else value == wanted
