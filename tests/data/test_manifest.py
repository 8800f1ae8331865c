"""Manifests: three layouts become one table, and validation is carved out of train by group."""

import os
import unicodedata
from collections import Counter
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from varec_lib.data.check import check_videos
from varec_lib.data.manifest import COLUMNS, classes_of, infer_group, load_manifest, validation_rows
from varec_lib.errors import DataError


def dataset(root: Path, *, videos: tuple[str, ...] = (), **csv: str) -> Path:
    """A folder with (empty) files below videos/, and CSV files of the given text."""
    for name in videos:
        (root / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "videos" / name).touch()
    for split, text in csv.items():
        (root / f"{split}.csv").write_text(text, encoding="utf-8")
    return root


def names(table: pd.DataFrame, root: Path) -> list[str]:
    return [Path(path).relative_to(root.resolve()).as_posix() for path in table["path"]]


def of_split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split"] == split]


# The layout of this project


def test_own_layout_becomes_one_table_in_the_order_of_the_lists(numbered_dataset):
    table = load_manifest(numbered_dataset)
    assert list(table.columns) == COLUMNS
    assert table["split"].value_counts().to_dict() == {"train": 18, "val": 6, "test": 6}
    rows = pd.concat([pd.read_csv(numbered_dataset / f"{split}.csv") for split in ("train", "val", "test")])
    assert names(table, numbered_dataset) == [f"videos/{name}" for name in rows["video_name"]]
    assert table["label"].tolist() == rows["label"].tolist() and table["group"].tolist() == rows["group"].tolist()
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in table["path"])


def test_names_may_have_sub_folders_or_be_bare(tmp_path):
    root = dataset(
        tmp_path,
        videos=("top.avi", "deep/er/one.avi", "deep/two.avi"),
        train="video_name,label\ntop.avi,a\none.avi,a\ndeep/two.avi,b\ndeep\\two.avi,b\n",
        val="video_name,label\ntop.avi,a\n",
    )
    expected = ["videos/top.avi", "videos/deep/er/one.avi", "videos/deep/two.avi", "videos/deep/two.avi"]
    assert names(of_split(load_manifest(root), "train"), root) == expected


def test_a_bare_name_in_several_folders_is_an_error_with_file_and_row(tmp_path):
    root = dataset(tmp_path, videos=("x/one.avi", "y/one.avi", "z.avi"), train="video_name,label\nz.avi,a\none.avi,a\n")
    with pytest.raises(DataError, match=r"train\.csv.*row 3\b.*one\.avi.*several"):
        load_manifest(root)


@pytest.mark.skipif(os.sep == "\\", reason="there, a backslash is never part of a file name")
def test_a_file_unpacked_with_backslashes_in_its_name_is_found(tmp_path):
    rows = "video_name,label\nx\\one.avi,a\nx\\two.avi,a\ntop.avi,b\n"
    root = dataset(tmp_path, videos=("x\\one.avi", "x\\two.avi", "x/two.avi", "top.avi"), train=rows, val=rows)
    expected = ["videos/x\\one.avi", "videos/x/two.avi", "videos/top.avi"]
    assert names(of_split(load_manifest(root), "train"), root) == expected


@pytest.mark.parametrize(("name", "walks"), [("x/one.avi", 0), ("one.avi", 1)])
def test_the_folder_is_walked_once_for_all_lists_and_only_for_bare_names(tmp_path, monkeypatch, name, walks):
    rows = f"video_name,label\n{name},a\nx/two.avi,a\n"
    root = dataset(tmp_path, videos=("x/one.avi", "x/two.avi"), train=rows, val=rows, test=rows)
    calls, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda *args, **options: calls.append(args) or walk(*args, **options))
    assert names(load_manifest(root), root) == ["videos/x/one.avi", "videos/x/two.avi"] * 3
    assert len(calls) == walks
    (root / "videos" / "x" / "one.avi").rename(root / "videos" / "one.avi")
    moved = "videos/one.avi" if walks else "videos/x/one.avi"  # nothing is remembered between calls
    assert names(load_manifest(root), root)[0] == moved


