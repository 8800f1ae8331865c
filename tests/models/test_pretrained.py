"""Models that know Kinetics-400 before anything is trained, and the settings that suit their frozen backbones."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import KINETICS, ClipSpec
from varec_lib.errors import ConfigError, WeightsError
from varec_lib.models import pretrained
from varec_lib.models.i3d import SPEC
from varec_lib.models.pretrained import kinetics_classes, load_pretrained, suited
from varec_lib.models.weights import Weights


def test_names_of_kinetics():
    names = kinetics_classes()
    assert len(names) == len(set(names)) == 400
    assert names == sorted(names)  # the order that all published models share
    assert (names[0], names[-1]) == ("abseiling", "zumba")
    assert all(name == name.strip() != "" for name in names)
    names.clear()
    assert len(kinetics_classes()) == 400


@pytest.fixture
def torchvisions(tmp_path, monkeypatch) -> nn.Module:
    """torchvision's R3D-18 with weights and statistics that nobody published; `fetch` finds them as a local file."""
    torch.manual_seed(0)
    theirs = r3d_18(num_classes=400).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "r3d_18.pth")
    theirs.fetched = []

    def fetch(row: Weights) -> Path:
        theirs.fetched.append(row)
        return tmp_path / "r3d_18.pth"

    monkeypatch.setattr(pretrained, "fetch", fetch)
    return theirs


def test_r3d18_gives_torchvisions_scores_for_torchvisions_weights(torchvisions):
    network, about, _ = load_pretrained("r3d18")
    (row,) = torchvisions.fetched
    assert (row.model, row.trained_on) == ("r3d18", "Kinetics-400")
    clips = torch.rand(2, 8, 3, 48, 48)
    with torch.inference_mode():
        expected = torchvisions(clips.transpose(1, 2))
        torch.testing.assert_close(network(clips), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01
    assert about.classes == kinetics_classes()
    assert (about.model, about.arguments, about.metrics) == ("r3d18", {}, {})  # no "sure_above": it was not measured
    assert about.clip_spec == ClipSpec(16, (112, 112), *KINETICS, sampling="dense", stride=1, short_side=128, fps=15.0)


def test_it_is_ready_to_answer(torchvisions):
    network = load_pretrained("r3d18").network
    assert not any(module.training for module in network.modules())
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)


def test_a_file_that_lacks_a_tensor_is_not_loaded_in_part(torchvisions, tmp_path):
    state = torchvisions.state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "r3d_18.pth")
    with pytest.raises(RuntimeError, match=r"head\.1\.bias"):
        load_pretrained("r3d18")


def test_weights_that_cannot_be_had_are_an_error(monkeypatch):
    monkeypatch.setenv("TORCH_HOME", __file__)
    with pytest.raises(WeightsError, match=r"i3d.*Not a directory"):
        load_pretrained("i3d")


@pytest.mark.parametrize("model", ["cnnlstm", "frame_average", "r3d_18", ""])
def test_a_model_that_knows_nothing_untrained_is_refused_before_anything_is_fetched(torchvisions, model):
    with pytest.raises(ConfigError, match=f"weights .*'{model}'.*i3d.*r3d18"):
        load_pretrained(model)
    assert torchvisions.fetched == []


def test_i3d_is_described_with_its_classes_and_clips(i3d_weights):
    network, about, _ = load_pretrained("i3d")
    assert network.head[1].out_features == 400
    assert not any(module.training for module in network.modules())
    assert (about.model, about.arguments, about.classes) == ("i3d", {}, kinetics_classes())
    assert about.metrics == {"sure_above": pretrained.SURE_ABOVE["i3d"]}
    assert 1 / 400 < about.metrics["sure_above"] < 1
    assert (
        about.clip_spec
        == SPEC
        == ClipSpec(
            64, (224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), sampling="dense", stride=1, short_side=256, fps=25.0
        )
    )


def test_a_description_can_be_changed_without_changing_the_next_one(torchvisions, monkeypatch):
    monkeypatch.setitem(pretrained.SURE_ABOVE, "r3d18", 0.5)
    load_pretrained("r3d18").checkpoint.metrics["sure_above"] = 0.1
    assert load_pretrained("r3d18").checkpoint.metrics == {"sure_above": 0.5}


FROZEN = {"pretrained": True, "freeze_backbone": True}
DENSE = {"sampling": "dense", "stride": 1}
PICTURES = {"num_frames": 16, "frame_size": (224, 224), "sampling": "uniform", "stride": 2, "fps": 15.0}


@pytest.mark.parametrize(
    ("model", "clips"),
    [
        ("i3d", {"num_frames": 64, "frame_size": (224, 224), "fps": 25.0, **DENSE}),
        ("r3d18", {"num_frames": 16, "frame_size": (112, 112), "fps": 15.0, **DENSE}),
        ("cnnlstm", PICTURES),
        ("frame_average", PICTURES),
    ],
)
def test_clips_of_a_frozen_backbone_are_those_it_was_trained_on(model, clips):
    decided = TrainConfig(model=model, **FROZEN, augment=False, **clips)
    assert suited(TrainConfig(model=model, **FROZEN)) == decided == suited(decided)
    assert decided.stored_short_side == round(min(decided.frame_size) * 8 / 7)


@pytest.mark.parametrize("model", ["i3d", "cnnlstm"])
def test_what_is_set_stays(model):
    said = {"num_frames": 3, "frame_size": (32, 48), "sampling": "uniform", "stride": 5, "fps": 0.0, "augment": True}
    assert suited(TrainConfig(model=model, **FROZEN, **said)) == TrainConfig(model=model, **FROZEN, **said)


@pytest.mark.parametrize("others", [{"pretrained": False}, {"freeze_backbone": False}])
@pytest.mark.parametrize("model", ["i3d", "r3d18", "cnnlstm"])
def test_any_other_configuration_keeps_its_settings(model, others):
    config = TrainConfig(model=model, **FROZEN | others)
    assert suited(config) == config
    assert (config.num_frames, config.frame_size, config.augment) == (16, (112, 112), True)
