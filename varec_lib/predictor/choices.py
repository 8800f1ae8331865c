"""The models to choose from: trained experiments, newest first, then published ones that need no training."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from varec_lib.errors import ConfigError
from varec_lib.models.pretrained import CLASSIFIERS
from varec_lib.models.weights import cached_file, weights_for
from varec_lib.predictor.predict import Predictor
from varec_lib.training.experiment import Experiment, finished_experiments

LOADED = 2  # models that a process keeps, for all its widgets together
NAMES = {"i3d": "I3D", "r3d18": "R3D-18"}


@dataclass(frozen=True)
class Choice:
    """A model by the name that its folder or table gives it, described in a line, and with a `note` for choosing."""

    name: str
    label: str
    load: Callable[[], Predictor]
    note: str = ""
    published: bool = False


def model_choices(experiments_dir: Path | str) -> list[Choice]:
    """Finished experiments of a folder, newest first, then the published Kinetics-400 classifiers."""
    trained = [_trained(experiment) for experiment in finished_experiments(experiments_dir)]
    return trained + [_published(model) for model in CLASSIFIERS]


def _trained(experiment: Experiment) -> Choice:
    checkpoint, config = experiment.best_checkpoint, experiment.config
    saved = time.localtime(checkpoint.stat().st_mtime)
    when = time.strftime("%d %b %H:%M" if saved.tm_year == time.localtime().tm_year else "%d %b %Y %H:%M", saved)
    stamp = checkpoint.stat().st_mtime_ns
    label = f"{config.model} · {config.data_dir.name} · {when}"
    return Choice(experiment.folder.name, label, lambda: _loaded(str(checkpoint), stamp))


def _published(model: str) -> Choice:
    row = weights_for(model, "")
    note = "" if cached_file(row).is_file() else f"{row.megabytes:.0f} MB to download first"
    label = f"{NAMES[model]} · Kinetics, 400 actions"
    return Choice(f"published {model}", label, lambda: _loaded_published(model), note, published=True)


@lru_cache(maxsize=LOADED)
def _loaded(checkpoint: str, stamp: int) -> Predictor:
    return Predictor.load(checkpoint)


@lru_cache(maxsize=1)
def _loaded_published(model: str) -> Predictor:
    return Predictor.pretrained(model)


def chosen(choices: list[Choice], name: str) -> Choice:
    """The choice of that name. Raises `ConfigError` where there is none any more."""
    for choice in choices:
        if choice.name == name:
            return choice
    raise ConfigError("This model is no longer there; choose another.")
