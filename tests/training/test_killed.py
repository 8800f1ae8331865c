"""Real `varec train` processes, real signals: what is left behind, and that the run goes on as if nothing happened."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from varec_lib import cli
from varec_lib.training.experiment import Experiment
from varec_lib.training.state import LAST

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_pictures")]


@pytest.fixture
def whole(tiny_config, plugin, undisturbed):
    """`run(**others)`: the same training without any accident, in this process."""
    return lambda **others: undisturbed(tiny_config(**{"model": "slow_tiny", "plugin": plugin, "epochs": 3} | others))


def resume(experiment: Experiment, *flags: str) -> int:
    return cli.main(["train", "--resume", str(experiment.folder), *flags])


def test_killed_twice_in_mid_epoch(start, train_command, the_experiment, whole, assert_same_run):
    first = start(*train_command(epochs=3, save_minutes=0))
    first.wait_for_step(4)
    first.kill()
    experiment = the_experiment()
    assert torch.load(experiment.folder / LAST, weights_only=True)["steps_done"] in (2, 3)
    assert not (experiment.folder / "results.json").exists()
    second = start(train_command()[0], "train", "--resume", experiment.folder)
    second.wait_for_step(6)
    second.kill()
    assert re.search(r"Continuing.*\bepoch 1\b", second.shown)
    assert len(experiment.history) == 1
    (experiment.folder / f"{LAST}.7.partial").write_bytes(b"killed while saving")
    assert resume(experiment) == 0
    assert the_experiment() == experiment
    assert_same_run(whole(save_minutes=0), experiment)


def test_killed_with_many_options_and_the_usual_saving(start, train_command, the_experiment, whole, assert_same_run):
    others = {"epochs": 4, "ema": 0.9, "accumulate": 2, "scheduler": "cosine", "num_workers": 2, "mixup": 0.4}
    process = start(*train_command(**others))
    process.wait_for_step(13)  # in the third epoch
    process.kill()
    again = start(train_command()[0], "train", "--resume", the_experiment().folder)
    assert again.status() == 0, again.shown
    assert re.search(r"Continuing.*\bepoch 3\b.*\b0\b", again.shown)
    assert_same_run(whole(**others), the_experiment())


def test_killed_before_anything_was_saved(start, train_command, the_experiment, whole, assert_same_run):
    process = start(*train_command(epochs=3))
    process.wait_for_step(2)
    process.kill()
    assert not (the_experiment().folder / LAST).exists()
    again = start(train_command()[0], "train", "--resume", the_experiment().folder)
    assert again.status() == 0, again.shown
    assert "beginning" in again.shown
    assert_same_run(whole(), the_experiment())


def test_ctrl_c_and_on(start, train_command, the_experiment, whole, assert_same_run):
    process = start(*train_command(epochs=3, num_workers=1))
    process.wait_for_step(3)
    process.interrupt()
    assert process.status() == 130, process.shown
    assert "Traceback" not in process.shown
    experiment = the_experiment()
    assert re.search(rf"no epoch.*varec train --resume {experiment.folder}\s", process.shown)
    assert (experiment.results["stopped"], experiment.results["epochs_run"]) == ("interrupted", 0)
    assert resume(experiment) == 0
    assert_same_run(whole(), experiment)


@pytest.mark.parametrize("which", [0, -1], ids=["training", "validation"])
def test_killed_data_worker(start, train_command, the_experiment, whole, assert_same_run, which):
    """As by the kernel, when memory runs out; validation's workers wait while the second epoch is trained."""
    process = start(*train_command(epochs=3, num_workers=2, save_minutes=0))
    process.wait_for_step(8)
    children = psutil.Process(process.process.pid).children()
    workers = [child for child in children if child.cmdline() == psutil.Process(process.process.pid).cmdline()]
    assert len(workers) == 4
    sorted(workers, key=lambda worker: worker.create_time())[which].kill()
    assert process.status() == 2, process.shown
    experiment = the_experiment()
    (line,) = [line for line in process.shown.replace("\r", "\n").splitlines() if line.startswith("varec: ")]
    assert "worker" in line and f"varec train --resume {experiment.folder}" in line
    assert "Traceback" not in process.shown
    assert resume(experiment) == 0
    assert_same_run(whole(save_minutes=0), experiment)


WRITER = """
import sys
from pathlib import Path
import torch
from varec_lib.training.state import save_state

number = 0
while True:
    save_state(Path(sys.argv[1]), {"number": number, "tensor": torch.full((1_000_000,), number)})
    print(number, flush=True)
    number += 1
"""


def test_killed_while_saving_leaves_a_whole_state(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()  # one is written, the next under way
        for _ in range(20):
            os.kill(process.pid, signal.SIGSTOP)  # frozen at any moment, what is there is whole
            state = torch.load(tmp_path / LAST, weights_only=True)
            assert state["tensor"].unique().tolist() == [state["number"]]
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.011)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    state = torch.load(tmp_path / LAST, weights_only=True)
    assert state["tensor"].unique().tolist() == [state["number"]]
