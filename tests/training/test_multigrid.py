"""Training from coarse to fine: which clips each epoch sees, and what a change of size must not disturb."""

import pytest
import torch
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.models.registry import register_model
from varec_lib.training.loop import Trainer, train
from varec_lib.training.multigrid import LEVELS, RunningStatistics, stage_at, stages_of

pytestmark = pytest.mark.usefixtures("without_pictures")


@register_model("watched")
class Watched(nn.Module):
    """Notes the shapes of the clips it is trained and validated on."""

    seen: list[tuple[bool, tuple[int, ...]]]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, num_classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        Watched.seen.append((self.training, tuple(clips.shape)))
        return self.head(self.backbone(clips.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, clips.shape[:2]).mean(dim=1))


@register_model("picky")
class Picky(Watched):
    """Takes full-size clips only."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if clips.shape[-1] < 64:
            raise RuntimeError("64 pixels or nothing")
        return super().forward(clips)


@register_model("tells_width")
class TellsWidth(nn.Module):
    """Its batch norm sees nothing but the width of the clips."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(1), nn.Linear(1, num_classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(torch.full((len(clips), 1), float(clips.shape[-1]))))


@pytest.fixture
def config(tiny_config):
    """A run of five epochs from coarse to fine, up to 64 pixels."""
    Watched.seen = []
    return lambda **others: tiny_config(
        **{"model": "watched", "multigrid": True, "frame_size": (64, 64), "epochs": 5} | others
    )


@pytest.mark.parametrize(
    ("epochs", "frame_size", "expected"),
    [
        (1, (64, 64), {"8x64x64": 1}),
        (2, (64, 64), {"8x32x32": 1, "8x64x64": 2}),
        (4, (48, 48), {"8x32x32": 1, "8x48x48": 4}),
        (6, (64, 64), {"8x32x32": 1, "8x48x48": 5, "8x64x64": 6}),
        (20, (64, 64), {"8x32x32": 1, "8x48x48": 14, "8x64x64": 18}),
        (20, (128, 171), {"8x64x88": 1, "8x88x120": 14, "8x128x171": 18}),
        (9, (32, 32), {"8x32x32": 1}),
    ],
)
def test_stages_grow_to_the_configured_size(epochs, frame_size, expected):
    stages = stages_of(TrainConfig(multigrid=True, epochs=epochs, num_frames=8, frame_size=frame_size))
    assert {str(stage): stage.first_epoch for stage in stages} == expected
    assert [stage.number for stage in stages] == list(range(1, len(stages) + 1))
    assert stages[-1].frame_size == frame_size
    assert {stage.batches for stage in stages} == {1}


def test_most_epochs_are_small_and_the_last_one_is_not():
    for epochs in range(2, 101):
        stages = stages_of(TrainConfig(multigrid=True, epochs=epochs, frame_size=(112, 112)))
        sizes = [stage_at(stages, epoch).frame_size for epoch in range(1, epochs + 1)]
        assert sizes == sorted(sizes) and sizes[-1] == (112, 112)
        assert abs(sizes.count((56, 56)) - LEVELS[0][0] * epochs) <= 1
        assert stage_at(stages, epochs + 50) == stages[-1]  # a run that was given more epochs


def test_batches_grow_to_equal_memory_and_the_rate_with_their_root():
    config = TrainConfig(multigrid=True, multigrid_batches=True, epochs=20, frame_size=(64, 64))
    assert [(stage.batches, stage.lr_scale) for stage in stages_of(config)] == [(4, 2.0), (1, 1.0), (1, 1.0)]


def test_without_multigrid_there_is_one_stage():
    (stage,) = stages_of(TrainConfig(epochs=30, num_frames=8, frame_size=(64, 64)))
    assert (stage.first_epoch, str(stage)) == (1, "8x64x64")


def test_every_epoch_trains_and_validates_on_clips_of_its_stage(config):
    experiment = train(config(), progress=False)
    shapes = [shape[1:] for training, shape in Watched.seen if training]
    per_epoch = len(shapes) // 5
    sizes = [shape[-1] for shape in shapes]
    assert [sizes[epoch * per_epoch] for epoch in range(5)] == [32, 32, 32, 48, 64]
    assert {shape[:2] for shape in shapes} == {(4, 3)}
    validated = [shape[-1] for training, shape in Watched.seen if not training]
    assert set(validated) == {32, 48, 64} and validated[-1] == 64  # the test
    assert experiment.history["stage"].tolist() == [1, 1, 1, 2, 3]
    sizes = [(s["clip"], s["first_epoch"]) for s in experiment.results["stages"]]
    assert sizes == [("4x32x32", 1), ("4x48x48", 4), ("4x64x64", 5)]


def test_the_best_epoch_is_one_of_the_last_stage_and_its_checkpoint_says_the_full_size(config, numbered_dataset):
    experiment = train(config(), progress=False)
    assert experiment.results["best_epoch"] == 5  # whatever small clips gave
    about = load_checkpoint(experiment.folder).checkpoint
    assert about.clip_spec.frame_size == tuple(about.arguments["frame_size"]) == (64, 64)
    again = evaluate_checkpoint(experiment.folder, numbered_dataset, precision="fp32", progress=False)
    assert again.top_k(1) == experiment.results["test"]["top1"]