def test_absolute_paths_stay_as_they_are(tmp_path):
    elsewhere = tmp_path / "elsewhere" / "clip.avi"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    root = dataset(
        tmp_path / "set",
        videos=("one.avi",),
        train=f"video_name,label\n{elsewhere},a\none.avi,a\n",
        val="video_name,label\none.avi,a\n",
    )
    assert load_manifest(root)["path"].tolist()[0] == str(elsewhere)


def test_spaces_accents_commas_and_a_byte_order_mark_are_read(tmp_path):
    root = dataset(tmp_path / "my data – Übung", videos=("ein Sprung.avi", "日本/走る.avi", "one, two.avi"))
    text = 'video_name, label\nein Sprung.avi, hoch springen\n日本/走る.avi,走る\n"one, two.avi",zählen\n'
    (root / "train.csv").write_text(text, encoding="utf-8-sig")
    dataset(root, val="video_name,label\nein Sprung.avi,hoch springen\n")
    table = load_manifest(root)
    assert table["label"].tolist() == ["hoch springen", "走る", "zählen", "hoch springen"]
    assert all(Path(path).is_file() for path in table["path"])


def test_labels_that_look_like_numbers_or_missing_values_stay_text(tmp_path):
    rows = "video_name,label\na.avi,007\nb.avi,NA\nc.avi,1.0\n"
    table = load_manifest(dataset(tmp_path, videos=("a.avi", "b.avi", "c.avi"), train=rows, val=rows))
    assert of_split(table, "train")["label"].tolist() == ["007", "NA", "1.0"]


def test_a_group_column_wins_over_the_name_where_it_is_filled(tmp_path):
    rows = "video_name,label,group\nv_A_g01_c01.avi,A,anna\nv_A_g02_c01.avi,A,\nx/other.avi,A,\n"
    table = load_manifest(dataset(tmp_path, train=rows, val=rows))
    assert of_split(table, "train")["group"].tolist() == ["anna", "A_g02", "x/other.avi"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("v_Archery_g07_c02.avi", "Archery_g07"),
        ("Archery/v_Archery_g07_c02.avi", "Archery_g07"),
        ("train\\Archery\\v_Archery_g07_c02.mp4", "Archery_g07"),
        ("v_YoYo_g25_c05.mkv", "YoYo_g25"),
        ("holiday.avi", "holiday.avi"),
        ("a/holiday.avi", "a/holiday.avi"),
        ("my_v_Archery_g07_c02.avi", "my_v_Archery_g07_c02.avi"),
        ("v_Archery_g07_c02", "Archery_g07"),
        ("v_Archery_g07_c02.tar.gz", "v_Archery_g07_c02.tar.gz"),
        ("v_Archery_g07_c02.avi/holiday.avi", "v_Archery_g07_c02.avi/holiday.avi"),
        ("v_Archery_g07_c02_copy.avi", "v_Archery_g07_c02_copy.avi"),
    ],
)
def test_the_group_comes_from_ucf_names_and_is_the_video_itself_otherwise(name, group):
    assert infer_group(name) == group


def test_classes_are_the_sorted_training_labels(tmp_path):
    rows = "video_name,label\n1.avi,walk\n2.avi,Zoo\n3.avi,jump\n4.avi,walk\n"
    table = load_manifest(dataset(tmp_path, train=rows, val="video_name,label\n5.avi,jump\n"))
    assert classes_of(table) == ["Zoo", "jump", "walk"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,label\na.avi,x\n", "video_name.*missing.*clip, label"),
        ("video_name\na.avi\n", "label.*missing.*video_name"),
        ("video_name;label\na.avi;x\n", "comma"),
        ("video_name,label\na.avi,x\nb.avi,\n", r"row 3\b.*label.*empty"),
        ("video_name,label\na.avi,x\nb.avi\n", r"row 3\b.*label.*empty"),
        ("video_name,label\na.avi,x\n\n\n,x\n", r"row 5\b.*video_name.*empty"),
        ("video_name,label\na, b.avi,x\n", r"row 2\b.*3 values"),
        ("video_name,label\na.avi,x\nb, c.avi,x\n", r"row 3\b.*3 values"),
    ],
)
def test_a_malformed_list_is_an_error_with_file_and_row(tmp_path, text, words):
    with pytest.raises(DataError, match=rf"train\.csv.*{words}"):
        load_manifest(dataset(tmp_path, train=text))


