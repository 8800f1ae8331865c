"""Published weights, frozen as a whole or but for the last blocks: which defaults they change, and what then learns."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from varec_lib import cli
from varec_lib.commands import bench
from varec_lib.commands import train as train_command
from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.models.backbone import freeze
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.models.pretrained import suited
from varec_lib.models.registry import build_model
from varec_lib.predictor.predict import Predictor
from varec_lib.training import setup
from varec_lib.training.experiment import Experiment
from varec_lib.training.loop import Trainer, train
from varec_lib.training.state import LAST
from varec_lib.training.step import make_optimizer

pytestmark = pytest.mark.usefixtures("without_pictures")
FROZEN = ["--pretrained", "--freeze_backbone"]


def decided(options: TrainConfig) -> TrainConfig:
    """What would be trained with, its folders as they were written."""
    setup.resolved(options)  # knows the models of the plugin now
    return suited(options)


@pytest.fixture
def configured(monkeypatch):
    """`parse(*words)`: the configuration that `varec train` with these words would train with."""
    seen: list[TrainConfig] = []
    monkeypatch.setattr(train_command, "run", lambda options: seen.append(decided(options)) or 0)

    def parse(*words: object) -> TrainConfig:
        assert cli.main(["train", *map(str, words)]) == 0
        return seen.pop()

    return parse


@pytest.fixture
def words(settings):
    """`make(**others)`: the words of `varec train` with `settings`, some changed or, where they are None, left out."""

    def make(**others: object) -> list[str]:
        found = ["train"]
        for name, value in (settings | others).items():
            flag = "--data" if name == "data_dir" else f"--{name}"
            if value is True:
                found.append(flag)
            elif value is not None:
                found += [flag, *(str(part) for part in (value if isinstance(value, tuple) else [value]))]
        return found

    return make


# The defaults of a frozen pretrained backbone


def frozen(model: str, **settings: object) -> TrainConfig:
    """A configuration that leaves nothing open."""
    return TrainConfig(model=model, pretrained=True, freeze_backbone=True, augment=False, **settings).decided()


SUITED = {
    "i3d": {"num_frames": 64, "frame_size": (224, 224), "sampling": "dense", "stride": 1, "fps": 25.0},
    "r3d18": {"num_frames": 16, "frame_size": (112, 112), "sampling": "dense", "stride": 1, "fps": 15.0},
    "cnnlstm": {"num_frames": 16, "frame_size": (224, 224)},
    "frame_average": {"num_frames": 16, "frame_size": (224, 224)},
}


@pytest.mark.parametrize("model", SUITED)
def test_clips_of_a_frozen_pretrained_backbone_are_as_its_weights_know_them(configured, model):
    expected = frozen(model, **SUITED[model])
    assert configured("--model", model, *FROZEN) == expected
    assert expected.experiment_name == model


@pytest.mark.parametrize("model", SUITED)
def test_they_are_what_a_benchmark_of_it_measures(monkeypatch, model):
    seen: list[bench.Options] = []
    monkeypatch.setattr(bench, "run", lambda options: seen.append(options) or 0)
    assert cli.main(["bench", "--model", model, *FROZEN, "--steps", "7", "--num_workers", "1"]) == 0
    expected = frozen(model, **SUITED[model], batch_size=8, num_workers=1)
    assert (seen[0].steps, suited(seen[0].config).to_dict()) == (7, expected.to_dict())
    assert cli.main(["bench", "--model", model, "--batch_size", "4"]) == 0
    assert seen[1].config.to_dict() == TrainConfig(model=model, batch_size=4).to_dict()


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("--num_frames 8 --augment", {"num_frames": 8, "augment": True}),
        ("--num-frames 16 --stride 4", {"num_frames": 16, "stride": 4}),
        (
            "--sampling uniform --num_frames 16",
            {"sampling": "uniform", "num_frames": 16},
        ),  # what they would be by default
        ("--frame_size 112 112 --fps 15 --stride 2", {"frame_size": (112, 112), "fps": 15.0, "stride": 2}),
        ("--fps 0", {"fps": 0.0}),
        ("--experiment_name mine", {"experiment_name": "mine"}),
        ("--epochs 3 --lr 0.5 --seed 7 --flip", {"epochs": 3, "lr": 0.5, "seed": 7}),
        ("--fixed_views 2 --augment", {"fixed_views": 2, "augment": True}),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_flags_win_over_these_defaults_wherever_they_stand(configured, words, settings, before):
    suited = frozen("i3d", **SUITED["i3d"])
    always = ["--model", "i3d", *FROZEN]
    found = configured(*words.split(), *always) if before else configured(*always, *words.split())
    assert found == suited.replaced(**settings)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("--pretrained", {"pretrained": True}),
        ("--freeze_backbone", {"freeze_backbone": True}),
        ("--pretrained --train_blocks 2", {"pretrained": True, "train_blocks": 2}),
        ("--freeze_backbone --weights i3d_kinetics400", {"freeze_backbone": True, "weights": Path("i3d_kinetics400")}),
        ("", {}),
    ],
)
def test_otherwise_the_ordinary_defaults_stay(configured, words, settings):
    assert configured("--model", "i3d", *words.split()) == TrainConfig(model="i3d", **settings)


def test_a_model_of_your_own_says_what_its_weights_know(configured, tmp_path):
    file = tmp_path / "mine.py"
    spec = ClipSpec(40, (96, 128), (0.5,) * 3, (0.5,) * 3, sampling="dense", stride=3, fps=12.5)
    file.write_text(
        "from torch import nn\n"
        "from varec_lib.data.clip_spec import ClipSpec\n"
        "from varec_lib.models.registry import register_model\n\n"
        f"@register_model('transfer_mine', {spec!r})\n"
        "def mine(num_classes):\n"
        "    return nn.Linear(3, num_classes)\n"
    )
    found = configured("--plugin", file, "--model", "transfer_mine", *FROZEN)
    suited = {"num_frames": 40, "frame_size": (96, 128), "sampling": "dense", "stride": 3, "fps": 12.5}
    assert found == TrainConfig(
        model="transfer_mine", plugin=file, pretrained=True, freeze_backbone=True, augment=False, **suited
    )


def test_a_resumed_run_keeps_the_settings_it_had(configured, tmp_path):
    had = frozen("i3d", num_frames=8, experiment_name="mine")
    had.save(tmp_path / "config.json")
    assert configured("--resume", tmp_path) == had.replaced(resume=tmp_path)
    assert configured("--resume", tmp_path, "--epochs", 3) == had.replaced(resume=tmp_path, epochs=3)


def test_a_model_that_is_not_known_is_named(capsys):
    assert cli.main(["train", "--model", "i4d", *FROZEN]) == 2
    assert "There is no model 'i4d'" in capsys.readouterr().err


@pytest.fixture
def one_of_each(numbered_dataset, tmp_path) -> Path:
    """The numbered dataset with a single video of each class in each split."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "videos").symlink_to(numbered_dataset / "videos")
    for split in ("train", "val", "test"):
        rows = pd.read_csv(numbered_dataset / f"{split}.csv").groupby("label").head(1)
        rows.to_csv(tmp_path / "one" / f"{split}.csv", index=False)
    return tmp_path / "one"


