"""Heat over a clip: held against Captum, and against what must be so whatever the method."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import nn

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.errors import ConfigError, DataError
from varec_lib.evaluation.apply import split_table
from varec_lib.evaluation.explain import clip_embeddings, flat_map, grad_cam, map_layer
from varec_lib.models.checkpoint import Checkpoint, LoadedModel, load_checkpoint
from varec_lib.models.registry import build_model

CLASSES = ["alpha", "beta", "gamma"]
LAYERS = {
    "r3d18": ["backbone.layer2", "backbone.layer4"],
    "i3d": ["backbone.mixed_4f", "backbone.mixed_5c"],
    "cnnlstm": ["backbone.network.layer1", "backbone.network.layer4"],
    "frame_average": ["backbone.network.layer2"],
}


def loaded(network: nn.Module, frames: int = 8, size: tuple[int, int] = (32, 48)) -> LoadedModel:
    return LoadedModel(network.eval(), Checkpoint("mine", {}, CLASSES, ClipSpec(frames, size, *IMAGENET)), "fp32")


def built(name: str, seed: int = 0) -> LoadedModel:
    torch.manual_seed(seed)
    return loaded(build_model(name, 3, frame_size=(32, 48)))


class Still(nn.Module):
    """A network that sees all frames as channels of one picture: one map without steps in time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(24, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.conv(clips.flatten(1, 2)), inplace=True).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.randint(0, 256, (8, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in LAYERS.items() for layer in layers])
def test_captum_gives_the_same_heat(name, layer, clip):
    model = built(name)
    inputs = model.clip_spec.normalise(clip[None])
    for number, label in enumerate(CLASSES):
        captum = LayerGradCam(model.network, model.network.get_submodule(layer))
        heat = captum.attribute(inputs, target=number, relu_attributions=True).detach()
        heat = F.interpolate(heat.reshape(1, 1, -1, *heat.shape[-2:]), clip[:, 0].shape, mode="trilinear")[0, 0]
        heat = heat / heat.max().clamp(min=1e-30)
        np.testing.assert_allclose(grad_cam(model, clip, label, layer=layer, average=True), heat, atol=2e-4)


@pytest.mark.parametrize("name", ["i3d", "frame_average"])
def test_before_a_global_average_it_does_not_matter_whether_gradients_are_averaged(name, clip):
    model, layer = built(name), {"i3d": "backbone.mixed_5c", "frame_average": "backbone.network.layer4"}[name]
    heats = [grad_cam(model, clip, "beta", layer=layer, average=average) for average in (False, True)]
    np.testing.assert_allclose(*heats, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_heat_covers_the_clip_from_0_to_1_and_depends_on_the_weights(name, clip):
    heats = [grad_cam(built(name, seed), clip, "beta") for seed in (0, 0, 1)]
    for heat in heats:
        assert heat.shape == (8, 32, 48) and heat.dtype == np.float32
        assert heat.min() >= 0 and heat.max() == 1
    np.testing.assert_array_equal(heats[0], heats[1])
    assert np.corrcoef(heats[0].ravel(), heats[2].ravel())[0, 1] < 0.9  # Adebayo et al. 2018, arXiv 1810.03292


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_is_left_in_the_network(name, frozen, clip):
    model = built(name)
    model.network.requires_grad_(not frozen)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        heat = grad_cam(model, clip)
    np.testing.assert_array_equal(heat, grad_cam(model, clip))
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())
    for parameter in model.network.parameters():
        assert parameter.grad is None and parameter.requires_grad is not frozen
    for module in model.network.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module.training


def test_by_default_the_answer_is_explained(clip):
    model = built("cnnlstm")
    answer = CLASSES[model.logits(clip[None, None])[0, 0].argmax()]
    np.testing.assert_array_equal(grad_cam(model, clip), grad_cam(model, clip, answer))


def test_heat_lies_where_and_when_the_evidence_is():
    network = nn.Sequential(
        nn.Conv3d(3, 3, 1, bias=False), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 3, False)
    )
    network[0].weight.data = torch.eye(3)[..., None, None, None]
    network[3].weight.data = torch.eye(3)
    model = loaded(nn.Sequential(Swap(), network), size=(16, 16))
    clip = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    clip[5, 1, 4:8, 8:12] = 255  # green
    heat = grad_cam(model, clip, "beta", layer="1.0")
    assert np.unravel_index(heat.argmax(), heat.shape)[0] == 5
    np.testing.assert_allclose(heat[5, 4:8, 8:12], 1)
    assert heat.sum() == 16
    assert not grad_cam(model, clip, "alpha", layer="1.0").any()  # nothing is red


