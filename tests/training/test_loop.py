"""The training loop: what it leaves behind, that it repeats itself, and how it ends early."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import TrainClips
from varec_lib.data.doctor import load_dataset
from varec_lib.errors import ConfigError, DataError, VarecError
from varec_lib.evaluation.evaluate import evaluate_checkpoint
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.models.registry import load_plugin, register_model
from varec_lib.training import loop
from varec_lib.training.experiment import Experiment
from varec_lib.training.loop import train

PNG = b"\x89PNG\r\n\x1a\n"


def outcome(config: TrainConfig) -> tuple[pd.DataFrame, dict[str, torch.Tensor]]:
    """History without the clock, and the best weights."""
    experiment = train(config, progress=False)
    model, _ = load_checkpoint(experiment.folder)
    return experiment.history.drop(columns=["seconds", "clips_per_second"]), model.state_dict()


@pytest.fixture(scope="module")
def experiment(numbered_dataset, tmp_path_factory) -> Experiment:
    """A run of two epochs, with two views in the test."""
    return train(
        TrainConfig(
            data_dir=numbered_dataset, experiments_dir=tmp_path_factory.mktemp("experiments"), model="tiny", epochs=2,
            batch_size=4, num_workers=0, num_frames=4, frame_size=(32, 32), precision="fp32", views=2, seed=5,
        ),
        progress=False,
    )  # fmt: skip


def test_experiment_folder_is_complete(experiment):
    files = {str(path.relative_to(experiment.folder)) for path in experiment.folder.rglob("*") if path.is_file()}
    assert {
        "config.json", "results.json", "history.csv", "plots/training_curves.png", "plots/confusion_matrix.png",
        "checkpoints/best_model.safetensors",
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
    assert results["num_parameters"] == sum(p.numel() for p in load_checkpoint(experiment.folder)[0].parameters())
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
        "epoch", "lr", "train_loss", "train_top1", "seconds", "clips_per_second", "val_loss", "val_top1",
    ]  # fmt: skip
    best = history.sort_values(["val_top1", "val_loss"], ascending=[False, True]).iloc[0]
    assert experiment.results["best_epoch"] == best["epoch"]
    assert load_checkpoint(experiment.folder)[1].metrics == {
        "epoch": best["epoch"],
        "val_top1": pytest.approx(best["val_top1"]),
        "val_loss": pytest.approx(best["val_loss"]),
    }


def test_config_is_kept_as_it_was(experiment):
    config = experiment.config
    assert (config.model, config.frame_size, config.views, config.seed) == ("tiny", (32, 32), 2, 5)
    assert config.experiment_name == "tiny"


def test_same_seed_gives_the_same_run_however_many_workers(tiny_config):
    history, weights = outcome(tiny_config(seed=1))
    for workers in (0, 2):
        other_history, other_weights = outcome(tiny_config(seed=1, num_workers=workers))
        pd.testing.assert_frame_equal(history, other_history, check_exact=True)
        assert all(torch.equal(tensor, other_weights[name]) for name, tensor in weights.items())


def test_another_seed_gives_another_run(tiny_config):
    (first, _), (second, _) = outcome(tiny_config(seed=1, epochs=1)), outcome(tiny_config(seed=2, epochs=1))
    assert not first["train_loss"].equals(second["train_loss"])


@register_model("constant")
class Constant(nn.Module):
    """Always answers the same, so validation never improves after the first epoch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_classes))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.scores.detach().expand(len(clips), -1) + 0 * self.scores


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
    """Learns for one epoch of 5 batches, then gives NaN."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head, self.batches = nn.Linear(3, num_classes), 0

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.batches += self.training
        scores = self.head(clips.mean(dim=(1, 3, 4)))
        return scores * torch.nan if self.training and self.batches > 5 else scores


def test_non_finite_loss_stops_and_keeps_the_best_checkpoint(tiny_config):
    config = tiny_config(model="poisoned", epochs=3)
    with pytest.raises(VarecError, match=r"The loss became nan in epoch 2\. Lower --lr, or use --precision fp32"):
        train(config, progress=False)
    (folder,) = config.experiments_dir.iterdir()
    model, about = load_checkpoint(folder)
    assert about.metrics["epoch"] == 1
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert len(Experiment(folder).history) == 1


@pytest.mark.parametrize("num_workers", [pytest.param("0", marks=pytest.mark.slow), "2"])
def test_ctrl_c_keeps_the_best_checkpoint(numbered_dataset, tmp_path, plugin, num_workers):
    """As in a terminal, the signal reaches the training process and its workers alike."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("varec"), "train", "--model", "slow_tiny", "--plugin", plugin,
         "--data", numbered_dataset, "--experiments-dir", tmp_path / "runs", "--num-frames", "4",
         "--frame-size", "32", "32", "--batch-size", "4", "--num-workers", num_workers, "--precision", "fp32",
         "--patience", "0", "--epochs", "100000"],
        stdout=subprocess.PIPE, stderr=(tmp_path / "stderr").open("w"), text=True, start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        shown = ""
        while not shown.startswith("epoch   1/"):
            shown = process.stdout.readline()
            assert shown, (tmp_path / "stderr").read_text()
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert re.search(r"Interrupted: the best checkpoint so far \(epoch \d+\) is kept\.", rest)
    assert "Traceback" not in rest + (tmp_path / "stderr").read_text()
    (folder,) = (tmp_path / "runs").iterdir()
    results = Experiment(folder).results
    assert results["stopped"] == "interrupted"
    assert results["test"] is None
    assert results["epochs_run"] >= 1
    load_plugin(plugin)
    assert load_checkpoint(folder)[1].metrics["epoch"] == results["best_epoch"]


