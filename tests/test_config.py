"""`TrainConfig`: defaults, checks, and the way to JSON and back."""

import dataclasses
import json
from pathlib import Path

import pytest

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError


def test_json_round_trip_keeps_every_setting(tmp_path):
    config = TrainConfig(
        data_dir="some/folder", model="cnnlstm", weights="w.pt", frame_size=[64, 96], lr=3e-4, augment=False, stride=3,
        experiment_name="größe",
    )  # fmt: skip
    config.save(tmp_path / "config.json")
    loaded = TrainConfig.load(tmp_path / "config.json")
    assert loaded == config
    assert (loaded.data_dir, loaded.frame_size) == (Path("some/folder"), (64, 96))
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert values.keys() == {field.name for field in dataclasses.fields(TrainConfig)}


def test_setting_of_another_version_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"epochs": 3, "learning_speed": 1, "colour": 2}')
    with pytest.raises(ConfigError, match="does not know: colour, learning_speed"):
        TrainConfig.load(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_frames": -1}, "num_frames is -1"),
        ({"stride": 0}, "stride is 0"),
        ({"views": 0}, "views is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"patience": -1}, "patience is -1"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"warmup_epochs": -0.5}, "warmup_epochs is -0.5"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"frame_size": (112,)}, r"frame_size .* is \(112,\)"),
        ({"frame_size": (112, 15)}, "frame_size .* is 15, .*16"),
        ({"fixed_views": -1}, "fixed_views is -1"),
        ({"short_side": -1}, "short_side is -1"),
        ({"fps": -1.0}, "fps is -1.0"),
        ({"clip_grad": -0.1}, "clip_grad is -0.1"),
        ({"backbone_lr": -0.1}, "backbone_lr is -0.1"),
        ({"backbone_lr": 0.1, "freeze_backbone": True}, "a frozen backbone does not learn"),
        ({"mixup": -0.1}, "mixup is -0.1"),
        ({"cutmix": -1}, "cutmix is -1"),
        ({"save_minutes": -1}, "save_minutes is -1"),
        ({"seed": 2**32}, r"seed is 4294967296"),
        ({"save_minutes": float("nan")}, "save_minutes is nan"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"ema": -0.1}, "ema is -0.1"),
        ({"store": "png"}, "store is 'png'"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"scheduler": "step"}, "scheduler is 'step'"),
        ({"sampling": "all"}, "sampling is 'all'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"ucf_split": 4}, "ucf_split is 4"),
        ({"pretrained": True, "weights": "w.pt"}, "pretrained and weights exclude each other"),
        ({"experiment_name": "a/b"}, "experiment_name is 'a/b'"),
        ({"model": "a:b"}, "experiment_name is 'a:b'"),
    ],
)
def test_setting_out_of_range_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 0},
        {"num_workers": 0},
        {"warmup_epochs": 0},
        {"frame_size": (16, 16)},
        {"weights": ""},
        {"resume": ""},
        {"fps": 0},
        {"save_minutes": 0},
        {"ema": 0.9999},
        {"fixed_views": 0},
        {"seed": 2**32 - 1},
    ],
)
def test_settings_at_the_limit_are_fine(settings):
    (name,) = settings
    assert getattr(TrainConfig(**settings), name) in (settings[name], None)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", '"text"', "null"])
def test_file_that_holds_no_settings(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        TrainConfig.load(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("settings", "pixels"),
    [({}, 128), ({"frame_size": (64, 64)}, 73), ({"frame_size": (112, 80)}, 91), ({"short_side": 240}, 240)],
)
def test_stored_frames_leave_random_crops_a_margin(settings, pixels):
    assert TrainConfig(**settings).stored_short_side == pixels


def test_a_changed_copy_is_checked_too(tmp_path):
    config = TrainConfig(model="cnnlstm", experiment_name="mine")
    other = config.replaced(epochs=3, resume=str(tmp_path))
    assert (other.epochs, other.resume, other.experiment_name, config.epochs) == (3, tmp_path, "mine", 100)
    with pytest.raises(ConfigError, match="epochs is 0"):
        config.replaced(epochs=0)


def test_a_killed_save_leaves_the_former_settings(tmp_path, monkeypatch):
    """`--resume` writes the file anew, and needs it the next time."""
    TrainConfig(epochs=3).save(tmp_path / "config.json")

    def write_half(path, text, **how):
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(KeyboardInterrupt):
        TrainConfig(epochs=4).save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json").epochs == 3


def test_an_experiment_named_after_its_model_follows_it():
    assert TrainConfig(model="r3d18").replaced(model="cnnlstm").experiment_name == "cnnlstm"
    assert TrainConfig(model="r3d18").replaced(epochs=3).experiment_name == "r3d18"
    assert TrainConfig(model="r3d18", experiment_name="mine").replaced(model="cnnlstm").experiment_name == "mine"
    assert TrainConfig(model="r3d18").replaced(model="cnnlstm", experiment_name="own").experiment_name == "own"