class Swap(nn.Module):
    """Clips `(B, T, C, H, W)` to `(B, C, T, H, W)`."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.transpose(1, 2)


@pytest.mark.parametrize(
    ("name", "size", "frames", "layer"),
    [
        ("r3d18", 32, 8, "backbone.layer2"),
        ("r3d18", 112, 16, "backbone.layer3"),
        ("cnnlstm", 32, 8, "backbone.network.layer1"),
        ("cnnlstm", 224, 1, "backbone.network.layer4"),
        ("i3d", 112, 16, "backbone.mixed_4f"),
    ],
)
def test_the_deepest_map_that_is_large_enough_is_chosen(name, size, frames, layer):
    model = loaded(build_model(name, 3, frame_size=(size, size)), frames, (size, size))
    assert map_layer(model, torch.zeros(frames, 3, size, size, dtype=torch.uint8)) == layer


def test_blocks_are_chosen_before_branches_inside_them():
    bottleneck = loaded(build_model("cnnlstm", 3, backbone="resnet50", frame_size=(64, 64)), 2, (64, 64))
    assert map_layer(bottleneck, torch.zeros(2, 3, 64, 64, dtype=torch.uint8)) == "backbone.network.layer2"


def test_a_map_without_time_is_laid_over_all_frames(clip):
    heat = grad_cam(loaded(Still()), clip)
    assert heat.max() == 1
    assert (heat == heat[0]).all()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"label": "delta"}, "no class 'delta'. Known: alpha, beta, gamma"),
        ({"layer": "backbone.layer9"}, "no layer 'backbone.layer9'.*'backbone.network.layer1'"),
        ({"layer": "head"}, "'head' does not give one map"),
        ({"layer": "backbone.network.layer1.0.relu"}, "'backbone.network.layer1.0.relu' does not"),  # used twice
    ],
)
def test_an_unknown_class_or_layer_is_named(how, said, clip):
    with pytest.raises(ConfigError, match=said):
        grad_cam(built("cnnlstm"), clip, **how)


def test_networks_that_cannot_be_explained_say_so(clip):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(clip.numel(), 3))
    with pytest.raises(ConfigError, match="no layer with a map"):
        grad_cam(loaded(flat), clip)
    flat[1].bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="not numbers"):
        grad_cam(loaded(flat), clip)


def test_embeddings_are_what_the_last_linear_layer_is_given(tiny_checkpoint, numbered_dataset):
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    table = split_table(numbered_dataset, "test", progress=False)
    found = clip_embeddings(model, table, batch_size=4)
    source = VideoFiles(table, model.clip_spec)
    clips = torch.stack([load_views(source, row, model.clip_spec) for row in range(len(table))])
    head = [module for module in model.network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        np.testing.assert_allclose(head(torch.from_numpy(found)), model.logits(clips)[:, 0], rtol=1e-4, atol=1e-5)
    assert not head._forward_pre_hooks


def test_embeddings_need_videos_and_a_linear_layer(tiny_checkpoint, numbered_dataset):
    table = split_table(numbered_dataset, "test", progress=False)
    with pytest.raises(ConfigError, match="no linear layer"):
        clip_embeddings(loaded(nn.Sequential(Swap(), nn.Conv3d(3, 3, 1))), table)
    with pytest.raises(DataError, match="no video"):
        clip_embeddings(load_checkpoint(tiny_checkpoint), table[:0])


@pytest.mark.parametrize("videos", [1, 2, 9, 10, 40])
def test_a_flat_map_has_a_place_for_each_video(videos):
    embeddings = np.random.default_rng(0).normal(size=(videos, 6)).astype(np.float32)
    xy = flat_map(embeddings)
    assert xy.shape == (videos, 2)
    assert np.isfinite(xy).all()
    np.testing.assert_array_equal(xy, flat_map(embeddings))
    assert np.isfinite(flat_map(np.ones_like(embeddings))).all()


def test_clusters_stay_apart_on_a_flat_map():
    embeddings = np.repeat(np.eye(3, 20) * 9, 15, axis=0) + np.random.default_rng(0).normal(size=(45, 20))
    parts = flat_map(embeddings).reshape(3, 15, 2)
    apart = np.linalg.norm(parts.mean(axis=1)[:, None] - parts.mean(axis=1), axis=2)[np.triu_indices(3, 1)].min()
    assert apart > 2 * np.linalg.norm(parts - parts.mean(axis=1, keepdims=True), axis=2).mean()
