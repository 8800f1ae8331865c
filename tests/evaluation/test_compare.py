"""Can models be told apart? Against counts made by hand, and as the command."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from varec_lib import cli
from varec_lib.config import TrainConfig
from varec_lib.errors import DataError
from varec_lib.evaluation.compare import aligned, comparison, cost, gflops, pair, verdicts
from varec_lib.evaluation.intervals import difference_interval
from varec_lib.evaluation.metrics import top1_interval
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.training.experiment import Experiment

GROUPS = [str(number // 4) for number in range(40)]


@pytest.fixture
def answering(predictions):
    """`make(right, groups=GROUPS)`: predictions of class a for videos of it that are right as said."""

    def make(right: list[bool], groups: list[str] = GROUPS):
        return predictions([[0.9, 0.1] if one else [0.1, 0.9] for one in right], ["a"] * len(right), groups)

    return make


def test_pair_counts_by_groups(answering):
    first = answering([number % 4 < 2 for number in range(40)])
    second = answering([number % 4 > 0 for number in range(40)])  # in each group of four: one lost, two won
    told = pair(first, second)
    assert told.difference == pytest.approx(0.25)
    assert (told.low, told.high) == difference_interval([2] * 10, [1] * 10, [4] * 10)
    assert told.p == pytest.approx(2 / 2**10)
    assert told.differing == 10
    assert not told.told_apart  # 20 won and 10 lost: the interval holds zero, though each group leads
    assert pair(first, answering([True] * 40)).told_apart


def test_comparison_holds_all_against_the_first(answering):
    first, better = answering([number % 2 == 0 for number in range(40)]), answering([True] * 40)
    table = comparison({"first": first, "better": better})
    assert table.loc["first", "top1"] == 0.5 and np.isnan(table.loc["first", "mcnemar_p"])
    assert table.loc["better", ["low", "high"]].tolist() == [*top1_interval(better)]
    assert table.loc["better", "difference"] == 0.5


def test_verdicts_name_the_better_one_first_in_either_order(answering):
    worse, better = answering([number % 4 < 2 for number in range(40)]), answering([True] * 40)
    for named in ({"one": worse, "two": better}, {"two": better, "one": worse}):
        (said,) = verdicts(named)
        assert said.startswith("two is right more often than one: by 0.500 (0.")
    assert len(verdicts({"one": worse, "two": better, "three": worse})) == 3
    assert "cannot be told apart" in verdicts({"one": worse, "three": worse})[0]


def test_few_groups_are_said_to_be_few(answering):
    groups = [str(number // 8) for number in range(40)]
    worse, better = answering([number % 4 < 2 for number in range(40)], groups), answering([True] * 40, groups)
    (said,) = verdicts({"one": worse, "two": better})
    assert "cannot be told apart" in said and "5 groups" in said


@pytest.mark.parametrize("count", [1, 8])
def test_one_video_or_one_group_tells_nothing(answering, count):
    first, second = answering([True] * count, ["g"] * count), answering([False] * count, ["g"] * count)
    told = pair(first, second)
    assert (told.difference, told.low, told.high, told.p) == (-1, -1, 1, 1)
    assert "cannot be told apart" in verdicts({"one": first, "two": second})[0]


def test_videos_are_known_again_in_another_order_and_folder(answering):
    first = answering([number % 3 > 0 for number in range(40)])
    order = np.random.default_rng(0).permutation(40)
    table = first.table.iloc[order].reset_index(drop=True)
    moved = replace(first, table=table, logits=first.logits[order])
    found = aligned({"first": first, "moved": moved})["moved"]
    assert (found.predicted == first.predicted).all()
    elsewhere = replace(moved, table=table.assign(path="/elsewhere/videos/" + table["path"]))
    origin = replace(first, table=first.table.assign(path="/data/videos/" + first.table["path"]))
    assert (aligned({"first": origin, "moved": elsewhere})["moved"].predicted == first.predicted).all()


def test_segments_of_a_video_and_files_of_one_name_are_kept_apart(answering):
    made = answering([True, False, True, False], ["g"] * 4)
    table = made.table.assign(path=["v.mp4"] * 4, start=[0.0, 5.0, 0.0, 5.0], end=[5.0, 9.0, 5.0, 9.0])
    made = replace(made, table=table)
    assert (aligned({"first": made, "second": made})["second"].predicted == made.predicted).all()


def test_other_videos_and_other_classes_are_refused_with_what_differs(answering, predictions):
    first, fewer = answering([True] * 40), answering([True] * 38, GROUPS[:38])
    with pytest.raises(DataError, match=r"\b2 of one \(such as 38.avi\).*those of two"):
        aligned({"one": first, "two": fewer})
    with pytest.raises(DataError, match=r"\b2 of one"):
        aligned({"two": fewer, "one": first})
    with pytest.raises(DataError, match=r"other classes: 1 .*such as c"):
        aligned({"one": first, "two": predictions([[0.5, 0.2, 0.3]] * 40, ["a"] * 40, GROUPS)})


def test_cost_counts_parameters_and_operations(tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint)
    found = cost(model)
    assert found["parameters"] == sum(part.numel() for part in model.network.parameters())
    assert found["clips_per_second"] > 0


def test_operations_of_a_convolution_and_an_lstm_as_counted_by_hand(tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint)
    frames, (height, width) = model.clip_spec.num_frames, model.clip_spec.frame_size

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 5, 3, padding=1)
            self.lstm = torch.nn.LSTM(5, 7, batch_first=True)

        def forward(self, clips):
            maps = self.convolution(clips.flatten(0, 1))
            return self.lstm(maps.mean(dim=(2, 3)).unflatten(0, clips.shape[:2]))[0]

    operations = 2 * frames * (height * width * 5 * 3 * 9 + 4 * 7 * (5 + 7))
    assert gflops(model._replace(network=Network().eval())) == pytest.approx(operations / 1e9)

    class Looks(Network):
        def forward(self, clips):
            return clips if clips.max().item() > 0 else None

    assert gflops(model._replace(network=Looks())) is None


@pytest.fixture
def two(tiny_checkpoint, numbered_dataset, tmp_path):
    """Two experiments with the same untrained model, on data that may be moved."""
    data, made = shutil.copytree(numbered_dataset, tmp_path / "data"), []
    for name in ("one", "two"):
        config = TrainConfig(data_dir=data, experiments_dir=tmp_path / "runs", experiment_name=name, model="cnnlstm")
        made.append(Experiment.create(config))
        shutil.copy(tiny_checkpoint, made[-1].best_checkpoint)
    return made


def run(*words: object) -> int:
    return cli.main(["compare", *map(str, words), "--num_workers", "0"])


def test_compare_tests_what_is_untested_keeps_it_and_works_when_the_data_is_gone(two, tmp_path, capsys):
    folders = [experiment.folder for experiment in two]
    assert run(*folders, "--out", tmp_path / "new" / "c.png") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("GFLOPs", "cannot be told apart", "6 test videos of 3 groups"))
    assert (tmp_path / "new" / "c.png").stat().st_size > 5000
    assert all(experiment.predictions("test").is_file() for experiment in two)
    (tmp_path / "data").rename(tmp_path / "moved")
    assert run(*folders, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["videos"], found["groups"], len(found["models"])) == (6, 3, 2)
    assert found["models"][1]["difference"] == 0 and found["models"][0]["difference"] is None
    assert found["models"][0]["experiment"] == folders[0].name


def test_compare_says_what_is_missing_before_any_work(two, tmp_path, capsys):
    folders = [experiment.folder for experiment in two]
    (tmp_path / "file").write_text("")
    assert run(*folders, "--out", tmp_path / "file" / "below.png") == 2
    assert run(*folders, "--out", tmp_path / "table.docx") == 2
    assert run(folders[0]) == run(folders[0], folders[0]) == run(folders[0], tmp_path) == 2
    (tmp_path / "data").rename(tmp_path / "moved")
    assert run(*folders) == 2
    said = capsys.readouterr().err.splitlines()
    for line, word in zip(
        said, ("below.png", ".docx", "two experiments", "twice", "no experiment", "data"), strict=True
    ):
        assert word in line
    assert not any(experiment.predictions("test").exists() for experiment in two)


def test_compare_refuses_an_experiment_without_test_videos_and_one_of_other_videos(two, tmp_path, capsys):
    folders = [experiment.folder for experiment in two]
    assert run(*folders) == 0
    two[1].predictions("test").unlink()
    (tmp_path / "data" / "test.csv").unlink()
    assert run(*folders) == 2
    assert "test" in capsys.readouterr().err
    shutil.copy(tmp_path / "data" / "val.csv", tmp_path / "data" / "test.csv")
    assert run(*folders) == 2
    assert "other videos: 6 of" in capsys.readouterr().err


def test_compare_goes_on_where_predictions_cannot_be_kept(two, capsys):
    (two[0].folder / "predictions").write_text("a file where a folder should be")
    assert run(*(experiment.folder for experiment in two)) == 0
    shown = capsys.readouterr().out
    assert "cannot be written" in shown and "cannot be told apart" in shown


def test_compare_names_a_file_of_predictions_that_is_damaged(two, capsys):
    two[0].predictions("test").parent.mkdir()
    two[0].predictions("test").write_text("nothing")
    assert run(*(experiment.folder for experiment in two)) == 2
    assert "test.npz" in capsys.readouterr().err
