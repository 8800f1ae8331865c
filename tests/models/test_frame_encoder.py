"""`--backbone` takes any torchvision classifier."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch.nn import init

from varec_lib.errors import ConfigError
from varec_lib.models.frame_average import FrameAverage, FrameEncoder

FAST = [
    ("resnet18", 32), ("mobilenet_v3_small", 32), ("densenet121", 32), ("squeezenet1_1", 32),
    ("shufflenet_v2_x0_5", 32), ("alexnet", 64),
]  # fmt: skip
HEAVY = [
    ("mobilenet_v2", 32), ("efficientnet_b0", 32), ("mnasnet0_5", 32), ("regnet_y_400mf", 32),
    ("vgg11", 32), ("convnext_tiny", 64), ("googlenet", 64), ("inception_v3", 96), ("swin_t", 64), ("swin_v2_t", 64),
    ("resnext50_32x4d", 64), ("wide_resnet50_2", 64), ("vit_b_16", 224), ("maxvit_t", 224),
]  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "size"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in HEAVY)]
)
def test_one_backbone_of_each_torchvision_family(backbone, size):
    torch.manual_seed(0)
    model = FrameAverage(3, backbone=backbone, frame_size=(size, size))
    assert model.training
    assert all(module.training for module in model.modules())
    clips = torch.rand(1, 2, 3, size, size)
    for mode in (True, False):
        with torch.no_grad():
            scores = model.train(mode)(clips)
        assert scores.shape == (1, 3)
        assert scores.isfinite().all()
    assert model.backbone.encode_clips(clips).shape == (1, 2, model.backbone.num_features)


@pytest.mark.parametrize(
    ("backbone", "size"), [("alexnet", (32, 32)), ("vit_b_16", (64, 64)), ("inception_v3", (32, 48))]
)
def test_impossible_frame_size_is_a_config_error(backbone, size):
    with pytest.raises(ConfigError, match=rf"{backbone}\b.*\b{size[0]}x{size[1]}"):
        FrameEncoder(backbone, size)


def test_frames_need_not_be_square():
    encoder = FrameEncoder("resnet18", (48, 96))
    assert encoder(torch.rand(2, 3, 48, 96)).shape == (2, 512)


def test_names_are_those_of_torchvision():
    own = FrameEncoder("resnet18", (32, 32)).network.state_dict()
    theirs = torchvision.models.resnet18().state_dict()
    assert set(theirs) - set(own) == {"fc.weight", "fc.bias"}
    assert set(own) <= set(theirs)


@pytest.fixture
def shapes_only(monkeypatch) -> None:
    """Neither draws weights nor normalises: on the meta device that takes PyTorch long, and leaves shapes as they are.

    There is no kernel for it, so that each batch norm is taken apart into some ten operations in Python.
    """
    for name in [name for name in vars(init) if name.endswith("_") and not name.startswith("_")]:
        monkeypatch.setattr(init, name, lambda tensor, *_, **__: tensor)
    for name in ("batch_norm", "layer_norm"):
        monkeypatch.setattr(F, name, lambda x, *_, **__: x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    # RegNets compute their widths from tensors, so they cannot be built without memory; regnet_y_400mf is tried above.
    [name for name in torchvision.models.list_models(module=torchvision.models) if not name.startswith("regnet")],
)
def test_every_torchvision_classifier_can_be_built(backbone, shapes_only):
    size = 299 if backbone == "inception_v3" else 224
    with torch.device("meta"):  # shapes without memory or arithmetic
        encoder = FrameEncoder(backbone, (size, size))
        features = encoder(torch.zeros(2, 3, size, size))
    assert features.shape == (2, encoder.num_features)
    assert encoder.num_features >= 256
