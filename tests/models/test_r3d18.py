"""R3D-18, and the guard against oneDNN's wrong bfloat16 gradients (see `TimePaddedConv3d`)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.video import r3d_18

from varec_lib.models.backbone import channels_last
from varec_lib.models.r3d18 import R3D18, TimePaddedConv3d

pytestmark = pytest.mark.usefixtures("two_threads")
needs_bf16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16") and not torch.cpu.get_capabilities().get("amx_bf16"),
    reason="this processor does not compute in bfloat16",
)
SAME_DIRECTION = 0.9  # cosine; bfloat16 rounding alone gives 0.91 and more, the trap gives 0.7 down to NaN


def conv_gradients(model: nn.Module, clips: torch.Tensor, bf16: bool) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        scores = model(clips)
    F.cross_entropy(scores.float(), torch.arange(len(clips))).backward()
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv3d)}
    return {name: conv.weight.grad.flatten().clone() for name, conv in convs.items()}


def wrong_convolutions(model: nn.Module, num_frames: int) -> list[str]:
    """Convolutions whose bfloat16 weight gradient points elsewhere than the float32 one; NaN counts as wrong."""
    clips = torch.randn(2, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, rounded = (conv_gradients(model, clips, bf16) for bf16 in (False, True))
    assert len(exact) == 20
    cosines = {name: F.cosine_similarity(exact[name], rounded[name], dim=0).item() for name in exact}
    return [name for name, cosine in cosines.items() if not cosine >= SAME_DIRECTION]


@needs_bf16
@pytest.mark.parametrize(
    "num_frames", [8, 16, pytest.param(4, marks=pytest.mark.slow), pytest.param(32, marks=pytest.mark.slow)]
)
def test_bf16_gradients_agree_with_fp32(num_frames):
    torch.manual_seed(0)
    assert wrong_convolutions(R3D18(4), num_frames) == []


@needs_bf16
def test_stock_conv3d_fails_the_same_criterion():
    """Shows that the test above can fail. If it is skipped everywhere, `TimePaddedConv3d` is needed no longer."""
    torch.manual_seed(0)
    stock = R3D18(4)
    for module in stock.modules():
        if isinstance(module, TimePaddedConv3d):
            module.__class__ = nn.Conv3d
    wrong = wrong_convolutions(stock, 8)
    if not wrong:
        pytest.skip(f"torch {torch.__version__} on this processor gets the gradients of the stock Conv3d right")
    assert all("layer3" in name for name in wrong)  # where 8 frames have become 2


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (5, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 6])  # by a road of its own at 1 and 2
def test_time_padded_convolution_is_the_same_function(kernel, stride, depth):
    torch.manual_seed(0)
    stock = nn.Conv3d(3, 4, kernel, stride=stride, padding=tuple(k // 2 for k in kernel))
    padded = TimePaddedConv3d(3, 4, kernel, stride=stride, padding=stock.padding)
    padded.load_state_dict(stock.state_dict())
    x = torch.randn(2, 3, depth, 8, 10)
    torch.testing.assert_close(padded(x), stock(x), rtol=1e-5, atol=1e-5)
    for conv in (stock, padded):
        conv(x).square().sum().backward()
    torch.testing.assert_close(padded.weight.grad, stock.weight.grad, rtol=1e-4, atol=1e-3)


def test_weights_and_activations_are_channels_last():
    """The layout that convolutions are fast in."""
    model, layouts = channels_last(R3D18(4)), {}

    def note(name, tensor):
        layouts[name] = tensor.is_contiguous(memory_format=torch.channels_last_3d)

    def hook(name):
        def both(conv, inputs, output):
            note(f"{name} in", inputs[0])
            note(f"{name} out", output)

        return both

    for name, conv in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv3d)]:
        note(f"{name}.weight", conv.weight)
        conv.register_forward_hook(hook(name))
    model(torch.rand(2, 8, 3, 32, 32))
    assert len(layouts) == 3 * 20
    assert [name for name, last in layouts.items() if not last] == []


def test_same_scores_and_names_as_torchvision():
    torch.manual_seed(0)
    theirs, ours = r3d_18(num_classes=5).eval(), R3D18(5).eval()
    ours.backbone.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    ours.head[1].load_state_dict(theirs.fc.state_dict())
    clips = torch.rand(1, 8, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs(clips.transpose(1, 2)), rtol=1e-4, atol=1e-4)
    assert {f"backbone.{k}" for k in theirs.state_dict() if not k.startswith("fc.")} == {
        k for k in ours.state_dict() if not k.startswith("head.")
    }


def test_every_convolution_through_time_is_guarded():
    convs = [module for module in R3D18(4).modules() if isinstance(module, nn.Conv3d)]
    assert len(convs) == 20
    assert all(isinstance(conv, TimePaddedConv3d) for conv in convs)
