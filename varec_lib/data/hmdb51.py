"""HMDB51 (Kuehne et al., ICCV 2011) as it is published: class folders and official lists; functions as in `ucf101`."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from varec_lib.data.folders import PICTURES, walk
from varec_lib.data.ucf101 import lines_of, present_classes
from varec_lib.errors import DataError

CLIP_FILE = re.compile(  # at the end of a path; the group is the film, and with most names the class
    r"(?:^|[/\\])(?P<group>[^/\\]+)_[hflu]_(?:nm|cm)_np\d_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+(?:\.[^./\\]*)?\Z"
)
KINDS = {"0": "", "1": "train", "2": "test"}  # what the number behind a clip says; 0 is not used


def find_lists(root: Path, split: int) -> Path | None:
    """The folder at or below `root` that holds files `<class>_test_split<split>.txt`, or None."""
    unpacked = "testTrainMulti_7030_splits"
    folders = (".", unpacked, "splits", "test_train_splits", f"test_train_splits/{unpacked}", f"splits/{unpacked}")
    return next((root / folder for folder in folders if any((root / folder).glob(f"*_test_split{split}.txt"))), None)


def videos_below(root: Path) -> dict[str, str]:
    """Paths of what may be a clip below `root`, by `class/clip` and by `clip`, without their endings."""
    videos = {}
    for place, folders, files in walk(root):
        for name in (*folders, *(name for name in files if not name.lower().endswith((*PICTURES, ".txt")))):
            clip, path = os.path.splitext(name)[0], os.path.join(place, name)
            videos[f"{os.path.basename(place)}/{clip}"] = path
            videos.setdefault(clip, path)
    return videos


def read_list(lists: Path, split: int, kind: str, videos: dict[str, str], say: Callable[[str], None]) -> pd.DataFrame:
    """Rows `path, label, group, split` of one side of an official split: `kind` is train or test (there is no val).

    A file's lines are `clip.avi number`, its class is in its name. The group of a clip is the film it was cut from.
    Raises `DataError` with file and line.
    """
    rows, here, ending = [], set(), f"_test_split{split}.txt"
    for file in sorted(lists.glob(f"*{ending}")):
        label = file.name.removesuffix(ending)
        for line_number, line in enumerate(lines_of(file), start=1):
            name, _, number = line.strip().rpartition(" ")
            if line.strip() and (not name or number not in KINDS):
                raise DataError(f"{file}, line {line_number}: {line.strip()!r} is not `clip.avi number` (0, 1 or 2).")
            if name and KINDS[number] == kind:
                clip = os.path.splitext(name.strip())[0]
                path = videos.get(f"{label}/{clip}") or videos.get(clip)
                here |= {label} if path else set()
                match = CLIP_FILE.search(clip)
                group = match["group"].removesuffix(f"_{label}") if match else clip
                rows.append((path or os.path.join(lists.parent, label, name), label, group, kind))
    return present_classes(rows, here, say)
