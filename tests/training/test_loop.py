"""The training loop: what it leaves behind, that it repeats itself, and how it ends early."""

import errno
import json
import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import get_worker_info

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import EpochBatches, VideoFiles
from varec_lib.data.manifest import load_manifest
from varec_lib.data.store import StoredFrames
from varec_lib.errors import ConfigError, DataError, TrainingError, WeightsError
from varec_lib.evaluation import metrics
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.evaluation.metrics import selective, sure_above, sure_answers
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.models.device import default_device
from varec_lib.models.registry import build_model, register_model
from varec_lib.training import loop as loop_module
from varec_lib.training import state as state_module
from varec_lib.training.experiment import Experiment
from varec_lib.training.feed import ClipFeed
from varec_lib.training.loop import train
from varec_lib.training.state import LAST

pytestmark = pytest.mark.usefixtures("without_pictures")  # but for `experiment`, which is made before
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def experiment(numbered_dataset, store_dir, tmp_path_factory) -> Experiment:
    """A run of two epochs, with two views in the test."""
    return train(
        TrainConfig(
            data_dir=numbered_dataset, store_dir=store_dir, experiments_dir=tmp_path_factory.mktemp("experiments"),
            model="tiny", epochs=2, batch_size=4, num_workers=0, num_frames=4, frame_size=(32, 32), precision="fp32",
            views=2, seed=5,
        ),
        progress=False,
    )  # fmt: skip


def test_experiment_folder_is_complete(experiment):
    files = {str(path.relative_to(experiment.folder)) for path in experiment.folder.rglob("*") if path.is_file()}
    assert {
        "config.json", "results.json", "history.csv", "predictions/test.npz", "plots/training_curves.png",
        "plots/confusion_matrix.png", "checkpoints/best_model.safetensors", "checkpoints/last/state.pt",
    } <= files  # fmt: skip
    assert any(name.startswith("tensorboard/events.out.tfevents") for name in files)
    assert not any(name.endswith(".partial") for name in files)
    for plot in (experiment.folder / "plots").iterdir():
        assert plot.read_bytes().startswith(PNG)


def test_results_have_everything(experiment):
    results = json.loads((experiment.folder / "results.json").read_text())
    assert {
        "model", "num_parameters", "epochs_run", "best_epoch", "train_seconds", "clips_per_second", "device",
        "precision", "seed", "versions", "test",
    } <= results.keys()  # fmt: skip
    assert (results["model"], results["epochs_run"], results["precision"], results["seed"]) == ("tiny", 2, "fp32", 5)
    assert results["num_parameters"] == sum(p.numel() for p in load_checkpoint(experiment.folder).network.parameters())
    assert results["versions"]["torch"] == torch.__version__
    test = results["test"]
    assert {
        "num_videos", "views", "top1", "top5", "top5_counts_classes", "top1_ci95", "per_class", "confusion", "classes",
    } <= test.keys()  # fmt: skip
    assert (test["num_videos"], test["views"], test["classes"]) == (6, 2, ["alpha", "beta", "gamma"])
    assert sum(map(sum, test["confusion"])) == 6
    assert test["top1_ci95"][0] <= test["top1"] <= test["top1_ci95"][1]


def test_test_result_is_that_of_the_best_checkpoint(experiment, numbered_dataset):
    again = evaluate_checkpoint(experiment.folder, numbered_dataset, views=2, precision="fp32", progress=False)
    assert again.top_k(1) == experiment.results["test"]["top1"]
    assert again.confusion().tolist() == experiment.results["test"]["confusion"]


