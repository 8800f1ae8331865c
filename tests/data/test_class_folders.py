"""Folders of classes become a dataset: lists beside them, whole groups in each split, nothing moved."""

from pathlib import Path

import pandas as pd
import pytest

from varec_lib.cli import main
from varec_lib.data.class_folders import read_folders, videos_below
from varec_lib.data.manifest import load_manifest
from varec_lib.errors import ConfigError, DataError

PEOPLE = ("anna", "ben", "cleo", "dan", "eve", "finn", "gina", "hugo")


def class_folders(root: Path, people: tuple[str, ...] = PEOPLE, above: str = "") -> Path:
    """Two classes, two videos of each person in each, at several depths, among files that are none."""
    for label in ("run", "jump, high"):
        for person in people:
            (root / above / label / "deep").mkdir(parents=True, exist_ok=True)
            (root / above / label / f"{person}_1.mp4").touch()
            (root / above / label / "deep" / f"{person}_2.AVI").touch()
        for name in ("._anna_1.mp4", ".DS_Store", "notes.txt", "cover.jpg"):
            (root / above / label / name).write_text("no video")
    return root


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.suffix != ".csv"}


def test_whole_groups_are_split_and_nothing_is_moved(tmp_path, capsys):
    root = class_folders(tmp_path)
    before = files_below(root)
    assert main(["data", "from-folders", str(root), "--by-group", r"(\w+)_\d"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 2 and "32 videos" in printed and "8 groups" in printed
    table = load_manifest(root)
    assert files_below(root) == before and all(Path(path).is_file() for path in table["path"])
    assert set(table["label"]) == {"run", "jump, high"} and set(table["group"]) == set(PEOPLE)
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert {split: len(set(rows)) for split, rows in table["label"].groupby(table["split"])} == {
        "train": 2, "val": 2, "test": 2,
    }  # fmt: skip
    assert table["split"].value_counts().to_dict() == {"train": 20, "val": 4, "test": 8}


def test_the_same_seed_gives_the_same_lists_anywhere(tmp_path):
    tables = [read_folders(class_folders(tmp_path / name), seed=seed) for name, seed in (("a", 0), ("b", 0), ("a", 1))]
    assert tables[0].equals(tables[1]) and not tables[0].equals(tables[2])


def test_lists_elsewhere_name_the_videos_where_they_are(tmp_path):
    class_folders(tmp_path / "clips", above="videos")
    assert main(["data", "from-folders", str(tmp_path / "clips"), "--out", str(tmp_path / "new" / "lists")]) == 0
    table = load_manifest(tmp_path / "new" / "lists")
    assert len(table) == 32 and all(Path(path).is_file() for path in table["path"])
    assert main(["data", "from-folders", str(tmp_path / "clips")]) == 0
    assert len(load_manifest(tmp_path / "clips")) == 32


def test_folders_of_splits_stay_the_splits(tmp_path, capsys):
    for split, people in (("train", PEOPLE[:4]), ("Validation", PEOPLE[4:6]), ("test", PEOPLE[6:])):
        class_folders(tmp_path, people, above=split)
    assert main(["data", "from-folders", str(tmp_path)]) == 0
    assert "16 train, 8 val, 8 test" in capsys.readouterr().out
    assert load_manifest(tmp_path)["split"].value_counts().to_dict() == {"train": 16, "val": 8, "test": 8}


def test_names_of_known_datasets_tell_the_groups(tmp_path):
    for label in ("Archery", "YoYo"):
        for group in range(1, 8):
            for clip in (1, 2):
                (tmp_path / label).mkdir(exist_ok=True)
                (tmp_path / label / f"v_{label}_g{group:02d}_c{clip:02d}.avi").touch()
    table = read_folders(tmp_path)
    assert table["group"].nunique() == 14 and (table.groupby("group")["split"].nunique() == 1).all()


@pytest.mark.parametrize("people", [1, 2])
def test_too_few_groups_are_told(tmp_path, capsys, people):
    class_folders(tmp_path, PEOPLE[:people])
    assert main(["data", "from-folders", str(tmp_path), "--by_group", "(?P<who>[a-z]+)_"]) == 0
    printed = capsys.readouterr().out
    assert "val has no video of 2 classes" in printed and ("test has no video" in printed) == (people == 1)
    assert (tmp_path / "test.csv").exists() == (people == 2)


def test_lists_are_not_overwritten_unasked(tmp_path, capsys):
    class_folders(tmp_path)
    (tmp_path / "val.csv").write_text("mine")
    assert main(["data", "from-folders", str(tmp_path)]) == 2
    assert "val.csv" in capsys.readouterr().err and (tmp_path / "val.csv").read_text() == "mine"
    assert not (tmp_path / "train.csv").exists()
    assert main(["data", "from-folders", str(tmp_path), "--overwrite"]) == 0
    assert list(pd.read_csv(tmp_path / "val.csv").columns) == ["video_name", "label", "group"]


def test_a_path_without_a_group_is_named(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "run" / "other.mp4").touch()
    with pytest.raises(DataError, match=r"run/other\.mp4"):
        read_folders(tmp_path, r"(\w+)_\d")
    with pytest.raises(ConfigError, match="by_group"):
        read_folders(tmp_path, "(")


@pytest.mark.parametrize("made", ["", "run"])
def test_fewer_than_two_classes_are_an_error(tmp_path, made):
    if made:
        (tmp_path / made).mkdir()
        (tmp_path / made / "one.mp4").touch()
    with pytest.raises(DataError, match=f"{tmp_path}.*class"):
        read_folders(tmp_path)
    assert main(["data", "from-folders", str(tmp_path / "gone")]) == 2


def test_content_decides_where_the_ending_does_not(tmp_path, write_video):
    write_video(tmp_path / "a.mkv", 3).rename(tmp_path / "clip")
    (tmp_path / "notes").write_text("no video")
    (tmp_path / "broken.mp4").write_text("named later")
    assert [path.name for path in videos_below(tmp_path)] == ["broken.mp4", "clip"]


def test_folders_without_videos_beside_the_splits_change_nothing(tmp_path, capsys):
    for split in ("train", "test"):
        class_folders(tmp_path, people=PEOPLE[:4], above=split)
    expected = read_folders(tmp_path)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "findings.csv").write_text("severity,kind\n")
    assert read_folders(tmp_path).equals(expected)
    assert set(expected["label"]) == {"run", "jump, high"} and set(expected["split"]) == {"train", "test"}


def test_classes_beside_splits_are_refused(tmp_path):
    class_folders(tmp_path, people=PEOPLE[:4], above="train")
    class_folders(tmp_path / "walk")
    with pytest.raises(DataError, match=r"\bwalk\b.*\btrain\b"):
        read_folders(tmp_path)
