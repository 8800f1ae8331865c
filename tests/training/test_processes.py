"""Two processes do what one does with batches twice as large; real `torchrun` and `accelerate launch`."""

import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.training.experiment import Experiment
from varec_lib.training.state import LAST

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_pictures")]
BIN = Path(sys.executable).parent
# torchrun 2.14 else hands restarted processes a store that still holds the addresses of the dead ones.
FRESH_STORE = ["env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def torchrun(train_command):
    """`make(*options, **settings)`: the words that start two training processes."""

    def make(*options: str, **settings: object) -> list[object]:
        program = [*FRESH_STORE, BIN / "torchrun", "--standalone", "--nproc_per_node", "2", *options, "--no-python"]
        return program + train_command(**settings)

    return make


@pytest.fixture
def start_two(start, train_command):
    """`start_two(*words, **settings)`: two processes that train, with what torchrun tells them, but without torchrun.

    `words` stand in place of those for `settings`; `ranks` is more for the environment of each.
    """

    def run(*words: object, ranks: tuple[dict[str, str], ...] = ({}, {}), **settings: object):
        job = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        told = [job | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | more for rank, more in enumerate(ranks)]
        return start(*(words or train_command(**settings)), ranks=told)

    return run


@pytest.fixture(scope="module")
def odd_dataset(numbered_dataset, tmp_path_factory) -> Path:
    """17 training, 5 validation and 5 test videos: no split can be halved."""
    data = Path(shutil.copytree(numbered_dataset, tmp_path_factory.mktemp("odd") / "odd"))
    for split in ("train", "val", "test"):
        pd.read_csv(data / f"{split}.csv").iloc[1:].to_csv(data / f"{split}.csv", index=False)
    return data


def assert_same_training(two: Experiment, one: Experiment, history_of, weights_of) -> None:
    for name, column in history_of(one).items():
        assert history_of(two)[name].tolist() == pytest.approx(column.tolist(), abs=1e-5), name
    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_two_processes_do_what_one_does_with_a_batch_twice_as_large(
    start_two, the_experiment, tiny_config, plugin, odd_dataset, undisturbed, history_of, weights_of
):
    plain = {
        "model": "slow_plain", "data_dir": odd_dataset, "augment": False, "epochs": 3, "ema": 0.5, "views": 2,
        "clip_grad": 2.0,  # AdamW alone would not notice gradients that are all too small
    }  # fmt: skip
    process = start_two(**plain, batch_size=3, accumulate=2)
    assert process.status() == 0, process.shown
    two = the_experiment()
    one = undisturbed(tiny_config(**plain, plugin=plugin, batch_size=6, accumulate=2))
    assert_same_training(two, one, history_of, weights_of)
    assert (two.results["processes"], one.results["processes"]) == (2, 1)
    assert two.results["test"]["num_videos"] == 5
    assert two.results["test"]["confusion"] == one.results["test"]["confusion"]
    assert two.results["test"]["top1_ci95"] == one.results["test"]["top1_ci95"]
    assert len(list((two.folder / "tensorboard").iterdir())) == 1
    once = (r"\b17 train\b.*\b5 val\b.*\b5 test\b", "test top-1", r"slow_plain\b.*\d M\b")
    assert [len(re.findall(said, process.shown)) for said in once] == [1, 1, 1], process.shown
    assert len(re.findall(r"epoch +\d/3\b", process.shown)) == 3, process.shown
    assert len(process.steps(rank=0)) == len(process.steps(rank=1)) == 3 * 3


def test_options_with_random_draws_work_in_two_processes(start, torchrun, the_experiment, numbered_dataset, history_of):
    """Batch norm, dropout, mixing, a saved state in every step; what was validated is what was saved."""
    process = start(*torchrun(mixup=0.4, balanced=True, clip_grad=1.0, save_minutes=0, num_workers=1))
    assert process.status() == 0, process.shown
    experiment = the_experiment()
    history = history_of(experiment)
    assert history.notna().all(axis=None)
    best = history[history["epoch"] == experiment.results["best_epoch"]].iloc[0]
    again = evaluate_checkpoint(
        experiment.folder, numbered_dataset, split="val", precision="fp32", num_workers=0, progress=False
    )
    assert again.top_k(1) == pytest.approx(best["val_top1"])
    assert again.loss() == pytest.approx(best["val_loss"], rel=1e-4)


def test_frozen_features_in_two_processes(
    start_two, the_experiment, tiny_config, plugin, undisturbed, history_of, weights_of, tmp_path
):
    """Computed once, by one process; both train on the same, also where the backbone starts from random weights."""
    frozen = {"model": "slow_plain", "freeze_backbone": True, "augment": False, "epochs": 3}
    process = start_two(**frozen, batch_size=3, store_dir=tmp_path / "store")
    assert process.status() == 0, process.shown
    assert len(list(tmp_path.glob("store/*/features/*/*/*.bin"))) == 18 + 6
    one = undisturbed(tiny_config(**frozen, plugin=plugin, batch_size=6))
    assert_same_training(the_experiment(), one, history_of, weights_of)


def test_accelerate_launch(
    start, train_command, the_experiment, tiny_config, plugin, undisturbed, history_of, weights_of
):
    plain = {"model": "slow_plain", "augment": False, "epochs": 1}
    _, *words = train_command(**plain, batch_size=3)
    process = start(
        BIN / "accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision",
        "no", "--dynamo_backend", "no", "--main_process_port", free_port(), "-m", "varec_lib.cli", *words,
    )  # fmt: skip
    assert process.status() == 0, process.shown
    assert the_experiment().results["processes"] == 2
    one = undisturbed(tiny_config(**plain, plugin=plugin, batch_size=6))
    assert_same_training(the_experiment(), one, history_of, weights_of)


def test_error_of_use_is_named_and_writes_nothing(start_two, settings):
    process = start_two(epochs=1, data_dir=settings["experiments_dir"] / "absent")
    assert process.status() != 0
    assert re.search(r"absent\b.*no such", process.shown)
    assert not settings["experiments_dir"].exists()


def test_a_killed_worker_is_replaced_and_the_run_goes_on(
    start, torchrun, start_two, the_experiment, assert_same_run, tmp_path
):
    """torchrun starts both processes anew; they find the state of the broken run by themselves."""
    settings = {"model": "slow_dropout", "epochs": 2, "save_minutes": 0, "batch_size": 3}
    process = start(*torchrun("--max-restarts", "1", **settings))
    process.wait_for_step(5)
    (worker,) = [child for child in process.children() if child.pid == process.steps()[-1]]
    worker.send_signal(signal.SIGKILL)  # the one that writes everything
    assert process.status() == 0, process.shown
    assert re.search(r"Continuing.*\bepoch 2\b", process.shown)
    assert len(set(process.steps(rank=0))) == len(set(process.steps(rank=1))) == 2
    undisturbed = start_two(**settings, experiments_dir=tmp_path / "undisturbed")
    assert undisturbed.status() == 0, undisturbed.shown
    (folder,) = (tmp_path / "undisturbed").iterdir()
    assert_same_run(Experiment(folder), the_experiment())


def test_all_go_on_where_only_some_counted_the_restart(start_two, the_experiment):
    """Of several machines, those whose processes were only waiting for the dead one count no restart (torch 2.14)."""
    settings = {"model": "slow_dropout", "epochs": 1, "save_minutes": 0, "batch_size": 3}
    process = start_two(**settings)
    process.wait_for_step(3)
    process.kill()
    counted = tuple({"TORCHELASTIC_RESTART_COUNT": str(count)} for count in (0, 1))
    again = start_two(ranks=counted, **settings)
    assert again.status() == 0, again.shown
    assert re.search(r"Continuing.*\bepoch 1\b", again.shown)
    assert the_experiment().results["epochs_run"] == 1


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_another_number_of_processes_goes_on_with_the_same_steps(
    start,
    start_two,
    train_command,
    the_experiment,
    tiny_config,
    plugin,
    undisturbed,
    history_of,
    weights_of,
    first,
    then,
):
    """In the middle of an epoch; each step takes the very clips that it would have taken."""
    settings = {"model": "slow_plain", "augment": False, "epochs": 2, "save_minutes": 0, "scheduler": "cosine"}
    starts = {1: start, 2: start_two}
    process = starts[first](*train_command(**settings, batch_size=6 // first))
    process.wait_for_step(3)
    process.kill()
    experiment = the_experiment()
    done = torch.load(experiment.folder / LAST, weights_only=True)["steps_done"]
    assert 0 < done < 3
    again = starts[then](BIN / "varec", "train", "--resume", experiment.folder)
    assert again.status() == 0, again.shown
    assert re.search(r"\b6 clips\b.*--batch_size \d", again.shown)
    assert len(again.steps()) == (2 * 3 - done) * (2 if then == 1 else 1)  # one process takes a step in two pieces
    assert the_experiment().results["processes"] == then
    one = undisturbed(tiny_config(**settings, plugin=plugin, batch_size=6))
    assert_same_training(the_experiment(), one, history_of, weights_of)
