"""`TrainConfig`: one dataclass that is the flags of `varec train`, the notebooks' parameters, and `config.json`.

A setting is written here and nowhere else: type, range, default, whether a resumed run may change it, and its sentence.
"""

import json
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro
from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from varec_lib.errors import ConfigError
from varec_lib.files import write_text

# Where `make course` and the notebooks keep things: the folder that holds notebooks/ and varec_lib/.
PROJECT_ROOT = Path(__file__).resolve().parents[1]
BEST = Path("checkpoints") / "best_model.safetensors"  # where an experiment folder has its best model

ON_RESUME = "a resumed run may change it: it does not alter what the saved state means"
Count = Annotated[int, Interval(ge=1, lt=2**32)]
Whole = Annotated[int, Interval(ge=0, lt=2**32)]
Share = Annotated[float, Interval(ge=0, lt=1)]
NotNegative = Annotated[float, Ge(0)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
OptionalPath = Annotated[UserPath | None, BeforeValidator(lambda path: path or None)]
FrameSize = tuple[Annotated[int, Interval(ge=16, lt=2**16)], Annotated[int, Interval(ge=16, lt=2**16)]]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class _Ordinary(tuple):
    """Marks a setting whose default depends: on the weights of a frozen pretrained backbone, else it is this one."""


def _ordinary(value: Any, shown: str) -> tuple:
    hint = f"(default: {shown}; with frozen pretrained weights, as these were trained)"
    return _Ordinary((value,)), tyro.conf.DisallowNone, tyro.conf.arg(help_behavior_hint=hint)


@dataclass
class Settings:
    """What people write: a value of the wrong type or out of range is a `ConfigError` that names it."""

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, values: Any, validate: Any) -> "Settings":
        try:
            return validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name, *where = map(str, first["loc"])
            said = first["msg"].replace("Input should", "must").replace("greater than or equal to", "at least")
            where = f" ({where[0]})" if where else ""
            raise ConfigError(f"{name}{where} is {first['input']!r}, but {said}.") from None


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False))
class TrainConfig(Settings):
    """Everything that decides what a training run does."""

    data_dir: Annotated[UserPath, tyro.conf.arg(name="data", aliases=["--data-dir"]), ON_RESUME] = Path(
        "data/stick_actions"
    )
    """Dataset folder: videos/ with train.csv, val.csv and test.csv; the Kaggle UCF-101 layout; or UCF-101 itself."""
    ucf_split: Literal[1, 2, 3] = 1
    """Which of the three official lists to use where the folder is UCF-101 or HMDB51 itself."""
    strict: Annotated[bool, ON_RESUME] = False
    """Stop when a video is missing or unreadable instead of naming it and leaving it out."""

    store: Annotated[Literal["raw", "jpeg", "off"], ON_RESUME] = "raw"
    """Decode every video once into a store of raw frames; jpeg for datasets too large for that (a tenth
    of the disk, slightly lossy); off decodes in every epoch."""
    store_dir: Annotated[UserPath, ON_RESUME] = Path("data/store")
    """Folder of the frame stores; processes on several machines may share it."""
    short_side: Whole = 0
    """Shorter side in pixels to which frames are scaled before anything else; 0: 8/7 of the frame size's."""
    fps: Annotated[NotNegative | None, *_ordinary(15.0, "15")] = None
    """Thin videos out to this many frames a second, where they have more, but short ones to no fewer than 32 frames; 0
    keeps all, for very short actions."""

    model: str = "r3d18"
    """r3d18, i3d, cnnlstm, frame_average, or a name that a plugin registers."""
    backbone: str = "resnet18"
    """Any torchvision image classifier; the frame encoder of cnnlstm and frame_average."""
    pretrained: bool = False
    """Start from published weights: Kinetics-400 (i3d, r3d18) or ImageNet (frame encoders); `varec weights` lists
    them. With --freeze_backbone, clips are then as these weights were trained on, and not augmented, unless flags say
    otherwise."""
    weights: OptionalPath = None
    """Start the backbone from this local file (a state_dict or safetensors), or from weights by their name in
    `varec weights`."""
    freeze_backbone: bool = False
    """Train the head only; the backbone keeps its weights and its batch-norm statistics. With --no-augment, or with
    --fixed_views, its features are computed once and stored, and the head trains on them in seconds."""
    train_blocks: Whole = 0
    """Train the head and this many of the backbone's last blocks, and freeze the others; 0: all of them learn."""
    plugin: Annotated[OptionalPath, ON_RESUME] = None
    """Python file that registers your own models with @register_model."""

    num_frames: Annotated[Count | None, *_ordinary(16, "16")] = None
    """Frames per clip."""
    frame_size: Annotated[FrameSize | None, *_ordinary((112, 112), "112 112")] = None
    """Height and width of the frames a model sees, in pixels."""
    sampling: Annotated[Literal["uniform", "dense"] | None, *_ordinary("uniform", "uniform")] = None
    """uniform: frames spread over the whole video; dense: every `stride`-th frame of a stretch."""
    stride: Annotated[Count | None, *_ordinary(2, "2")] = None
    """Distance between the frames of a dense clip, in video frames."""
    augment: Annotated[bool | None, *_ordinary(True, "on")] = None
    """Random crop, flip and colour changes in training, the same for all frames of a clip."""
    flip: bool = True
    """Allow mirrored clips when augmenting; switch it off where left and right have a meaning."""
    fixed_views: Whole = 0
    """0: a new random clip of each video in every epoch. N: N clips per video, drawn once and repeated in turn, so
    that a frozen backbone computes their features once (with --no-augment one is enough)."""
    views: Annotated[Count, ON_RESUME] = 1
    """Clips per video whose class probabilities are averaged when testing."""

    epochs: Annotated[Count, ON_RESUME] = 100
    """Passes over the training videos at the most."""
    multigrid: bool = False
    """Train coarse to fine: most epochs on clips of half the height and width, which cost a quarter, the last ones on
    clips of --frame_size. `epochs` counts them all."""
    multigrid_batches: bool = False
    """With --multigrid, fill batches of small clips up to the memory of large ones: for a GPU and many videos."""
    batch_size: Annotated[Count, ON_RESUME] = 32
    """Clips per batch and process."""
    accumulate: Annotated[Count, ON_RESUME] = 1
    """Batches per optimiser step; for a larger step than memory holds: the gradients are those of one large batch."""
    lr: Annotated[float, Gt(0), ON_RESUME] = 0.001
    """Highest learning rate of AdamW."""
    backbone_lr: NotNegative = 0.0
    """Another one for the backbone; a tenth of --lr keeps what a pretrained backbone knows while a new head learns.
    0: the same."""
    weight_decay: NotNegative = 0.01
    """AdamW's decoupled weight decay, on weights but not on biases and norms; more of it where the model overfits."""
    clip_grad: Annotated[NotNegative, ON_RESUME] = 0.0
    """Scale the gradient down to this norm where it is longer; 1 calms a loss that jumps. 0: off."""
    label_smoothing: Share = 0.0
    """Share of the target probability that is spread over all classes; 0.1 where the model is too sure of itself."""
    mixup: NotNegative = 0.0
    """Blend pairs of clips and labels, with weights drawn from Beta(a, a); 0.2 to 0.8 for long trainings on few
    videos. 0: off."""
    cutmix: NotNegative = 0.0
    """Paste a box of one clip into another, the same box in all frames; for long trainings only: in short ones it
    cost accuracy. 1 is usual. 0: off."""
    ema: Share = 0.0
    """Average the weights over about 1/(1 - ema) steps and test the average; 0.99 to 0.999 smooths a validation curve
    that jumps. 0: off."""
    balanced: bool = False
    """Draw every class equally often, where some classes have many more videos than others."""
    scheduler: Literal["plateau", "cosine"] = "plateau"
    """plateau: a tenth of the rate when validation loss stalls, for trainings of unknown length; cosine: down to zero
    over all epochs, the better choice where you know how many there will be."""
    warmup_epochs: NotNegative = 1.0
    """Epochs during which the learning rate rises linearly from near zero; more for large batches or rates."""
    patience: Annotated[Whole, ON_RESUME] = 10
    """Stop after this many epochs without a better validation result; 0 never stops early."""

    precision: Annotated[Precision, ON_RESUME] = "auto"
    """auto: bf16 where the processor or GPU computes in it, otherwise fp16 on a GPU and fp32 on a processor; or what
    the environment variable VAREC_PRECISION says."""
    compile: bool = False
    """Compile the model with torch.compile: pays on a GPU for long trainings, seldom on a processor."""
    num_workers: Annotated[Whole, ON_RESUME] = 2
    """Processes that read and crop clips; 0 does it in the training process."""
    seed: Whole = 0
    """Seed of weights, shuffling, sampling and augmentation."""
    resume: Annotated[OptionalPath, ON_RESUME] = None
    """Continue this experiment folder after a crash or Ctrl-C, with its own settings; few can be given anew."""
    save_minutes: Annotated[NotNegative, ON_RESUME] = 5.0
    """Minutes between two saved states within an epoch; at the end of an epoch it is always saved."""
    experiment_name: Annotated[str, ON_RESUME] = ""
    """First part of the experiment folder's name; the model's name if empty."""
    experiments_dir: Annotated[UserPath, ON_RESUME] = Path("experiments")
    """Folder that receives the experiment folders."""

    def __post_init__(self) -> None:
        if not (self.pretrained and self.freeze_backbone):
            vars(self).update(self._left_open())
        self.experiment_name = self.experiment_name or self.model
        for name in ("backbone_lr", "train_blocks"):
            if self.freeze_backbone and getattr(self, name):
                raise ConfigError(f"{name} and freeze_backbone exclude each other: a frozen backbone does not learn.")
        if self.freeze_backbone and self.multigrid:
            raise ConfigError("multigrid and freeze_backbone exclude each other: features are those of one clip size.")
        if self.multigrid_batches and not self.multigrid:
            raise ConfigError("multigrid_batches needs multigrid: otherwise all clips have one size.")
        if self.pretrained and self.weights:
            raise ConfigError("pretrained and weights exclude each other: choose one source of weights.")
        if set(self.experiment_name) & set('/\\:*?"<>|'):
            raise ConfigError(f"experiment_name is {self.experiment_name!r}, but must be usable as a folder name.")

    @property
    def stored_short_side(self) -> int:
        """Pixels of the shorter side of stored frames: `short_side`, or what leaves random crops a margin."""
        return self.short_side or round(min(self.frame_size) * 8 / 7)

    def _left_open(self) -> dict[str, Any]:
        """The ordinary values of the settings that are None: those of a frozen pretrained backbone may be."""
        return {name: value for name, (value,) in _marked(_Ordinary).items() if getattr(self, name) is None}

    def decided(self, **suited: Any) -> "TrainConfig":
        """A copy in which settings that were left open have these values, or else their ordinary ones."""
        return self.replaced(**{name: suited.get(name, value) for name, value in self._left_open().items()})

    def replaced(self, **settings: Any) -> "TrainConfig":
        """A copy with other settings; an experiment that is named after its model takes the name of the new one."""
        if self.experiment_name == self.model:
            settings = {"experiment_name": settings.get("model", self.model)} | settings
        return replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values as `config.json` holds them."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    def save(self, path: Path) -> None:
        """Writes the configuration as JSON."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

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


@cache
def _marked(kind: type) -> dict[str, Any]:
    """The mark of that kind of every setting that carries one."""
    hints = get_type_hints(TrainConfig, include_extras=True).items()
    marks = {
        name: [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, kind)] for name, hint in hints
    }
    return {name: found[0] for name, found in marks.items() if found}


def changeable_on_resume() -> set[str]:
    """The settings that a resumed run may change."""
    return {name for name, mark in _marked(str).items() if mark == ON_RESUME}
