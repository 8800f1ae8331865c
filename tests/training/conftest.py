"""Models small enough to train in a second, the settings that go with them, and real processes that train."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.models.checkpoint import BEST
from varec_lib.models.registry import load_plugin, register_model
from varec_lib.training.experiment import Experiment
from varec_lib.training.state import LAST

CLOCK = ["seconds", "clips_per_second", "data_wait"]
VAREC = Path(sys.executable).with_name("varec")


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


@register_model("constant")
class Constant(nn.Module):
    """Always answers the same, so validation never improves after the first epoch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_classes))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.scores.detach().expand(len(clips), -1) + 0 * self.scores


@pytest.fixture(scope="module", autouse=True)
def on_the_processor(request) -> Iterator[None]:
    """Hides a GPU, also from processes that tests start: there runs do not repeat themselves bit by bit."""
    with pytest.MonkeyPatch.context() as patched:
        if not request.module.__name__.endswith("test_gpu"):
            patched.setattr(torch.cuda, "is_available", lambda: False)
            patched.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="session")
def store_dir(tmp_path_factory) -> Path:
    """A frame store for the tests of this folder; the default one is never touched."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def settings(numbered_dataset, store_dir, tmp_path) -> dict[str, Any]:
    """Settings of a run of seconds on the 18 numbered training videos: 5 batches of 4 an epoch."""
    return {
        "data_dir": numbered_dataset, "store_dir": store_dir, "experiments_dir": tmp_path / "experiments",
        "model": "tiny", "epochs": 2, "batch_size": 4, "num_workers": 0, "num_frames": 4, "frame_size": (32, 32),
        "precision": "fp32", "lr": 0.01,
    }  # fmt: skip


@pytest.fixture
def tiny_config(settings) -> Callable[..., TrainConfig]:
    """`make(**others)`: the configuration with `settings`, some of them changed."""
    return lambda **others: TrainConfig(**settings | others)


@pytest.fixture
def without_pictures(monkeypatch) -> None:
    """Leaves out the plots of runs, which take longer than these runs."""
    for name in ("training_curves", "confusion_matrix", "save"):
        monkeypatch.setattr(f"varec_lib.plots.{name}", lambda *_: None)


@pytest.fixture(scope="session")
def weights_of() -> Callable[[Experiment], dict[str, torch.Tensor]]:
    """`read(experiment)`: the tensors of its best checkpoint, from the file."""
    return lambda experiment: load_file(experiment.folder / BEST)


@pytest.fixture(scope="session")
def state_of() -> Callable[[Experiment], dict[str, Any]]:
    """`read(experiment)`: its saved state without what the clock wrote into it."""

    def read(experiment: Experiment) -> dict[str, Any]:
        state = torch.load(experiment.folder / LAST, weights_only=True)
        for process in state["processes"]:
            process["sums"] = process["sums"][:3]
        state["history"] = [{k: v for k, v in row.items() if k not in CLOCK} for row in state["history"]]
        state["best"] = {k: v for k, v in state["best"].items() if k not in CLOCK}
        return state

    return read


@pytest.fixture(scope="session")
def history_of() -> Callable[[Experiment], pd.DataFrame]:
    """`read(experiment)`: its history without the clock."""
    return lambda experiment: experiment.history.drop(columns=CLOCK)


@pytest.fixture(scope="session")
def assert_same_run(weights_of, state_of, history_of) -> Callable[[Experiment, Experiment], None]:
    """`check(first, second)`: best weights, last state (weights, optimiser, random states) and history, bit by bit."""

    def equal(first: Any, second: Any, where: str) -> None:
        if isinstance(first, torch.Tensor):
            assert torch.equal(first, second), where
        elif isinstance(first, dict):
            assert first.keys() == second.keys(), where
            for key in first:
                equal(first[key], second[key], f"{where}.{key}")
        elif isinstance(first, list | tuple):
            assert len(first) == len(second), where
            for number, pair in enumerate(zip(first, second, strict=True)):
                equal(*pair, f"{where}[{number}]")
        else:
            assert first == second, where

    def check(first: Experiment, second: Experiment) -> None:
        pd.testing.assert_frame_equal(history_of(first), history_of(second), check_exact=True)
        equal(weights_of(first), weights_of(second), "best checkpoint")
        equal(state_of(first), state_of(second), "state")
        assert first.results["test"] == second.results["test"]

    return check


@pytest.fixture
def accelerator() -> Accelerator:
    """A fresh one on the processor, in fp32."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, mixed_precision="no")
    AcceleratorState._reset_state(reset_partial_state=True)


