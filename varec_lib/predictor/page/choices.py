"""The models to choose from: trained experiments and published ones, each with what is to be known before asking it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from varec_lib.errors import CheckpointError, ConfigError
from varec_lib.evaluation.intervals import wilson_interval
from varec_lib.models.checkpoint import Checkpoint, read_description
from varec_lib.models.pretrained import CLASSIFIERS, kinetics_classes
from varec_lib.models.weights import Weights, arrived, cached_file, weights_for
from varec_lib.predictor.predict import Predictor
from varec_lib.training.experiment import Experiment, finished_experiments

TOLD_EVERY_S = 0.5  # of a download
LOADED = 2  # models that a process keeps, for all its widgets together
NAMES = {"i3d": "I3D", "r3d18": "R3D-18", "cnnlstm": "CNN+LSTM", "frame_average": "Frame average"}
KNOWN_DATA = {"stick_actions": "drawn figures (stick-actions)"}


@dataclass(frozen=True)
class Choice:
    """A model by the name that its folder or table gives it, described in a line, and with a `note` for choosing.

    `classes`, `trained_on`, and how well it did on validation (top-1 and number of videos, None where unknown) are for
    its card; `at_chance` says that it did no better than guessing. `real` is a model of real videos that is here.
    """

    name: str
    label: str
    load: Callable[[], Predictor]
    note: str = ""
    published: bool = False
    classes: list[str] = field(default_factory=list)
    trained_on: str = ""
    val_top1: float | None = None
    val_videos: int | None = None
    at_chance: bool = False
    real: bool = False
    weights: Weights | None = None  # to be downloaded first

    def loaded(self, told: Callable[[float], None]) -> Predictor:
        """The model; `told` hears which share of its weights is here while they are downloaded. Raises `VarecError`."""
        if self.weights is None:
            return self.load()
        done = threading.Event()

        def tell() -> None:
            while not done.wait(TOLD_EVERY_S):
                told(arrived(self.weights))

        threading.Thread(target=tell, daemon=True).start()
        try:
            return self.load()
        finally:
            done.set()
            told(0.0)  # of what comes now

    def card(self) -> dict[str, Any]:
        """What the page shows of it."""
        names = "name label note published classes trained_on val_top1 val_videos at_chance real"
        return {name: getattr(self, name) for name in names.split()}


def model_choices(experiments_dir: Path | str) -> list[Choice]:
    """Finished experiments of a folder, then the published Kinetics-400 classifiers, then those at chance.

    The first is the best on validation of those that know what the newest knows; the others follow, the newest first.
    """
    trained = [choice for e in finished_experiments(experiments_dir) if (choice := _trained(e))]
    useful = [choice for choice in trained if not choice.at_chance]
    if useful:
        rivals = [choice for choice in useful if choice.classes == useful[0].classes]
        best = max(rivals, key=lambda choice: choice.val_top1 or 0.0)
        useful.sort(key=lambda choice: choice is not best)
    return useful + [_published(model) for model in CLASSIFIERS] + [choice for choice in trained if choice.at_chance]


def _trained(experiment: Experiment) -> Choice | None:
    checkpoint, config = experiment.best_checkpoint, experiment.config
    file = checkpoint.stat()
    saved = time.localtime(file.st_mtime)
    when = time.strftime("%d %b %H:%M" if saved.tm_year == time.localtime().tm_year else "%d %b %Y %H:%M", saved)
    try:
        about = _description(checkpoint, file.st_mtime_ns)
    except CheckpointError:
        return None
    top1, videos = _on_validation(about)
    at_chance = bool(videos and wilson_interval(round(top1 * videos), videos)[0] <= 1 / len(about.classes))
    data = about.data.dataset if about.data else config.data_dir.name
    return Choice(
        experiment.folder.name,
        f"{NAMES.get(config.model, config.model)} · {data} · {when}",
        lambda: _loaded(str(checkpoint), file.st_mtime_ns),
        note="no better than guessing" if at_chance else "",
        classes=about.classes,
        trained_on=KNOWN_DATA.get(data, data),
        val_top1=top1,
        val_videos=videos,
        at_chance=at_chance,
    )


@lru_cache(maxsize=200)
def _description(checkpoint: Path, stamp: int) -> Checkpoint:
    return read_description(checkpoint)


def _on_validation(about: Checkpoint) -> tuple[float | None, int | None]:
    """Top-1 and number of videos, where the checkpoint says them and they are numbers."""
    top1, videos = about.metrics.get("val_top1"), about.metrics.get("val_videos")
    is_share = isinstance(top1, int | float) and 0 <= top1 <= 1
    return (top1 if is_share else None), (videos if is_share and isinstance(videos, int) and videos > 0 else None)


def _published(model: str) -> Choice:
    row = weights_for(model, "")
    here = cached_file(row).is_file()
    return Choice(
        f"published {model}",
        f"{NAMES[model]} · Kinetics, 400 actions",
        lambda: _loaded_published(model),
        note="" if here else f"{row.megabytes:.0f} MB to download first",
        published=True,
        classes=kinetics_classes(),
        trained_on="real videos of 400 actions (Kinetics)",
        real=here,
        weights=None if here else row,
    )


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
