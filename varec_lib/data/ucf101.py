"""UCF-101 (Soomro et al., arXiv 1212.0402) as it is published: class folders and official lists."""

import os
import re
from pathlib import Path

import pandas as pd

from varec_lib.errors import DataError

CLIP_NAME = re.compile(r"v_(?P<group>\w+_g\d+)_c\d+")
CLIP_FILE = re.compile(rf"(?:^|[/\\]){CLIP_NAME.pattern}(?:\.[^./\\]*)?\Z")  # at the end of a path


def find_lists(root: Path, split: int) -> Path | None:
    """The folder at or below `root` that holds `trainlist0<split>.txt` or `testlist0<split>.txt`, or None."""
    candidates = [root, *(root / sub for sub in ("ucfTrainTestlist", "splits", "ucf_splits"))]
    names = (f"trainlist0{split}.txt", f"testlist0{split}.txt")
    return next((folder for folder in candidates if any((folder / name).is_file() for name in names)), None)


def read_list(root: Path, lists: Path, split: int, kind: str) -> pd.DataFrame:
    """Rows `path, label, group, split` of one list of an official split: `kind` is train or test (there is no val).

    `trainlist` lines are `Class/clip.avi number`, `testlist` lines `Class/clip.avi`, with CRLF or LF endings; where
    `classInd.txt` is there, its numbers are checked against the class folders. Raises `DataError` with file and line.
    """
    rows = []
    if kind != "val":
        file, numbers = lists / f"{kind}list0{split}.txt", _class_numbers(lists / "classInd.txt")
        if not file.is_file():
            raise DataError(f"{file}: no such file, but the other list of split {split} is there.")
        videos = os.fspath(next((root / sub for sub in ("UCF-101", "videos") if (root / sub).is_dir()), root))
        for line_number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            clip, *number = line.split()
            label, _, stem = clip.rpartition("/")
            match = CLIP_NAME.fullmatch(stem.rsplit(".", 1)[0])
            if not label or not match:
                raise DataError(f"{file}, line {line_number}: {line.strip()!r} is not Class/v_Class_gNN_cNN.avi.")
            if number and numbers and numbers.get(label) != number[0]:
                raise DataError(f"{file}, line {line_number}: {label} is not class {number[0]} of classInd.txt.")
            rows.append((os.path.join(videos, clip), label, match["group"], kind))
    return pd.DataFrame(rows, columns=["path", "label", "group", "split"], dtype=str)


def _class_numbers(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    if any(len(line) not in (0, 2) for line in lines):
        raise DataError(f"{file}: its lines must be `number class`, such as `1 ApplyEyeMakeup`.")
    return {line[1]: line[0] for line in lines if line}
