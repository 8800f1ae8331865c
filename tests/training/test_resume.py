"""A run that was killed goes on to the very result of one that was not. Real kills are in test_killed.py."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from varec_lib.config import TrainConfig, changeable_on_resume
from varec_lib.data.video import probe
from varec_lib.errors import ResumeError
from varec_lib.models.registry import build_model, register_model
from varec_lib.training import state
from varec_lib.training.experiment import Experiment
from varec_lib.training.loop import train
from varec_lib.training.state import LAST

pytestmark = pytest.mark.usefixtures("without_pictures")


class Crash(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


class CrashingMixin:
    """Calls `begins` with the number of each training step before it is made; see `watched`."""

    steps = 0
    begins: Callable[[int], None] | None = None

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if self.training and CrashingMixin.begins:
            CrashingMixin.steps += 1
            CrashingMixin.begins(CrashingMixin.steps)
        return super().forward(clips)


@register_model("crashing")
def crashing(num_classes: int, num_frames: int) -> torch.nn.Module:
    model = build_model("tiny", num_classes, num_frames=num_frames)
    model.__class__ = type("Crashing", (CrashingMixin, type(model)), {})
    return model


@register_model("crashing_constant")
def crashing_constant(num_classes: int) -> torch.nn.Module:
    model = build_model("constant", num_classes)
    model.__class__ = type("Crashing", (CrashingMixin, type(model)), {})
    return model


@contextmanager
def watched(begins: Callable[[int], None]) -> Iterator[None]:
    """Meanwhile `begins(number)` is called in the middle of every training step, the first of which is number 1."""
    CrashingMixin.steps, CrashingMixin.begins = 0, begins
    try:
        yield
    finally:
        CrashingMixin.begins = None


def train_until(step: int, config: TrainConfig) -> Experiment:
    """A run that ends in the middle of its training step number `step`."""

    def crash(number: int) -> None:
        if number == step:
            raise Crash

    before = set(config.experiments_dir.glob("*"))
    with watched(crash), pytest.raises(Crash):
        train(config, progress=False)
    if config.resume:
        return Experiment(config.resume)
    (folder,) = set(config.experiments_dir.glob("*")) - before
    return Experiment(folder)


def resumed(experiment: Experiment, **changed: object) -> TrainConfig:
    """The configuration of an experiment, to go on with it."""
    return experiment.config.replaced(resume=experiment.folder, **changed)


@pytest.fixture
def crashing_config(tiny_config):
    """As `tiny_config`, but for a model that can crash, and with its state saved after every step."""
    return lambda **others: tiny_config(**{"model": "crashing", "save_minutes": 0, "epochs": 3} | others)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({}, id="plain"),
        pytest.param({"ema": 0.9, "accumulate": 2, "scheduler": "cosine"}, id="ema-accumulate-cosine"),
        pytest.param({"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}, id="mixed"),
        pytest.param({"balanced": True, "clip_grad": 0.5, "seed": 3}, id="balanced-clipped"),
        pytest.param({"num_workers": 2, "fixed_views": 2}, id="workers"),
        pytest.param({"freeze_backbone": True, "accumulate": 3, "ema": 0.5}, id="frozen"),
        pytest.param({"store": "off", "scheduler": "cosine", "warmup_epochs": 1.5}, id="store-off"),
    ],
)
def test_crashed_twice_and_resumed_twice_is_the_same_run(crashing_config, undisturbed, assert_same_run, others):
    whole = undisturbed(crashing_config(**others))
    broken = train_until(4, crashing_config(**others))
    assert not (broken.folder / "results.json").exists()
    train_until(6, resumed(broken))
    assert_same_run(whole, train(resumed(broken), progress=False))


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """Where `ended_in` keeps its copies, named by the step."""
    return tmp_path_factory.mktemp("copies")


@pytest.fixture
def ended_in(crashing_config, undisturbed, undisturbed_dir, copies) -> Callable[[int], tuple[Experiment, Experiment]]:
    """`ended_in(step)`: what a run of two epochs has left in the middle of that step, and the whole of that run.

    One run serves all steps: its folder is copied in each of them.
    """

    def copy(step: int) -> None:
        (folder,) = undisturbed_dir.glob("copied*")
        shutil.copytree(folder, copies / str(step))

    def make(step: int) -> tuple[Experiment, Experiment]:
        config = crashing_config(epochs=2, experiment_name="copied")
        with watched(copy):
            whole = undisturbed(config)  # trained when this is called first
        return Experiment(shutil.copytree(copies / str(step), config.experiments_dir / whole.folder.name)), whole

    return make


@pytest.mark.parametrize("step", range(2, 11))
def test_crash_in_any_step(ended_in, assert_same_run, step):
    broken, whole = ended_in(step)
    assert_same_run(whole, train(resumed(broken), progress=False))


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_ends_in_a_step_leaves_what_was_copied_then(crashing_config, ended_in, assert_same_run, step):
    """So that the copies stand for crashes."""
    copied, _ = ended_in(step)
    crashed = train_until(step, crashing_config(epochs=2))
    for experiment in (copied, crashed):
        shutil.rmtree(experiment.folder / "tensorboard")  # written in the background
    files = [
        sorted(path.relative_to(experiment.folder) for path in experiment.folder.rglob("*"))
        for experiment in (copied, crashed)
    ]
    assert files[0] == files[1]
    assert_same_run(copied, crashed, ended=False)


@pytest.mark.parametrize("step", [6, 8, 11])
def test_with_the_usual_saving_it_goes_on_from_the_last_whole_epoch(
    crashing_config, undisturbed, assert_same_run, capsys, step
):
    whole = undisturbed(crashing_config(save_minutes=5))
    broken = train_until(step, crashing_config(save_minutes=5))
    capsys.readouterr()
    again = train(resumed(broken), progress=False)
    assert re.search(rf"Continuing.*\bepoch {(step - 1) // 5 + 1}\b.*\b0\b", capsys.readouterr().out)
    assert_same_run(whole, again)


def test_resumed_between_the_last_step_of_an_epoch_and_its_validation(
    crashing_config, undisturbed, assert_same_run, monkeypatch
):
    whole = undisturbed(crashing_config())
    with monkeypatch.context() as patched:
        patched.setattr("varec_lib.training.feed.ClipFeed.validate", lambda *_: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            train(crashing_config(experiment_name="broken"), progress=False)
    (folder,) = crashing_config().experiments_dir.glob("broken*")
    again = train(resumed(Experiment(folder)), progress=False)
    assert again.folder == folder
    assert_same_run(whole, again)


def test_crash_after_the_checkpoint_but_before_the_state_of_an_epoch(
    crashing_config, undisturbed, assert_same_run, monkeypatch
):
    whole = undisturbed(crashing_config(save_minutes=5))
    calls = []

    def crash_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise Crash
        return real(*arguments)

    real = state.save_state
    with monkeypatch.context() as patched:
        patched.setattr(state, "save_state", crash_at_the_second)
        with pytest.raises(Crash):
            train(crashing_config(save_minutes=5, experiment_name="broken"), progress=False)
    (folder,) = crashing_config().experiments_dir.glob("broken*")
    assert len(Experiment(folder).history) == 2  # ahead of the state, which is of the first epoch
    assert_same_run(whole, train(resumed(Experiment(folder)), progress=False))


def test_plateau_and_patience_go_on_counting(crashing_config, undisturbed, assert_same_run):
    others = {"model": "crashing_constant", "epochs": 12, "patience": 7}
    whole = undisturbed(crashing_config(**others))
    assert whole.history["lr"].iloc[-1] == pytest.approx(0.001)  # the plateau was met
    assert re.search(r"no better.*\b7\b", whole.results["stopped"])
    for step in (12, 38):  # in epochs 3 and 8
        broken = train_until(step, crashing_config(**others))
        again = train(resumed(broken), progress=False)
        assert again.results["epochs_run"] == whole.results["epochs_run"] == 8
        assert again.results["stopped"] == whole.results["stopped"]
        assert_same_run(whole, again)


def test_interrupt_in_a_step_saves_after_it(crashing_config, undisturbed, assert_same_run, capsys):
    """Ctrl-C also where no state would have been due."""
    whole = undisturbed(crashing_config(save_minutes=5))
    with watched(lambda number: number == 3 and signal.raise_signal(signal.SIGINT)):
        broken = train(crashing_config(save_minutes=5), progress=False)
    assert broken.results["stopped"] == "interrupted"
    assert re.search(rf"no epoch.*varec train --resume {broken.folder}\s", capsys.readouterr().out)
    assert torch.load(broken.folder / LAST, weights_only=True)["steps_done"] == 3
    assert_same_run(whole, train(resumed(broken), progress=False))
    assert "all epochs" in broken.results["stopped"]


@pytest.mark.parametrize("last_written", ["config.json", "history.csv"])
def test_killed_before_any_state_it_starts_from_the_beginning(
    crashing_config, undisturbed, assert_same_run, last_written
):
    whole = undisturbed(crashing_config(save_minutes=5))
    broken = train_until(3, crashing_config(save_minutes=5))
    if last_written == "history.csv":  # between the record of the first epoch and its state
        broken.write_history(whole.history.iloc[:1].to_dict("records"))
    assert_same_run(whole, train(resumed(broken), progress=False))


def test_a_state_that_was_deleted_is_not_taken_for_one_not_yet_written(crashing_config):
    broken, done = train_until(14, crashing_config()), train(crashing_config(epochs=1), progress=False)
    for experiment in (broken, done):
        (experiment.folder / LAST).unlink()
        before = experiment.best_checkpoint.read_bytes()
        with pytest.raises(ResumeError, match=rf"{experiment.folder}\b.*{LAST}\b.*gone"):
            train(resumed(experiment), progress=False)
        assert experiment.best_checkpoint.read_bytes() == before


def test_a_folder_without_its_launch_is_not_continued_by_guesswork(crashing_config):
    broken = train_until(8, crashing_config())
    (broken.folder / "launch.json").unlink()
    with pytest.raises(ResumeError, match=rf"{broken.folder}\b.*launch\.json"):
        train(resumed(broken), progress=False)


def test_batches_that_do_not_divide_a_step_are_refused(crashing_config):
    broken = train_until(2, crashing_config(batch_size=9))
    with pytest.raises(ResumeError, match=r"--batch_size.*\b9\b"):
        train(resumed(broken, batch_size=2), progress=False)
    assert train(resumed(broken, batch_size=4), progress=False).config.batch_size == 3


def test_folder_that_is_no_experiment(tiny_config, tmp_path):
    with pytest.raises(ResumeError, match=rf"{tmp_path}\b.*config\.json"):
        train(tiny_config(resume=tmp_path), progress=False)


def test_what_a_killed_save_leaves_behind_is_no_obstacle(crashing_config, undisturbed, assert_same_run):
    whole = undisturbed(crashing_config())
    broken = train_until(8, crashing_config())
    for name in (LAST, "checkpoints/best_model.safetensors", "history.csv", "results.json"):
        partial = broken.folder / f"{name}.7.partial"
        partial.write_bytes(b"half of it")
    again = train(resumed(broken), progress=False)
    assert_same_run(whole, again)
    assert not list(again.folder.rglob("state.pt*.partial"))


def test_state_is_replaced_in_one_step(tmp_path, monkeypatch):
    state.save_state(tmp_path, {"number": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            state.save_state(tmp_path, {"number": 2})
    assert torch.load(tmp_path / LAST, weights_only=True)["number"] == 1
    state.save_state(tmp_path, {"number": 3})
    assert torch.load(tmp_path / LAST, weights_only=True)["number"] == 3
    assert [file.name for file in (tmp_path / LAST).parent.iterdir()] == ["state.pt"]


@pytest.fixture(scope="module")
def crashed(numbered_dataset, tmp_path_factory) -> Experiment:
    """A run that crashed in its second epoch. Not to be changed: `broken` is a copy."""
    return train_until(8, TrainConfig(
        data_dir=numbered_dataset, store="off", experiments_dir=tmp_path_factory.mktemp("crashed"), model="crashing",
        epochs=3, batch_size=4, num_workers=0, num_frames=4, frame_size=(32, 32), precision="fp32", lr=0.01,
        save_minutes=0,
    ))  # fmt: skip


@pytest.fixture
def broken(crashed, tmp_path) -> Experiment:
    """A run that crashed in its second epoch."""
    return Experiment(Path(shutil.copytree(crashed.folder, tmp_path / "experiments" / crashed.folder.name)))


@pytest.fixture
def dataset(numbered_dataset, tmp_path) -> Path:
    """A copy of the dataset that a test may change."""
    return Path(shutil.copytree(numbered_dataset, tmp_path / "dataset"))


def kept(experiment: Experiment) -> dict[str, bytes]:
    """What must never be lost."""
    names = (LAST, "checkpoints/best_model.safetensors", "config.json", "history.csv")
    return {str(name): (experiment.folder / name).read_bytes() for name in names}


def assert_refused(experiment: Experiment, message: str, **changed: object) -> None:
    """A resumption fails with this message, writes nothing, and starts no other experiment."""
    before = kept(experiment)
    with pytest.raises(ResumeError, match=message):
        train(resumed(experiment, **changed), progress=False)
    assert kept(experiment) == before
    assert list(experiment.folder.parent.iterdir()) == [experiment.folder]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "tiny"}, "model.*crashing.*tiny"),
        ({"scheduler": "cosine"}, "scheduler.*plateau.*cosine"),
        ({"ema": 0.9}, r"ema\b.*\b0\.0\b.*\b0\.9\b"),
        ({"seed": 1, "num_frames": 8}, r"num_frames\b.*\b4\b.*\b8\b.*seed\b.*\b0\b.*\b1\b"),
        ({"frame_size": (32, 48)}, r"frame_size.*\(32, 32\).*\(32, 48\)"),
        ({"freeze_backbone": True}, "freeze_backbone.*False.*True"),
        ({"augment": False, "fps": 5.0}, r"fps\b.*\b15\.0\b.*\b5\.0\b.*augment.*True.*False"),
    ],
)
def test_other_settings_are_refused_by_name(broken, changed, message):
    assert_refused(broken, rf"{broken.folder}\b.*settings.*{message}", **changed)


def test_every_setting_is_either_fixed_or_changeable():
    """A new flag must be thought of here: fixed is the safe side."""
    assert changeable_on_resume() == {
        "accumulate", "batch_size", "data_dir", "epochs", "lr", "patience", "clip_grad", "views", "store", "store_dir",
        "num_workers", "precision", "save_minutes", "plugin", "strict", "experiments_dir", "experiment_name", "resume",
    }  # fmt: skip


@register_model("crashing_plain")
def crashing_plain(num_classes: int, num_frames: int) -> torch.nn.Module:
    """Neither batch norm nor dropout, so that it does not matter how a step's clips are cut into batches."""
    model = crashing(num_classes, num_frames)
    model.backbone[1] = model.head[0] = torch.nn.Identity()
    return model


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"batch_size": 2}, (2, 2)),
        ({"batch_size": 3}, (2, 2)),
        ({"batch_size": 1, "accumulate": 9}, (1, 4)),
        ({"batch_size": 8}, (4, 1)),
        ({"accumulate": 2}, (4, 1)),
    ],
)
def test_other_batches_keep_the_clips_of_a_step(
    crashing_config, undisturbed, history_of, weights_of, capsys, asked, got
):
    config = crashing_config(model="crashing_plain", augment=False, scheduler="cosine")
    whole = undisturbed(config)
    broken = train_until(9, config)  # in the second epoch, after 3 of its 5 steps
    capsys.readouterr()
    again = train(resumed(broken, **asked), progress=False)
    assert (again.config.batch_size, again.config.accumulate) == got
    said = rf"\b4 clips\b.*\b1 process\b.*--batch_size {got[0]}\b.*--accumulate {got[1]}\b"
    assert re.search(said, capsys.readouterr().out)
    for name, column in history_of(whole).items():
        assert history_of(again)[name].tolist() == pytest.approx(column.tolist(), abs=1e-5), name
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(weights_of(again)[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_layers_that_have_changed_are_named(broken, monkeypatch):
    """As when the plugin that defines the model was edited."""
    original = build_model("tiny", 3, num_frames=4).__class__.__init__

    def wider(model, num_classes, num_frames):
        original(model, num_classes, num_frames)
        model.backbone[0] = torch.nn.Conv2d(3, 4, 5, stride=2)

    monkeypatch.setattr(build_model("tiny", 3, num_frames=4).__class__, "__init__", wider)
    assert_refused(broken, rf"{broken.folder}\b.*crashing\b.*backbone\.0\.weight")


def change_csv(file: Path, change) -> None:
    change(pd.read_csv(file)).to_csv(file, index=False)


def assert_another_dataset(experiment: Experiment, dataset: Path) -> None:
    """A resumption with this dataset is refused, and both are named."""
    assert_refused(experiment, rf"{dataset} .*dataset.*{experiment.folder}\b", data_dir=dataset)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_missing_row_is_noticed(broken, dataset, split):
    change_csv(dataset / f"{split}.csv", lambda rows: rows.iloc[1:])
    assert_another_dataset(broken, dataset)


def test_other_label_is_noticed(broken, dataset):
    change_csv(dataset / "train.csv", lambda rows: rows.assign(label=["beta", *rows["label"][1:]]))
    assert_another_dataset(broken, dataset)


def test_video_of_another_length_is_noticed(broken, dataset, write_video):
    write_video(dataset / "videos" / "alpha" / "alpha_0.mkv", 9)
    assert_another_dataset(broken, dataset)


def test_video_of_the_same_length_is_noticed(broken, dataset, write_video):
    video = dataset / "videos" / "alpha" / "alpha_0.mkv"
    frames = probe(video).frames
    write_video(video, range(100, 100 + frames))
    assert probe(video).frames == frames
    assert_another_dataset(broken, dataset)


def test_video_that_is_gone_is_noticed(broken, dataset):
    (dataset / "videos" / "alpha" / "alpha_0.mkv").unlink()
    assert_another_dataset(broken, dataset)


def test_other_classes_are_listed(broken, dataset):
    for split in ("train", "val", "test"):
        change_csv(dataset / f"{split}.csv", lambda rows: rows.replace("gamma", "delta"))
    assert_refused(broken, rf"alpha, beta, gamma\b.*{dataset}\b.*alpha, beta, delta", data_dir=dataset)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="half"),
        pytest.param(lambda content: content[:-1], id="one-byte-short"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"no state at all\n", id="text"),
        pytest.param(lambda content: bytes(1000) + content[1000:], id="beginning-zero"),
    ],
)
def test_damaged_state(broken, damage):
    (broken.folder / LAST).write_bytes(damage((broken.folder / LAST).read_bytes()))
    assert_refused(broken, rf"{broken.folder / LAST}\b.*damaged")


