"""From decoded frames to what a network takes: one geometry and one colour change per clip, then normalisation."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2

from varec_lib.data.sampling import dense_indices, uniform_indices

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of RGB in 0..1, torchvision's image models
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # torchvision's video ResNets


@dataclass(frozen=True)
class ClipSpec:
    """How a video becomes a network's input. A checkpoint carries it, so prediction cannot use another one.

    Every registered model has one too: the input that its pretrained weights were trained on.
    """

    num_frames: int
    frame_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sampling: str = "uniform"
    stride: int = 2
    short_side: int = 0  # frames are first scaled down to it (0: not), as the frame store keeps them
    fps: float = 0.0  # and thinned out to this rate (0: not)
    crop_side: int = 0  # short side of the frames that are cropped to `frame_size` (0: the least that covers it)

    def __post_init__(self) -> None:
        for name in ("frame_size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON brings lists

    def indices(self, times: np.ndarray, **how: Any) -> list[int]:
        """Frame indices of one clip of a video with these `times` `(F + 1,)`; as in `varec_lib.data.sampling`."""
        if self.sampling == "dense":
            return dense_indices(times, self.num_frames, self.step_s(times), **how)
        return uniform_indices(times, self.num_frames, **how)

    def step_s(self, times: np.ndarray) -> float:
        """Seconds between two frames of a dense clip: `stride` frames at `fps`, or else at the video's mean rate."""
        return self.stride / self.fps if self.fps else self.stride * times[-1] / (len(times) - 1)

    def repeats(self, times: np.ndarray) -> bool:
        """Whether a clip of a video with these `times` shows frames twice, because the video is shorter."""
        if self.sampling == "dense":
            return bool((self.num_frames - 1) * self.step_s(times) >= times[-1])
        return len(times) - 1 < self.num_frames

    def crop(self, clip: torch.Tensor) -> torch.Tensor:
        """Evaluation geometry: `(..., C, H, W)` scaled to cover `frame_size`, then its centre, uint8 as before."""
        return self.crops(clip, 1)[0]

    def crops(self, clip: torch.Tensor, count: int) -> torch.Tensor:
        """`(..., C, H, W)` scaled, then `count` crops `(count, ..., C, *frame_size)` from one end to the other.

        One crop is the centre, three are the usual protocol's: both ends of the longer side and the centre.
        """
        size, wanted = clip.shape[-2:], self.frame_size
        scale = max(wanted[0] / size[0], wanted[1] / size[1], self.crop_side / min(size))
        height, width = (max(round(side * scale), least) for side, least in zip(size, wanted, strict=True))
        scaled = v2.functional.resize(clip, [height, width], antialias=True)
        places = np.linspace(0, 1, count) if count > 1 else [0.5]
        corners = [(round((height - wanted[0]) * place), round((width - wanted[1]) * place)) for place in places]
        return torch.stack([scaled[..., y : y + wanted[0], x : x + wanted[1]] for y, x in corners])

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 `(..., C, H, W)` to float: scaled to 0..1, mean subtracted, divided by std. Runs on any device."""
        mean = torch.tensor(self.mean, device=batch.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(-1, 1, 1)
        return (batch.float() / 255 - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint's metadata."""
        return asdict(self)


def random_crop(frame_size: tuple[int, int]) -> v2.Transform:
    """Random resized crop of a uint8 clip `(T, C, H, W)` to `(T, C, *frame_size)`.

    The parameters are drawn once per call, so all frames of a clip are changed alike and the motion is kept.
    """
    return v2.RandomResizedCrop(list(frame_size), scale=(0.6, 1.0), ratio=(4 / 5, 5 / 4), antialias=True)


def random_colours(*, flip: bool = True) -> v2.Transform:
    """Random colour jitter and, with `flip`, mirroring of a clip `(T, C, H, W)`; one draw per call, on any device."""
    mirror = [v2.RandomHorizontalFlip()] if flip else []
    return v2.Compose([*mirror, v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)])


def apply_each(transform: v2.Transform, clips: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    """A random transform on each clip of a batch `(B, T, C, H, W)` by its own seed; leaves random states untouched.

    torchvision draws from the processor's global generator, also for clips on a GPU.
    """
    changed = []
    with torch.random.fork_rng(devices=[]):
        for clip, seed in zip(clips, seeds, strict=True):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reset the GPU's dropout as well
            changed.append(transform(clip))
    return torch.stack(changed)
