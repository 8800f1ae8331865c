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
        ({"epochs": 0}, "epochs is 0, but must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
        ({"num_frames": -1}, "num_frames is -1, but must be at least 1"),
        ({"stride": 0}, "stride is 0"),
        ({"views": 0}, "views is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"patience": -1}, "patience is -1, but must be at least 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"warmup_epochs": -0.5}, "warmup_epochs is -0.5"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"frame_size": (112,)}, "frame_size is .112,., but must be a height and a width"),
        ({"frame_size": (112, 15)}, "frame_size is .112, 15."),
        ({"lr": 0}, "lr is 0, but must be above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"scheduler": "step"}, "scheduler is 'step', but must be one of plateau, cosine"),
        ({"sampling": "all"}, "sampling is 'all'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"ucf_split": 4}, "ucf_split is 4, but must be one of 1, 2, 3"),
        ({"pretrained": True, "weights": "w.pt"}, "pretrained and weights exclude each other"),
        ({"experiment_name": "a/b"}, "experiment_name is 'a/b'"),
        ({"model": "a:b"}, "experiment_name is 'a:b'"),
    ],
)
def test_setting_out_of_range_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    "settings", [{"patience": 0}, {"num_workers": 0}, {"warmup_epochs": 0}, {"frame_size": (16, 16)}, {"weights": ""}]
)
def test_settings_at_the_limit_are_fine(settings):
    (name,) = settings
    assert getattr(TrainConfig(**settings), name) in (settings[name], None)
