"""Exported models answer as the originals do, whatever the size of the batch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from varec_lib.cli import main
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.errors import ConfigError
from varec_lib.models.checkpoint import Checkpoint, LoadedModel, load_checkpoint
from varec_lib.models.export import export_onnx
from varec_lib.models.registry import build_model

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SPECS = {  # small where the model can be
    "frame_average": ClipSpec(4, (32, 32), *IMAGENET),
    "cnnlstm": ClipSpec(4, (32, 32), *IMAGENET),
    "r3d18": ClipSpec(4, (32, 32), *IMAGENET),
    "i3d": ClipSpec(16, (64, 64), *IMAGENET),
}
CLASSES = ["alpha", "beta", "gamma"]


def made(name):
    """A model with random weights, whose batch norm has seen something."""
    torch.manual_seed(0)
    spec = SPECS[name]
    arguments = {"frame_size": spec.frame_size} if name in ("frame_average", "cnnlstm") else {}
    network = build_model(name, len(CLASSES), **arguments).train()
    with torch.no_grad():
        network(torch.randn(3, spec.num_frames, 3, *spec.frame_size))
    return LoadedModel(network.eval(), Checkpoint(name, arguments, CLASSES, spec), "fp32")


@pytest.fixture(scope="module")
def real_clips(numbered_dataset):
    """`read(spec)`: uint8 clips (3, T, C, H, W) of real files."""
    from varec_lib.data.video import read_frames

    files = sorted((numbered_dataset / "videos").rglob("*.mkv"))[:3]

    def read(spec):
        numbers = [i % 12 for i in range(spec.num_frames)]
        return torch.stack([spec.crop(read_frames(file, numbers, short_side=min(spec.frame_size))) for file in files])

    return read


def test_every_model_of_the_library_is_tried():
    """In a process of its own, because other tests register models, too."""
    code = "import varec_lib.models; from varec_lib.models.registry import model_names; print(*model_names())"
    assert set(subprocess.check_output([sys.executable, "-c", code], text=True).split()) == set(SPECS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_scores_are_those_of_the_model_for_every_size_of_batch(name, real_clips, tmp_path):
    model = made(name)
    description = json.loads(export_onnx(model, tmp_path / "model.onnx").read_text())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    clips = real_clips(model.clip_spec)
    for count in (1, 3):
        right = model.logits(clips[:count, None])[:, 0].numpy()
        found = session.run(["scores"], {"clips": clips[:count].numpy()})[0]
        np.testing.assert_allclose(found, right, atol=1e-4)
        assert np.ptp(right) > 1e-3  # they differ at all
    assert description["classes"] == CLASSES and description["clip_spec"]["num_frames"] == model.clip_spec.num_frames
    assert description["input"]["shape"][1:] == list(clips.shape[1:])
    assert json.loads(session.get_modelmeta().custom_metadata_map["varec"]) == description


@pytest.mark.slow
def test_the_command_writes_model_and_description(tiny_checkpoint, tmp_path, capsys):
    assert main(["export", str(tiny_checkpoint), "--out", str(tmp_path / "new" / "tiny.onnx")]) == 0
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"tiny.onnx", "tiny.json"}
    assert (
        json.loads((tmp_path / "new" / "tiny.json").read_text())["classes"] == load_checkpoint(tiny_checkpoint).classes
    )
    assert "MB" in capsys.readouterr().out


def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match="the package onnx:"):
        export_onnx(made("r3d18"), tmp_path / "model.onnx")


def test_another_ending_would_be_overwritten_by_the_description(tmp_path):
    with pytest.raises(ConfigError, match=r"end in \.onnx"):
        export_onnx(made("r3d18"), tmp_path / "model.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_network_that_cannot_be_exported_is_a_sentence_and_leaves_nothing(tmp_path):
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, clips):
            return self.layer(clips.mean(dim=(1, 3, 4))) if clips.mean().item() > 0 else clips.mean(dim=(1, 3, 4))

    with pytest.raises(ConfigError, match="moody"):
        export_onnx(LoadedModel(Moody(), Checkpoint("moody", {}, CLASSES, SPECS["r3d18"])), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