def test_a_list_that_is_not_utf8_is_an_error_that_says_so(tmp_path):
    (tmp_path / "train.csv").write_bytes("video_name,label\nsprünge.avi,x\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.csv.*UTF-8"):
        load_manifest(tmp_path)


def test_blank_lines_are_no_rows(tmp_path):
    root = dataset(tmp_path, train="video_name,label\n\na.avi,x\n\nb.avi,x\n\n", val="video_name,label\nc.avi,x\n")
    assert names(load_manifest(root), root) == ["a.avi", "b.avi", "c.avi"]


def test_a_folder_without_lists_is_an_error_that_names_the_layouts(tmp_path):
    with pytest.raises(DataError, match=r"train\.csv.*trainlist02\.txt"):
        load_manifest(tmp_path, ucf_split=2)
    with pytest.raises(DataError, match=r"gone\b.*no such"):
        load_manifest(tmp_path / "gone")


# The Kaggle layout


@pytest.mark.parametrize("inside", ["archive", "."])
def test_kaggle_layout_is_read_from_its_folder_or_the_one_above(tmp_path, write_video, inside):
    folder = tmp_path / inside
    for split, group in (("train", "g08"), ("val", "g23"), ("test", "g01")):
        path = f"/{split}/Archery/v_Archery_{group}_c01.avi"
        write_video(folder / path[1:], 3)
        rows = f"clip_name,clip_path,label\nv_Archery_{group}_c01,{path},Archery\n"
        (folder / f"{split}.csv").write_text(rows)
    table = load_manifest(tmp_path)
    assert table["group"].tolist() == ["Archery_g08", "Archery_g23", "Archery_g01"]
    assert table["label"].tolist() == ["Archery"] * 3 and table["split"].tolist() == ["train", "val", "test"]
    good, bad = check_videos(table, progress=False)
    assert len(good) == 3 and len(bad) == 0


@pytest.mark.parametrize(
    ("before", "there"),
    [
        ("/kaggle/input/ucf101/{split}/Archery/", "archive/{split}/Archery"),
        ("C:\\Users\\me\\ucf\\{split}\\Archery\\", "archive/{split}/Archery"),
        ("{split}/Archery/", "archive/{split}/Archery"),
        ("{split}/Archery/", "{split}/Archery"),
        ("/kaggle/input/{split}/Archery/", "archive/clips/Archery"),  # by the name alone
    ],
)
def test_paths_of_another_machine_are_found_by_their_tails(tmp_path, before, there):
    (tmp_path / "archive").mkdir()
    for split, group in (("train", "g08"), ("val", "g23"), ("test", "g01")):
        name = f"v_Archery_{group}_c01.avi"
        (tmp_path / there.format(split=split)).mkdir(parents=True, exist_ok=True)
        (tmp_path / there.format(split=split) / name).touch()
        (tmp_path / there.format(split=split) / f"._{name}").touch()
        rows = f"clip_name,clip_path,label\n{name[:-4]},{before.format(split=split)}{name},Archery\n"
        (tmp_path / "archive" / f"{split}.csv").write_text(rows)
    for inside in (".", "archive") if there.startswith("archive") else ".":
        assert all(Path(path).is_file() for path in load_manifest(tmp_path / inside)["path"])
    absent = f"{before.format(split='test')}v_Archery_g02_c01.avi"
    (tmp_path / "archive" / "test.csv").write_text(f"clip_name,clip_path,label\nx,{absent},Archery\n")
    assert Path(load_manifest(tmp_path, split="test")["path"][0]).name == "v_Archery_g02_c01.avi"


