"""I3D: its padding, its head, the conversion of its weights, and the original's scores to 1e-3."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from varec_lib.models import flax_i3d, i3d
from varec_lib.models.backbone import channels_last
from varec_lib.models.flax_i3d import from_flax
from varec_lib.models.i3d import I3D, SPEC, SamePool3d, Unit3d, same_padding
from varec_lib.models.pretrained import load_pretrained
from varec_lib.models.registry import build_model, parameter_count

pytestmark = pytest.mark.usefixtures("two_threads")
needs_bf16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16") and not torch.cpu.get_capabilities().get("amx_bf16"),
    reason="this processor does not compute in bfloat16",
)


@pytest.fixture(scope="module")
def trained(i3d_weights) -> nn.Module:
    """I3D with its real weights, in evaluation mode; not to be changed."""
    return load_pretrained("i3d").network


def drawn_clip(frames: int, size: int = 224) -> torch.Tensor:
    """A clip `(1, T, 3, H, W)` that is known without a file, normalised: coloured tiles that wander."""
    t, c, h, w = np.ogrid[:frames, :3, :size, :size]
    clip = (((h // 8 + 3 * t) * 31 + (w // 8 - 2 * t) * 17 + c * 85) % 256).astype(np.uint8)
    return SPEC.normalise(torch.from_numpy(clip))[None]


def positions(size: int, kernel: int, stride: int) -> int:
    """How many places a kernel has in a row of that many values, without padding."""
    return max((size - kernel) // stride + 1, 0)


# Padding


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_gives_size_by_stride_outputs_rounded_up_with_as_few_zeros_as_possible(kernel, stride):
    for size in range(1, 33):
        ((before, after),) = same_padding([size], [kernel], [stride])
        total, outputs = before + after, -(-size // stride)
        assert positions(size + total, kernel, stride) == outputs
        assert total == 0 or positions(size + total - 1, kernel, stride) < outputs
        assert after - before in (0, 1), "the odd one goes behind"


def test_each_dimension_is_padded_by_its_own_size_kernel_and_stride():
    assert same_padding((16, 7, 224), (7, 3, 2), (2, 1, 2)) == [(2, 3), (1, 1), (0, 0)]
    with pytest.raises(ValueError):
        same_padding((16, 7), (7, 3, 2), (2, 1, 2))


def padded_by_hand(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> torch.Tensor:
    """One value at a time: behind, before, behind, ... until there are enough places for the kernel."""
    for dim, (k, s) in enumerate(zip(kernel, stride, strict=True), start=2):
        outputs, behind = -(-x.shape[dim] // s), True
        while positions(x.shape[dim], k, s) < outputs:
            shape = [*x.shape]
            shape[dim] = 1
            more = torch.full(shape, value)
            x, behind = torch.cat([x, more] if behind else [more, x], dim), not behind
    return x


SIZES = [(2, 5, 6), (3, 8, 8), (8, 7, 9), (1, 1, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (7, 7, 7), (1, 3, 2)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_unit_pads_convolves_normalises_without_a_scale_and_rectifies(size, kernel, stride, training):
    torch.manual_seed(0)
    unit, x = Unit3d(3, 4, kernel, stride).train(training), torch.randn(2, 3, *size)
    for tensor in (unit.norm.bias.data, unit.norm.running_mean, unit.norm.running_var):
        tensor.uniform_(0.2, 0.8)
    state = {name: tensor.clone() for name, tensor in unit.norm.state_dict().items()}
    if training and positions(size[0], 1, stride) * size[1] * size[2] == 1:
        x = x.repeat(4, 1, 1, 1, 1) * torch.arange(1, 9).view(-1, 1, 1, 1, 1)  # batch norm needs several values
    y = F.conv3d(padded_by_hand(x, kernel, (stride,) * 3, 0.0), unit.conv.weight, stride=stride)
    assert y.shape[2:] == tuple(-(-n // stride) for n in size)
    mean, var = state["running_mean"], state["running_var"]
    if training:
        mean, var = y.mean(dim=(0, 2, 3, 4)), y.var(dim=(0, 2, 3, 4), correction=0)
    mean, var, bias = (values.view(-1, 1, 1, 1) for values in (mean, var, state["bias"]))
    expected = ((y - mean) / (var + 1e-3).sqrt() + bias).clamp(min=0)
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-4)
    assert unit.norm.weight is None and unit.conv.bias is None


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("stride", [(1, 2, 2), (1, 1, 1), (2, 2, 2)], ids=str)
def test_pooling_of_rectified_values_is_that_of_values_padded_with_minus_infinity(size, kernel, stride):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).relu()
    expected = F.max_pool3d(padded_by_hand(x, kernel, stride, -torch.inf), kernel, stride)
    assert expected.shape[2:] == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    torch.testing.assert_close(SamePool3d(kernel, stride)(x), expected, rtol=0, atol=0)


# Features and head


@pytest.mark.parametrize(
    "size",
    [(8, 32, 32), (16, 48, 80), (1, 32, 32), (7, 33, 47), (9, 65, 64), pytest.param((64, 64, 64), id="64 frames")],
    ids=str,
)
def test_backbone_shrinks_time_by_8_and_pictures_by_32_rounded_up_and_features_are_1024_numbers(size):
    model = I3D(5).eval()
    with torch.inference_mode():
        clips = torch.rand(2, size[0], 3, *size[1:])
        maps = model.backbone(clips.transpose(1, 2))
        features = model.features(clips)
        assert maps.shape == (2, 1024, *(-(-n // by) for n, by in zip(size, (8, 32, 32), strict=True)))
        assert features.shape == (2, 1024)
        assert model(clips).shape == (2, 5)


def test_any_size_of_frames_runs():
    model = I3D(2).eval()
    with torch.inference_mode():
        for height, width in itertools.product((16, 31, 45), repeat=2):
            assert model(torch.rand(1, 2, 3, height, width)).isfinite().all()


@pytest.mark.parametrize("frames", [1, 8, 9, 24, 32])
def test_scores_of_averaged_features_are_the_averaged_scores_of_each_step_in_time(frames):
    """As the paper does it: 2x7x7 average pooling, a 1x1x1 convolution, and the mean of its scores over time."""
    torch.manual_seed(0)
    model = I3D(6).train()  # batch norm of the clips themselves: an untrained network's features differ in time then
    clips = torch.rand(2, frames, 3, 64, 64)
    with torch.inference_mode():
        maps = model.backbone(clips.transpose(1, 2))  # (B, 1024, T/8, 2, 2)
        pooled = F.avg_pool3d(maps, (min(2, maps.shape[2]), 2, 2), stride=1)
        linear = model.head[1]
        steps = F.conv3d(pooled, linear.weight[..., None, None, None], linear.bias)
        assert steps.shape == (2, 6, max(-(-frames // 8) - 1, 1), 1, 1)
        assert steps.shape[2] < 3 or steps.std(dim=2).min() > 0.01
        torch.testing.assert_close(model(clips), steps.mean(dim=(2, 3, 4)), rtol=1e-3, atol=1e-4)


def test_forward_is_features_and_head_and_the_head_has_dropout_if_wanted():
    torch.manual_seed(0)
    model, clips = I3D(3, dropout=0.5).eval(), torch.rand(2, 8, 3, 32, 32)
    with torch.inference_mode():
        features = model.features(clips)
        torch.testing.assert_close(model(clips), model.classify(features))
        model.train()
        assert not torch.equal(model.classify(features), model.classify(features))


def test_number_of_parameters():
    """The usual PyTorch I3D has 12,697,264, of which 7,280 are batch norm's scales; the original goes without them."""
    assert parameter_count(build_model("i3d", 400)) == 12_697_264 - 7_280
    assert parameter_count(I3D(101)) == 12_697_264 - 7_280 - 299 * (1024 + 1)


