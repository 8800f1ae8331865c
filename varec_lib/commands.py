"""The options of every `varec` command but `train`, whose options are `TrainConfig`."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg

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
    """Number format of the arithmetic; auto as in training."""
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
    """Number format of the arithmetic; auto as in training."""
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
    to_top1: float = 0.0
    """With --against-stock: also the seconds until validation top-1 reaches this, within --epochs; 0 leaves it out."""
    json: bool = False
    """Print JSON only."""


@dataclass
class Env:
    """Print what a report of a problem needs: versions, processor, formats, memory, weights, ffmpeg. Never fails."""

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


def _someone_watches() -> bool:
    """Whether a browser would open before the eyes of whoever typed the command."""
    if "SSH_CONNECTION" in os.environ or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


@dataclass
class App:
    """Serve the video predictor (notebook 06) as a web page until Ctrl-C; each open page has a process of its own."""

    port: int = 8866
    """Port of the page; 0 takes any that is free."""
    ip: str = "127.0.0.1"
    """Who reaches the page: 127.0.0.1 only this computer, 0.0.0.0 everybody who reaches this computer."""
    token: str | None = None
    """What visitors need once, in the address; auto draws one, which also happens where others reach --ip."""
    password: str | None = None
    """Ask visitors for a password instead; others on this computer can read it here, but not its argon2:... hash."""
    no_token: FlagCreatePairsOff[bool] = False
    """Let in everybody who reaches --ip, by whatever name."""
    experiments_dir: Path = Path("experiments")
    """Folder of the trained models that visitors choose from."""
    data: Path = Path("data/stick_actions")
    """Dataset folder; some of its test clips are offered as examples."""
    files: Path | None = None
    """Folder on this computer whose videos visitors may name; data/ of the course if the page is for you alone."""
    max_kernels: int = 8
    """Pages that may be open at a time, at 0.5 to 1 GB of memory each; the next visitor is asked to come back later."""
    idle_minutes: float = 10.0
    """End the process of a page that was not used for so long; a click starts another."""
    spare: bool = True
    """Keep a process ready, so that the next page opens in 2 to 3 seconds instead of 7; takes 0.5 GB of memory."""
    open: bool = field(default_factory=_someone_watches)
    """Open the page in a browser, where it is on this computer."""
    notebook: Path | None = None
    """Another notebook to serve: its cells tagged app."""
