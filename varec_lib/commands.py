"""The options of every `varec` command but `train`, whose options are `TrainConfig`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from varec_lib.config import TrainConfig


@dataclass
class Evaluate:
    """Test a checkpoint on a dataset; prints a report, with --json the same numbers as results.json."""

    checkpoint: Positional[Path | None] = None
    """Checkpoint file or experiment folder; none with --zero_shot."""
    zero_shot: Path | None = None
    """Test a published Kinetics-400 model untrained: CSV with the columns label,kinetics_label for this dataset."""
    model: Literal["i3d", "r3d18"] | None = None
    """Which published model, with --zero_shot; i3d if not given."""
    data: Path = Path("data/stick_actions")
    """Dataset folder."""
    split: Literal["train", "val", "test"] = "test"
    """Which split to evaluate."""
    views: int = 1
    """Clips per video whose class probabilities are averaged."""
    order: Literal["forward", "reversed", "shuffled"] = "forward"
    """Play the frames backwards or shuffled: does the model look at time?"""
    batch_size: int = 32
    """Clips at a time; fewer where they are large."""
    num_workers: int = 2
    """Processes that decode videos; 0 decodes in this process."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the arithmetic."""
    ucf_split: int = 1
    """Which official list to use where the folder is UCF-101 itself."""
    strict: bool = False
    """Stop when a video cannot be used instead of leaving it out."""
    plugin: Path | None = None
    """Python file that registers your own models."""
    csv: Path | None = None
    """Also write one row per video to this file."""
    json: bool = False
    """Print JSON only."""


@dataclass
class Predict:
    """Say what is in videos: files, or folders of them."""

    videos: Positional[tuple[Path, ...]]
    """Video files or folders."""
    checkpoint: Path | None = None
    """Checkpoint file or experiment folder."""
    pretrained: bool = False
    """A published model instead, which knows the 400 actions of Kinetics without any training."""
    model: Literal["i3d", "r3d18"] | None = None
    """Which one, with --pretrained; i3d if not given."""
    along: bool = False
    """Clip by clip along the video, with times, and the mean for the whole; --pretrained does so by itself."""
    whole: bool = False
    """One answer per video, without times, also with --pretrained."""
    top: int = 5
    """How many classes to list."""
    views: int = 1
    """Clips per video whose class probabilities are averaged (not clip by clip)."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the arithmetic."""
    plugin: Path | None = None
    """Python file that registers your own models."""
    csv: Path | None = None
    """Also write the table to this file."""
    json: bool = False
    """Print JSON only."""


@dataclass
class Weights:
    """List the published weights that --pretrained and --weights know, and which of them are on this machine."""

    all: bool = False
    """Also the many of torchvision that the course does not use."""
    json: bool = False
    """Print JSON only, with addresses and hashes."""


@dataclass
class WeightsGet:
    """Fetch published weights in advance, checked by hash; --pretrained does it when they are needed."""

    names: Positional[tuple[str, ...]]
    """Names as `varec weights` lists them."""


@dataclass
class DataDemo:
    """Draw the embedded dataset, stick-actions: 560 small videos, 8 actions."""

    out: Path = Path("data/stick_actions")
    """Folder to create."""
    seed: int = 0
    """Seed of performers, backgrounds and movements."""


@dataclass
class DataCheck:
    """Open every video of a dataset and list what cannot be used; exits with 1 if there is any."""

    data: Positional[Path]
    """Dataset folder."""
    ucf_split: int = 1
    """Which official list to use where the folder is UCF-101 itself."""


@dataclass
class DataStore:
    """Decode every video of a dataset once into the frame store that training reads (else training does)."""

    data: Positional[Path]
    """Dataset folder."""
    frame_size: tuple[int, int] = (112, 112)
    """Height and width that models will see; decides the stored size unless --short_side does."""
    short_side: int = 0
    """Shorter side of the stored frames in pixels; 0: 8/7 of the frame size's."""
    fps: float = 15.0
    """Frames a second to keep, where a video has more; 0 keeps all."""
    store: Literal["raw", "jpeg"] = "raw"
    """raw pixels, or JPEG: a tenth of the disk, slightly lossy."""
    store_dir: Path = Path("data/store")
    """Folder of the frame stores."""
    ucf_split: int = 1
    """Which official list to use where the folder is UCF-101 itself."""


@dataclass
class Bench:
    """Measure decoding, store, loader and training step on this machine, and name the bottleneck."""

    config: OmitArgPrefixes[TrainConfig] = field(default_factory=lambda: TrainConfig(batch_size=8))
    """The run to measure: the flags of `varec train`."""
    steps: int = 3
    """Training steps in a round."""
    rounds: int = 3
    """Rounds; figures are medians over them."""
    against_stock: bool = False
    """Also train the usual way (torchvision's model, fp32, contiguous, decoding in every epoch), in turn with ours."""
    json: bool = False
    """Print JSON only."""


@dataclass
class Course:
    """Run the notebooks with papermill; executed copies, figures and a closing table are left behind."""

    notebooks: Positional[tuple[str, ...]] = ()
    """Numbers or names (02, 05_evaluation); all if none is given."""
    parameter: Annotated[UseAppendAction[list[tuple[str, str]]], arg(aliases=["-p"])] = field(default_factory=list)
    """A parameter of the notebooks and its value; may be repeated."""
    out: Path = Path("runs/course")
    """Folder of the executed notebooks."""
    refresh: bool = False
    """Run notebooks and solutions with their own parameters and save the outputs into notebooks/ itself."""