def test_history_has_one_row_per_epoch_and_the_best_is_chosen_on_val(experiment):
    history = experiment.history
    assert history["epoch"].tolist() == [1, 2]
    assert list(history.columns) == [
        "epoch", "stage", "lr", "train_loss", "train_top1", "seconds", "clips_per_second", "data_wait", "val_loss",
        "val_top1", "sure_above", "sure_right", "sure_videos",
    ]  # fmt: skip
    assert history["data_wait"].between(0, 1).all()
    assert (history["seconds"] > 0).all()
    torch.testing.assert_close(
        torch.tensor(history["clips_per_second"]), torch.tensor(18 / history["seconds"])
    )  # all clips, not all batches
    best = history.sort_values(["val_top1", "val_loss"], ascending=[False, True]).iloc[0]
    assert experiment.results["best_epoch"] == best["epoch"]
    assert load_checkpoint(experiment.folder).checkpoint.metrics == {
        "epoch": best["epoch"],
        "val_top1": pytest.approx(best["val_top1"]),
        "val_loss": pytest.approx(best["val_loss"]),
        "sure_above": pytest.approx(best["sure_above"]),
        "sure_right": best["sure_right"],
        "sure_videos": best["sure_videos"],
        "val_videos": 6,
    }


@pytest.mark.parametrize("others", [{}, {"ema": 0.8}, {"freeze_backbone": True}], ids=["plain", "ema", "frozen"])
def test_what_counts_as_sure_is_fitted_on_the_validation_videos_of_the_saved_weights(
    tiny_config, numbered_dataset, monkeypatch, others
):
    lenient = partial(sure_above, accuracy=0.1)  # so that a model of three epochs is sure of something
    monkeypatch.setattr(metrics, "ENOUGH", 1)
    monkeypatch.setattr(loop_module, "sure_above", lenient)
    experiment = train(tiny_config(epochs=3, views=2, **others), progress=False)
    fitted = load_checkpoint(experiment.folder).checkpoint.metrics
    threshold = fitted["sure_above"]
    options = {"batch_size": 4, "precision": "fp32", "progress": False}
    val = evaluate_checkpoint(experiment.folder, numbered_dataset, split="val", **options)
    assert 1 / 3 < threshold < 1
    assert threshold == pytest.approx(lenient(val), rel=1e-5)
    assert (fitted["sure_right"], fitted["sure_videos"]) == sure_answers(val, threshold)
    results = experiment.results
    test = evaluate_checkpoint(experiment.folder, numbered_dataset, views=2, **options)
    assert results["sure_above"] == threshold
    assert results["test"]["selective"] == selective(test, threshold)


def test_every_epoch_has_a_threshold_and_that_of_the_best_is_the_result(experiment, monkeypatch):
    asked = []
    monkeypatch.setattr(loop_module, "sure_above", lambda val: asked.append(val) or 0.25 + len(asked) / 4)
    again = train(experiment.config.replaced(experiment_name="asked"), progress=False)
    assert [val.table["label"].tolist() for val in asked] == [["alpha", "alpha", "beta", "beta", "gamma", "gamma"]] * 2
    assert again.history["sure_above"].tolist() == [0.5, 0.75]
    assert again.results["sure_above"] == again.history["sure_above"][again.results["best_epoch"] - 1]


def test_a_run_begun_before_there_were_thresholds_goes_on_without(tiny_config):
    experiment = train(tiny_config(model="constant", epochs=1), progress=False)
    saved = torch.load(experiment.folder / LAST, weights_only=True)
    for row in (*saved["history"], saved["best"]):
        row.pop("sure_above", None)
    torch.save(saved, experiment.folder / LAST)
    again = train(tiny_config(model="constant", epochs=2, resume=experiment.folder), progress=False)
    assert again.results["best_epoch"] == 1
    assert again.results["sure_above"] is None and "selective" not in again.results["test"]
    assert again.history["sure_above"].isna().tolist() == [True, False]


def test_config_is_kept_as_it_was(experiment):
    config = experiment.config
    assert (config.model, config.frame_size, config.views, config.seed) == ("tiny", (32, 32), 2, 5)
    assert config.experiment_name == "tiny"


def test_same_seed_gives_the_same_run_however_many_workers(tiny_config, assert_same_run):
    first = train(tiny_config(seed=1), progress=False)
    for workers in (0, 2):
        assert_same_run(first, train(tiny_config(seed=1, num_workers=workers), progress=False))


