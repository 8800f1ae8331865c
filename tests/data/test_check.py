"""Unusable videos are named, counted and left out, and nothing takes their place."""

import re
import shutil

import pandas as pd
import pytest

from varec_lib.config import TrainConfig
from varec_lib.data.check import check_videos, load_dataset, notes_on, summary
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


def test_labels_that_differ_in_spelling_alone_are_named():
    rows = [
        (f"{n}.avi", label, f"g{n}", "train") for n, label in enumerate(["run", "run", "Run", "sit down", "sit_down"])
    ]
    notes = notes_on(pd.DataFrame(rows, columns=["path", "label", "group", "split"]))
    assert [note for note in notes if "'run', 'Run'" in note] and [note for note in notes if "'sit down'" in note]


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


def rows(*pairs: tuple[str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(pairs, columns=["label", "group", "split"])
    return table.assign(path=[f"/videos/{row}.mkv" for row in range(len(table))])


def test_videos_twice_or_under_two_labels_are_said():
    table = rows(*[("a", "1", "train")] * 3, *[("b", "2", "train")] * 3)
    (note,) = notes_on(table.assign(path=["/v/x.mkv", "/v/y.mkv", "/v/z.mkv", "/v/x.mkv", "/v/p.mkv", "/v/q.mkv"]))
    assert "1 videos" in note and "label" in note and "x.mkv" in note
    (note,) = notes_on(table.assign(path=["/v/x.mkv", "/v/x.mkv", "/v/y.mkv", "/v/z.mkv", "/v/p.mkv", "/v/q.mkv"]))
    assert "1 videos" in note and "once" in note and "x.mkv" in note


def test_groups_that_names_told_are_said(numbered_dataset):
    films = [f"/videos/{film}_run_f_nm_np1_ba_goo_{part}.avi" for film in ("A", "B") for part in (0, 1)]
    table = rows(*(("run", film, split) for film, split in zip("AABB", ("train", "train", "val", "val"), strict=True)))
    (note,) = notes_on(table.assign(path=films))
    assert "4 videos" in note and "HMDB51" in note
    assert notes_on(table.assign(path=films, group="mine", split="train")) == []
    assert notes_on(load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False)) == []


def test_groups_in_more_than_one_split_are_warned_about():
    leaking = rows(("a", "anna", "train"), ("a", "bert", "train"), ("a", "anna", "test"), ("a", "cleo", "val"))
    (warning,) = notes_on(leaking)
    assert re.search(r"\b1 groups\b.*split.*\banna\b", warning)
    assert notes_on(leaking[leaking["split"] != "test"]) == []


def test_classes_with_one_training_video_are_warned_about():
    (warning,) = notes_on(rows(("a", "1", "train"), ("a", "2", "train"), ("b", "3", "train"), ("b", "4", "test")))
    assert re.search(r"\bone\b.*\bb\b", warning)


def test_summary_counts_videos_per_class_and_split_with_totals(numbered_dataset):
    table = summary(load_manifest(numbered_dataset))
    assert list(table.columns) == ["train", "val", "test"]
    assert table.loc["alpha"].tolist() == [6, 2, 2] and table.loc["all classes"].tolist() == [18, 6, 6]


def test_summary_shows_an_empty_split_as_zero():
    assert summary(rows(("a", "1", "train"))).loc["all classes"].tolist() == [1, 0, 0]