@pytest.mark.parametrize("place", ["ucfTrainTestlist", "archive/ucfTrainTestlist", None])
def test_lists_that_share_groups_are_told_and_the_official_ones_offered(tmp_path, capsys, place):
    official = ucf101_folder(tmp_path / "official", "\n")
    (tmp_path / "set" / "archive").mkdir(parents=True)
    (official / "UCF-101").rename(tmp_path / "set" / "archive" / "clips")
    clips = sorted((tmp_path / "set" / "archive").rglob("*.avi"))
    for split, part in {"train": clips[::2], "test": clips[1::2]}.items():
        rows = "".join(f"{clip.stem},/clips/{clip.parent.name}/{clip.name},{clip.parent.name}\n" for clip in part)
        (tmp_path / "set" / "archive" / f"{split}.csv").write_text(f"clip_name,clip_path,label\n{rows}")
    if place:
        (official / "ucfTrainTestlist").rename(tmp_path / "set" / place)
    load_manifest(tmp_path / "set")
    printed = capsys.readouterr().out
    data = str(tmp_path / "set" / (place or "ucfTrainTestlist"))
    assert printed.count("\n") == 1 and "80%" in printed and f"--data {data} " in printed
    if place:  # what the note says is what works
        table = load_manifest(data)
        assert len(table) == 20 and all(Path(path).is_file() for path in table["path"])
        assert not set(of_split(table, "train")["group"]) & set(of_split(table, "test")["group"])
        assert not capsys.readouterr().out
    load_manifest(tmp_path / "set", split="test")
    assert not capsys.readouterr().out


# UCF-101 with the official lists


def ucf101_folder(root: Path, newline: str, lists: str = "ucfTrainTestlist") -> Path:
    """Two classes, four training groups and one test group each."""
    train, test = [], []
    for number, label in enumerate(("Archery", "YoYo"), start=1):
        for group in range(1, 6):
            for clip in (1, 2):
                name = f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"
                (root / "UCF-101" / name).parent.mkdir(parents=True, exist_ok=True)
                (root / "UCF-101" / name).touch()
                test.append(name) if group == 1 else train.append(f"{name} {number}")
    (root / lists).mkdir(exist_ok=True)
    for file, lines in {"classInd": ["1 Archery", "2 YoYo"], "trainlist01": train, "testlist01": test}.items():
        (root / lists / f"{file}.txt").write_bytes((newline.join(lines) + newline).encode())
    return root


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("lists", ["ucfTrainTestlist", "."])
def test_ucf101_is_read_with_its_official_lists(tmp_path, newline, lists):
    table = load_manifest(ucf101_folder(tmp_path, newline, lists))
    assert len(table) == 20 and all(Path(path).is_file() for path in table["path"])
    test = of_split(table, "test")
    assert sorted(test["group"].unique()) == ["Archery_g01", "YoYo_g01"] and len(test) == 4
    assert classes_of(table) == ["Archery", "YoYo"]
    assert of_split(table, "val")["label"].value_counts().to_dict() == {"Archery": 2, "YoYo": 2}


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("testlist01.txt", "Archery/v_Archery_g01_c01.avi\nYoYo/yo.avi\n", r"line 2\b.*YoYo/yo\.avi"),
        ("trainlist01.txt", "YoYo/v_YoYo_g02_c01.avi 1\n", r"line 1\b.*YoYo.*class 1\b"),
        ("classInd.txt", "1 Archery\nYoYo\n", "number class"),
        ("testlist01.txt", None, "no such"),
    ],
)
def test_a_wrong_ucf101_list_is_an_error_with_file_and_line(tmp_path, file, text, words):
    path = ucf101_folder(tmp_path, "\n") / "ucfTrainTestlist" / file
    path.unlink()
    if text:
        path.write_text(text)
    with pytest.raises(DataError, match=f"{file}.*{words}"):
        load_manifest(tmp_path)


def by_name(table: pd.DataFrame) -> dict[str, tuple[str, str, bool]]:
    return {Path(row.path).name: (row.label, row.group, row.split == "test") for row in table.itertuples()}