def test_workers_live_from_epoch_to_epoch(tiny_config, monkeypatch, tmp_path):
    """Training and validation have theirs: starting new ones costs a large process much of an epoch."""
    read, log = StoredFrames.read, tmp_path / "log"

    def logged(frames, row, indices):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return read(frames, row, indices)

    monkeypatch.setattr(StoredFrames, "read", logged)
    train(tiny_config(num_workers=1, epochs=4), progress=False)
    processes = set(log.read_text().split())
    assert len(processes) == 3 and str(os.getpid()) not in processes  # the third is the test's


def test_frames_decoded_anew_or_stored_give_the_same_run(tiny_config, assert_same_run):
    assert_same_run(*(train(tiny_config(store=form), progress=False) for form in ("raw", "off")))


def test_the_progress_line_shows_loss_speed_and_waiting(tiny_config, capfd):
    train(tiny_config(epochs=1), progress=True)
    shown = capfd.readouterr().err
    assert re.search(r"epoch 1: +\d+%.* loss \d\.\d{3}, [\d.]+ clips/s, data wait \d+%", shown)


def test_another_seed_gives_another_run(tiny_config, history_of):
    first, second = (history_of(train(tiny_config(seed=seed, epochs=1), progress=False)) for seed in (1, 2))
    assert not first["train_loss"].equals(second["train_loss"])


@pytest.mark.parametrize(("patience", "epochs_run"), [(1, 2), (2, 3), (0, 4)])
def test_early_stopping_waits_for_patience(tiny_config, patience, epochs_run):
    results = train(tiny_config(model="constant", patience=patience, epochs=4), progress=False).results
    assert (results["epochs_run"], results["best_epoch"]) == (epochs_run, 1)
    expected = f"no better validation result for {patience} epochs" if patience else "all epochs done"
    assert results["stopped"] == expected


class CountingAdamW(torch.optim.AdamW):
    """Notes the learning rate of every step that is really taken."""

    rates: list[float]

    def step(self, closure=None):
        type(self).rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


@pytest.mark.parametrize(("accumulate", "steps_per_epoch"), [(1, 5), (2, 3), (8, 1)])
def test_accumulation_takes_fewer_steps(tiny_config, monkeypatch, accumulate, steps_per_epoch):
    CountingAdamW.rates = []
    monkeypatch.setattr(torch.optim, "AdamW", CountingAdamW)
    train(tiny_config(accumulate=accumulate, scheduler="cosine", warmup_epochs=0), progress=False)
    assert len(CountingAdamW.rates) == 2 * steps_per_epoch  # 18 clips in batches of 4 are 5 batches
    assert CountingAdamW.rates[0] == 0.01
    assert CountingAdamW.rates == sorted(CountingAdamW.rates, reverse=True)
    assert len(set(CountingAdamW.rates)) == 2 * steps_per_epoch  # the schedule follows steps, not batches


@register_model("poisoned")
class Poisoned(nn.Module):
    """Gives NaN in one training step, and has batch norm, whose statistics a bad step spoils."""

    bad_step = steps = 0

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, num_classes))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        Poisoned.steps += self.training
        bad = self.training and Poisoned.steps == Poisoned.bad_step
        return self.head(clips.mean(dim=(1, 3, 4)) * (torch.nan if bad else 1))