@pytest.mark.slow
def test_a_head_learns_on_the_frozen_features_of_i3d(i3d_weights, words, the_experiment, one_of_each, capsys):
    chosen = {"data_dir": one_of_each, "model": "i3d", "epochs": 1, "pretrained": True, "freeze_backbone": True}
    assert cli.main(words(**chosen, num_frames=None, frame_size=None, precision=None)) == 0
    shown = capsys.readouterr().out
    assert re.search(r"i3d_kinetics400\.safetensors: 285 .*\b2 unused \(head\.", shown)
    assert re.search(r"features of 3 train\b", shown)
    experiment = the_experiment()
    assert experiment.folder.name.startswith("i3d_")
    config = json.loads((experiment.folder / "config.json").read_text())
    expected = {
        "num_frames": 64, "frame_size": [224, 224], "sampling": "dense", "stride": 1, "fps": 25.0, "augment": False,
        "experiment_name": "i3d", "epochs": 1, "pretrained": True, "freeze_backbone": True,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected

    weights, about = load_file(experiment.best_checkpoint), load_checkpoint(experiment.folder).checkpoint
    published = load_file(i3d_weights)
    for name, tensor in weights.items():
        if name.startswith("head."):
            assert len(tensor) == 3
        else:
            assert torch.equal(tensor, published[name]), name
    mean = std = (0.5,) * 3
    spec = ClipSpec(64, (224, 224), mean, std, sampling="dense", stride=1, short_side=256, fps=25.0)
    assert about.clip_spec == spec
    video = one_of_each / "videos" / "beta" / "beta_0.mkv"
    assert {name for name, _ in Predictor.load(experiment.folder).predict(video).top} == {"alpha", "beta", "gamma"}


# Training the last blocks


SMALL = {
    "cnnlstm": ({"model": "cnnlstm", "backbone": "squeezenet1_1"}, ["backbone.network.features.12."]),
    "frame_average": (
        {"model": "frame_average", "backbone": "resnet18", "train_blocks": 2},
        ["backbone.network.layer3.", "backbone.network.layer4."],
    ),
    "r3d18": ({"model": "r3d18"}, ["backbone.layer4."]),
}


@pytest.fixture
def first_weights(monkeypatch) -> dict[str, torch.Tensor]:
    """What the model of the run starts from, once it has started."""
    found: dict[str, torch.Tensor] = {}

    def prepare(model: nn.Module, config: TrainConfig) -> None:
        original(model, config)
        found.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    original = setup.prepare_backbone
    monkeypatch.setattr(setup, "prepare_backbone", prepare)
    return found


@pytest.mark.parametrize("name", ["cnnlstm", "frame_average", pytest.param("r3d18", marks=pytest.mark.slow)])
def test_only_the_last_blocks_and_what_comes_behind_them_learn(name, words, first_weights, the_experiment, weights_of):
    chosen, blocks = SMALL[name]
    assert cli.main(words(**{"train_blocks": 1, "epochs": 1, "backbone_lr": 0.002, "lr": 0.02} | chosen)) == 0
    experiment = the_experiment()
    trained = weights_of(experiment)
    changed = {path for path, tensor in trained.items() if not torch.equal(tensor, first_weights[path])}
    in_blocks = {path for path in trained if path.startswith(tuple(blocks))}
    behind = {path for path in trained if not path.startswith("backbone.")}
    assert in_blocks and behind and len(in_blocks | behind) < len(trained)
    assert changed == in_blocks | behind

    groups = torch.load(experiment.folder / LAST, weights_only=True)["optimizer"]["param_groups"]
    learned = {path for path in changed if "running_" not in path and "num_batches" not in path}
    counts = {0.02: len(learned & behind), 0.002: len(learned & in_blocks)}
    for rate, count in counts.items():  # warmed up for the one epoch there was
        assert sum(len(group["params"]) for group in groups if group["lr"] == pytest.approx(rate)) == count
    assert sum(len(group["params"]) for group in groups) == sum(counts.values())


def test_rates_of_the_last_block_and_of_the_head():
    model = build_model("r3d18", 3)
    freeze(model.backbone, train_blocks=1)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in make_optimizer(model, lr=0.3, weight_decay=0.05, backbone_lr=0.01).param_groups
        for parameter in group["params"]
    }
    assert found == {
        id(p): (0.3 if name.startswith("head.") else 0.01, 0.05 if p.dim() > 1 else 0.0)
        for name, p in model.named_parameters()
        if name.startswith(("head.", "backbone.layer4."))
    }


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"freeze_backbone": True}, "train_blocks and freeze_backbone exclude each other"),
        ({"model": "constant"}, "model constant has no attribute `backbone`"),
        ({"model": "frame_average", "train_blocks": 6}, "train_blocks is 6, but this backbone has 6: leave it out"),
        ({"train_blocks": -1}, "train_blocks is -1, but must be at least 0"),
    ],
)
def test_what_cannot_be_trained_in_part_is_refused_before_there_is_an_experiment(
    words, others, message, settings, capsys
):
    assert cli.main(words(**{"train_blocks": 1} | others)) == 2
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("varec: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not settings["experiments_dir"].exists()


class Crash(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


@pytest.mark.slow
def test_a_run_that_trains_the_last_block_is_resumed_bit_by_bit(
    tiny_config, assert_same_run, first_weights, tmp_path, monkeypatch
):
    """Batch norm's statistics of the frozen blocks stay as they were, on both sides of the crash."""

    def crash(trainer: Trainer, group: list, total: int):
        if (trainer.epoch, trainer.feed.batches.start) == (2, 3):
            raise Crash
        return original(trainer, group, total)

    def config(**others: object) -> TrainConfig:
        return tiny_config(model="frame_average", train_blocks=1, backbone_lr=0.001, weights=file, **others)

    file = tmp_path / "weights.pt"
    torch.save(build_model("frame_average", 3, frame_size=(32, 32)).backbone.network.state_dict(), file)
    whole = train(config(), progress=False)
    original = Trainer._step
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", crash)
        with pytest.raises(Crash):
            train(config(experiment_name="broken"), progress=False)
    (folder,) = whole.folder.parent.glob("broken*")
    again = train(Experiment(folder).config.replaced(resume=folder), progress=False)
    assert_same_run(whole, again)
    last = torch.load(again.folder / LAST, weights_only=True)["model"]
    changed = {path for path, tensor in last.items() if not torch.equal(tensor, first_weights[path])}
    assert changed == {path for path in last if path.startswith(("head.", "backbone.network.layer4."))}
