"""The `varec` command: its flags, what it prints where, and what it loads before it answers."""

import ast
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
import torch
import tyro
from annotated_types import Interval
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file
from torch import nn

from varec_lib import cli
from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError
from varec_lib.evaluation.calibration import none_of_these
from varec_lib.evaluation.metrics import Predictions
from varec_lib.evaluation.temporal import ORDERS
from varec_lib.models.registry import register_model
from varec_lib.training.experiment import Experiment, latest_experiment

VAREC = Path(sys.executable).with_name("varec")
DEFAULTS = {
    "--model": "r3d18", "--epochs": 100, "--batch_size": 32, "--lr": 0.001, "--num_frames": 16,
    "--frame_size": (112, 112), "--pretrained": False, "--freeze_backbone": False, "--patience": 10,
    "--scheduler": "plateau", "--num_workers": 2, "--experiment_name": "r3d18", "--data": Path("data/stick_actions"),
    "--backbone": "resnet18", "--weights": None, "--seed": 0, "--precision": "auto", "--accumulate": 1,
    "--augment": True, "--label_smoothing": 0.0, "--weight_decay": 0.01, "--store": "raw",
    "--store_dir": Path("data/store"), "--short_side": 0, "--fps": 15.0, "--fixed_views": 0, "--clip_grad": 0.0,
    "--mixup": 0.0, "--cutmix": 0.0, "--ema": 0.0, "--balanced": False, "--compile": False, "--resume": None,
    "--save_minutes": 5.0, "--warmup_epochs": 1.0, "--views": 1, "--strict": False, "--train_blocks": 0,
}  # fmt: skip
OTHERS = {
    "--model": "cnnlstm", "--epochs": 3, "--batch_size": 8, "--lr": 0.5, "--num_frames": 4, "--frame_size": (64, 48),
    "--patience": 2, "--scheduler": "cosine", "--num_workers": 0, "--experiment_name": "mine",
    "--data": Path("elsewhere"), "--backbone": "vgg11", "--weights": Path("w.pt"), "--seed": 7, "--precision": "fp32",
    "--accumulate": 4, "--label_smoothing": 0.1, "--weight_decay": 0.5, "--store": "jpeg", "--store_dir": Path("s"),
    "--short_side": 100, "--fps": 7.5, "--fixed_views": 3, "--clip_grad": 1.0, "--mixup": 0.2, "--cutmix": 1.0,
    "--ema": 0.99, "--resume": Path("experiments/x"), "--save_minutes": 0.0, "--train_blocks": 2,
}  # fmt: skip


def parsed(*arguments: str) -> TrainConfig:
    return tyro.cli(TrainConfig, args=list(arguments))


def setting(config: TrainConfig, flag: str) -> object:
    name = flag.removeprefix("--").replace("-", "_")
    return getattr(config, "data_dir" if name == "data" else name)


@pytest.mark.parametrize(("flag", "default"), DEFAULTS.items())
def test_train_flag_has_its_default(flag, default):
    assert setting(parsed(), flag) == default


@pytest.mark.parametrize(("flag", "value"), OTHERS.items())
@pytest.mark.parametrize("hyphens", [False, True])
def test_train_flag_takes_a_value_with_underscores_and_hyphens(flag, value, hyphens):
    words = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
    assert setting(parsed(flag.replace("_", "-") if hyphens else flag, *words), flag) == value


@pytest.mark.parametrize("flag", ["--pretrained", "--freeze_backbone", "--freeze-backbone", "--balanced", "--compile"])
def test_train_switch_turns_on(flag):
    assert setting(parsed(flag), flag) is True


def test_augmentation_turns_off_and_on():
    assert parsed("--no-augment").augment is False
    assert parsed("--augment").augment is True


