"""`TrainConfig`: one dataclass that is the flags of `varec train`, the notebooks' parameters, and `config.json`."""

import json
import math
import os
from dataclasses import asdict, dataclass, fields, replace
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

    store: Literal["raw", "jpeg", "off"] = "raw"
    """Decode every video once into a memory-mapped store of raw frames; jpeg for datasets too large for that (a tenth
    of the disk, slightly lossy); off decodes in every epoch."""
    store_dir: Path = Path("data/store")
    """Folder of the frame stores; processes on several machines may share it."""
    short_side: int = 0
    """Shorter side in pixels to which frames are scaled before anything else; 0: 8/7 of the frame size's."""
    fps: float = 15.0
    """Thin videos out to this many frames a second, where they have more; 0 keeps all, for very short actions."""

    model: str = "r3d18"
    """r3d18, i3d, cnnlstm, frame_average, or a name that a plugin registers."""
    backbone: str = "resnet18"
    """Any torchvision image classifier; the frame encoder of cnnlstm and frame_average."""
    pretrained: bool = False
    """Start from published weights: Kinetics-400 (i3d, r3d18) or ImageNet (frame encoders); `varec weights` lists
    them. With --freeze_backbone, clips are then as these weights were trained on, and not augmented, unless flags say
    otherwise."""
    weights: Path | None = None
    """Start the backbone from this local file (a state_dict or safetensors), or from weights by their name in
    `varec weights`."""
    freeze_backbone: bool = False
    """Train the head only; the backbone keeps its weights and its batch-norm statistics. With --no-augment, or with
    --fixed_views, its features are computed once and stored, and the head trains on them in seconds."""
    train_blocks: int = 0
    """Train the head and this many of the backbone's last blocks, and freeze the others; 0: all of them learn."""
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
    fixed_views: int = 0
    """0: a new random clip of each video in every epoch. N: N clips per video, drawn once and repeated in turn, so
    that a frozen backbone computes their features once (with --no-augment one is enough)."""
    views: int = 1
    """Clips per video whose class probabilities are averaged when testing."""

    epochs: int = 100
    """Passes over the training videos at the most."""
    multigrid: bool = False
    """Train coarse to fine: most epochs on clips of half the height and width, which cost a quarter, the last ones on
    clips of --frame_size. `epochs` counts them all."""
    multigrid_batches: bool = False
    """With --multigrid, fill batches of small clips up to the memory of large ones: for a GPU and many videos."""
    batch_size: int = 32
    """Clips per batch and process."""
    accumulate: int = 1
    """Batches per optimiser step; for a larger step than memory holds: the gradients are those of one large batch."""
    lr: float = 0.001
    """Highest learning rate of AdamW."""
    backbone_lr: float = 0.0
    """Another one for the backbone; a tenth of --lr keeps what a pretrained backbone knows while a new head learns.
    0: the same."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, on weights but not on biases and norms; more of it where the model overfits."""
    clip_grad: float = 0.0
    """Scale the gradient down to this norm where it is longer; 1 calms a loss that jumps. 0: off."""
    label_smoothing: float = 0.0
    """Share of the target probability that is spread over all classes; 0.1 where the model is too sure of itself."""
    mixup: float = 0.0
    """Blend pairs of clips and labels, with weights drawn from Beta(a, a); 0.2 to 0.8 for long trainings on few
    videos. 0: off."""
    cutmix: float = 0.0
    """Paste a box of one clip into another, the same box in all frames; for long trainings only: in short ones it
    cost accuracy. 1 is usual. 0: off."""
    ema: float = 0.0
    """Average the weights over about 1/(1 - ema) steps and test the average; 0.99 to 0.999 smooths a validation curve
    that jumps. 0: off."""
    balanced: bool = False
    """Draw every class equally often, where some classes have many more videos than others."""
    scheduler: Literal["plateau", "cosine"] = "plateau"
    """plateau: a tenth of the rate when validation loss stalls, for trainings of unknown length; cosine: down to zero
    over all epochs, the better choice where you know how many there will be."""
    warmup_epochs: float = 1.0
    """Epochs during which the learning rate rises linearly from near zero; more for large batches or rates."""
    patience: int = 10
    """Stop after this many epochs without a better validation result; 0 never stops early."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the processor or GPU computes in it, otherwise fp16 on a GPU and fp32 on a processor; or what
    the environment variable VAREC_PRECISION says."""
    compile: bool = False
    """Compile the model with torch.compile: pays on a GPU for long trainings, seldom on a processor."""
    num_workers: int = 2
    """Processes that read and crop clips; 0 does it in the training process."""
    seed: int = 0
    """Seed of weights, shuffling, sampling and augmentation."""
    resume: Path | None = None
    """Continue this experiment folder after a crash or Ctrl-C, with its own settings; few can be given anew."""
    save_minutes: float = 5.0
    """Minutes between two saved states within an epoch; at the end of an epoch it is always saved."""
    experiment_name: str = ""
    """First part of the experiment folder's name; the model's name if empty."""
    experiments_dir: Path = Path("experiments")
    """Folder that receives the experiment folders."""

    def __post_init__(self) -> None:
        self.data_dir = Path(self.data_dir)
        self.experiments_dir = Path(self.experiments_dir)
        self.store_dir = Path(self.store_dir)
        self.resume = Path(self.resume) if self.resume else None
        self.weights = Path(self.weights) if self.weights else None
        self.plugin = Path(self.plugin) if self.plugin else None
        self.frame_size = tuple(self.frame_size)
        self.experiment_name = self.experiment_name or self.model
        self._check()

    def _check(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "num_frames": 1, "stride": 1, "views": 1, "accumulate": 1,
                    "patience": 0, "num_workers": 0, "seed": 0, "warmup_epochs": 0, "weight_decay": 0,
                    "fixed_views": 0, "train_blocks": 0, "backbone_lr": 0, "short_side": 0, "fps": 0, "clip_grad": 0,
                    "mixup": 0, "cutmix": 0, "save_minutes": 0}  # fmt: skip
        for name, low in at_least.items():
            if not low <= getattr(self, name) < 2**32:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least {low} and below 2**32.")
        if len(self.frame_size) != 2 or min(self.frame_size) < 16:
            raise ConfigError(f"frame_size is {self.frame_size}, but must be a height and a width of at least 16.")
        if self.freeze_backbone and self.backbone_lr:
            raise ConfigError("backbone_lr and freeze_backbone exclude each other: a frozen backbone does not learn.")
        if self.freeze_backbone and self.train_blocks:
            raise ConfigError("train_blocks and freeze_backbone exclude each other: a frozen backbone does not learn.")
        if self.freeze_backbone and self.multigrid:
            raise ConfigError("multigrid and freeze_backbone exclude each other: features are those of one clip size.")
        if self.multigrid_batches and not self.multigrid:
            raise ConfigError("multigrid_batches needs multigrid: otherwise all clips have one size.")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr is {self.lr}, but must be above 0 and finite.")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}, but must be from 0 to below 1.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}, but must be from 0 to below 1.")
        choices = {"store": ("raw", "jpeg", "off"), "scheduler": ("plateau", "cosine"),
                   "sampling": ("uniform", "dense"), "precision": ("auto", "fp32", "bf16", "fp16"),
                   "ucf_split": (1, 2, 3)}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(str, known))}."
                )
        if self.pretrained and self.weights:
            raise ConfigError("pretrained and weights exclude each other: choose one source of weights.")
        if set(self.experiment_name) & set('/\\:*?"<>|'):
            raise ConfigError(f"experiment_name is {self.experiment_name!r}, but must be usable as a folder name.")

    @property
    def stored_short_side(self) -> int:
        """Pixels of the shorter side of stored frames: `short_side`, or what leaves random crops a margin."""
        return self.short_side or round(min(self.frame_size) * 8 / 7)

    def replaced(self, **settings: Any) -> "TrainConfig":
        """A copy with other settings."""
        return replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values as `config.json` holds them."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    def save(self, path: Path) -> None:
        """Writes the configuration as JSON."""
        partial = path.with_name(path.name + ".partial")  # a killed `--resume` shall leave the former one
        partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Reads what `save` wrote; settings that this version does not know are an error."""
        try:
            values = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path}: damaged, not a configuration ({error}).") from error
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"{path} has settings this version does not know: {', '.join(sorted(unknown))}.")
        return cls(**values)