def test_the_real_lists_and_clips_of_ucf101_are_read_together(tmp_path, ucf5, ucf_splits):
    for clip in (ucf5 / "videos").glob("v_Archery_*.avi"):
        (tmp_path / "UCF-101" / "Archery").mkdir(parents=True, exist_ok=True)
        (tmp_path / "UCF-101" / "Archery" / clip.name).symlink_to(clip)
    for line in (ucf_splits / "trainlist01.txt").read_text().splitlines():
        label = line.partition("/")[0]
        if not (tmp_path / "UCF-101" / label).exists():  # a clip of every class is there
            (tmp_path / "UCF-101" / label).mkdir()
            (tmp_path / "UCF-101" / line.split()[0]).touch()
    (tmp_path / "ucfTrainTestlist").symlink_to(ucf_splits)
    table = load_manifest(tmp_path, ucf_split=1)
    assert len(classes_of(table)) == 101
    assert len(of_split(table, "test")) == 3783 and len(table) == 3783 + 9537  # the published sizes
    ours = load_manifest(ucf5)
    present = table[table["path"].map(os.path.isfile) & (table["label"] == "Archery")]
    expected = ours[ours["label"] == "Archery"]
    assert by_name(present) == by_name(expected)
    good, bad = check_videos(present.groupby("group").head(1), progress=False)
    assert len(good) == 25 and len(bad) == 0


@pytest.mark.parametrize(
    ("folder", "lists"),
    [("UCF101", "annotations"), ("videos", "annotations/ucfTrainTestlist"), ("UCF-101/UCF-101", "splits"), (".", ".")],
)
@pytest.mark.parametrize("flat", [False, True])
def test_ucf101_as_people_have_it(tmp_path, folder, lists, flat):
    """Unpacked under another name, once or twice, with class folders or without."""
    root = ucf101_folder(tmp_path / "original", "\r\n")
    (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "set" / lists).mkdir(parents=True, exist_ok=True)
    for file in (root / "ucfTrainTestlist").iterdir():
        (tmp_path / "set" / lists / file.name).write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as Windows writes it
    for clip in (root / "UCF-101").rglob("*.avi"):
        place = tmp_path / "set" / folder / ("." if flat else clip.parent.name)
        place.mkdir(exist_ok=True)
        clip.rename(place / clip.name.replace("YoYo", "Yoyo"))  # some are spelled in two ways
    table = load_manifest(tmp_path / "set")
    assert len(table) == 20 and all(Path(path).is_file() for path in table["path"])
    assert classes_of(table) == ["Archery", "YoYo"]


def test_classes_of_ucf101_that_are_not_there_are_left_out_in_one_line(tmp_path, capsys):
    root = ucf101_folder(tmp_path, "\n")
    for clip in (root / "UCF-101" / "YoYo").iterdir():
        clip.unlink()
    next((root / "UCF-101" / "Archery").iterdir()).unlink()
    table = load_manifest(root)
    assert classes_of(table) == ["Archery"] and len(table) == 10  # a single clip that is gone is named by the check
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "1 of 2 classes" in printed and "YoYo" in printed
    for clip in (root / "UCF-101" / "Archery").iterdir():
        clip.unlink()
    assert len(load_manifest(root)) == 20  # nothing is there at all: each is named


@pytest.mark.parametrize("ending", [".mp4", ""], ids=["converted", "frames"])
def test_clips_of_ucf101_in_another_form_are_those_of_its_lists(tmp_path, ending):
    root = ucf101_folder(tmp_path, "\n")
    for clip in (root / "UCF-101").rglob("*.avi"):
        clip.rename(clip.with_suffix(ending)) if ending else (clip.unlink(), clip.with_suffix("").mkdir())
    table = load_manifest(root)
    assert len(table) == 20 and all(map(os.path.exists, table["path"]))


# HMDB51 with the official lists