def test_state_that_would_run_code_is_not_opened(broken, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    torch.save({"format": state.FORMAT, "bomb": Bomb()}, broken.folder / LAST)
    assert_refused(broken, rf"{broken.folder / LAST}\b.*damaged")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [{"format": 0}, {"epoch": 3}, [1, 2], torch.ones(3)])
def test_state_of_another_version(broken, content):
    torch.save(content, broken.folder / LAST)
    assert_refused(broken, rf"{broken.folder / LAST}\b.*version")


@pytest.mark.parametrize("text", ["", "{ broken", '{"epochs": 3, "setting_of_the_future": 1}'])
def test_configuration_that_cannot_be_read(broken, text):
    config = resumed(broken)
    (broken.folder / "config.json").write_text(text)
    with pytest.raises(Exception) as raised:
        train(config, progress=False)
    assert type(raised.value).__module__ == "varec_lib.errors"
    assert "config.json" in str(raised.value)


def test_more_epochs_go_on_from_a_finished_run(crashing_config, undisturbed, history_of):
    short = train(crashing_config(epochs=2), progress=False)
    before = history_of(short)
    longer = train(resumed(short, epochs=4), progress=False)
    assert longer == short
    assert longer.results["epochs_run"] == len(longer.history) == 4
    pd.testing.assert_frame_equal(history_of(longer)[:2], before, check_exact=True)
    assert (longer.config.epochs, longer.config.resume) == (4, None)
    whole = undisturbed(crashing_config(epochs=4))
    pd.testing.assert_frame_equal(history_of(longer), history_of(whole), check_exact=True)