def test_unusable_settings_write_nothing(tiny_config, tmp_path):
    for settings, error in (
        ({"model": "constant", "freeze_backbone": True}, ConfigError),
        ({"model": "absent"}, ConfigError),
        ({"data_dir": tmp_path / "absent"}, DataError),
        ({"weights": tmp_path / "absent.pt"}, VarecError),
        ({"precision": "fp16"}, ConfigError),
    ):
        if settings.get("precision") == "fp16" and loop.default_device().type != "cpu":
            continue
        config = tiny_config(**settings)
        with pytest.raises(error):
            train(config, progress=False)
        assert not config.experiments_dir.exists(), settings


def test_frozen_backbone_keeps_weights_and_statistics(tiny_config):
    _, first = outcome(tiny_config(freeze_backbone=True, epochs=1))
    _, second = outcome(tiny_config(freeze_backbone=True, epochs=3))
    backbone = [name for name in first if name.startswith("backbone.")]
    assert "backbone.1.running_mean" in backbone
    assert all(torch.equal(first[name], second[name]) for name in backbone)
    assert first["backbone.1.running_mean"].eq(0).all()  # never updated
    assert not first["head.1.weight"].eq(0).all()


def test_backbone_starts_from_the_weights_file(tiny_config, tmp_path, capsys):
    torch.manual_seed(9)
    weights = {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.randn(4), "9.weight": torch.ones(1)}
    torch.save(weights, tmp_path / "start.pt")
    _, trained = outcome(tiny_config(weights=tmp_path / "start.pt", freeze_backbone=True, epochs=1))
    assert torch.equal(trained["backbone.0.weight"], weights["0.weight"])
    assert "start.pt: 2 tensors matched; 4 missing (1.weight, 1.bias, 1.running_mean, ...)" in capsys.readouterr().out


def test_without_augmentation_an_epoch_sees_the_same_pictures(tiny_config):
    table = load_dataset(tiny_config(), progress=False)
    rows, preprocess = table[table["split"] == "train"], loop.Preprocess(4, (32, 32), (0.5,) * 3, (0.5,) * 3)
    options = {"flip": True, "seed": 0}
    plain, changed = (TrainClips(rows, ["alpha", "beta", "gamma"], preprocess, augment=a, **options) for a in (0, 1))
    assert torch.equal(plain[1, 0][0], plain[1, 0][0])
    assert not torch.equal(plain[1, 0][0], changed[1, 0][0])


@pytest.mark.slow
def test_cnnlstm_can_learn_a_handful_of_clips_by_heart(tiny_stick_actions, tmp_path):
    config = TrainConfig(
        data_dir=tiny_stick_actions, experiments_dir=tmp_path, model="cnnlstm", epochs=15, batch_size=8, num_workers=2,
        num_frames=8, frame_size=(64, 64), augment=False, patience=0, lr=5e-4, warmup_epochs=2, scheduler="cosine",
    )  # fmt: skip
    history = train(config, progress=False).history
    assert history["train_top1"].iloc[-3:].max() == 1.0
    assert history["train_loss"].iloc[-1] < 0.2 * history["train_loss"].iloc[0]