def hmdb51_folder(root: Path, lists: str, clips: str) -> Path:
    """Two classes of four films with two clips each, of which one film is for testing and one clip is not used."""
    (root / lists).mkdir(parents=True, exist_ok=True)
    for label in ("ride_bike", "pick"):
        lines = []
        for film in ("A", "#20 Days", "(c)_long_film", "Z"):
            for number in (0, 1):
                name = f"{film}_{label}_f_cm_np1_fr_med_{number}.avi"
                (root / clips / label).mkdir(parents=True, exist_ok=True)
                (root / clips / label / name).touch()
                (root / clips / label / f"._{name}").touch()
                lines.append(f"{name} {2 if film == 'Z' else 1 - (film == 'A' and number)} \n")
        (root / lists / f"{label}_test_split2.txt").write_text("".join(lines), newline="\r\n")
    return root


@pytest.mark.parametrize("lists", ["testTrainMulti_7030_splits", "splits", "test_train_splits", "."])
@pytest.mark.parametrize("clips", ["hmdb51_org", "."])
def test_hmdb51_is_read_with_its_official_lists(tmp_path, lists, clips):
    table = load_manifest(hmdb51_folder(tmp_path, lists, clips), ucf_split=2)
    assert len(table) == 14 and all(Path(path).is_file() for path in table["path"])
    assert classes_of(table) == ["pick", "ride_bike"]
    assert set(of_split(table, "test")["group"]) == {"Z"} and len(of_split(table, "test")) == 4
    assert set(table["group"]) == {"A", "#20 Days", "(c)_long_film", "Z"}
    assert len(of_split(table, "val")) and not set(of_split(table, "val")["group"]) & {"Z"}
    with pytest.raises(DataError, match=r"_test_split1\.txt"):
        load_manifest(tmp_path)


def test_the_folder_of_the_lists_alone_may_be_named(tmp_path):
    table = load_manifest(hmdb51_folder(tmp_path, "splits", "hmdb51_org") / "splits", ucf_split=2)
    assert len(table) == 14 and all(Path(path).is_file() for path in table["path"])


def test_what_is_missing_of_hmdb51(tmp_path, capsys):
    root = hmdb51_folder(tmp_path, "splits", ".")
    next(path for path in (root / "pick").iterdir() if path.name[0] != ".").unlink()  # is named by the check
    for clip in (root / "ride_bike").iterdir():
        clip.unlink()
    table = load_manifest(root, ucf_split=2)
    assert len(table) == 7 and sum(map(os.path.isfile, table["path"])) in (6, 7)  # the one that is not used
    assert "1 of 2 classes" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["a_pick_f_cm_np1_fr_med_0.avi", "a.avi 3", "1"])
def test_a_wrong_list_of_hmdb51_is_an_error_with_file_and_line(tmp_path, line):
    (tmp_path / "pick_test_split1.txt").write_text(f"b.avi 1\n\n{line}\n")
    with pytest.raises(DataError, match=r"pick_test_split1\.txt, line 3\b"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    "head", ["Video_Name,LABEL", "VIDEO NAME,Label", "video_name , label", "\ufeffvideo_name,label,"]
)
def test_lists_as_spreadsheets_write_them(tmp_path, head):
    root = dataset(
        tmp_path, videos=("a.avi", "b.avi"), train=f"{head}\na.avi,x,\nb.avi,x,,\n", val="video_name,label\na.avi,x\n"
    )
    assert of_split(load_manifest(root), "train")["label"].tolist() == ["x", "x"]


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("folder", ["", "Été/"])
def test_letters_that_are_written_in_two_ways(tmp_path, listed, stored, folder):
    """macOS writes é as two characters, and most lists have one."""
    name = f"{folder}café.avi"
    root = dataset(
        tmp_path, videos=(unicodedata.normalize(stored, name),),
        train=f"video_name,label\n{unicodedata.normalize(listed, name)},x\n", val="video_name,label\n",
        test=f"video_name,label\n{unicodedata.normalize(listed, name)},x\n",
    )  # fmt: skip
    assert Path(load_manifest(root, split="test")["path"][0]).is_file()


# Validation carved out of train


