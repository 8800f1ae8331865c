"""Models by name: the built-in ones, and models of one's own through `@register_model` and --plugin."""

import json

import pytest
import torch
from torch import nn

from varec_lib import cli
from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.errors import ConfigError
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.models.registry import (
    build_model,
    load_plugin,
    model_entry,
    model_names,
    parameter_count,
    register_model,
)
from varec_lib.training.loop import train

SMALL = {"backbone": "squeezenet1_1", "frame_size": (32, 32), "num_frames": 4}

PLUGIN = """
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from varec_lib.models.registry import register_model


@dataclass
class Width:
    value: int = 6


@register_model("{name}")
class PluginModel(nn.Module):
    def __init__(self, num_classes: int, num_frames: int):
        super().__init__()
        self.head = nn.Linear(3 * num_frames, num_classes)

    def forward(self, clips):
        return self.head(clips.mean(dim=(3, 4)).flatten(1))
"""


def settings(data, experiments, **others):
    return {
        "data_dir": data, "experiments_dir": experiments, "store_dir": experiments / "store", "epochs": 1,
        "batch_size": 4, "num_workers": 0, "num_frames": 4, "frame_size": (32, 32), "precision": "fp32", **others,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "millions"), [("r3d18", 33.2), ("cnnlstm", 15.4), ("i3d", 12.4)])
def test_parameter_count_with_101_classes(name, millions):
    assert round(parameter_count(build_model(name, 101, num_frames=16, frame_size=(112, 112))) / 1e6, 1) == millions


@pytest.mark.parametrize("name", ["cnnlstm", "frame_average", "i3d", "r3d18"])
def test_model_maps_clips_to_class_scores(name):
    model = build_model(name, 7, **SMALL).eval()
    with torch.no_grad():
        scores = model(torch.rand(2, 4, 3, 32, 32))
    assert scores.shape == (2, 7)
    assert scores.isfinite().all()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("cnnlstm", (2, 4, 512)), ("frame_average", (2, 4, 512)), ("r3d18", (2, 512)), ("i3d", (2, 1024))],
)
def test_scores_are_classified_features(name, shape):
    """What training on stored features relies on."""
    model = build_model(name, 7, **SMALL | {"backbone": "resnet18"}).eval()
    clips = torch.rand(2, 4, 3, 32, 32)
    with torch.no_grad():
        features = model.features(clips)
        assert torch.equal(model.classify(features), model(clips))
    assert features.shape == shape


@pytest.mark.parametrize("name", ["cnnlstm", "frame_average", "i3d", "r3d18"])
def test_features_come_from_the_backbone_alone(name):
    model = build_model(name, 7, **SMALL).eval()
    clips = torch.rand(1, 4, 3, 32, 32)
    with torch.no_grad():
        before = model.features(clips)
        for parameter in set(model.parameters()) - set(model.backbone.parameters()):
            parameter.normal_()
        assert torch.equal(model.features(clips), before)


@pytest.mark.parametrize(("name", "blind"), [("frame_average", True), ("cnnlstm", False), ("r3d18", False)])
def test_which_models_are_blind_to_the_order_of_frames(name, blind):
    torch.manual_seed(0)
    model = build_model(name, 5, **SMALL | {"frame_size": (64, 64), "num_frames": 8}).eval()
    clips = torch.rand(2, 8, 3, 64, 64)
    with torch.no_grad():
        orders = (range(8), range(7, -1, -1), (3, 0, 7, 1, 6, 2, 5, 4))
        forward, backwards, shuffled = (model(clips[:, list(order)]) for order in orders)
    for other in (backwards, shuffled):
        assert torch.allclose(forward, other, rtol=1e-4, atol=1e-5) == blind


def test_registered_function_trains_and_evaluates(numbered_dataset, tmp_path):
    @register_model("function_model", ClipSpec(16, (112, 112), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    def small(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 32 * 32, num_classes))

    experiment = train(TrainConfig(model="function_model", **settings(numbered_dataset, tmp_path)), progress=False)
    predictions = evaluate_checkpoint(
        experiment.folder, numbered_dataset, batch_size=4, precision="fp32", progress=False
    )
    assert predictions.top_k(1) == experiment.results["test"]["top1"]
    assert model_entry("function_model").clip_spec.mean == (0.5, 0.5, 0.5)


def test_registered_class_trains_with_a_frozen_backbone_of_its_own(numbered_dataset, tmp_path):
    @register_model("class_model")
    class Small(nn.Module):
        def __init__(self, num_classes: int, num_frames: int, frame_size: tuple[int, int]) -> None:
            super().__init__()
            assert (num_frames, tuple(frame_size)) == (4, (32, 32))
            self.backbone = nn.Conv2d(3, 2, 3)
            self.head = nn.Linear(2, num_classes)

        def forward(self, clips):
            return self.head(self.backbone(clips.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, clips.shape[:2]).mean(1))

    config = TrainConfig(model="class_model", freeze_backbone=True, **settings(numbered_dataset, tmp_path))
    results = train(config, progress=False).results
    assert results["model"] == "class_model"
    assert results["epochs_run"] == 1


def test_plugin_registers_from_the_command_line(numbered_dataset, tmp_path, capsys):
    plugin = tmp_path / "my_model.py"
    plugin.write_text(PLUGIN.format(name="plugin_model"))
    common = ["--plugin", str(plugin), "--precision", "fp32"]
    trained = cli.main(
        ["train", "--model", "plugin_model", "--data", str(numbered_dataset), "--epochs", "1", "--num_workers", "0",
         "--experiments_dir", str(tmp_path / "runs"), "--store_dir", str(tmp_path / "store"), "--num_frames", "4",
         "--frame_size", "32", "32", *common]
    )  # fmt: skip
    assert trained == 0
    (experiment,) = (tmp_path / "runs").iterdir()
    capsys.readouterr()

    assert cli.main(
        ["evaluate", str(experiment), "--data", str(numbered_dataset), "--num_workers", "0", "--json", *common]
    ) == 0  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    assert report["top1"] == json.loads((experiment / "results.json").read_text())["test"]["top1"]

    video = next(path for path in sorted((numbered_dataset / "videos").rglob("*")) if path.is_file())
    assert cli.main(["predict", str(video), "--checkpoint", str(experiment), "--json", *common]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert {entry["label"] for entry in answer["top"]} <= set(report["classes"])


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'r3d19'.*cnnlstm.*frame_average.*r3d18.*--plugin"):
        build_model("r3d19", 5)


def test_unknown_backbone_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'resnet17'.*mobilenet_v2.*resnet18"):
        build_model("cnnlstm", 5, backbone="resnet17")


def test_plugin_that_cannot_be_used_is_named(tmp_path):
    empty, text = tmp_path / "empty.py", tmp_path / "notes.txt"
    empty.write_text("x = 1\n")
    text.write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"absent\.py.*no such"):
        load_plugin(tmp_path / "absent.py")
    with pytest.raises(ConfigError, match=r"empty\.py.*registers"):
        load_plugin(empty)
    with pytest.raises(ConfigError, match=r"notes\.txt.*Python file"):
        load_plugin(text)


def test_plugin_can_be_loaded_twice(tmp_path):
    plugin = tmp_path / "again.py"
    plugin.write_text(PLUGIN.format(name="again_model"))
    load_plugin(plugin)
    load_plugin(plugin)
    assert "again_model" in model_names()
    assert build_model("again_model", 3, num_frames=2)(torch.rand(1, 2, 3, 8, 8)).shape == (1, 3)
