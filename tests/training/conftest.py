"""Models small enough to train in a second, the settings that go with them, and real processes that train."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from forks import Forked, ForkServer
from safetensors.torch import load_file
from torch import nn

from varec_lib.config import BEST, TrainConfig
from varec_lib.data.dataset import Frames, VideoFiles
from varec_lib.data.store import StoredFrames
from varec_lib.models.registry import load_plugin, register_model
from varec_lib.training.experiment import Experiment
from varec_lib.training.loop import Trainer, train
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


class Crash(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


@pytest.fixture
def each_step() -> Callable[..., AbstractContextManager[None]]:
    """`with each_step(before, after)`: calls `before(trainer, batches)` and `after(trainer)` around optimiser steps.

    `batches` are the places in the epoch of the batches that the step takes, from 0.
    """

    @contextmanager
    def watched(
        before: Callable[[Trainer, range], object] = lambda *_: None,
        after: Callable[[Trainer], object] = lambda _: None,
    ) -> Iterator[None]:
        def step(trainer: Trainer, group: list, total: int) -> tuple[float, int]:
            start = trainer.feed.batches.start
            before(trainer, range(start, start + len(group)))
            result = original(trainer, group, total)
            after(trainer)
            return result

        original = Trainer._step
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Trainer, "_step", step)
            yield

    return watched


@pytest.fixture
def crash_at(each_step) -> Callable[[int, int], AbstractContextManager[None]]:
    """`with crash_at(epoch, batch)`: the training inside ends before the step that takes this batch; -1 is the last."""

    @contextmanager
    def crashing(epoch: int, batch: int) -> Iterator[None]:
        def crash(trainer: Trainer, batches: range) -> None:
            if trainer.epoch == epoch and batch % len(trainer.feed.batches.sizes) in batches:
                raise Crash

        with each_step(crash), pytest.raises(Crash):
            yield

    return crashing


@pytest.fixture
def on_read(monkeypatch) -> Callable[[Callable[[Frames, int], object]], None]:
    """`on_read(do)`: calls `do(source, row)` before frames of a video are read, in whatever process."""

    def watch(do: Callable[[Frames, int], object]) -> None:
        for kind in (StoredFrames, VideoFiles):

            def read(source: Frames, row: int, indices: list[int], original: Callable = kind.read) -> torch.Tensor:
                do(source, row)
                return original(source, row, indices)

            monkeypatch.setattr(kind, "read", read)

    return watch


@pytest.fixture
def judge(monkeypatch) -> Callable[[Callable], None]:
    """`judge(function)`: trainings call this instead of `sure_above`."""
    return lambda function: monkeypatch.setattr("varec_lib.training.loop.sure_above", function)


@pytest.fixture(scope="session")
def undisturbed_dir(tmp_path_factory) -> Path:
    """Where the experiments of `undisturbed` are."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="session")
def undisturbed(undisturbed_dir) -> Callable[[TrainConfig], Experiment]:
    """`run(config)`: that training without any accident, made once for all tests that ask for it; not to be changed."""
    done: dict[str, Experiment] = {}

    def run(config: TrainConfig) -> Experiment:
        config = config.replaced(experiments_dir=undisturbed_dir)
        settings = json.dumps(config.to_dict(), sort_keys=True)
        if settings not in done:
            done[settings] = train(config, progress=False)
        return done[settings]

    return run


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
        state["best"] = {k: v for k, v in (state["best"] or {}).items() if k not in CLOCK}  # none in the first epoch
        return state

    return read


@pytest.fixture(scope="session")
def history_of() -> Callable[[Experiment], pd.DataFrame]:
    """`read(experiment)`: its history without the clock."""
    return lambda experiment: experiment.history.drop(columns=CLOCK)


@pytest.fixture(scope="session")
def assert_same_run(weights_of, state_of, history_of) -> Callable[..., None]:
    """`check(first, second, ended=True)`: best weights, last state (weights, optimiser, random states), history, and
    results where the runs have `ended`; bit by bit.
    """

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

    def check(first: Experiment, second: Experiment, *, ended: bool = True) -> None:
        equal(state_of(first), state_of(second), "state")
        if not ended and not any(experiment.epochs_recorded() for experiment in (first, second)):
            return  # no epoch has ended
        pd.testing.assert_frame_equal(history_of(first), history_of(second), check_exact=True)
        equal(weights_of(first), weights_of(second), "best checkpoint")
        if ended:
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
    """A process that trains, or one per rank, each in a session of its own; their steps are counted in a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.processes: list[subprocess.Popen | Forked] = []
        self._steps, self._shown = folder / "steps", folder / "shown"
        self._shown.touch()

    def add(self, words: list[object], forks: ForkServer, environment: dict[str, str]) -> None:
        """Starts one: a fork where it is `varec`, a program of its own else."""
        program, *others = map(str, words)
        env = os.environ | {"PYTHONUNBUFFERED": "1", "STEPS": str(self._steps)} | environment
        if program == str(VAREC):
            self.processes.append(forks.start(others, shown=self._shown, cwd=self.folder, env=env))
            return
        with self._shown.open("a") as shown:
            self.processes.append(subprocess.Popen(
                [program, *others], stdout=shown, stderr=subprocess.STDOUT, start_new_session=True, env=env,
                cwd=self.folder,
            ))  # fmt: skip

    @property
    def process(self) -> "subprocess.Popen | Forked":
        """The first one."""
        return self.processes[0]

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
        """What the processes started."""
        found = []
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(process.pid).children(recursive=True)
        return found

    def kill(self) -> None:
        """SIGKILL to the processes and to all that they started."""
        for child in self.children():
            child.kill()
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def interrupt(self) -> None:
        """Ctrl-C: as in a terminal, the signal reaches the process and its data workers alike."""
        os.killpg(self.process.pid, signal.SIGINT)

    def status(self) -> int:
        """Waits for the end; returns the exit status, that of the first failure where there are several processes."""
        self.wait_for(lambda: None not in [process.poll() for process in self.processes], alive=False)
        return next((process.returncode for process in self.processes if process.returncode), 0)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Starts `varec` processes quickly."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def start(tmp_path, forks) -> Iterator[Callable[..., Started]]:
    """`start(*words, ranks=[{}])`: a `Started` process, which does not survive the test; `varec` itself is a fork.

    `ranks` is the environment of each of several processes with these words.
    """
    started: list[Started] = []

    def run(*words: object, ranks: Iterable[dict[str, str]] = ({},)) -> Started:
        started.append(Started(tmp_path / f"process{len(started)}"))
        for environment in ranks:
            started[-1].add(list(words), forks, environment)
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