def table_of(groups: dict[str, list[str]], per_group: int = 2) -> pd.DataFrame:
    rows = [
        (f"{label}/{group}_{clip}.avi", label, group, "train")
        for label, members in groups.items()
        for group in members
        for clip in range(per_group)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def own_groups(classes: int, groups: int) -> dict[str, list[str]]:
    return {f"c{c}": [f"c{c}_g{g}" for g in range(groups)] for c in range(classes)}


@pytest.mark.parametrize("count", [2, 3, 7, 18])
def test_carved_validation_takes_whole_groups_of_every_class(count):
    table = table_of(own_groups(5, count))
    for seed in range(5):
        val = table.loc[validation_rows(table, seed)]
        train = table.drop(val.index)
        assert set(val["label"]) == set(train["label"]) == set(table["label"])
        assert not set(val["group"]) & set(train["group"])
        assert val["group"].nunique() == 5 * max(1, -(-count * 15 // 100))  # 15 % of the groups, rounded up


def test_carved_validation_depends_on_seed_and_group_names_alone():
    table = table_of(own_groups(4, 10))
    chosen = [set(table.loc[validation_rows(table, seed), "group"]) for seed in range(5)]
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True)
    assert chosen == [set(shuffled.loc[validation_rows(shuffled, seed), "group"]) for seed in range(5)]
    assert len({frozenset(groups) for groups in chosen}) > 1


def carved_plainly(table: pd.DataFrame, seed: int) -> set[str]:
    """The rule of `validation_rows` in plain Python: groups that become validation."""
    train = table[table["split"] == "train"]
    videos: dict[str, Counter[str]] = {}  # of each class: videos per group
    for label, group in zip(train["label"], train["group"], strict=True):
        videos.setdefault(label, Counter())[group] += 1
    rng, chosen = np.random.default_rng(seed), set()
    for label in sorted(videos):
        wanted = 0.15 * videos[label].total()
        for group in rng.permutation(sorted(videos[label])).tolist():
            if sum(videos[label][g] for g in chosen) >= wanted:
                break
            concerned = [groups for groups in videos.values() if group in groups]
            if group not in chosen and all(len(set(groups) - chosen) > 1 for groups in concerned):
                chosen.add(group)
    return chosen


@pytest.mark.parametrize("shared", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", [str, object])
def test_carved_validation_is_what_the_plain_rule_gives(shared, kind):
    carved = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, int(10 * shared)])
        rows, classes, groups = rng.choice([3, 40, 400]), rng.choice([1, 2, 5, 20]), rng.choice([2, 10, 50])
        label = [f"{'Zéa 走'[number % 5]}{number}" for number in rng.integers(classes, size=rows).tolist()]
        numbers = (groups * rng.random(rows) ** 2).astype(int)  # groups of uneven size
        own = (rng.random(rows) >= shared).tolist()
        group = [f"{lab if alone else ''}_{n}" for lab, alone, n in zip(label, own, numbers.tolist(), strict=True)]
        split = rng.choice(["train", "train", "train", "test"], size=rows).tolist()
        table = pd.DataFrame({"label": label, "group": group, "split": split}, dtype=kind)
        table.index = rng.permutation(2 * rows)[:rows]
        expected = carved_plainly(table, seed)
        if expected:
            found = validation_rows(table, seed)
            assert found.equals(table.index[(table["split"] == "train") & table["group"].isin(expected)])
            carved += 1
        else:
            with pytest.raises(DataError, match="one group"):
                validation_rows(table, seed)
    assert carved > 10


@pytest.mark.parametrize(
    "groups",
    [
        {"alone": ["g1"], "many": ["g1", "g2", "g3", "g4"]},
        {"a": ["g1", "g2"], "b": ["g2", "g3"], "c": ["g1", "g3"]},
        {label: [f"person{p}" for p in range(6)] for label in "abcdefgh"},
    ],
)
def test_no_class_loses_its_last_training_group_where_classes_share_groups(groups):
    table = table_of(groups)
    for seed in range(20):
        val = table.loc[validation_rows(table, seed)]
        train = table.drop(val.index)
        assert len(val) and set(train["label"]) == set(table["label"])
        assert not set(val["group"]) & set(train["group"])


def test_validation_is_carved_without_touching_the_test_videos(tmp_path, numbered_dataset):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_bytes((numbered_dataset / f"{split}.csv").read_bytes())
    (tmp_path / "videos").symlink_to(numbered_dataset / "videos")
    before, after = load_manifest(numbered_dataset), load_manifest(tmp_path)
    assert names(of_split(after, "test"), tmp_path) == names(of_split(before, "test"), numbered_dataset)
    val, train = of_split(after, "val"), of_split(after, "train")
    carved = names(val, tmp_path) + names(train, tmp_path)
    assert sorted(carved) == sorted(names(of_split(before, "train"), numbered_dataset))
    assert val["label"].value_counts().to_dict() == {"alpha": 2, "beta": 2, "gamma": 2}
    assert load_manifest(tmp_path).equals(after)
    for split in ("train", "val", "test"):
        pd.testing.assert_frame_equal(
            load_manifest(tmp_path, split=split), of_split(after, split).reset_index(drop=True)
        )


def test_one_split_needs_no_other_list(numbered_dataset, tmp_path):
    for split in ("val", "test"):
        (tmp_path / split / "videos").parent.mkdir()
        (tmp_path / split / f"{split}.csv").write_bytes((numbered_dataset / f"{split}.csv").read_bytes())
        assert len(load_manifest(tmp_path / split, split=split)) == 6
        with pytest.raises(DataError, match="training list"):
            load_manifest(tmp_path / split)


@pytest.mark.parametrize(
    ("name", "label", "group"),
    [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair", "April_09"),
        ("A_run_f_cm_np2_le_bad_12.avi", "run", "A"),
        ("A_run_f_cm_np2_le_bad_12.avi", "running", "A_run"),  # the label has another name here
        ("run/A_run_f_cm_np2_le_bad_12", "run", "A"),  # a folder of its frames
        ("-0aJ4bPqfnE_000010_000020.mp4", "x", "-0aJ4bPqfnE"),
        ("x\\-0aJ4bPqfnE_000110_000120.mp4", "x", "-0aJ4bPqfnE"),
        ("short_000010_000020.mp4", "x", "short_000010_000020.mp4"),
        ("a_b_c.avi", "b", "a_b_c.avi"),
    ],
)
def test_groups_by_the_names_of_other_datasets(name, label, group):
    assert infer_group(name, label) == group


def test_a_given_validation_list_is_kept(numbered_dataset):
    assert set(of_split(load_manifest(numbered_dataset), "val")["group"]) == {"alpha_g3", "beta_g3", "gamma_g3"}


def test_nothing_to_carve_is_an_error_that_says_what_to_add():
    with pytest.raises(DataError, match=r"one group.*val\.csv.*`group`"):
        validation_rows(table_of({"a": ["g1"], "b": ["g2"]}), seed=0)


def test_clips_are_cut_out_of_videos_by_seconds(tmp_path):
    train = "video_name,label,start,end\na.mkv,x,0.5,2\na.mkv,y,2,\nb.mkv,x,,\nb.mkv,y,,3\n"
    table = load_manifest(dataset(tmp_path, train=train, val="video_name,label\na.mkv,x\n"))
    assert table["start"].tolist() == [0.5, 2, 0, 0, 0] and table["end"].tolist() == [2, inf, inf, 3, inf]
    assert table["group"].tolist() == ["a.mkv", "a.mkv", "b.mkv", "b.mkv", "a.mkv"]  # of one file
    assert "start" not in load_manifest(tmp_path, split="val")


@pytest.mark.parametrize("cut", ["2,1", "-1,2", "1,1", "one,2", "1,nan", "nan,2"])
def test_seconds_that_are_none_are_an_error_with_file_and_row(tmp_path, cut):
    root = dataset(tmp_path, train=f"video_name,label,start,end\na.mkv,x,0,1\nb.mkv,x,{cut}\n")
    with pytest.raises(DataError, match=r"train\.csv, row 3\b.*seconds"):
        load_manifest(root)
