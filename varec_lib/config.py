"""`TrainConfig`: one dataclass that is the flags of `varec train`, the notebooks' parameters, and `config.json`."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from varec_lib.errors import ConfigError

# Where `make course` and the notebooks keep things: the folder that holds notebooks/ and varec_lib/.
PROJECT_ROOT = Path(__file__).resolve().parents[1]


@dataclass
class TrainConfig:
    """Everything that decides what a training run does."""

    data_dir: Annotated[Path, tyro.conf.arg(name="data", aliases=["--data-dir"])] = Path("data/stick_actions")
    """Dataset folder: videos/ with train.csv, val.csv and test.csv; the Kaggle UCF-101 layout; or UCF-101 itself."""
    ucf_split: int = 1
    """Which of the three official lists to use where the folder is UCF-101 itself."""
    strict: bool = False
    """Stop when a video is missing or unreadable instead of naming it and leaving it out."""

    model: str = "r3d18"
    """r3d18, cnnlstm, frame_average, or a name that a plugin registers."""
    backbone: str = "resnet18"
    """Any torchvision image classifier; the frame encoder of cnnlstm and frame_average."""
    pretrained: bool = False
    """Start from torchvision's ImageNet (frame encoders) or Kinetics-400 (r3d18) weights."""
    weights: Path | None = None
    """Start the backbone from this local file (a state_dict or safetensors)."""
    freeze_backbone: bool = False
    """Train the head only; the backbone keeps its weights and its batch-norm statistics."""
    plugin: Path | None = None
    """Python file that registers your own models with @register_model."""

    num_frames: int = 16
    """Frames per clip."""
    frame_size: tuple[int, int] = (112, 112)
    """Height and width of the frames a model sees, in pixels."""
    sampling: Literal["uniform", "dense"] = "uniform"
    """uniform: frames spread over the whole video; dense: every `stride`-th frame of a stretch."""
    stride: int = 2
    """Distance between the frames of a dense clip, in video frames."""
    augment: bool = True
    """Random crop, flip and colour changes in training, the same for all frames of a clip."""
    flip: bool = True
    """Allow mirrored clips when augmenting; switch it off where left and right have a meaning."""
    views: int = 1
    """Clips per video whose class probabilities are averaged when testing."""

    epochs: int = 100
    """Passes over the training videos at the most."""
    batch_size: int = 32
    """Clips per optimiser step and process, before accumulation."""
    accumulate: int = 1
    """Batches whose gradients are summed before one optimiser step."""
    lr: float = 0.001
    """Highest learning rate of AdamW."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    label_smoothing: float = 0.0
    """Share of the target probability that is spread over all classes."""
    scheduler: Literal["plateau", "cosine"] = "plateau"
    """plateau: a tenth of the rate when validation loss stalls; cosine: down to zero over all epochs."""
    warmup_epochs: float = 1.0
    """Epochs during which the learning rate rises linearly from near zero."""
    patience: int = 10
    """Stop after this many epochs without a better validation result; 0 never stops early."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the processor or GPU computes in it, otherwise fp32."""
    num_workers: int = 2
    """Processes that decode videos; 0 decodes in the training process."""
    seed: int = 0
    """Seed of weights, shuffling, sampling and augmentation."""
    experiment_name: str = ""
    """First part of the experiment folder's name; the model's name if empty."""
    experiments_dir: Path = Path("experiments")
    """Folder that receives the experiment folders."""

    def __post_init__(self) -> None:
        self.data_dir = Path(self.data_dir)
        self.experiments_dir = Path(self.experiments_dir)
        self.weights = Path(self.weights) if self.weights else None
        self.plugin = Path(self.plugin) if self.plugin else None
        self.frame_size = tuple(self.frame_size)
        self.experiment_name = self.experiment_name or self.model
        self._check()

    def _check(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "num_frames": 1, "stride": 1, "views": 1, "accumulate": 1,
                    "patience": 0, "num_workers": 0, "seed": 0, "warmup_epochs": 0, "weight_decay": 0}  # fmt: skip
        for name, low in at_least.items():
            if not low <= getattr(self, name) < 2**32:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least {low} and below 2**32.")
        if len(self.frame_size) != 2 or min(self.frame_size) < 16:
            raise ConfigError(f"frame_size is {self.frame_size}, but must be a height and a width of at least 16.")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr is {self.lr}, but must be above 0 and finite.")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}, but must be from 0 to below 1.")
        choices = {"scheduler": ("plateau", "cosine"), "sampling": ("uniform", "dense"),
                   "precision": ("auto", "fp32", "bf16", "fp16"), "ucf_split": (1, 2, 3)}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(str, known))}."
                )
        if self.pretrained and self.weights:
            raise ConfigError("pretrained and weights exclude each other: choose one source of weights.")
        if set(self.experiment_name) & set('/\\:*?"<>|'):
            raise ConfigError(f"experiment_name is {self.experiment_name!r}, but must be usable as a folder name.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values as `config.json` holds them."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    def save(self, path: Path) -> None:
        """Writes the configuration as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Reads what `save` wrote; settings that this version does not know are an error."""
        values = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"{path} has settings this version does not know: {', '.join(sorted(unknown))}.")
        return cls(**values)
