"""I3D: Inception-v1 whose filters were inflated through time (Carreira and Zisserman 2017, arXiv 1705.07750).

With Kinetics-400 weights (`varec weights get i3d_kinetics400`) it knows 400 actions before anything is trained.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from varec_lib.data.clip_spec import ClipSpec
from varec_lib.models.r3d18 import convolve
from varec_lib.models.registry import register_model

# As it was trained on Kinetics: 64 consecutive frames at 25 fps, pixels in -1..1.
SPEC = ClipSpec(64, (224, 224), (0.5,) * 3, (0.5,) * 3, sampling="dense", stride=1, short_side=256, fps=25.0)

# Channels of each Inception block: 1x1; 1x1 before 3x3, 3x3; 1x1 before the other 3x3, 3x3; 1x1 after pooling.
BLOCKS = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """TensorFlow's "SAME" padding (before, after) of each dimension: ceil(size / stride) outputs, the odd one behind.

    PyTorch pads both sides alike, which is something else wherever the total is odd, as before I3D's first layer.
    """
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _padded(x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Padding for the layer to add where both sides are alike; else the tensor padded with zeros, and none."""
    pads = same_padding(x.shape[2:], kernel, stride)
    if all(before == after for before, after in pads):
        return x, tuple(before for before, _ in pads)
    return F.pad(x, list(itertools.chain(*reversed(pads)))), (0, 0, 0)


class Unit3d(nn.Module):
    """Convolution with "SAME" padding, batch norm without a scale, ReLU: `(B, C, T, H, W)` to the same layout."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.norm = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.001)
        self.norm.register_parameter("weight", None)  # the next convolution can scale by itself

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, padding = _padded(x, self.conv.kernel_size, self.conv.stride)
        return F.relu(self.norm(convolve(x, self.conv, padding)), inplace=True)


class SamePool3d(nn.Module):
    """Max pooling with "SAME" padding. Padded zeros never win falsely: what it pools has passed a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, padding = _padded(x, self.kernel, self.stride)
        return F.max_pool3d(x, self.kernel, self.stride, padding)


class InceptionBlock(nn.Module):
    """Four branches side by side, their channels joined: 1x1, 1x1 and 3x3, 1x1 and 3x3, pooling and 1x1."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        a, b1, b2, c1, c2, d = channels
        self.branch_0 = Unit3d(inputs, a, one)
        self.branch_1 = nn.Sequential(Unit3d(inputs, b1, one), Unit3d(b1, b2, three))
        self.branch_2 = nn.Sequential(Unit3d(inputs, c1, one), Unit3d(c1, c2, three))
        self.branch_3 = nn.Sequential(SamePool3d(three, one), Unit3d(inputs, d, one))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], dim=1)


class InceptionTrunk(nn.Sequential):
    """Everything before the head, layer by layer: `(B, 3, T, H, W)` to `(B, 1024, T/8, H/32, W/32)`, rounded up."""

    num_features = 1024

    def __init__(self) -> None:
        super().__init__()
        self.conv_1a = Unit3d(3, 64, (7, 7, 7), stride=2)
        self.pool_2a = SamePool3d((1, 3, 3), (1, 2, 2))
        self.conv_2b = Unit3d(64, 64, (1, 1, 1))
        self.conv_2c = Unit3d(64, 192, (3, 3, 3))
        self.pool_3a = SamePool3d((1, 3, 3), (1, 2, 2))
        channels = 192
        for name, widths in BLOCKS.items():
            if name == "mixed_4b":
                self.pool_4a = SamePool3d((3, 3, 3), (2, 2, 2))
            if name == "mixed_5b":
                self.pool_5a = SamePool3d((2, 2, 2), (2, 2, 2))
            self.add_module(name, InceptionBlock(channels, widths))
            channels = widths[0] + widths[2] + widths[4] + widths[5]


@register_model("i3d", SPEC)
class I3D(nn.Module):
    """RGB I3D on clips `(B, T, C, H, W)`; 12.7 M parameters with 400 classes.

    The head is linear, so averaging its scores over time, as the paper does, is applying it to the averaged features.
    """

    def __init__(self, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = InceptionTrunk()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.backbone.num_features, num_classes))

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """What the backbone makes of clips `(B, T, C, H, W)`: `(B, 1024)`, averaged over space and time.

        As in the paper neighbouring steps of time are averaged first, so the two at the ends count half.
        """
        x = clips.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)  # (B, C, T, H, W)
        x = self.backbone(x).mean(dim=(3, 4))  # (B, 1024, T/8)
        return F.avg_pool1d(x, min(2, x.shape[2]), stride=1).mean(dim=2)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Class scores `(B, num_classes)` from features."""
        return self.head(features)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(clips))
