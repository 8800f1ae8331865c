"""A published model on a dataset that it was never trained on: the map between labels, and what is counted."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from varec_lib import cli
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.errors import ConfigError, DataError
from varec_lib.evaluation import apply, zero_shot
from varec_lib.evaluation.zero_shot import evaluate_zero_shot, read_label_map
from varec_lib.models import i3d, r3d18
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.models.pretrained import kinetics_classes

HEADER = "label,kinetics_label\n"
ANSWERS = ["archery", "lunge", "catching, throwing", "playing violin"]


@pytest.fixture
def label_map(tmp_path):
    """`write(text)`: a file with this content (text in UTF-8, or bytes)."""

    def write(content: str | bytes) -> Path:
        file = tmp_path / "map.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


# The map


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Archery,archery\nLunges,lunge\n", {"Archery": "archery", "Lunges": "lunge"}),
        ("JumpingJack,\nArchery,archery", {"JumpingJack": "", "Archery": "archery"}),
        ("a,archery\nb,archery\n", {"a": "archery", "b": "archery"}),
        ('ball, "catching, throwing"\n"ball, big", lunge\n', {"ball": "catching, throwing", "ball, big": "lunge"}),
        (" Archery , playing violin \r\nLunges,\t\r\n", {"Archery": "playing violin", "Lunges": ""}),
        ("NA,archery\nnull,lunge\n1,\n01,\n", {"NA": "archery", "null": "lunge", "1": "", "01": ""}),
        ("\nArchery,archery\n\n,\n", {"Archery": "archery"}),
        ("Gehen über die Straße,lunge\n", {"Gehen über die Straße": "lunge"}),
        ("", {}),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
def test_labels_and_what_they_mean(label_map, content, expected, mark):
    assert read_label_map(label_map(mark + HEADER + content), ANSWERS) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("label\nArchery\n", r"columns.*\blabel\b.*\blabel, kinetics_label\b"),
        ("video,kinetics_label\nArchery,archery\n", "columns.*video, kinetics_label"),
        ("kinetics_label,label\narchery,Archery\n", "columns.*kinetics_label, label"),
        ("label,kinetics_label,note\nArchery,archery,sport\n", "columns.*label, kinetics_label, note"),
        ("label;kinetics_label\nArchery;archery\n", "comma"),
        ("", "columns.*none.*label, kinetics_label"),
        (HEADER + "Archery,archery,sport\n", r"row 2\b.*\b3 values.*\b2\b"),
        (HEADER + "Lunges,lunge\nball,catching, throwing\n", r"row 3\b.*\b3 values.*\b2\b"),
        (HEADER + "Archery,archery,x\n", r"row 2\b.*\b3 values"),
        (HEADER + "Archery\n", r"row 2\b.*\b1 value"),
        (HEADER + "Archery,archery\n\nLunges,\nArchery,lunge\n", r"row 5\b.*Archery.*twice"),
        (HEADER + "Archery,archery\n Archery,\n", r"row 3\b.*Archery.*twice"),
        (HEADER + "\nArchery,Archery\n", r"row 3\b.*'Archery'.*Kinetics-400"),
        (HEADER + "Archery,archery\n,lunge\n", r"row 3\b.*label.*empty"),
        (HEADER + '"Archery,archery\nLunges,lunge\n', "UTF-8"),
        (bytes(range(256)), "UTF-8"),
        ((HEADER + "Straße,\n").encode("latin-1"), "UTF-8"),
        ((HEADER + "Archery,archery\n").encode("utf-16"), "UTF-8"),
    ],
)
def test_what_is_wrong_with_a_map_is_said_in_one_line(label_map, content, reason):
    file = label_map(content)
    with pytest.raises(DataError, match=f"^{file}.*{reason}") as raised:
        read_label_map(file, ANSWERS)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_map_that_is_not_there(tmp_path, name):
    with pytest.raises(DataError, match=r"no such.*\blabel\b.*\bkinetics_label\b"):
        read_label_map(tmp_path / name, ANSWERS)


# What is counted


class Stubborn(nn.Module):
    """Answers all clips alike: archery before lunge before playing violin before the 397 others."""

    def __init__(self) -> None:
        super().__init__()
        scores = torch.zeros(400)
        for score, name in enumerate(("playing violin", "lunge", "archery"), start=1):
            scores[kinetics_classes().index(name)] = score
        self.scores = nn.Parameter(scores)
        self.shapes: list[tuple[int, ...]] = []
        self.first: list[float] = []

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(clips.shape))
        self.first += clips[:, 0].mean(dim=(1, 2, 3)).tolist()
        return self.scores.expand(len(clips), -1)


@pytest.fixture
def published(monkeypatch) -> Stubborn:
    """Stands for the published model, whichever is asked for; `asked` are the names."""
    network = Stubborn().eval()
    network.asked = []
    about = Checkpoint("stubborn", {}, kinetics_classes(), ClipSpec(4, (32, 32), *IMAGENET))
    monkeypatch.setattr(
        zero_shot, "load_pretrained", lambda name: network.asked.append(name) or LoadedModel(network, about)
    )
    return network


@pytest.fixture
def evaluated(published, label_map, numbered_dataset):
    """`run(text, **options)`: predictions for the numbered test videos with this map."""

    def run(text: str, **options):
        options = {"precision": "fp32", "progress": False} | options
        return evaluate_zero_shot("i3d", numbered_dataset, label_map(HEADER + text), **options)

    return run


def test_videos_get_the_names_that_the_model_knows(evaluated, published, numbered_dataset):
    predictions = evaluated("gamma,playing violin\nalpha,archery\nbeta,lunge\n")
    test = pd.read_csv(numbered_dataset / "test.csv")
    assert published.asked == ["i3d"]
    assert [Path(path).name for path in predictions.table["path"]] == [Path(name).name for name in test["video_name"]]
    assert predictions.table["label"].tolist() == ["archery"] * 2 + ["lunge"] * 2 + ["playing violin"] * 2
    assert predictions.table["group"].tolist() == test["group"].tolist()
    assert predictions.classes == kinetics_classes()
    assert predictions.probabilities.shape == (6, 400)
    np.testing.assert_allclose(predictions.probabilities[0], published.scores.detach().softmax(0), rtol=1e-5)
    assert (predictions.top_k(1), predictions.top_k(2), predictions.top_k(3)) == (2 / 6, 4 / 6, 1)


def test_labels_without_a_name_are_left_out_and_listed_and_accuracy_is_that_of_the_others(evaluated, capsys):
    predictions = evaluated("alpha,archery\nbeta,\ngamma,lunge\nunused,\n")
    assert re.fullmatch(r"[^:]*\b2 videos.*: beta\n", capsys.readouterr().out)
    assert predictions.table["label"].tolist() == ["archery"] * 2 + ["lunge"] * 2
    assert len(predictions.probabilities) == 4
    assert (predictions.top_k(1), predictions.top_k(5)) == (0.5, 1)


def test_nothing_is_said_where_nothing_is_left_out(evaluated, capsys):
    evaluated("alpha,archery\nbeta,archery\ngamma,lunge\nunused,\n")
    assert capsys.readouterr().out == ""


def test_two_labels_may_mean_the_same(evaluated):
    predictions = evaluated("alpha,archery\nbeta,archery\ngamma,lunge\n")
    assert predictions.top_k(1) == 4 / 6


def test_labels_that_the_map_does_not_have_are_named(evaluated, published):
    with pytest.raises(DataError, match=r"map\.csv.*\brow\b.*alpha, gamma\b"):
        evaluated("beta,lunge\n")
    assert published.shapes == []


def test_a_map_without_any_name_is_refused(evaluated):
    with pytest.raises(DataError, match=r"map\.csv.*Kinetics name"):
        evaluated("alpha,\nbeta,\ngamma,\n")


@pytest.mark.parametrize(("batch_size", "largest"), [(1, 1), (2, 2), (32, 3)])
def test_large_clips_are_few_at_a_time(evaluated, published, monkeypatch, batch_size, largest):
    monkeypatch.setattr(apply, "PIXELS", 3 * 4 * 32 * 32 + 1)
    evaluated("alpha,archery\nbeta,archery\ngamma,archery\n", batch_size=batch_size)
    assert [shape[0] for shape in published.shapes] == [largest] * (6 // largest)


def test_five_clips_of_i3d_are_the_most_at_a_time():
    assert [apply.clips_at_a_time(i3d.SPEC, batch_size) for batch_size in (1, 5, 6, 32)] == [1, 5, 5, 5]
    assert [apply.clips_at_a_time(r3d18.SPEC, batch_size) for batch_size in (1, 32)] == [1, 32]
    huge = ClipSpec(1000, (1080, 1920), *IMAGENET)
    assert apply.clips_at_a_time(huge, 32) == 1


def test_options_of_the_evaluation_apply(evaluated, published):
    text = "alpha,archery\nbeta,archery\ngamma,archery\n"
    assert evaluated(text, views=2).views == 2
    assert sum(shape[0] for shape in published.shapes) == 12
    assert len(evaluated(text, split="train").table) == 18
    published.shapes.clear()
    assert evaluated(text, crops=3).crops == 3
    assert sum(shape[0] for shape in published.shapes) == 18


def test_a_model_that_knows_nothing_is_refused(label_map, numbered_dataset):
    with pytest.raises(ConfigError, match=r"weights .*'cnnlstm'.*i3d.*r3d18"):
        evaluate_zero_shot("cnnlstm", numbered_dataset, label_map(HEADER))


# On the command line


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ([], "checkpoint.*--zero_shot"),
        (["--model", "i3d"], "checkpoint.*--zero_shot"),
        (["CHECKPOINT", "--zero_shot", "map.csv"], "checkpoint.*--zero_shot"),
        (["CHECKPOINT", "--model", "i3d"], "--model.*--zero_shot"),
        (["--zero_shot", "absent.csv"], r"absent\.csv.*no such"),
    ],
)
def test_words_that_do_not_go_together(words, facts, published, tiny_checkpoint, numbered_dataset, capsys):
    words = [str(tiny_checkpoint) if word == "CHECKPOINT" else word for word in words]
    capsys.readouterr()
    assert cli.main(["evaluate", *words, "--data", str(numbered_dataset), "--num_workers", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"varec: .*{facts}", line)
    assert published.shapes == []


@pytest.mark.parametrize(("words", "model"), [([], "i3d"), (["--model", "r3d18"], "r3d18")])
def test_the_command_lists_the_classes_that_occur(words, model, published, label_map, numbered_dataset, capsys):
    file = label_map(HEADER + "alpha,archery\nbeta,\ngamma,lunge\n")
    words = ["--data", str(numbered_dataset), "--num_workers", "0", "--zero_shot", str(file), *words]
    assert cli.main(["evaluate", *words]) == 0
    assert published.asked == [model]
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith(("archery", "lunge"))]
    assert [row[:5] for row in rows] == [["archery", "0.5", "1.0", "0.667", "2"], ["lunge", "0.0", "0.0", "0.000", "2"]]
    assert "playing violin" not in shown
    assert re.search(r"\b2 videos.*\bbeta$", shown, flags=re.MULTILINE)
    assert re.search(r"\b4 videos.*\btest\b", shown)
    assert "top-1 0.500" in shown and "top-5 1.000" in shown


def test_the_command_prints_json_only_and_writes_csv(published, label_map, numbered_dataset, tmp_path, capsys):
    file, csv = label_map(HEADER + "alpha,archery\nbeta,\ngamma,lunge\n"), tmp_path / "videos.csv"
    words = ["--data", numbered_dataset, "--num_workers", 0, "--zero_shot", file, "--json", "--csv", csv, "--views", 2]
    capsys.readouterr()
    assert cli.main(["evaluate", *map(str, words)]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["num_videos"], report["views"], report["top1"]) == (4, 2, 0.5)
    assert len(report["classes"]) == 400
    assert "2 videos" in captured.err
    assert pd.read_csv(csv)["predicted"].tolist() == ["archery"] * 4


@pytest.mark.slow
def test_i3d_recognises_real_clips_that_it_was_never_trained_on(i3d_weights, ucf5, label_map, tmp_path):
    """Two test clips of each class; jumping jacks are no class of Kinetics-400."""
    names = {
        "Archery": "archery", "BodyWeightSquats": "squat", "JumpingJack": "", "Lunges": "lunge",
        "PlayingViolin": "playing violin",
    }  # fmt: skip
    data = tmp_path / "data"
    data.mkdir()
    (data / "videos").symlink_to((ucf5 / "videos").resolve())
    for split, count in (("train", 1), ("val", 1), ("test", 2)):
        rows = pd.read_csv(ucf5 / f"{split}.csv").groupby("label").head(count)
        rows.to_csv(data / f"{split}.csv", index=False)
    file = label_map(HEADER + "".join(f"{label},{name}\n" for label, name in names.items()))
    predictions = evaluate_zero_shot("i3d", data, file, progress=False)
    assert sorted(predictions.table["label"]) == sorted([name for name in names.values() if name] * 2)
    assert predictions.top_k(5) >= 0.75
    assert predictions.top_k(1) > 1 / 4  # of 400 classes
