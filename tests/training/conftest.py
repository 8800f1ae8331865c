"""A model small enough to train in a second, and the settings that go with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.models.registry import register_model


@register_model("tiny")
class Tiny(nn.Module):
    """One convolution with batch norm per frame, a linear layer over all frames; dropout, so that its draws count."""

    def __init__(self, num_classes: int, num_frames: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * num_frames, num_classes))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).flatten(1))


@pytest.fixture
def tiny_config(numbered_dataset, tmp_path) -> Callable[..., TrainConfig]:
    """`make(**settings)`: a run of seconds on the 18 numbered training videos, in batches of 4."""

    def make(**settings: object) -> TrainConfig:
        defaults = {
            "data_dir": numbered_dataset, "experiments_dir": tmp_path / "experiments", "model": "tiny", "epochs": 2,
            "batch_size": 4, "num_workers": 0, "num_frames": 4, "frame_size": (32, 32), "precision": "fp32",
            "lr": 0.01,
        }  # fmt: skip
        return TrainConfig(**defaults | settings)

    return make


@pytest.fixture
def plugin(tmp_path) -> Path:
    """A plugin file that registers `slow_tiny`, for runs in a process of their own."""
    file = tmp_path / "slow_tiny.py"
    file.write_text(
        "import time\n"
        "from torch import nn\n"
        "from varec_lib.models.registry import register_model\n\n"
        '@register_model("slow_tiny")\n'
        "class SlowTiny(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(3, num_classes)\n\n"
        "    def forward(self, clips):\n"
        "        time.sleep(0.05)\n"
        "        return self.head(clips.mean(dim=(1, 3, 4)))\n"
    )
    return file