def test_other_learning_rate_holds_from_there_on(crashing_config, history_of):
    broken = train_until(8, crashing_config(warmup_epochs=0))
    history = train(resumed(broken, lr=0.002), progress=False).history
    assert history["lr"].tolist() == [0.01, 0.01, 0.002]  # the broken epoch began with the former
    assert history["train_loss"].notna().all()


def test_moved_data_other_workers_and_store(broken, dataset, crashing_config, undisturbed, assert_same_run, tmp_path):
    """The dataset is the same wherever it lies, and however its frames come in."""
    (tmp_path / "link").symlink_to(dataset, target_is_directory=True)
    changed = {"data_dir": tmp_path / "link", "num_workers": 1, "store": "raw", "store_dir": tmp_path / "store"}
    again = train(resumed(broken, **changed), progress=False)
    assert (
        again.config
        == broken.config
        == crashing_config().replaced(experiments_dir=again.config.experiments_dir, **changed)
    )
    assert_same_run(undisturbed(crashing_config()), again)


def test_finished_run_is_only_tested_again(crashing_config, weights_of, state_of):
    done = train(crashing_config(patience=1), progress=False)
    before = kept(done)
    modified = (done.folder / LAST).stat().st_mtime_ns
    results = done.results
    train(resumed(done, views=3), progress=False)
    assert {k: v for k, v in kept(done).items() if k != "config.json"} == {
        k: v for k, v in before.items() if k != "config.json"
    }
    assert (done.folder / LAST).stat().st_mtime_ns == modified
    assert (done.results["test"]["views"], done.config.views) == (3, 3)
    assert {k: v for k, v in done.results.items() if k != "test"} == {k: v for k, v in results.items() if k != "test"}


