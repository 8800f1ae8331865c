"""Unusable videos are named, counted and left out, and nothing takes their place."""

import re
import shutil

import pandas as pd
import pytest

from varec_lib.config import TrainConfig
from varec_lib.data.check import check_videos, load_dataset, summary
from varec_lib.data.manifest import load_manifest
from varec_lib.errors import DataError

BROKEN = ["alpha/alpha_0.mkv", "beta/beta_3.mkv", "gamma/gamma_8.mkv"]  # train, train, test


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, numbered_dataset):
    """The numbered dataset with one file missing, one empty and one of text."""
    root = tmp_path_factory.mktemp("damaged") / "set"
    shutil.copytree(numbered_dataset, root)
    missing, empty, text = (root / "videos" / name for name in BROKEN)
    missing.unlink()
    empty.write_bytes(b"")
    text.write_text("no video" * 100)
    return root


def load(root, **settings) -> pd.DataFrame:
    return load_dataset(TrainConfig(data_dir=root, **settings), progress=False)


def names(table: pd.DataFrame) -> list[str]:
    return ["/".join(path.split("/")[-2:]) for path in table["path"]]


def test_usable_videos_get_their_decoded_frame_counts_and_sizes(numbered_dataset):
    good, bad = check_videos(load_manifest(numbered_dataset), progress=False)
    assert len(good) == 30 and len(bad) == 0
    expected = [12 + (3 * int(name[-5]) + "abg".index(name[0])) % 9 for name in names(good)]
    assert good["frames"].tolist() == expected
    assert (good[["fps", "height", "width"]] == (15, 64, 64)).all(axis=None)


def test_bad_files_are_named_with_their_problem(damaged):
    good, bad = check_videos(load_manifest(damaged), progress=False)
    assert names(bad) == BROKEN and len(good) == 27
    for problem, name, words in zip(bad["problem"], BROKEN, ("no such file", "0 bytes", "not a video"), strict=True):
        assert name in problem and words in problem


def test_the_usable_rest_is_unchanged(damaged, numbered_dataset, capsys):
    whole, rest = load(numbered_dataset), load(damaged)
    capsys.readouterr()
    kept = whole[[name not in BROKEN for name in names(whole)]].reset_index(drop=True)
    assert names(rest) == names(kept)
    assert rest.drop(columns="path").equals(kept.drop(columns="path"))


def test_a_dataset_is_summed_up_in_one_line(numbered_dataset, damaged, capsys):
    load(numbered_dataset)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Data: 30 ") and "nothing" in line


def test_what_is_left_out_is_counted_and_named_in_the_output(damaged, capsys):
    load(damaged)
    printed = capsys.readouterr().out
    assert re.search(r"\b3 of 30\b", printed)
    assert all(name in printed for name in BROKEN)


def test_many_bad_files_are_all_counted(tmp_path, numbered_dataset, capsys):
    shutil.copytree(numbered_dataset, tmp_path / "set")
    for path in (tmp_path / "set" / "videos").glob("*/*_[0-3].mkv"):
        path.unlink()
    load(tmp_path / "set")
    printed = capsys.readouterr().out
    assert re.search(r"\b12 of 30\b", printed) and re.search(r"\b7 more\b.*varec data check", printed)


def test_strict_stops_with_one_line_that_counts_and_names(damaged):
    with pytest.raises(DataError, match=r"\b3 of 30\b.*alpha_0\.mkv.*no such") as caught:
        load(damaged, strict=True)
    assert "\n" not in str(caught.value) and "varec data check" in str(caught.value)


def test_strict_accepts_a_dataset_that_is_whole(numbered_dataset):
    assert len(load(numbered_dataset, strict=True)) == 30


def test_a_replaced_file_is_examined_again(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mkv", 5)
    table = pd.DataFrame([(str(path), "a", "g", "train")], columns=["path", "label", "group", "split"])
    assert check_videos(table, progress=False)[0]["frames"].tolist() == [5]
    write_video(path, 9)
    assert check_videos(table, progress=False)[0]["frames"].tolist() == [9]


@pytest.mark.parametrize("with_test_videos", [True, False])
def test_a_class_that_loses_all_its_training_videos_stops_the_run(tmp_path, numbered_dataset, with_test_videos):
    shutil.copytree(numbered_dataset, tmp_path / "set")
    for path in (tmp_path / "set" / "videos" / "beta").iterdir():
        if not with_test_videos or int(path.stem[-1]) < 6:
            path.write_bytes(b"")
    with pytest.raises(DataError, match=r"training.*\bbeta\b"):
        load(tmp_path / "set")


def test_a_validation_split_without_usable_videos_stops_the_run(tmp_path, numbered_dataset):
    shutil.copytree(numbered_dataset, tmp_path / "set")
    for path in (tmp_path / "set" / "videos").glob("*/*_[67].mkv"):
        path.unlink()
    with pytest.raises(DataError, match=r"\bval\b"):
        load(tmp_path / "set")


def test_summary_counts_videos_per_class_and_split_with_totals(numbered_dataset):
    table = summary(load_manifest(numbered_dataset))
    assert list(table.columns) == ["train", "val", "test"]
    assert table.loc["alpha"].tolist() == [6, 2, 2] and table.loc["all classes"].tolist() == [18, 6, 6]


def test_summary_shows_an_empty_split_as_zero():
    assert summary(pd.DataFrame({"label": ["a"], "split": ["train"]})).loc["all classes"].tolist() == [1, 0, 0]
