"""Checkpoints describe themselves and are never half written."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import varec_lib
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.errors import CheckpointError, ConfigError
from varec_lib.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from varec_lib.models.registry import build_model, register_model

ARGUMENTS = {"backbone": "squeezenet1_1", "frame_size": (32, 48), "num_frames": 4}
CLIP_SPEC = ClipSpec(4, (32, 48), (0.4, 0.5, 0.6), (0.2, 0.2, 0.3), sampling="dense", stride=3)
ABOUT = Checkpoint("cnnlstm", ARGUMENTS, ["grün", "jump", "sit down"], CLIP_SPEC, {"epoch": 7, "val_top1": 0.5})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(3)
    model = build_model("cnnlstm", 3, **ARGUMENTS).eval()
    path = tmp_path_factory.mktemp("experiment") / "checkpoints" / "best_model.safetensors"
    path.parent.mkdir()
    save_checkpoint(path, model, ABOUT)
    return path, model


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of a checkpoint whose description went through `change`."""
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        about = json.loads(file.metadata()["varec"])
    change(about, tensors)
    save_file(tensors, target, metadata={"varec": json.dumps(about)})
    return target


def test_round_trip_gives_identical_scores(saved):
    path, model = saved
    loaded, *_ = load_checkpoint(path)
    clips = torch.rand(2, 4, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(loaded(clips), model(clips))
    assert not loaded.training


def test_description_is_complete(saved):
    path, _ = saved
    about = load_checkpoint(path).checkpoint
    assert (about.model, about.classes, about.metrics) == (ABOUT.model, ABOUT.classes, ABOUT.metrics)
    assert about.clip_spec == CLIP_SPEC
    assert about.arguments == {"backbone": "squeezenet1_1", "frame_size": [32, 48], "num_frames": 4}
    assert about.versions["varec"] == varec_lib.__version__
    assert about.versions["torch"] == torch.__version__
    assert "torchvision" in about.versions


@pytest.mark.parametrize("metrics", [{"sure_above": 0.1 + 0.2, "val_top1": 0.5}, {"sure_above": 1.0}, {}])
def test_what_counts_as_sure_comes_back_to_the_last_digit_or_is_absent_as_before_it_was_measured(
    saved, tmp_path, metrics
):
    _, model = saved
    save_checkpoint(tmp_path / "checkpoint.safetensors", model, replace(ABOUT, metrics=metrics))
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").checkpoint.metrics == metrics


def test_experiment_folder_stands_for_its_best_checkpoint(saved):
    path, model = saved
    loaded, *_ = load_checkpoint(path.parents[1])
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_tied_weights_and_other_memory_layouts_are_saved(tmp_path):
    @register_model("tied_model")
    class Tied(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3).to(memory_format=torch.channels_last)
            self.a, self.b = nn.Linear(num_classes, num_classes), nn.Linear(num_classes, num_classes)
            self.b.weight = self.a.weight

    model = build_model("tied_model", 3)
    save_checkpoint(tmp_path / "tied.safetensors", model, Checkpoint("tied_model", {}, ["a", "b", "c"], CLIP_SPEC))
    loaded, *_ = load_checkpoint(tmp_path / "tied.safetensors")
    assert loaded.b.weight is loaded.a.weight
    assert torch.equal(loaded.conv.weight, model.conv.weight)
    assert torch.equal(loaded.a.weight, model.a.weight)


WRITER = """
import sys
from pathlib import Path
import torch
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.models.checkpoint import Checkpoint, save_checkpoint
from varec_lib.models.registry import build_model

path = Path(sys.argv[1])
model = build_model("cnnlstm", 3, backbone="squeezenet1_1", frame_size=(32, 32))
number = 0
while True:
    for parameter in model.parameters():
        parameter.data.fill_(number)
    about = Checkpoint("cnnlstm", {"backbone": "squeezenet1_1", "frame_size": (32, 32)}, ["a", "b", "c"],
                       ClipSpec(4, (32, 32), (0.5,) * 3, (0.5,) * 3), {"number": number})
    save_checkpoint(path, model, about)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
def test_killed_while_writing_leaves_a_whole_checkpoint(tmp_path):
    path, rng = tmp_path / "best.safetensors", random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        try:
            process.stdout.readline()  # one is written, the next under way
            time.sleep(rng.uniform(0, 0.2))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        model, about, _ = load_checkpoint(path)
        values = {value for parameter in model.parameters() for value in parameter.unique().tolist()}
        assert values == {about.metrics["number"]}


def test_failed_write_keeps_the_former_file_and_says_so(saved, tmp_path):
    _, model = saved
    target = tmp_path / "taken.safetensors"
    target.mkdir()
    with pytest.raises(CheckpointError, match=r"taken\.safetensors.*written"):
        save_checkpoint(target, model, ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_file(saved, tmp_path, share):
    content = saved[0].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors.*damaged"):
        load_checkpoint(tmp_path / "cut.safetensors")


def test_missing_file_and_folder_without_checkpoint(tmp_path):
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=f"{path}.*no such"):
            load_checkpoint(path)


def test_plain_safetensors_file_is_not_a_checkpoint(tmp_path):
    save_file({"weight": torch.ones(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match=r"plain\.safetensors.*--weights"):
        load_checkpoint(tmp_path / "plain.safetensors")


def test_description_that_does_not_fit(saved, tmp_path):
    def check(change, error, match):
        with pytest.raises(error, match=match):
            load_checkpoint(rewritten(saved[0], tmp_path / "changed.safetensors", change))

    check(lambda about, _: about.update(format=99), CheckpointError, "format 99, this version reads format 2")
    check(lambda about, _: about.pop("classes"), CheckpointError, "description is incomplete .'classes'.")
    check(lambda about, _: about["classes"].append("extra"), CheckpointError, "weights do not fit the model 'cnnlstm'")
    check(lambda about, _: about.update(model="other"), ConfigError, "no model 'other'.*--plugin")
    check(lambda _, tensors: tensors.pop("head.1.bias"), CheckpointError, r"do not fit.*head\.1\.bias")


def test_a_checkpoint_of_the_former_format_is_read(saved, tmp_path):
    """It calls the clip specification by another name, and does not say what it was trained on."""

    def former(metadata, _):
        metadata["format"], metadata["preprocess"] = 1, metadata.pop("clip_spec")
        del metadata["data"]

    loaded = load_checkpoint(rewritten(saved[0], tmp_path / "former.safetensors", former))
    assert loaded.clip_spec == CLIP_SPEC and loaded.checkpoint.data is None
