"""One table for every dataset layout: `path, label, group, split` (the data contract; notebook 01).

A group is what was filmed together: clips of one group show the same people and place, so a group must never be
split between training and validation or test.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from varec_lib.data import ucf101
from varec_lib.errors import DataError

COLUMNS = ["path", "label", "group", "split"]
SPLITS = ("train", "val", "test")
VAL_SHARE = 0.15
FilesByName = Callable[[Path], dict[str, list[str]]]  # `_files_by_name`, remembered


def load_manifest(data_dir: Path | str, *, ucf_split: int = 1, seed: int = 0) -> pd.DataFrame:
    """Every video a dataset folder lists, one row each, with absolute paths. No file is opened.

    Reads three layouts: `videos/` with `{train,val,test}.csv` of `video_name,label[,group]`; the Kaggle UCF-101
    layout (`archive/`, CSVs of `clip_name,clip_path,label`); UCF-101 itself with its official lists, of which
    `ucf_split` (1 to 3) is used. Where no validation list exists, about 15 % of the training groups become it.
    Raises `DataError` that names file and row.
    """
    root = Path(data_dir).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{data_dir}: no such folder. `varec data demo` makes the embedded dataset.")
    for folder in (root, root / "archive"):
        if (folder / "train.csv").is_file():
            files = cache(_files_by_name)  # walks the folder once for the three lists, and only if one needs it
            table = pd.concat([_read_csv(folder, split, files) for split in SPLITS], ignore_index=True)
            break
    else:
        lists = ucf101.find_lists(root, ucf_split)
        if lists is None:
            raise DataError(
                f"{data_dir}: found neither train.csv (columns video_name,label beside a folder videos/) nor UCF-101's "
                f"trainlist0{ucf_split}.txt. The README's 'Your own videos' shows the layouts."
            )
        table = ucf101.read_lists(root, lists, ucf_split)
    training = table["split"] == "train"
    if not training.any():
        raise DataError(f"{data_dir}: the training list is empty.")
    unknown = sorted(set(table["label"].unique()) - set(table.loc[training, "label"].unique()))
    if unknown:
        where = table[table["label"].isin(unknown)].iloc[0]
        raise DataError(
            f"{data_dir}: train has no video of {', '.join(unknown)}, but {where['split']} has "
            f"({Path(where['path']).name}). Add training videos, or take these rows out."
        )
    if not (table["split"] == "val").any():
        table.loc[validation_rows(table, seed), "split"] = "val"
    return table[COLUMNS]


def _read_csv(root: Path, split: str, files: FilesByName) -> pd.DataFrame:
    file = root / f"{split}.csv"
    if not file.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    try:
        rows = pd.read_csv(
            file, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True, skip_blank_lines=False
        )
    except pd.errors.EmptyDataError:
        rows = pd.DataFrame(columns=["video_name", "label"], dtype=str)
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a readable CSV file in UTF-8 ({str(error).strip()}).") from error
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes a surplus first value for the row's name
        raise DataError(f"{file}, row 2: has more values than columns. Put names that contain a comma in quotes.")
    rows = rows[(rows != "").any(axis=1)]  # blank lines; the index still counts them
    kaggle = "clip_path" in rows
    name = "clip_path" if kaggle else "video_name"
    missing = [column for column in (name, "label") if column not in rows]
    if missing:
        found = ", ".join(map(str, rows.columns)) or "none"
        raise DataError(f"{file}: column {' and '.join(missing)} is missing. Found: {found}.")
    names, labels = rows[name].str.strip(), rows["label"].str.strip()
    for column, values in ((name, names), ("label", labels)):
        blank = np.flatnonzero(values == "")
        if len(blank):
            raise DataError(f"{file}, row {rows.index[blank[0]] + 2}: {column} is empty.")
    paths = [str(root / p.lstrip("/\\")) for p in names.tolist()] if kaggle else _locate(root, file, names, files)
    groups = rows["group"].str.strip() if "group" in rows else pd.Series("", index=rows.index)
    ungrouped = names[groups == ""]
    groups[ungrouped.index] = [infer_group(video) for video in ungrouped.tolist()]
    return pd.DataFrame({"path": paths, "label": labels, "group": groups, "split": split})


def infer_group(video_name: str) -> str:
    """UCF-101's `v_Archery_g07_c02.avi` belongs to group `Archery_g07`; any other video is a group of its own."""
    match = ucf101.CLIP_FILE.search(video_name)
    return match["group"] if match else video_name