# Real weights


def test_every_tensor_is_loaded_none_keeps_its_first_value(trained, i3d_weights):
    torch.manual_seed(0)
    fresh, loaded, file = I3D(400).state_dict(), trained.state_dict(), load_file(i3d_weights)
    assert fresh.keys() == loaded.keys() == file.keys()
    for name in fresh:
        assert torch.equal(loaded[name], file[name]), name
        if not name.endswith("num_batches_tracked"):
            assert (loaded[name] != fresh[name]).float().mean() > 0.9, name


GOLDEN = {  # scores of the original JAX module, from which the weights come, for `drawn_clip`
    16: (
        [-2.0209131, 5.3239765, 2.594059, -2.2017076, -3.8561113, 0.89283466],
        [242, 394, 82, 143, 357],
        [18.728693, 15.624544, 15.504115, 12.956772, 12.049572],
    ),
    64: (
        [-0.38601547, 1.0043733, 0.6643312, 0.27615398, -0.6262548, 0.51635385],
        [169, 94, 97, 131, 284],
        [5.1598625, 4.374857, 4.312684, 4.15357, 3.8781881],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("frames", GOLDEN)
def test_scores_are_those_of_the_original_module(trained, frames):
    first, numbers, values = GOLDEN[frames]
    with torch.inference_mode():
        scores = trained(drawn_clip(frames))[0]
    best = scores.topk(5)
    torch.testing.assert_close(scores[:6], torch.tensor(first), rtol=0, atol=1e-3)
    torch.testing.assert_close(best.values, torch.tensor(values), rtol=0, atol=1e-3)
    assert best.indices.tolist() == numbers


def flax_tree(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Weights as the Flax module keeps them: nested dictionaries of arrays, channels last."""
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        values = tensor.numpy()
        if name.endswith("weight"):
            values = values.reshape(*values.shape, *(1,) * (5 - values.ndim)).transpose(2, 3, 4, 1, 0)
        elif "running" in name:
            values = values.reshape(1, 1, 1, 1, -1)
        *path, leaf = flax_i3d._flax_name(name)
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        assert leaf not in node, f"{name} has the name of another tensor"
        node[leaf] = values
    return tree


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Of a 400-class I3D; all values are different."""
    torch.manual_seed(0)
    return {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in I3D(400).state_dict().items()}


def test_conversion_brings_every_tensor_to_its_place(state):
    converted = from_flax(flax_tree(state))
    assert converted.keys() == state.keys()
    for name, tensor in converted.items():
        assert torch.equal(tensor, state[name]) and tensor.is_contiguous(), name
    I3D(400).load_state_dict(converted)


def test_names_of_the_original():
    names = {
        "backbone.conv_1a.conv.weight": "params Conv3d_1a_7x7 Conv_0 kernel",
        "backbone.conv_2b.norm.bias": "params Conv3d_2b_1x1 BatchNorm_0 bias",
        "backbone.conv_2c.norm.running_var": "batch_stats Conv3d_2c_3x3 BatchNorm_0 var",
        "backbone.mixed_3b.branch_1.0.conv.weight": "params Mixed_3b Branch_1/Conv3d_0a_1x1 Conv_0 kernel",
        "backbone.mixed_4f.branch_2.1.norm.bias": "params Mixed_4f Branch_2/Conv3d_0b_3x3 BatchNorm_0 bias",
        "backbone.mixed_4f.branch_0.norm.running_mean": "batch_stats Mixed_4f Branch_0/Conv3d_0a_1x1 BatchNorm_0 mean",
        "backbone.mixed_5c.branch_3.1.conv.weight": "params Mixed_5c Branch_3/Conv3d_0b_1x1 Conv_0 kernel",
        "backbone.mixed_5c.branch_0.conv.weight": "params Mixed_5c Branch_0/Conv3d_0a_1x1 Conv_0 kernel",
        "head.1.weight": "params Logits/Conv3d_0c_1x1 Conv_0 kernel",
        "head.1.bias": "params Logits/Conv3d_0c_1x1 Conv_0 bias",
    }
    assert {name: " ".join(flax_i3d._flax_name(name)) for name in names} == names


BLOCK = ("params", "Mixed_4c", "Branch_1/Conv3d_0b_3x3", "Conv_0")


@pytest.mark.parametrize(
    "path", [BLOCK, ("params", "Logits/Conv3d_0c_1x1", "Conv_0"), ("batch_stats", "Conv3d_1a_7x7", "BatchNorm_0")]
)
def test_conversion_misses_a_tensor(state, path):
    tree = flax_tree(state)
    node = tree
    for part in path:
        node = node[part]
    name, _ = node.popitem()
    with pytest.raises(KeyError, match=name):
        from_flax(tree)


def test_conversion_finds_a_tensor_left_over(state):
    tree = flax_tree(state)
    tree["params"]["Mixed_6a"] = {"Conv_0": {"kernel": np.zeros(3)}}
    with pytest.raises(ValueError, match=r"\b1 tensor.*params/Mixed_6a/Conv_0/kernel"):
        from_flax(tree)


@pytest.mark.parametrize(
    "wrong", [lambda a: a[..., :-1], lambda a: a[:-1], lambda a: a[0], lambda a: a.swapaxes(3, 4)], ids=range(4)
)
def test_conversion_finds_a_kernel_of_another_shape(state, wrong):
    tree = flax_tree(state)
    node = tree["params"]["Mixed_4c"]["Branch_1/Conv3d_0b_3x3"]["Conv_0"]
    node["kernel"] = wrong(node["kernel"])
    with pytest.raises(ValueError):
        from_flax(tree)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1024, 399), (2, 1, 1, 1024, 400), (1024, 400)])
