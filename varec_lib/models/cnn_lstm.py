"""CNN+LSTM: an image network reads each frame, an LSTM reads the sequence (notebook 02; LRCN, arXiv 1411.4389)."""

import torch
from torch import nn

from varec_lib.models.frame_average import SPEC, FrameEncoder
from varec_lib.models.registry import register_model


@register_model("cnnlstm", SPEC)
class CnnLstm(nn.Module):
    """Frame features, a two-layer LSTM over them, one linear layer on the last hidden state.

    With ResNet-18 and 101 classes: 15.4 M parameters.
    """

    features_per_frame = True  # of one frame, whatever stands before and behind it

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet18",
        frame_size: tuple[int, int] = (112, 112),
        hidden_size: int = 512,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.backbone = FrameEncoder(backbone, frame_size)
        self.lstm = nn.LSTM(self.backbone.num_features, hidden_size, num_layers, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_size, num_classes))

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """What the backbone makes of clips `(B, T, C, H, W)`: `(B, T, F)`."""
        return self.backbone.encode_clips(clips)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Class scores `(B, num_classes)` from features, whatever their number format.

        Features can be float32 where the arithmetic is not: stored ones are, and those of backbones that end in a layer
        norm. For such a mixture oneDNN has an LSTM only on processors with AVX-512.
        """
        device = features.device.type
        if torch.is_autocast_enabled(device):
            features = features.to(torch.get_autocast_dtype(device))
        hidden, _ = self.lstm(features)  # (B, T, hidden_size)
        return self.head(hidden[:, -1])

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(clips))