def _locate(root: Path, file: Path, names: pd.Series, files: FilesByName) -> list[str]:
    """Absolute paths of names relative to videos/; a bare file name may lie in any sub-folder."""
    videos = root / "videos" if (root / "videos").is_dir() else root
    paths = _below(videos, [name.replace("\\", "/") for name in names.tolist()])
    if names.str.contains("/", regex=False).all():
        return paths
    top, folders = os.path.join(videos, ""), files(videos)
    for number, name in enumerate(names.tolist()):
        found = folders.get(name)
        if not found or (os.path.lexists(paths[number]) if "\\" in name else top in found):
            continue  # a name that is nowhere stays in the table: `check_videos` reports it
        if len(found) > 1:
            places = ", ".join(os.path.relpath(folder + name, root) for folder in found[:3])
            raise DataError(
                f"{file}, row {names.index[number] + 2}: {name} exists in several folders ({places}). "
                "Write the folder too."
            )
        paths[number] = found[0] + name
    return paths


def _below(folder: Path, names: list[str]) -> list[str]:
    """`folder / name` of every name, without `..` and doubled slashes; absolute names stay as they are."""
    start = os.path.join(folder, "")  # `join` would take ten times as long; only absolute names need it
    joined = (os.path.join(folder, n) if n.startswith("/") or ":" in n else start + n for n in names)
    return [os.path.normpath(path) for path in joined]


def _files_by_name(root: Path) -> dict[str, list[str]]:
    """For every file name at and below `root`: the folders that hold it, each with a separator at its end."""
    folders: dict[str, list[str]] = {}
    for place, _, files in os.walk(root, followlinks=True):
        here = [os.path.join(place, "")]
        again = {name: folders[name] + here for name in folders.keys() & files}
        folders |= dict.fromkeys(files, here) | again
    return folders


def validation_rows(table: pd.DataFrame, seed: int) -> pd.Index:
    """Training rows that become the validation split: whole groups, about 15 % of every class, at least one group.

    No class loses its last training group. The choice depends on the seed and the group names alone.
    """
    train = table[table["split"] == "train"]
    rng = np.random.default_rng(seed)
    label_of, _ = pd.factorize(train["label"], sort=True)  # (rows,): numbers in the order of the names
    group_of, groups = pd.factorize(train["group"], sort=True)
    pairs, counts = np.unique(label_of * len(groups) + group_of, return_counts=True)  # sorted; videos of each
    pair_labels, pair_groups = np.divmod(pairs, max(len(groups), 1))
    shared = np.bincount(pair_groups)[pair_groups] > 1
    labels_with = defaultdict(list)  # of each group that has several
    for label, group in zip(pair_labels[shared].tolist(), pair_groups[shared].tolist(), strict=True):
        labels_with[group].append(label)
    left = np.bincount(pair_labels).tolist()  # groups that each label still has for training
    chosen = np.zeros(len(groups), bool)
    for label, own in enumerate(np.split(np.arange(len(pairs)), np.cumsum(left[:-1]))):
        order = rng.permutation(own)
        members, videos = pair_groups[order], counts[order]
        wanted, taken = VAL_SHARE * videos.sum(), videos[chosen[members]].sum()
        for group, count in zip(members.tolist(), videos.tolist(), strict=True):
            if taken >= wanted:
                break
            concerned = labels_with.get(group, [label])
            if not chosen[group] and all(left[other] > 1 for other in concerned):
                chosen[group] = True
                taken += count
                for other in concerned:
                    left[other] -= 1
    if not chosen.any():
        raise DataError(
            "No validation list, and none can be carved out of train: every class has one group only. "
            "Add a val.csv, or a `group` column that tells more groups apart."
        )
    return train.index[chosen[group_of]]


def classes_of(table: pd.DataFrame) -> list[str]:
    """Class names in the order of the network's outputs: the training labels, sorted."""
    return sorted(table.loc[table["split"] == "train", "label"].unique())
