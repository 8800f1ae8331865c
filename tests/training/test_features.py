"""A frozen backbone's features are computed once, stored, and give the very training that the clips would give."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.errors import StoreError
from varec_lib.models.registry import build_model, register_model
from varec_lib.training.experiment import Experiment
from varec_lib.training.features import FeatureFeed
from varec_lib.training.loop import Trainer, train
from varec_lib.training.state import LAST

pytestmark = pytest.mark.usefixtures("without_pictures")


@register_model("two_parts")
class TwoParts(nn.Module):
    """Backbone with batch norm and a head with dropout; counts the clips that go through the backbone."""

    clips_seen = 0

    def __init__(self, num_classes: int, num_frames: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * num_frames, num_classes))

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        TwoParts.clips_seen += len(clips)
        return self.backbone(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features.flatten(1))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(clips))


@pytest.fixture
def frozen_config(tiny_config, tmp_path):
    """`make(**others)`: a frozen backbone without augmentation, in a frame store of the test's own."""
    defaults = {
        "model": "two_parts", "freeze_backbone": True, "augment": False, "epochs": 3, "store_dir": tmp_path / "store",
    }  # fmt: skip
    return lambda **others: tiny_config(**defaults | others)


def files(config: TrainConfig) -> list[Path]:
    """The stored features, sorted: one file for each clip of train and val."""
    return sorted(config.store_dir.glob("*/features/*/*/*.bin"))


def run(config: TrainConfig) -> tuple[Experiment, int]:
    """The experiment, and how many clips its training and validation put through the backbone (not its test)."""
    before, during = TwoParts.clips_seen, 0

    def count(trainer):
        nonlocal during
        during = TwoParts.clips_seen - before
        return original(trainer)

    original = Trainer.test
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "test", count)
        return train(config, progress=False), during


@pytest.fixture(scope="module")
def first_runs() -> dict[str, tuple[Experiment, int]]:
    """What `first` has made, by its settings."""
    return {}