@pytest.mark.parametrize(("bad_step", "accumulate", "batch"), [(8, 1, 3), (9, 2, 4), (10, 8, 5)])
def test_non_finite_loss_names_its_clips_and_spoils_nothing(
    tiny_config, assert_same_run, weights_of, bad_step, accumulate, batch
):
    config = tiny_config(model="poisoned", epochs=3, save_minutes=0, accumulate=accumulate)
    Poisoned.bad_step = Poisoned.steps = 0
    whole = train(config, progress=False)
    Poisoned.bad_step, Poisoned.steps = bad_step, 0
    with pytest.raises(TrainingError) as raised:
        train(config.replaced(experiment_name="bad"), progress=False)
    (folder,) = config.experiments_dir.glob("bad*")
    message = str(raised.value)
    assert re.match(rf"The loss became nan in epoch 2, batch {batch} \(", message)
    expected = order_of_epoch(config, 2)[4 * (batch - 1) : 4 * batch]
    assert re.search(r"\((.*?)\)", message)[1].split(", ") == expected
    assert all(advice in message for advice in ("--lr", "--clip_grad 1", f"varec train --resume {folder}"))
    model, about, _ = load_checkpoint(folder)
    assert about.metrics["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert len(Experiment(folder).history) == 1
    again = train(config.replaced(resume=folder, experiment_name="bad"), progress=False)  # no poison any more
    assert_same_run(whole, again)


class Spoiled(torch.autograd.Function):
    """Passes values on; their gradient becomes infinite."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.inf


@register_model("spoiling")
class Spoiling(Poisoned):
    """Gives an infinite gradient in one training step; the loss of that step is an ordinary number."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        Poisoned.steps += self.training
        scores = self.head(clips.mean(dim=(1, 3, 4)))
        return Spoiled.apply(scores) if self.training and Poisoned.steps == Poisoned.bad_step else scores


@pytest.mark.parametrize("clip_grad", [0.0, 1.0])
@pytest.mark.parametrize(("bad_step", "batch"), [(8, 3), (10, 5)])  # in the middle of the second epoch, and at its end
def test_infinite_gradient_names_its_clips_and_spoils_nothing(tiny_config, assert_same_run, clip_grad, bad_step, batch):
    config = tiny_config(model="spoiling", epochs=3, save_minutes=0, clip_grad=clip_grad)
    Poisoned.bad_step = Poisoned.steps = 0
    whole = train(config, progress=False)
    Poisoned.bad_step, Poisoned.steps = bad_step, 0
    with pytest.raises(TrainingError, match=rf"The gradient became (inf|nan) in epoch 2, batch {batch} \("):
        train(config.replaced(experiment_name="bad"), progress=False)
    (folder,) = config.experiments_dir.glob("bad*")
    again = train(config.replaced(resume=folder, experiment_name="bad"), progress=False)
    assert_same_run(whole, again)


@pytest.mark.parametrize("save_minutes", [0, 5])
def test_infinite_weights_are_never_saved(tiny_config, save_minutes):
    """Loss and gradient are numbers, but the step is so long that the weights are not."""
    config = tiny_config(lr=1e38, warmup_epochs=0, weight_decay=10.0, batch_size=18, save_minutes=save_minutes)
    with pytest.raises(TrainingError, match=r"infinite in epoch 1, batch 1\b"):
        train(config, progress=False)
    (folder,) = config.experiments_dir.iterdir()
    assert not (folder / LAST).exists() and not Experiment(folder).best_checkpoint.exists()
    assert train(config.replaced(resume=folder, lr=0.01), progress=False).results["epochs_run"] == 2


def test_a_full_disk_is_named_and_the_run_can_go_on(tiny_config, assert_same_run, monkeypatch):
    whole = train(tiny_config(epochs=3), progress=False)

    def full(folder, saved):
        if saved["epoch"] == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / LAST))
        original(folder, saved)

    original = state_module.save_state
    with monkeypatch.context() as patched, pytest.raises(TrainingError) as raised:
        patched.setattr(state_module, "save_state", full)
        train(tiny_config(epochs=3, experiment_name="full"), progress=False)
    (folder,) = whole.folder.parent.glob("full*")
    assert re.match(rf"{folder / LAST}: No space left on device. .*varec train --resume {folder}$", str(raised.value))
    again = train(tiny_config(epochs=3, experiment_name="full", resume=folder), progress=False)
    assert_same_run(whole, again)


@pytest.mark.slow
def test_a_video_that_a_worker_cannot_read_is_named_in_one_line(
    start, train_command, numbered_dataset, the_experiment, tmp_path
):
    """Damaged after the check: the worker's error arrives without its traceback."""
    data = Path(shutil.copytree(numbered_dataset, tmp_path / "data"))
    process = start(*train_command(data_dir=data, store="off", num_workers=1, epochs=100, patience=0))
    process.wait_for_step(5)
    for file in (data / "videos").glob("*/*.mkv"):
        file.write_bytes(file.read_bytes()[:2000])
    assert process.status() == 2, process.shown
    assert "Traceback" not in process.shown
    last = process.shown.replace("\r", "\n").strip().splitlines()[-1]
    assert re.match(r"varec: .*\.mkv: (ends after|not a video|frame)", last)


