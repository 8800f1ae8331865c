"""R3D-18: a ResNet whose convolutions reach through time (notebook 03; Tran et al., arXiv 1711.11248)."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.video import r3d_18

from varec_lib.data.clip_spec import KINETICS, ClipSpec
from varec_lib.models.registry import register_model


def convolve(x: torch.Tensor, conv: nn.Conv3d, padding: tuple[int, ...]) -> torch.Tensor:
    """A `Conv3d`'s weights applied with this padding `(time, height, width)`, by a road that is right and fast.

    A clip that has shrunk to one frame meets only the middle of a kernel; the rest multiplies padding. Leaving it out
    is the same function and makes an R3D-18 step in fp32 18 % shorter at 8x32x32, 7 % at 8x64x64.

    In torch 2.14 on CPU, the bfloat16 weight gradient of a convolution with temporal kernel 3 and temporal padding 1
    on an input of temporal depth 2 comes from uninitialised memory. Padding first and convolving without temporal
    padding is the same function with the right gradient (tests/models/test_r3d18.py compares both with float32). Other
    depths are left to oneDNN, which skips the padding instead of multiplying by it: 20 % faster at 8 frames.
    """
    time, height, width = padding
    if x.shape[2] == 1 and conv.kernel_size[0] == 2 * time + 1:
        middle = conv.weight[:, :, time : time + 1]
        return F.conv3d(x, middle, conv.bias, conv.stride, (0, height, width), conv.dilation, conv.groups)
    if x.device.type == "cpu" and time and x.shape[2] == 2:
        x, padding = F.pad(x, (0, 0, 0, 0, time, time)), (0, height, width)
    return F.conv3d(x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)


class TimePaddedConv3d(nn.Conv3d):
    """A `Conv3d` with right bfloat16 gradients; see `convolve`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return convolve(x, self, self.padding)


def pad_time_by_hand(network: nn.Module) -> nn.Module:
    """Turns every `Conv3d` of a network into a `TimePaddedConv3d`, in place; weights and names stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.__class__ = TimePaddedConv3d
    return network


# As torchvision's weights were trained on Kinetics: 16 consecutive frames at 15 fps.
SPEC = ClipSpec(16, (112, 112), *KINETICS, sampling="dense", stride=1, short_side=128, fps=15.0)


@register_model("r3d18", SPEC)
class R3D18(nn.Module):
    """torchvision's `r3d_18` on clips `(B, T, C, H, W)`; 33.2 M parameters with 101 classes."""

    def __init__(self, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = pad_time_by_hand(r3d_18())
        num_features = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """What the backbone makes of clips `(B, T, C, H, W)`: `(B, 512)`."""
        x = clips.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)  # (B, C, T, H, W)
        return self.backbone(x)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Class scores `(B, num_classes)` from features."""
        return self.head(features)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(clips))
