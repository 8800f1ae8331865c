"""Frame encoders, and the baseline that averages them over time (notebook 02)."""

import torch
import torchvision
from torch import nn

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.errors import ConfigError
from varec_lib.models.registry import register_model

SPEC = ClipSpec(16, (224, 224), *IMAGENET)  # the size of the pictures that ImageNet weights were trained on


class FrameEncoder(nn.Module):
    """A torchvision image classifier without its last layer: images `(N, C, H, W)` to features `(N, num_features)`.

    The state_dict has torchvision's own names, so weight files of the classifier fit as they are.
    """

    def __init__(self, backbone: str, frame_size: tuple[int, int]) -> None:
        super().__init__()
        try:
            self.network = _without_last_layer(image_classifier(backbone))
            with torch.no_grad():
                features = self.network.eval()(torch.zeros(1, 3, *frame_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            size = "x".join(map(str, frame_size))
            raise ConfigError(f"backbone {backbone} cannot work with frames of {size}: {error}") from error
        self.network.train()
        self.num_features = features.shape[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.contiguous(memory_format=torch.channels_last))

    def encode_clips(self, clips: torch.Tensor) -> torch.Tensor:
        """Features of every frame by itself: `(B, T, C, H, W)` to `(B, T, num_features)`."""
        return self(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])


def image_classifier(backbone: str) -> nn.Module:
    """A torchvision image classifier with random weights; raises `ConfigError` for a name torchvision does not have."""
    known = torchvision.models.list_models(module=torchvision.models)
    if backbone not in known:
        raise ConfigError(f"There is no torchvision classifier {backbone!r}. Known: {', '.join(known)}.")
    quiet = {"aux_logits": False, "init_weights": True} if backbone in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(backbone, weights=None, **quiet)


def _without_last_layer(classifier: nn.Module) -> nn.Module:
    """Replaces the layer that makes class scores by the identity."""
    layers = [(n, m) for n, m in classifier.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    linear = [(n, m) for n, m in layers if isinstance(m, nn.Linear)]
    name = (linear or layers)[-1][0]  # SqueezeNet ends in a convolution
    parent, _, child = name.rpartition(".")
    setattr(classifier.get_submodule(parent), child, nn.Identity())
    return classifier


@register_model("frame_average", SPEC)
class FrameAverage(nn.Module):
    """Mean of the frame features over time, then one linear layer. Blind to the order of frames by construction."""

    features_per_frame = True  # of one frame, whatever stands before and behind it

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet18",
        frame_size: tuple[int, int] = (112, 112),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.backbone = FrameEncoder(backbone, frame_size)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.backbone.num_features, num_classes))

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """What the backbone makes of clips `(B, T, C, H, W)`: `(B, T, F)`."""
        return self.backbone.encode_clips(clips)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Class scores `(B, num_classes)` from features."""
        return self.head(features.mean(dim=1))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(clips))