def order_of_epoch(config: TrainConfig, epoch: int) -> list[str]:
    """Names of the training videos as an epoch meets them."""
    table = load_manifest(config.data_dir)
    paths = table.loc[table["split"] == "train", "path"].to_list()
    batches = EpochBatches(len(paths), config.batch_size, config.seed)
    batches.epoch = epoch
    return [Path(paths[row]).name for batch in batches for _, row in batch]


def test_many_clips_of_a_non_finite_loss_are_counted(tiny_config):
    Poisoned.bad_step, Poisoned.steps = 1, 0
    with pytest.raises(TrainingError, match=r"epoch 1, batch 1 \((\w+\.mkv, ){3}\w+\.mkv and 5 more\)"):
        train(tiny_config(model="poisoned", batch_size=9), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ctrl_c_keeps_the_best_checkpoint(start, train_command, the_experiment, num_workers):
    process = start(*train_command(num_workers=num_workers, patience=0, epochs=100000))
    process.wait_for(lambda: "\nepoch   1/" in process.shown.replace("\r", "\n"))
    process.interrupt()
    assert process.status() == 130, process.shown
    assert "Traceback" not in process.shown
    experiment = the_experiment()
    assert re.search(
        r"Interrupted: the best checkpoint so far \(epoch \d+\) is kept\. "
        rf"Go on with: varec train --resume {experiment.folder}\n",
        process.shown,
    )
    results = experiment.results
    assert results["stopped"] == "interrupted"
    assert results["test"] is None
    assert results["epochs_run"] >= 1
    assert load_checkpoint(experiment.folder).checkpoint.metrics["epoch"] == results["best_epoch"]
    state = torch.load(experiment.folder / LAST, weights_only=True)
    assert (state["epoch"], len(state["history"])) == (results["epochs_run"] + 1, results["epochs_run"])


@pytest.mark.parametrize(
    ("split", "others"),
    [
        ("train", {}),
        ("val", {"save_minutes": 0}),
        ("test", {}),
        ("train", {"model": "tiny_in_parts", "freeze_backbone": True, "augment": False}),
        ("val", {"model": "tiny_in_parts", "freeze_backbone": True, "augment": False}),
    ],
    ids=["training", "validation", "test", "features-train", "features-val"],
)
def test_data_worker_that_dies_is_reported_wherever_it_dies(tiny_config, monkeypatch, tmp_path, split, others):
    """As when the kernel runs out of memory. It can be resumed, also where nothing was saved yet."""

    def frames(feed, name):
        source = original_frames(feed, name)
        source.split = name
        return source

    def deadly(original_read):
        def read(source, row, indices):
            if source.split == split and get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return original_read(source, row, indices)

        return read

    original_frames = ClipFeed.frames
    monkeypatch.setattr(ClipFeed, "frames", frames)
    for source in (StoredFrames, VideoFiles):  # features are computed from the files
        monkeypatch.setattr(source, "read", deadly(source.read))
    config = tiny_config(num_workers=1, store_dir=tmp_path / "store", **others)
    with pytest.raises(TrainingError, match=r"data worker.*varec train --resume"):
        train(config, progress=False)
    (folder,) = config.experiments_dir.iterdir()
    monkeypatch.undo()
    assert train(config.replaced(resume=folder), progress=False).results["test"]


@register_model("tiny_in_parts")
def tiny_in_parts(num_classes: int, num_frames: int) -> nn.Module:
    """The tiny model, with the two methods that let features be stored."""
    model = build_model("tiny", num_classes, num_frames=num_frames)
    model.features = lambda clips: model.backbone(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).flatten(1)
    model.classify = model.head
    return model


def test_unusable_settings_write_nothing(tiny_config, tmp_path):
    for settings, error in (
        ({"model": "constant", "freeze_backbone": True}, ConfigError),
        ({"model": "absent"}, ConfigError),
        ({"data_dir": tmp_path / "absent"}, DataError),
        ({"weights": tmp_path / "absent.pt"}, WeightsError),
        ({"precision": "fp16"}, ConfigError),
    ):
        if settings.get("precision") == "fp16" and default_device().type != "cpu":
            continue
        config = tiny_config(**settings)
        with pytest.raises(error):
            train(config, progress=False)
        assert not config.experiments_dir.exists(), settings


def test_frozen_backbone_keeps_weights_and_statistics(tiny_config, weights_of):
    first, second = (
        weights_of(train(tiny_config(freeze_backbone=True, epochs=epochs), progress=False)) for epochs in (1, 3)
    )
    backbone = [name for name in first if name.startswith("backbone.")]
    assert "backbone.1.running_mean" in backbone
    assert all(torch.equal(first[name], second[name]) for name in backbone)
    assert first["backbone.1.running_mean"].eq(0).all()  # never updated
    assert not first["head.1.weight"].eq(0).all()


def test_backbone_learns_at_its_own_rate(tiny_config, weights_of):
    """A hundredth of the other's rate, so that it moves about a hundredth as far."""
    config = tiny_config(epochs=1, weight_decay=0.0)
    rates = {"fast": 0.0, "slow": config.lr / 100, "still": 1e-12}  # 0: as the head
    found = {name: weights_of(train(config.replaced(backbone_lr=rate), progress=False)) for name, rate in rates.items()}
    names = [name for name in found["still"] if name.startswith("backbone.") and name.endswith("weight")]
    moved = {
        kind: max((found[kind][name] - found["still"][name]).abs().max().item() for name in names)
        for kind in ("slow", "fast")
    }
    assert 0 < moved["slow"] < moved["fast"] / 20


def test_backbone_starts_from_the_weights_file(tiny_config, tmp_path, capsys, weights_of):
    torch.manual_seed(9)
    weights = {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.randn(4), "9.weight": torch.ones(1)}
    torch.save(weights, tmp_path / "start.pt")
    config = tiny_config(weights=tmp_path / "start.pt", freeze_backbone=True, epochs=1)
    trained = weights_of(train(config, progress=False))
    assert torch.equal(trained["backbone.0.weight"], weights["0.weight"])
    assert re.search(r"start\.pt: 2 .*\b4 missing \(1\.weight", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler for torch.compile")
@pytest.mark.parametrize(
    "others", [{}, {"freeze_backbone": True, "augment": False, "ema": 0.5}], ids=["clips", "features"]
)
def test_compiled_model_trains_alike(tiny_config, plugin, history_of, weights_of, others):
    settings = {"model": "slow_plain", "plugin": plugin} | others
    plain, compiled = (train(tiny_config(compile=compile, **settings), progress=False) for compile in (False, True))
    for name, column in history_of(plain).items():
        assert history_of(compiled)[name].tolist() == pytest.approx(column.tolist(), rel=1e-3, abs=1e-4), name
    assert weights_of(compiled).keys() == weights_of(plain).keys()
    for name, tensor in weights_of(plain).items():
        torch.testing.assert_close(weights_of(compiled)[name], tensor, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_cnnlstm_can_learn_a_handful_of_clips_by_heart(tiny_stick_actions, store_dir, tmp_path):
    config = TrainConfig(
        data_dir=tiny_stick_actions, store_dir=store_dir, experiments_dir=tmp_path, model="cnnlstm", epochs=15,
        batch_size=8, num_workers=2,
        num_frames=8, frame_size=(32, 32), augment=False, patience=0, lr=5e-4, warmup_epochs=2, scheduler="cosine",
    )  # fmt: skip
    history = train(config, progress=False).history
    assert history["train_top1"].iloc[-3:].max() == 1.0
    assert history["train_loss"].iloc[-1] < 0.2 * history["train_loss"].iloc[0]