def test_a_training_stopped_among_small_clips_keeps_a_checkpoint_for_small_clips(config, numbered_dataset, monkeypatch):
    real = Trainer.record

    def stop_after_the_second(trainer, row, board):
        real(trainer, row, board)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "record", stop_after_the_second)
    experiment = train(config(), progress=False)
    assert load_checkpoint(experiment.folder).checkpoint.clip_spec.frame_size == (32, 32)
    evaluate_checkpoint(experiment.folder, numbered_dataset, precision="fp32", progress=False)


def test_frames_are_decoded_once_at_the_largest_size(config, store_dir, tmp_path):
    train(config(store_dir=tmp_path / "store"), progress=False)
    (folder,) = (tmp_path / "store").glob("*/*")
    assert folder.name == "73px-15fps-raw"


def test_patience_counts_in_the_last_stage_only(config):
    experiment = train(config(model="constant", epochs=40, patience=1), progress=False)
    assert experiment.results["epochs_run"] == 36  # 26 + 8 small ones, then 1 and 1 without anything better
    assert "no better" in experiment.results["stopped"]


def test_a_plateau_of_small_clips_is_forgotten(config):
    history = train(config(model="constant", epochs=20, patience=0, lr=0.01), progress=False).history
    assert history["lr"][12] < 0.0011  # stalled among small clips
    assert history["lr"][13] == pytest.approx(0.01)


def test_the_rate_follows_larger_batches(config):
    settings = {"scheduler": "cosine", "warmup_epochs": 0, "lr": 0.01, "multigrid_batches": True, "batch_size": 2}
    history = train(config(**settings), progress=False).history
    batches = {shape[-1]: shape[0] for training, shape in reversed(Watched.seen) if training}
    assert batches == {32: 8, 48: 2, 64: 2}
    assert history["lr"][0] == pytest.approx(0.02) and history["lr"][4] < 0.01


def test_statistics_of_a_new_size_are_its_own():
    """The mean over the first batches of a stage, then momentum's; without it, small clips' would last for dozens."""
    norm = nn.BatchNorm1d(1).train()
    statistics = RunningStatistics(norm)
    norm.running_mean.fill_(1000.0)
    for step, value in enumerate((1.0, 2.0, 6.0)):
        statistics.renew(step)
        norm(torch.full((4, 1), value))
    assert norm.running_mean.item() == pytest.approx(3.0)
    statistics.renew(50)
    assert norm.momentum == pytest.approx(0.1)


def test_statistics_of_the_checkpoint_are_those_of_full_size_clips(config, weights_of):
    """With the usual momentum, the five steps of the last epoch would leave 59 % of what was there before."""
    experiment = train(config(model="tells_width"), progress=False)
    assert weights_of(experiment)["norm.running_mean"].item() == pytest.approx(64)


def test_the_average_of_the_weights_starts_anew_with_every_size(config, weights_of, monkeypatch):
    counts = []
    real = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", lambda t, e: (counts.append(int(t.average.n_averaged)), real(t, e))[1])
    train(config(ema=0.9), progress=False)
    assert counts == [0, 5, 10, 0, 0]


def test_a_network_that_cannot_take_small_clips_is_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(ConfigError, match="4x32x32"):
        train(config(frame_size=(64, 64), num_frames=4, model="picky"), progress=False)
    assert not (tmp_path / "experiments").exists()


def test_frozen_backbones_have_one_size(config):
    with pytest.raises(ConfigError, match="freeze_backbone"):
        config(freeze_backbone=True)


def test_batches_of_small_clips_need_small_clips(config):
    with pytest.raises(ConfigError, match="multigrid_batches"):
        config(multigrid=False, multigrid_batches=True)


def test_lines_say_the_stage(config, capsys):
    train(config(), progress=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split()[2] for line in lines] == ["4x32x32"] * 3 + ["4x48x48", "4x64x64"]


class Crash(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


@pytest.mark.parametrize(
    ("epoch", "batch"),
    [
        pytest.param(2, -1, id="last-small-batch"),
        pytest.param(3, 0, id="first-large-batch"),
        pytest.param(3, 3, id="in-the-last-stage"),
    ],
)
@pytest.mark.parametrize("others", [{"ema": 0.9}, {"multigrid_batches": True, "batch_size": 2, "accumulate": 2}])
def test_crashed_and_resumed_it_is_the_same_run(config, assert_same_run, monkeypatch, epoch, batch, others):
    settings = {"model": "tiny", "epochs": 3, "save_minutes": 0, "scheduler": "cosine"} | others
    whole = train(config(**settings), progress=False)
    real = Trainer._step

    def crash(trainer, group, total):
        start, sizes = trainer.feed.batches.start, trainer.feed.batches.sizes
        if trainer.epoch == epoch and start <= batch % len(sizes) < start + len(group):
            raise Crash
        return real(trainer, group, total)

    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(Trainer, "_step", crash)
        train(config(**settings, experiment_name="broken"), progress=False)
    (folder,) = whole.folder.parent.glob("broken*")
    again = train(config(**settings, experiment_name="broken", resume=folder), progress=False)
    assert_same_run(whole, again)


def test_more_epochs_make_the_last_stage_longer(config, capsys):
    first = train(config(epochs=3), progress=False)
    capsys.readouterr()
    again = train(config(epochs=6, resume=first.folder), progress=False)
    assert again.history["stage"].tolist() == [1, 1, 2, 2, 2, 2]
    assert "4x64x64 from epoch 3" in capsys.readouterr().out  # what it says is what it does