def test_help_of_train_lists_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(flag.replace("_", "-") in shown for flag in DEFAULTS)
    shown = " ".join(shown.replace("│", " ").split())  # a default may stand on the next line
    assert all(f"(default: {value}" in shown for value in ("r3d18", "100", "32", "0.001", "16", "112 112", "plateau"))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_flag_has_a_sentence(command):
    """The sentence is the docstring below the field; `--help` shows it."""
    kind = cli.command(command).Options
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    for field, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign):
            continue
        assert isinstance(after, ast.Expr), f"{kind.__name__}.{field.target.id} has no sentence"
        assert re.fullmatch(r"\S.*[.?!]", after.value.value, re.DOTALL), after.value.value


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_every_flag_and_its_sentence(command, capsys):
    kind = cli.command(command).Options
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), "--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    sentences = [node.value.value for node in tree.body[1:] if isinstance(node, ast.Expr)]
    for sentence in sentences:
        first = " ".join(sentence.replace("`", "").split())[:40]
        assert first in shown.replace("`", ""), f"{kind.__name__}: {sentence}"


def json_of(capsys, *arguments: object):
    """Status and the JSON that a command prints to stdout; anything else there makes this fail."""
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def videos(numbered_dataset):
    return sorted((numbered_dataset / "videos" / "alpha").glob("*.mkv"))


