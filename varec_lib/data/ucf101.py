"""UCF-101 (Soomro et al., arXiv 1212.0402) as it is published: class folders and official lists."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from varec_lib.data.folders import walk
from varec_lib.errors import DataError

CLIP_NAME = re.compile(r"v_(?P<group>\w+_g\d+)_c\d+")
CLIP_FILE = re.compile(rf"(?:^|[/\\]){CLIP_NAME.pattern}(?:\.[^./\\]*)?\Z")  # at the end of a path


def find_lists(root: Path, split: int) -> Path | None:
    """The folder at or below `root` that holds `trainlist0<split>.txt` or `testlist0<split>.txt`, or None."""
    folders = (".", "ucfTrainTestlist", "splits", "ucf_splits", "annotations")
    names = (f"trainlist0{split}.txt", f"testlist0{split}.txt")
    candidates = [root / folder for folder in folders] + [root / "annotations" / "ucfTrainTestlist"]
    return next((folder for folder in candidates if any((folder / name).is_file() for name in names)), None)


def videos_below(root: Path) -> dict[str, str]:
    """Paths of what is named as UCF-101's clips, by name in small letters without its ending, wherever below `root`.

    Archives are unpacked into folders of many names, once or twice; and some classes are spelled in two ways.
    """
    found = ((place, name) for place, folders, files in walk(root) for name in (*folders, *files) if name[:2] == "v_")
    return {os.path.splitext(name)[0].lower(): os.path.join(place, name) for place, name in found}


def read_list(lists: Path, split: int, kind: str, videos: dict[str, str], say: Callable[[str], None]) -> pd.DataFrame:
    """Rows `path, label, group, split` of one list of an official split: `kind` is train or test (there is no val).

    `trainlist` lines are `Class/clip.avi number`, `testlist` lines `Class/clip.avi`, with CRLF or LF endings; where
    `classInd.txt` is there, its numbers are checked against the class folders. `videos` are those of `videos_below`;
    classes of which none is there are left out, and `say` is told. Raises `DataError` with file and line.
    """
    rows = []
    if kind != "val":
        file, numbers = lists / f"{kind}list0{split}.txt", _class_numbers(lists / "classInd.txt")
        if not file.is_file():
            raise DataError(f"{file}: no such file, but the other list of split {split} is there.")
        for line_number, line in enumerate(lines_of(file), start=1):
            if not line.strip():
                continue
            clip, *number = line.split()
            label, _, name = clip.rpartition("/")
            match = CLIP_NAME.fullmatch(name := name.rsplit(".", 1)[0])
            if not label or not match:
                raise DataError(f"{file}, line {line_number}: {line.strip()!r} is not Class/v_Class_gNN_cNN.avi.")
            if number and numbers and numbers.get(label) != number[0]:
                raise DataError(f"{file}, line {line_number}: {label} is not class {number[0]} of classInd.txt.")
            absent = os.path.join(lists.parent, "UCF-101", clip)
            rows.append((videos.get(name.lower(), absent), label, match["group"], kind))
    classes = {match["group"].rpartition("_")[0] for match in map(CLIP_NAME.match, videos) if match}
    return present_classes(rows, {label for _, label, _, _ in rows if label.lower() in classes}, say)


def present_classes(rows: list[tuple], here: set[str], say: Callable[[str], None]) -> pd.DataFrame:
    """Rows `path, label, group, split` as a table, without those classes that are not `here`, unless none is."""
    table = pd.DataFrame(rows, columns=["path", "label", "group", "split"], dtype=str)
    gone = sorted(set(table["label"]) - here)
    if here and gone:
        shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        say(f"Note: {len(gone)} of {len(here) + len(gone)} classes have no video here and are left out ({shown}).")
        table = table[table["label"].isin(here)].reset_index(drop=True)
    return table


def note_on_siblings(root: Path, table: pd.DataFrame) -> str:
    """A note where lists of UCF-101 put clips of one group into train and test, as some do that are passed around.

    It says how to use the official lists instead; empty where there is nothing to say.
    """
    test = table.loc[table["split"] == "test", "group"]
    siblings = test.isin(table.loc[table["split"] == "train", "group"])
    if not siblings.any() or not all(map(CLIP_FILE.search, table["path"])):
        return ""
    found = (find_lists(folder, 1) for folder in (root, root / "archive"))
    lists = next((lists for lists in found if lists and lists.parent in (root, root / "archive")), None)
    when = "" if lists else ", once they are there"
    return (
        f"Note: {siblings.mean():.0%} of the test clips have a sibling in training, of the same people and place, so "
        "that results will look too good. The official lists keep them apart: use "
        f"--data {lists or root / 'ucfTrainTestlist'} --ucf_split 1 (or 2, 3){when}."
    )


def lines_of(file: Path) -> list[str]:
    """The lines of a list."""
    return file.read_text(encoding="utf-8-sig").splitlines()


def _class_numbers(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    lines = [line.split() for line in lines_of(file)]
    if any(len(line) not in (0, 2) for line in lines):
        raise DataError(f"{file}: its lines must be `number class`, such as `1 ApplyEyeMakeup`.")
    return {line[1]: line[0] for line in lines if line}