def test_conversion_finds_a_head_of_another_shape(state, shape):
    tree = flax_tree(state)
    tree["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]["kernel"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError):
        from_flax(tree)


def test_conversion_finds_statistics_of_another_shape(state):
    tree = flax_tree(state)
    tree["batch_stats"]["Conv3d_1a_7x7"]["BatchNorm_0"]["mean"] = np.zeros((1, 1, 1, 1, 63), np.float32)
    with pytest.raises(ValueError, match=r"backbone\.conv_1a\.norm\.running_mean.*\(63,\).*\(64,\)"):
        from_flax(tree)


# Layout and bfloat16


def test_weights_and_activations_are_channels_last():
    """The layout that convolutions are fast in."""
    model, layouts = channels_last(I3D(4)), {}

    def note(name, tensor):
        layouts[name] = tensor.is_contiguous(memory_format=torch.channels_last_3d)

    def hook(name):
        def both(unit, inputs, output):
            note(f"{name} in", inputs[0])
            note(f"{name} out", output)

        return both

    for name, unit in [(n, m) for n, m in model.named_modules() if isinstance(m, Unit3d | SamePool3d)]:
        if isinstance(unit, Unit3d):
            note(f"{name}.weight", unit.conv.weight)
        unit.register_forward_hook(hook(name))
    model(torch.rand(2, 16, 3, 64, 64))
    assert len(layouts) == 3 * 57 + 2 * 13
    assert [name for name, last in layouts.items() if not last] == []


def test_published_weights_are_laid_out_channels_last(trained):
    weights = [module.conv.weight for module in trained.modules() if isinstance(module, Unit3d)]
    assert len(weights) == 57
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)