def test_evaluate_prints_a_report(tiny_checkpoint, numbered_dataset, capsys):
    assert cli.main(["evaluate", str(tiny_checkpoint), "--data", str(numbered_dataset), "--num-workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\b6 videos\b.*\btest\b.*\b1 view.*\b1 crop", shown)
    assert all(word in shown for word in ("precision", "alpha", "beta", "gamma", "top-1 ", "top-3 1.000"))


def test_evaluate_prints_json_only_and_writes_csv(tiny_checkpoint, numbered_dataset, tmp_path, capsys):
    status, report = json_of(
        capsys, "evaluate", tiny_checkpoint, "--data", numbered_dataset, "--num_workers", 0, "--json", "--split", "val",
        "--csv", tmp_path / "videos.csv", "--views", 2,
    )  # fmt: skip
    assert status == 0
    assert (report["num_videos"], report["views"], report["classes"]) == (6, 2, ["alpha", "beta", "gamma"])
    table = pd.read_csv(tmp_path / "videos.csv")
    assert len(table) == 6
    assert table["correct"].mean() == pytest.approx(report["top1"])


def test_json_of_a_real_process_is_all_there_is_on_stdout(tiny_checkpoint, numbered_dataset):
    done = subprocess.run(
        [VAREC, "evaluate", tiny_checkpoint, "--data", numbered_dataset, "--json", "--num_workers", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["num_videos"] == 6


def test_predict_one_video(tiny_checkpoint, videos, capsys):
    assert cli.main(["predict", str(videos[0]), "--checkpoint", str(tiny_checkpoint), "--top", "2"]) == 0
    first, *answers = capsys.readouterr().out.splitlines()
    assert first == str(videos[0])
    assert len(answers) == 2
    assert all("%" in answer for answer in answers)


def test_predict_one_video_as_json(tiny_checkpoint, videos, capsys):
    status, (answer,) = json_of(capsys, "predict", videos[0], "--checkpoint", tiny_checkpoint, "--json")
    assert (status, answer["video"]) == (0, str(videos[0]))
    assert sum(entry["probability"] for entry in answer["top"]) == pytest.approx(1, abs=1e-4)
    assert {entry["label"] for entry in answer["top"]} == {"alpha", "beta", "gamma"}


def test_predict_files_and_folders_as_a_table_and_csv(tiny_checkpoint, videos, tmp_path, capsys):
    csv = tmp_path / "answers.csv"
    arguments = ["predict", videos[0], videos[0].parents[1] / "beta", "--checkpoint", tiny_checkpoint, "--csv", csv]
    assert cli.main([str(argument) for argument in arguments]) == 0
    shown = capsys.readouterr().out.splitlines()
    table = pd.read_csv(csv, keep_default_na=False)
    assert len(table) == len(shown) - 1 == 11
    assert table["video"][0] == str(videos[0])
    assert list(table.columns) == ["video", "top1", "p1", "top2", "p2", "top3", "p3", "error"]


def test_predict_several_as_json_with_one_that_is_broken(tiny_checkpoint, videos, tmp_path, capsys):
    broken = tmp_path / "broken.mkv"
    broken.touch()
    status, answers = json_of(capsys, "predict", videos[0], broken, "--checkpoint", tiny_checkpoint, "--json")
    assert status == 1
    assert "error" not in answers[0]
    assert len(answers[0]["top"]) == 3
    assert answers[1]["error"].startswith(f"{broken}: ") and "0 bytes" in answers[1]["error"]
    assert "top" not in answers[1]


def test_unknown_command(capsys):
    assert cli.main(["trian"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.match("varec: .*'trian'", captured.err)
    assert "varec train" in captured.err


@pytest.mark.parametrize("arguments", [["train", "--bogus", "1"], ["train", "--epochs", "many"], ["predict"], ["data"]])
def test_words_that_cannot_be_parsed_exit_with_2(arguments):
    done = subprocess.run([VAREC, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "absent"], r"absent\b.*no such"),
        (["train", "--epochs", "0"], r"epochs\b.*\b0\b"),
        (["train", "--model", "r3d19", "--data", "absent"], "model 'r3d19'"),
        (
            ["train", "--experiments_dir", "file/x", "--data", "DATA", "--model", "frame_average"],
            r"file/x\b.*experiment",
        ),
        (["evaluate", "absent"], r"absent\b.*no such"),
        (["evaluate", "CHECKPOINT", "--data", "DATA", "--views", "0"], r"views\b.*\b0\b"),
        (["evaluate", "CHECKPOINT", "--data", "DATA", "--csv", "file/below.csv", "--num_workers", "0"], "file"),
        (["predict", "absent.avi", "--checkpoint", "CHECKPOINT"], r"absent\.avi\b.*no such"),
        (["predict", "--checkpoint", "CHECKPOINT"], "given"),
        (["predict", ".", "--checkpoint", "CHECKPOINT"], r" \.: .*no video"),
        (["predict", "a.avi", "--checkpoint", "file"], r"file\b.*damaged"),
        (["data", "check", "absent"], r"absent\b.*no such"),
        (["course", "99"], "notebook '99'"),
    ],
)
def test_error_of_use_is_one_line(arguments, message, tiny_checkpoint, numbered_dataset, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    places = {"CHECKPOINT": str(tiny_checkpoint), "DATA": str(numbered_dataset)}
    capsys.readouterr()
    assert cli.main([places.get(word, word) for word in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("varec: ")]
    assert len(lines) == 1 and re.search(message, lines[0])


def test_error_of_a_real_process_has_no_traceback(tmp_path):
    done = subprocess.run([VAREC, "train", "--data", "absent"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("varec: ") and "absent: no such folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@register_model("interruptible")
class Interruptible(nn.Module):
    """Interrupts the run in its training step number `stop`."""

    stop = steps = 0

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(3, num_classes))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        Interruptible.steps += self.training
        if self.training and Interruptible.steps == Interruptible.stop:
            os.kill(os.getpid(), signal.SIGINT)
        return self.head(clips.mean(dim=(1, 3, 4)))


@pytest.fixture
def small_run(numbered_dataset, tmp_path) -> list[str]:
    """Words that train `interruptible` for 3 epochs of 5 steps."""
    words = [
        "train", "--model", "interruptible", "--data", numbered_dataset, "--experiments_dir", tmp_path / "runs",
        "--store_dir", tmp_path / "store", "--epochs", 3, "--batch_size", 4, "--num_workers", 0, "--num_frames", 4,
        "--frame_size", 32, 32, "--precision", "fp32",
    ]  # fmt: skip
    return [str(word) for word in words]


@pytest.fixture
def interrupted(small_run, tmp_path) -> Path:
    """The folder of a run that Ctrl-C ended in its second epoch."""
    Interruptible.steps, Interruptible.stop = 0, 7
    assert cli.main(small_run) == 130
    Interruptible.stop = 0
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


@pytest.mark.parametrize("form", [["--resume", "{}"], ["--resume={}"]])
def test_resume_needs_no_other_flag(interrupted, small_run, tmp_path, capsys, form):
    capsys.readouterr()
    assert cli.main(["train", *(word.format(interrupted) for word in form)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"Continuing.*\bepoch 2\b.*\b2 batches\b", shown)
    assert str(interrupted) in shown
    assert list((tmp_path / "runs").iterdir()) == [interrupted]
    assert cli.main(small_run) == 0
    (whole,) = set((tmp_path / "runs").iterdir()) - {interrupted}
    first, second = (load_file(folder / "checkpoints/best_model.safetensors") for folder in (interrupted, whole))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_resume_takes_a_few_flags_anew_and_refuses_the_others(interrupted, capsys):
    capsys.readouterr()
    assert cli.main(["train", "--resume", str(interrupted), "--num_frames", "8"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"varec: {interrupted}\b.*\bnum_frames\b.*\b4\b.*\b8\b", line)
    assert cli.main(["train", "--epochs", "4", "--resume", str(interrupted), "--lr", "0.1", "--batch_size", "2"]) == 0
    config = TrainConfig.load(interrupted / "config.json")
    assert (config.epochs, config.lr, config.batch_size, config.accumulate, config.resume) == (4, 0.1, 2, 2, None)
    assert len(pd.read_csv(interrupted / "history.csv")) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "absent"], r"absent\b.*config\.json"),
        (["--resume", "empty"], r"empty\b.*config\.json"),
        (["--resume", "old"], r"old/config\.json\b.*\bcolour\b"),
        (["--resume", "damaged"], r"damaged/config\.json\b"),
    ],
)
def test_resume_of_what_is_no_run(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "old", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "config.json").write_text('{"colour": "red"}')
    (tmp_path / "damaged" / "config.json").write_text('{"epochs": ')
    capsys.readouterr()
    assert cli.main(["train", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"varec: {message}", line)


def test_resume_without_a_folder_is_an_error_of_use():
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--resume"])
    assert stopped.value.code == 2


def test_data_store_decodes_once_and_says_what_it_holds(numbered_dataset, small_run, tmp_path, capsys):
    words = ["data", "store", str(numbered_dataset), "--frame_size", "32", "32", "--store-dir", str(tmp_path / "store")]
    assert cli.main(words) == 0
    first = capsys.readouterr().out
    assert re.search(r"Decoding\b.*\b30 videos\b", first)
    assert re.search(r"\b30 videos\b.*\b\d+ frames\b.*\b\d+\.\d [MG]B\b.*\b\d+\.\d s\b", first)
    assert cli.main(words) == 0
    assert "Decoding" not in capsys.readouterr().out
    assert cli.main([*small_run, "--epochs", "1"]) == 0
    assert "Decoding" not in capsys.readouterr().out  # training reads that store


def test_data_store_names_what_cannot_be_used(numbered_dataset, tmp_path, capsys):
    data = shutil.copytree(numbered_dataset, tmp_path / "data")
    (data / "videos" / "alpha" / "alpha_0.mkv").write_bytes(b"no video")
    (data / "videos" / "beta" / "beta_0.mkv").unlink()
    words = ["data", "store", str(data), "--short_side", "32", "--fps", "5", "--store", "jpeg"]
    assert cli.main([*words, "--store_dir", str(tmp_path / "store")]) == 1
    shown = capsys.readouterr().out
    assert "28 videos" in shown
    assert "alpha_0.mkv" in shown
    assert "beta_0.mkv: no such file" in shown
    assert len(list(tmp_path.glob("store/*/32px-5fps-jpeg/store.json"))) == 1


def modules_after(code: str) -> set[str]:
    report = f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], check=True, capture_output=True, text=True, env=os.environ)
    return set(done.stderr.split())


def test_importing_the_library_loads_nothing_heavy():
    assert not modules_after("import varec_lib") & {"torch", "cv2", "pandas", "matplotlib", "numpy"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    """So that it answers in less than a second: benchmarks/starting.py."""
    run = f"from varec_lib.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass"
    loaded = modules_after(run)
    assert "varec_lib.cli" in loaded
    assert not loaded & {"torch", "cv2", "pandas", "matplotlib", "numpy", "sklearn", "accelerate"}


def test_a_folder_for_the_answers_is_made_before_they_are_found(tiny_checkpoint, numbered_dataset, tmp_path, capsys):
    csv = tmp_path / "new" / "deeper" / "videos.csv"
    words = ["evaluate", str(tiny_checkpoint), "--data", str(numbered_dataset), "--num_workers", "0"]
    assert cli.main([*words, "--csv", str(csv)]) == 0
    assert len(pd.read_csv(csv)) == 6
    assert cli.main(["evaluate", str(tmp_path), "--csv", str(csv.with_name("none.csv"))]) == 2
    assert not csv.with_name("none.csv").exists()


def test_home_is_meant_by_a_tilde_in_every_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parsed("--experiments_dir=~/exp", "--weights=~/w.pt", "--plugin=~/p.py", "--resume=~/r", "--data=~/d")
    assert config.experiments_dir == tmp_path / "exp"
    assert {config.weights, config.plugin, config.resume, config.data_dir} == {
        tmp_path / "w.pt", tmp_path / "p.py", tmp_path / "r", tmp_path / "d",
    }  # fmt: skip
    assert cli.main(["evaluate", "~/absent", "--data", "~/d"]) == 2
    assert cli.main(["predict", "~/v.avi", "--checkpoint=~/absent"]) == 2
    assert capsys.readouterr().err.count(str(tmp_path)) == 2
    assert not list(Path.cwd().glob("~*"))


def test_an_experiment_goes_on_from_wherever_it_is_resumed(small_run, numbered_dataset, tmp_path, monkeypatch):
    """Relative folders were meant from where the run was started."""
    Interruptible.steps, Interruptible.stop = 0, 7
    monkeypatch.chdir(numbered_dataset.parent)
    small_run[small_run.index("--data") + 1] = numbered_dataset.name
    assert cli.main(small_run) == 130
    Interruptible.stop = 0
    (folder,) = (tmp_path / "runs").iterdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--resume", f"runs/{folder.name}"]) == 0
    assert latest_experiment("runs", data_dir=numbered_dataset).folder.resolve() == folder
    assert latest_experiment("runs", data_dir=tmp_path) is None


def test_an_experiment_is_tested_on_its_own_data_and_other_data_is_said(
    tiny_checkpoint, numbered_dataset, tmp_path, capsys
):
    experiment = Experiment.create(TrainConfig(data_dir=numbered_dataset, experiments_dir=tmp_path, model="cnnlstm"))
    shutil.copy(tiny_checkpoint, experiment.best_checkpoint)
    for named in (experiment.folder, experiment.best_checkpoint):
        assert cli.main(["evaluate", str(named), "--json", "--num_workers", "0"]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["num_videos"] and "Tested on" not in said.err
    other = shutil.copytree(numbered_dataset, tmp_path / "other")
    assert cli.main(["evaluate", str(experiment.folder), "--data", str(other), "--json", "--num_workers", "0"]) == 0
    said = capsys.readouterr().err
    assert str(other) in said and str(numbered_dataset) in said


@pytest.fixture
def tested(tiny_checkpoint, numbered_dataset, tmp_path) -> Experiment:
    """An experiment with an untrained model and results without a test."""
    experiment = Experiment.create(TrainConfig(data_dir=numbered_dataset, experiments_dir=tmp_path, model="cnnlstm"))
    shutil.copy(tiny_checkpoint, experiment.best_checkpoint)
    experiment.write_results({"model": "cnnlstm", "test": None})
    return experiment


def test_scores_and_report_card_are_kept_in_the_experiment(tested, capsys):
    assert cli.main(["evaluate", str(tested.folder), "--report_card", "--views", "2", "--num_workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert all(order in shown for order in ORDERS) and "reversed clips" in shown and "of single clips" in shown
    assert Predictions.load(tested.predictions("test")).logits.shape == (6, 2, 3)
    assert tested.results["model"] == "cnnlstm" and tested.results["temporal"].keys() == ORDERS.keys()
    for part in tested.results["temporal"].values():
        assert part["per_class"].keys() == {"alpha", "beta", "gamma"}
        assert part["top1"] == pytest.approx(np.mean([*part["per_class"].values()]))
    assert (tested.folder / "plots" / "report_card.png").stat().st_size > 10_000
    status, report = json_of(capsys, "evaluate", tested.folder, "--report_card", "--json", "--num_workers", 0)
    assert status == 0 and report["temporal"].keys() == ORDERS.keys()


def test_scores_of_other_data_or_another_protocol_are_not_kept(tested, numbered_dataset, tmp_path):
    other = shutil.copytree(numbered_dataset, tmp_path / "other")
    assert cli.main(["evaluate", str(tested.folder), "--data", str(other), "--num_workers", "0"]) == 0
    assert not tested.predictions("test").exists()
    assert cli.main(["evaluate", str(tested.folder), "--split", "val", "--num_workers", "0"]) == 0
    assert tested.predictions("val").exists() and not tested.predictions("test").exists()


def test_an_experiment_whose_data_moved(tiny_checkpoint, numbered_dataset, tmp_path, capsys):
    data = shutil.copytree(numbered_dataset, tmp_path / "data")
    experiment = Experiment.create(TrainConfig(data_dir=data, experiments_dir=tmp_path, model="cnnlstm"))
    shutil.copy(tiny_checkpoint, experiment.best_checkpoint)
    data.rename(tmp_path / "moved")
    assert cli.main(["evaluate", str(experiment.folder)]) == 2
    assert "--data" in capsys.readouterr().err
    words = ["--data", str(tmp_path / "moved"), "--num_workers", "0"]
    assert cli.main(["evaluate", str(experiment.folder), *words]) == 0


def test_a_folder_that_cannot_be_written_is_said_and_the_numbers_are_printed(tested, capsys):
    (tested.folder / "predictions").write_text("a file where a folder should be")
    assert cli.main(["evaluate", str(tested.folder), "--num_workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("cannot be written") < shown.index("top-1 ")


@pytest.mark.parametrize("words", [["--report_card"], ["--unknown", "."]])
def test_a_report_card_of_an_untrained_published_model_is_refused(tmp_path, capsys, words):
    assert cli.main(["evaluate", "--zero_shot", str(tmp_path / "map.csv"), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_how_sure_a_model_is_of_unknown_classes(tested, numbered_dataset, tmp_path, capsys):
    """Of a dataset with known classes as well, in another spelling too, only videos of unknown ones are asked for."""
    other = shutil.copytree(numbered_dataset, tmp_path / "other")
    lists = {file: file.read_text() for file in other.glob("*.csv")}
    for file, text in lists.items():
        file.write_text(text.replace(",alpha,", ",Alpha,").replace(",gamma,", ",delta,"))
    words = ["evaluate", tested.folder, "--unknown", other, "--num_workers", 0]
    status, report = json_of(capsys, *words, "--json")
    assert status == 0 and report["num_videos"] == 6 and report["unknown"]["videos"] == 2
    kept = Predictions.load(tested.predictions("unknown"))
    assert kept.table["label"].tolist() == ["delta"] * 2 and kept.classes == ["alpha", "beta", "gamma"]
    assert report["unknown"] == none_of_these(Predictions.load(tested.predictions("test")), kept)
    assert cli.main([*map(str, words)]) == 0
    assert "2 videos of unknown classes" in capsys.readouterr().out
    assert cli.main(["evaluate", str(tested.folder), "--unknown", str(numbered_dataset)]) == 2
    assert "knows all" in capsys.readouterr().err


def test_a_relative_name_with_a_colon(tiny_checkpoint, write_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mkv", 12).rename("2024-11-14T22:57:44.mkv")
    assert cli.main(["predict", "2024-11-14T22:57:44.mkv", "--checkpoint", str(tiny_checkpoint)]) == 0


def test_a_new_flag_is_a_field_and_nothing_else():
    """Its type, range and sentence stand beside it; the command line, its errors and `config.json` follow."""

    @dataclass(config=TrainConfig.__pydantic_config__)
    class More(TrainConfig):
        strength: Annotated[float, Interval(ge=0, lt=2)] = 0.5
        """How strong it is."""

    assert tyro.cli(More, args=["--strength", "1.5"]).to_dict()["strength"] == 1.5
    with pytest.raises(ConfigError, match=r"strength is 3\.0"):
        More(strength=3.0)
    with pytest.raises(ConfigError, match="strength is 'much'"):
        More(strength="much")