def test_tensorboard_shows_each_epoch_once(crashing_config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    broken = train_until(13, crashing_config(save_minutes=5, epochs=4))
    train(resumed(broken), progress=False)
    events = EventAccumulator(str(broken.folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [1, 2, 3, 4]
    history = broken.history
    assert [event.value for event in events.Scalars("val_loss")] == pytest.approx(history["val_loss"].tolist())


def test_restart_by_torchrun_finds_the_unfinished_experiment(crashing_config, assert_same_run, monkeypatch):
    """Without --resume: torchrun starts the same command anew, and says in the environment that it did."""
    whole = train(crashing_config(), progress=False)
    broken = train_until(8, crashing_config())
    other = train_until(3, crashing_config(seed=1))
    assert len({whole.folder, broken.folder, other.folder}) == 3
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    again = train(crashing_config(), progress=False)
    assert again.folder == broken.folder
    assert_same_run(whole, again)
    assert train(crashing_config(epochs=1), progress=False).folder not in (whole.folder, broken.folder, other.folder)


def test_job_that_torchrun_started_anew_without_counting_it(crashing_config, assert_same_run, monkeypatch):
    """As when a machine joins or leaves: the restart count stays 0, the job keeps its name."""
    whole = train(crashing_config(), progress=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-1")
    broken = train_until(8, crashing_config())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-2")
    other = train_until(8, crashing_config())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-1")
    again = train(crashing_config(), progress=False)
    assert again.folder == broken.folder != other.folder
    assert_same_run(whole, again)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # of torchrun without a rendezvous
    assert train(crashing_config(epochs=1), progress=False).folder not in (broken.folder, other.folder)
    assert not (other.folder / "results.json").exists()


def test_restart_passes_over_folders_that_are_no_experiments(crashing_config, monkeypatch):
    broken = train_until(8, crashing_config())
    for name, text in {"older": '{"setting_of_the_future": 1}', "damaged": "{"}.items():
        folder = Path(shutil.copytree(broken.folder, broken.folder.with_name(name)))
        (folder / "config.json").write_text(text)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert train(crashing_config(), progress=False).folder == broken.folder


def test_saved_state_is_plain_data(crashing_config):
    """Readable by `weights_only`, and the history in it is what history.csv shows."""
    done = train(crashing_config(epochs=1), progress=False)
    saved = torch.load(done.folder / LAST, weights_only=True)
    assert (saved["format"], saved["epoch"], saved["steps_done"]) == (state.FORMAT, 2, 0)
    assert json.loads(json.dumps(saved["history"])) == saved["history"]
    assert saved["history"][0]["val_loss"] == pytest.approx(done.history["val_loss"][0])
    assert re.fullmatch("[0-9a-f]{64}", saved["identity"]["dataset"])