PLUGIN = '''
"""Models whose training steps can be watched, and slowed down, from outside."""

import os
import time

from torch import nn

from varec_lib.models.registry import register_model


class Watched(nn.Module):
    """Notes rank and process of each training step in the file $STEPS, if there is one, and takes its time then."""

    def note(self):
        if self.training and "STEPS" in os.environ:
            with open(os.environ["STEPS"], "a") as file:
                print(os.environ.get("RANK", 0), os.getpid(), file=file)
            time.sleep(0.1)


@register_model("slow_tiny")
class SlowTiny(Watched):
    def __init__(self, num_classes, num_frames, norm=nn.BatchNorm2d, dropout=0.3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), norm(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64 * num_frames, num_classes))

    def features(self, clips):
        return self.backbone(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])

    def classify(self, features):
        return self.head(features.flatten(1))

    def forward(self, clips):
        self.note()
        return self.classify(self.features(clips))


@register_model("slow_dropout")
def slow_dropout(num_classes, num_frames):
    return SlowTiny(num_classes, num_frames, nn.Identity)


@register_model("slow_plain")
def slow_plain(num_classes, num_frames):
    return SlowTiny(num_classes, num_frames, nn.Identity, 0.0)
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory) -> Path:
    """A plugin that registers `slow_tiny`, `slow_dropout` (no batch norm) and `slow_plain` (neither)."""
    file = tmp_path_factory.mktemp("plugin") / "slow_models.py"
    file.write_text(PLUGIN)
    load_plugin(file)
    return file


class Started:
    """A process that trains, in a session of its own; its steps are counted in a file."""

    def __init__(self, command: list[object], folder: Path) -> None:
        folder.mkdir()
        self._steps, self._shown = folder / "steps", folder / "shown"
        with self._shown.open("w") as shown:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdout=shown, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "STEPS": str(self._steps)}, cwd=folder,
            )  # fmt: skip

    @property
    def shown(self) -> str:
        return self._shown.read_text()

    def steps(self, rank: int = 0) -> list[int]:
        """The process numbers that the training steps of one rank were made by, one entry per step."""
        lines = self._steps.read_text().splitlines() if self._steps.exists() else []
        return [int(pid) for number, pid in (line.split() for line in lines if line) if int(number) == rank]

    def wait_for(self, condition: Callable[[], object], *, alive: bool = True) -> None:
        for _ in range(30000):  # counted, not timed: a machine that was asleep shall not fail tests
            if condition():
                return
            assert not alive or self.process.poll() is None, f"ended too early:\n{self.shown}"
            time.sleep(0.01)
        raise AssertionError(f"waited too long:\n{self.shown}")

    def wait_for_step(self, count: int, rank: int = 0) -> None:
        """Returns while the `count`-th training step is being made."""
        self.wait_for(lambda: len(self.steps(rank)) >= count)

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """SIGKILL to the process and to all that it started."""
        for child in self.children():
            child.kill()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C: as in a terminal, the signal reaches the process and its data workers alike."""
        os.killpg(self.process.pid, signal.SIGINT)

    def status(self) -> int:
        """Waits for the end; returns the exit status."""
        self.wait_for(lambda: self.process.poll() is not None, alive=False)
        return self.process.returncode


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Started]]:
    """`start(*command)`: a `Started` process, which does not survive the test."""
    started: list[Started] = []

    def run(*command: object) -> Started:
        started.append(Started(list(command), tmp_path / f"process{len(started)}"))
        return started[-1]

    yield run
    for process in started:
        process.kill()


@pytest.fixture
def train_command(settings, plugin) -> Callable[..., list[object]]:
    """`make(**others)`: the words of `varec train` with `settings`, some changed; `slow_tiny` from the plugin."""

    def make(**others: object) -> list[object]:
        words: list[object] = [VAREC, "train"]
        for name, value in (settings | {"model": "slow_tiny", "plugin": plugin} | others).items():
            flag = "--data" if name == "data_dir" else f"--{name}"
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
            else:
                words += [flag, *(value if isinstance(value, tuple) else [value])]
        return words

    return make


@pytest.fixture
def the_experiment(settings) -> Callable[[], Experiment]:
    """`get()`: the one experiment that there is."""

    def get() -> Experiment:
        (folder,) = settings["experiments_dir"].iterdir()
        return Experiment(folder)

    return get