@pytest.fixture
def first(frozen_config, first_runs, tmp_path_factory):
    """`first(**others)`: as `run` with these settings in an empty store, but made once and then not to be changed.

    What it stored is copied to where `frozen_config` has the store.
    """

    def make(**others: object) -> tuple[Experiment, int]:
        settings = repr(sorted(others.items()))
        if settings not in first_runs:
            folder = tmp_path_factory.mktemp("first")
            own = {"store_dir": folder / "store", "experiments_dir": folder / "experiments"}
            first_runs[settings] = run(frozen_config(**others, **own))
        experiment, seen = first_runs[settings]
        shutil.copytree(experiment.config.store_dir, frozen_config().store_dir)
        return experiment, seen

    return make


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({}, id="not-augmented"),
        pytest.param({"augment": True, "fixed_views": 2}, id="two-augmented-views"),
        pytest.param({"fixed_views": 4, "epochs": 5}, id="four-jittered-views"),
        pytest.param({"ema": 0.9, "accumulate": 2, "label_smoothing": 0.1, "balanced": True}, id="options"),
        pytest.param({"num_workers": 2, "sampling": "dense", "stride": 1}, id="workers-dense"),
    ],
)
def test_same_history_and_weights_as_without_stored_features(
    frozen_config, first, history_of, weights_of, monkeypatch, others
):
    quick, seen = first(**others)
    views = quick.config.fixed_views or 1
    assert seen == 18 * views + 6
    with monkeypatch.context() as patched:
        patched.setattr(FeatureFeed, "fits", staticmethod(lambda *_: False))
        slow, seen = run(frozen_config(**others))
    assert seen == quick.config.epochs * (18 + 6)
    for name, column in history_of(slow).items():
        assert history_of(quick)[name].tolist() == pytest.approx(column.tolist(), rel=1e-5, abs=1e-6), name
    for name, tensor in weights_of(slow).items():
        torch.testing.assert_close(weights_of(quick)[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    tests = quick.results["test"], slow.results["test"]
    thresholds = [test["selective"].pop("sure_above") for test in tests]
    assert thresholds[0] == pytest.approx(thresholds[1], rel=1e-5)
    assert tests[0] == tests[1]


def test_the_decoding_loop_agrees_too(frozen_config, first, history_of, weights_of):
    """`store="off"` is the plain way: every clip from its file, through the whole network, in every epoch."""
    quick, _ = first()
    slow, seen = run(frozen_config(store="off"))
    assert seen == 3 * (18 + 6)
    for name, column in history_of(slow).items():
        assert history_of(quick)[name].tolist() == pytest.approx(column.tolist(), rel=1e-5, abs=1e-6), name
    for name, tensor in weights_of(slow).items():
        torch.testing.assert_close(weights_of(quick)[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_the_second_run_computes_nothing(frozen_config, first, assert_same_run):
    before, seen = first()
    assert seen == 18 + 6
    stored = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files(frozen_config())}
    assert len(stored) == 18 + 6
    second, seen = run(frozen_config())
    assert seen == 0
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files(second.config)} == stored
    assert_same_run(before, second)
    longer, seen = run(frozen_config(epochs=5, lr=0.1, batch_size=9, ema=0.5, accumulate=2, seed=0))
    assert (seen, files(longer.config)) == (0, list(stored))
    assert not list(longer.config.store_dir.glob("*/features/**/*.partial"))


@pytest.mark.parametrize("others", [{}, {"store": "jpeg"}], ids=["raw", "jpeg"])
def test_no_frames_are_stored_for_clips_that_are_read_once(frozen_config, first, others, weights_of):
    experiment, _ = first(**others)
    assert files(frozen_config()) and not list(frozen_config().store_dir.glob("*/*/*/*.bin"))
    raw, seen = run(frozen_config())
    assert seen == 0  # they come from the videos: however frames would be stored, features are the same
    for name, tensor in weights_of(raw).items():
        assert torch.equal(weights_of(experiment)[name], tensor), name


def test_frames_that_are_stored_already_are_used(frozen_config, monkeypatch):
    config = frozen_config()
    train(config.replaced(freeze_backbone=False), progress=False)
    assert list(config.store_dir.glob("*/*/*/*.bin"))
    feeds = []
    monkeypatch.setattr(FeatureFeed, "prepare", lambda feed, model: feeds.append(feed) or exit("seen"))
    with pytest.raises(SystemExit, match="seen"):
        train(config, progress=False)
    assert feeds[0].store is not None


def test_validation_features_serve_every_draw_of_training_clips(frozen_config, first):
    first()
    _, seen = run(frozen_config(fixed_views=2))
    assert seen == 18  # the first draw is the one that is there
    assert len(files(frozen_config())) == 2 * 18 + 6


@pytest.mark.parametrize("left", [0, 1, 12, 23, 24])
def test_an_interrupted_computation_goes_on(frozen_config, first, left):
    """Also where it was cut off in the middle of a clip's features."""
    config = frozen_config()
    whole, _ = first()
    contents = {file: file.read_bytes() for file in files(config)}
    for file in list(contents)[left:]:
        file.with_name(f"{file.name}.7.partial").write_bytes(contents[file][:100])
        file.unlink()
    again, seen = run(config)
    assert seen == 24 - left
    assert files(config) == list(contents)
    for file, content in contents.items():
        found, expected = (load(data)["features"] for data in (file.read_bytes(), content))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not list(config.store_dir.glob("*/features/**/*.partial"))
    assert again.history["train_loss"].tolist() == pytest.approx(whole.history["train_loss"].tolist(), rel=1e-5)


class Crash(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


@pytest.mark.parametrize("finished", [0, 5, 20])
def test_killed_while_features_are_written(frozen_config, monkeypatch, finished):
    def crash(path, content):
        if path.name.endswith(".partial") and len(files(frozen_config())) == finished:
            original(path, content[:100])
            raise Crash
        return original(path, content)

    original = Path.write_bytes
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", crash)
        with pytest.raises(Crash):
            train(frozen_config(), progress=False)
    _, seen = run(frozen_config())
    assert seen == 18 + 6 - finished


def test_killed_run_on_features_resumes_bit_by_bit(frozen_config, assert_same_run, crash_at):
    whole, _ = run(frozen_config(save_minutes=0))
    with crash_at(epoch=2, batch=3):
        train(frozen_config(save_minutes=0, experiment_name="broken"), progress=False)
    (folder,) = whole.folder.parent.glob("broken*")
    again, seen = run(Experiment(folder).config.replaced(resume=folder))
    assert seen == 0
    assert_same_run(whole, again)


@pytest.fixture
def dataset(numbered_dataset, tmp_path) -> Path:
    return Path(shutil.copytree(numbered_dataset, tmp_path / "dataset"))


def saved_backbone(file: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save(build_model("two_parts", 3, num_frames=4).backbone.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def some_weights(tmp_path_factory) -> Path:
    """A file of weights for the backbone."""
    return saved_backbone(tmp_path_factory.mktemp("weights") / "weights.pt", seed=1)


def test_other_weights_give_other_features(frozen_config, tmp_path):
    file = saved_backbone(tmp_path / "weights.pt", seed=1)
    first, _ = run(frozen_config(weights=file))
    before = files(first.config)
    saved_backbone(file, seed=2)  # the same name
    second, seen = run(frozen_config(weights=file))
    assert seen == 18 + 6
    assert len(files(second.config)) == 2 * len(before)
    saved_backbone(file, seed=1)
    third, seen = run(frozen_config(weights=file))
    assert seen == 0
    assert third.history["train_loss"].tolist() == first.history["train_loss"].tolist()


@pytest.mark.parametrize(
    "others",
    [
        {"num_frames": 6},
        {"frame_size": (32, 40), "short_side": 37},
        {"sampling": "dense"},
        {"seed": 1},
        {"fixed_views": 2},
        {"augment": True, "fixed_views": 1},
        {"precision": "bf16"},
    ],
)
def test_other_clips_give_other_features(frozen_config, first, some_weights, others):
    first(weights=some_weights)
    before = files(frozen_config())
    _, seen = run(frozen_config(weights=some_weights, **others))
    assert seen >= 18
    assert len(files(frozen_config())) > len(before)


def test_a_mirrored_view_is_another_one(frozen_config):
    both = {"augment": True, "fixed_views": 1}
    run(frozen_config(**both))
    _, seen = run(frozen_config(**both, flip=False))
    assert seen == 18


def test_other_labels_need_no_other_features(frozen_config, dataset):
    run(frozen_config(data_dir=dataset))
    rows = pd.read_csv(dataset / "train.csv")
    rows.assign(label=["gamma", *rows["label"][1:]]).to_csv(dataset / "train.csv", index=False)
    _, seen = run(frozen_config(data_dir=dataset))
    assert seen == 0


@pytest.mark.parametrize(("split", "expected"), [("train", 17), ("val", 0)])
def test_a_video_less_gives_other_features_where_it_changes_the_draws_of_others(
    frozen_config, dataset, split, expected
):
    """Training clips are drawn by the row of the table."""
    run(frozen_config(data_dir=dataset))
    rows = pd.read_csv(dataset / f"{split}.csv")
    rows.iloc[1:].to_csv(dataset / f"{split}.csv", index=False)
    _, seen = run(frozen_config(data_dir=dataset))
    assert seen == expected


def test_a_changed_video_of_the_same_length_gives_other_features(frozen_config, dataset, write_video):
    """As after the frames of a video were corrected: name, label and length are what they were."""
    first, _ = run(frozen_config(data_dir=dataset))
    file = dataset / "videos" / "alpha" / "alpha_0.mkv"
    write_video(file, range(100, 112))  # was 0 to 11
    second, seen = run(frozen_config(data_dir=dataset))
    assert seen == 1
    assert first.history["train_loss"].tolist() != second.history["train_loss"].tolist()


@register_model("no_parts")
def no_parts(num_classes: int, num_frames: int) -> nn.Module:
    """A backbone that can be frozen, but no way to stop behind it."""
    return build_model("tiny", num_classes, num_frames=num_frames)


@pytest.mark.parametrize(
    "others",
    [
        {"model": "no_parts"},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"augment": True},
        {"freeze_backbone": False},
        {"store": "off"},
    ],
)
def test_where_it_does_not_fit_clips_are_used(frozen_config, others):
    config = frozen_config(**others, epochs=1)
    train(config, progress=False)
    assert files(config) == []


def test_which_configurations_show_the_same_clips_in_every_epoch(frozen_config):
    assert FeatureFeed.fits(frozen_config())
    assert not FeatureFeed.fits(frozen_config(augment=True))
    assert FeatureFeed.fits(frozen_config(augment=True, fixed_views=3))


def test_the_best_checkpoint_holds_backbone_and_head(first, weights_of):
    found = weights_of(first()[0])
    assert found.keys() == build_model("two_parts", 3, num_frames=4).state_dict().keys()


def test_only_the_features_of_one_run_lie_in_the_state(frozen_config):
    """A resumed run needs the backbone too: the state is complete by itself."""
    experiment, _ = run(frozen_config(epochs=1))
    saved = torch.load(experiment.folder / LAST, weights_only=True)
    assert "backbone.0.weight" in saved["model"]
    decayed = saved["optimizer"]["param_groups"]
    assert sum(len(group["params"]) for group in decayed) == 2  # the head's weight and bias


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-1],
        lambda data: data + b"more",
        lambda data: data[:20] + b"x" + data[21:],
    ],
    ids=["empty", "header-truncated", "truncated", "too-long", "header-damaged"],
)
def test_damaged_features_are_computed_again(frozen_config, first, capsys, damage):
    before, _ = first()
    file = files(frozen_config())[0]
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    capsys.readouterr()
    again, seen = run(frozen_config())
    assert seen == 1
    assert re.search(r"\b1\b.*damaged", capsys.readouterr().out)
    assert len(file.read_bytes()) == len(whole)
    assert again.history["train_loss"].tolist() == pytest.approx(before.history["train_loss"].tolist(), rel=1e-5)


def test_their_size_is_announced_and_too_little_room_refused(frozen_config, monkeypatch, capsys):
    config = frozen_config()
    usage = shutil.disk_usage(config.store_dir.parent)
    train(frozen_config(epochs=1), progress=False)
    assert re.search(r"\b18 train\b.*\b0\.0 MB", capsys.readouterr().out)
    for file in files(config):
        file.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=18 * 4 * 64 * 4 - 1))
    with pytest.raises(StoreError, match=r"\b0\.0 MB.*\b0\.0 MB.*free"):
        train(config, progress=False)
    assert files(config) == []


FULL = """
import resource, sys
from varec_lib.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_is_an_error_and_the_next_run_goes_on(
    start, train_command, frozen_config, the_experiment, capsys
):
    """A limit on the size of files stands for the disk; a clip's features are larger."""
    config = frozen_config(model="slow_tiny", save_minutes=5, num_frames=48)
    train(config.replaced(epochs=1, experiments_dir=config.experiments_dir.parent / "other"), progress=False)
    for file in files(config):
        file.unlink()
    flags = train_command(freeze_backbone=True, augment=False, store_dir=config.store_dir, num_frames=48)[1:]
    process = start(sys.executable, "-c", FULL, *flags)
    assert process.status() == 2, process.shown
    lines = [line for line in process.shown.splitlines() if line.startswith("varec: ")]
    assert len(lines) == 1 and re.search(rf"{config.store_dir}\b.*features.*File too large", lines[0])
    assert "Traceback" not in process.shown
