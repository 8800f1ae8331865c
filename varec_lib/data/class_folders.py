"""A folder of class folders becomes a dataset: its videos are found and split by group, and stay where they are."""

import mimetypes
import re
from contextlib import suppress
from pathlib import Path

import pandas as pd

from varec_lib.data.folders import PICTURES, walk
from varec_lib.data.frame_folder import NUMBERED
from varec_lib.data.manifest import COLUMNS, infer_group, validation_rows
from varec_lib.data.video import open_video
from varec_lib.errors import ConfigError, DataError, VideoError

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "test": "test", "testing": "test"}  # fmt: skip


def videos_below(folder: Path) -> list[Path]:
    """Every video at and below a folder, in linked folders too, in the order of their names.

    A folder that holds nothing but numbered pictures, two at least, is a video as well.
    """
    found = []
    for place, folders, names in walk(folder):
        pictures = [name for name in names if name.lower().endswith(PICTURES)]
        videos = [file for name in {*names}.difference(pictures) if _may_be_video(file := Path(place) / name)]
        numbered = not (videos or folders) and sum(map(bool, map(NUMBERED.fullmatch, pictures))) > 1
        found += [Path(place)] if numbered else videos
    return sorted(found)


def _may_be_video(file: Path) -> bool:
    """By its ending, so that a damaged one is named, or else by its content."""
    if (mimetypes.guess_type(file.name)[0] or "").startswith("video/"):
        return True
    try:
        with open_video(file):
            return True
    except VideoError:
        return False


def read_folders(root: Path, by_group: str = "", seed: int = 0) -> pd.DataFrame:
    """A manifest of the videos in `<class>/` or `{train,val,test}/<class>/` below `root`; paths are relative to it.

    Splits are those of the folders, else whole groups go into test and val, about 15 % of each class each. `by_group`
    is a regular expression that finds the group in a path (its first group, or all of it); without it, names tell the
    groups as `infer_group` says. Raises `DataError` or `ConfigError`.
    """
    pattern = _compiled(by_group)
    videos = {folder: found for folder in _folders_in(root) if (found := videos_below(folder))}
    given = {folder.name: SPLIT_NAMES.get(folder.name.lower(), "") for folder in videos}
    split_up = "train" in given.values()
    others = sorted(name for name, split in given.items() if not split)
    if split_up and others:
        raise DataError(
            f"{root}: has videos in {', '.join(others)} beside {', '.join(sorted({*given} - {*others}))}: are these "
            "classes or splits? Move one or the other elsewhere."
        )
    rows = []
    for folder in [inner for outer in videos for inner in _folders_in(outer)] if split_up else videos:
        split = SPLIT_NAMES[folder.parent.name.lower()] if split_up else "train"
        for video in videos_below(folder) if split_up else videos[folder]:
            path = video.relative_to(root).as_posix()
            group = _group_in(path, pattern) if pattern else infer_group(path, folder.name)
            rows.append((path, folder.name, group, split))
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    if table["label"].nunique() < 2:
        raise DataError(
            f"{root}: has videos in {table['label'].nunique()} class folders, but two are needed at least: "
            "<class>/ with videos in it, or train/<class>/ and test/<class>/."
        )
    for split in () if split_up else ("test", "val"):
        with suppress(DataError):  # every class has one group left
            table.loc[validation_rows(table, seed), "split"] = split
    return table


def _folders_in(folder: Path) -> list[Path]:
    place, names, _ = next(walk(folder), (folder, [], []))  # which may not be readable
    return [Path(place) / name for name in names]


def _compiled(by_group: str) -> re.Pattern | None:
    try:
        return re.compile(by_group) if by_group else None
    except re.error as error:
        raise ConfigError(f"by_group is {by_group!r}, but that is not a regular expression ({error}).") from error


def _group_in(path: str, pattern: re.Pattern) -> str:
    match = pattern.search(path)
    if not match or not (group := match[1 if pattern.groups else 0]):
        raise DataError(f"{path}: --by_group {pattern.pattern!r} finds no group in this path, but every one needs one.")
    return group