def without_padding_by_hand(x: torch.Tensor, conv: nn.Conv3d, padding: tuple[int, ...]) -> torch.Tensor:
    """What `convolve` would be if oneDNN could be trusted."""
    return F.conv3d(x, conv.weight, conv.bias, conv.stride, padding)


def wrong_convolutions(model: nn.Module, frames: int, monkeypatch, convolve: Callable = i3d.convolve) -> list[str]:
    """Convolutions whose bfloat16 weight gradient is not the float32 one of the same inputs and the same gradient of
    the outputs. NaN counts as wrong.

    Compared one by one, because rounding errors add up in a network this deep: with batch norm over few clips, float32
    with rounded activations has other gradients than float32 without.
    """
    names = {module.conv: name for name, module in model.named_modules() if isinstance(module, Unit3d)}
    seen = {}

    def watched(x, conv, padding):
        y = convolve(x, conv, padding)
        seen[conv] = [x.detach().clone(), padding, None]
        y.register_hook(lambda gradient: seen[conv].__setitem__(2, gradient.clone()))
        return y

    monkeypatch.setattr(i3d, "convolve", watched)
    clips = torch.randn(2, frames, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(clips)
    F.cross_entropy(scores.float(), torch.arange(2)).backward()
    assert len(seen) == len(names) == 57
    wrong = []
    for conv, (x, padding, gradient) in seen.items():
        assert gradient.dtype == torch.bfloat16
        inputs, outputs = x.bfloat16().float(), gradient.float()
        exact = torch.nn.grad.conv3d_weight(inputs, conv.weight.shape, outputs, conv.stride, padding)
        cosine = F.cosine_similarity(exact.flatten(), conv.weight.grad.flatten(), dim=0).item()
        if not cosine >= 0.999:  # right ones have 0.99997 and more, the trap gives 0.7 down to NaN
            wrong.append(names[conv])
    return wrong


@needs_bf16
@pytest.mark.parametrize(
    "frames", [8, 16, pytest.param(32, marks=pytest.mark.slow), pytest.param(64, marks=pytest.mark.slow)]
)
def test_bf16_gradients_agree_with_fp32(frames, monkeypatch):
    torch.manual_seed(0)
    assert wrong_convolutions(channels_last(I3D(4)), frames, monkeypatch) == []


@needs_bf16
@pytest.mark.parametrize(("frames", "layers"), [(8, "mixed_4"), (16, "mixed_5")])
def test_without_padding_by_hand_the_same_criterion_fails(frames, layers, monkeypatch):
    """Shows that the test above can fail. If it is skipped everywhere, `convolve` is needed no longer."""
    torch.manual_seed(0)
    wrong = wrong_convolutions(channels_last(I3D(4)), frames, monkeypatch, without_padding_by_hand)
    if not wrong:
        pytest.skip(f"torch {torch.__version__} on this processor gets the gradients of the stock convolution right")
    assert all(layers in name for name in wrong)  # where the frames have become 2


def least_agreement(model: nn.Module, frames: int) -> float:
    """The smallest cosine between bfloat16 and float32 gradients of a convolution, through the whole network."""
    clips = torch.randn(2, frames, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = []
    for bf16 in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            scores = model(clips)
        F.cross_entropy(scores.float(), torch.arange(2)).backward()
        found.append([module.conv.weight.grad.flatten() for module in model.modules() if isinstance(module, Unit3d)])
    return min(torch.nan_to_num(F.cosine_similarity(a, b, dim=0), -1).item() for a, b in zip(*found, strict=True))


@needs_bf16
@pytest.mark.slow
@pytest.mark.parametrize("frames", [8, 16])
def test_gradients_of_the_whole_trained_network_agree_too(i3d_weights, frames):
    """With batch norm as it was trained."""
    torch.manual_seed(0)
    model = I3D(4)
    state = {name: tensor for name, tensor in load_file(i3d_weights).items() if not name.startswith("head")}
    model.load_state_dict(state, strict=False)
    assert least_agreement(channels_last(model).eval(), frames) >= 0.9  # the trap gives 0


@needs_bf16
@pytest.mark.parametrize("frames", [16, pytest.param(64, marks=pytest.mark.slow)])
def test_bf16_features_agree_with_fp32(trained, frames):
    clip = drawn_clip(frames, 112)
    with torch.inference_mode():
        exact = trained.features(clip)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = trained.features(clip).float()
    assert not torch.equal(exact, rounded)
    assert F.cosine_similarity(exact, rounded).item() > 0.999
