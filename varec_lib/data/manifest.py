"""One table for every dataset layout: `path, label, group, split` (the data contract; notebook 01).

A group is what was filmed together: clips of one group show the same people and place, so a group must never be
split between training and validation or test.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from varec_lib.data import ucf101
from varec_lib.errors import DataError

COLUMNS = ["path", "label", "group", "split"]
SPLITS = ("train", "val", "test")
VAL_SHARE = 0.15


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
            table = pd.concat([_read_csv(folder, split) for split in SPLITS], ignore_index=True)
            break
    else:
        lists = ucf101.find_lists(root, ucf_split)
        if lists is None:
            raise DataError(
                f"{data_dir}: found neither train.csv (columns video_name,label beside a folder videos/) nor UCF-101's "
                f"trainlist0{ucf_split}.txt. The README's 'Your own videos' shows the layouts."
            )
        table = ucf101.read_lists(root, lists, ucf_split)
    if not (table["split"] == "train").any():
        raise DataError(f"{data_dir}: the training list is empty.")
    unknown = sorted(set(table["label"]) - set(table.loc[table["split"] == "train", "label"]))
    if unknown:
        where = table[table["label"].isin(unknown)].iloc[0]
        raise DataError(
            f"{data_dir}: train has no video of {', '.join(unknown)}, but {where['split']} has "
            f"({Path(where['path']).name}). Add training videos, or take these rows out."
        )
    if not (table["split"] == "val").any():
        table.loc[validation_rows(table, seed), "split"] = "val"
    return table[COLUMNS]


def _read_csv(root: Path, split: str) -> pd.DataFrame:
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
    for column in (name, "label"):
        blank = np.flatnonzero(rows[column].str.strip() == "")
        if len(blank):
            raise DataError(f"{file}, row {rows.index[blank[0]] + 2}: {column} is empty.")
    names = rows[name].str.strip()
    paths = [str(root / p.lstrip("/\\")) for p in names] if kaggle else _locate(root, file, names)
    groups = rows["group"].str.strip() if "group" in rows else pd.Series("", index=rows.index)
    inferred = names.map(infer_group)
    return pd.DataFrame(
        {
            "path": paths,
            "label": rows["label"].str.strip(),
            "group": groups.where(groups != "", inferred),
            "split": split,
        }
    )


def infer_group(video_name: str) -> str:
    """UCF-101's `v_Archery_g07_c02.avi` belongs to group `Archery_g07`; any other video is a group of its own."""
    stem = video_name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    match = ucf101.CLIP_NAME.fullmatch(stem)
    return match["group"] if match else video_name


def _locate(root: Path, file: Path, names: pd.Series) -> list[str]:
    """Absolute paths of names relative to videos/; a bare file name may lie in any sub-folder."""
    videos = root / "videos" if (root / "videos").is_dir() else root
    by_name: dict[str, list[str]] = {}
    known = set()
    for folder, _, files in os.walk(videos, followlinks=True):
        for entry in files:
            full = os.path.join(folder, entry)
            known.add(full)
            by_name.setdefault(entry, []).append(full)
    paths = []
    for row, name in zip(names.index + 2, names, strict=True):
        path = os.path.normpath(os.path.join(videos, name.replace("\\", "/")))
        if path not in known and len(found := by_name.get(name, [])) > 0:
            if len(found) > 1:
                places = ", ".join(os.path.relpath(p, root) for p in found[:3])
                raise DataError(
                    f"{file}, row {row}: {name} exists in several folders ({places}). Write the folder too."
                )
            path = found[0]
        paths.append(path)  # a name that is nowhere stays in the table: `check_videos` reports it
    return paths


def validation_rows(table: pd.DataFrame, seed: int) -> pd.Index:
    """Training rows that become the validation split: whole groups, about 15 % of every class, at least one group.

    No class loses its last training group. The choice depends on the seed and the group names alone.
    """
    train = table[table["split"] == "train"]
    rng = np.random.default_rng(seed)
    videos: dict[str, Counter[str]] = {}  # of each class: videos per group
    labels_of: dict[str, set[str]] = {}
    for label, group in zip(train["label"], train["group"], strict=True):
        videos.setdefault(label, Counter())[group] += 1
        labels_of.setdefault(group, set()).add(label)
    left = {label: len(groups) for label, groups in videos.items()}  # groups that a class still has for training
    chosen: set[str] = set()
    for label in sorted(videos):
        groups = videos[label]
        wanted, taken = VAL_SHARE * groups.total(), sum(count for group, count in groups.items() if group in chosen)
        for group in rng.permutation(sorted(groups)).tolist():
            if taken >= wanted:
                break
            if group not in chosen and all(left[other] > 1 for other in labels_of[group]):
                chosen.add(group)
                taken += groups[group]
                for other in labels_of[group]:
                    left[other] -= 1
    if not chosen:
        raise DataError(
            "No validation list, and none can be carved out of train: every class has one group only. "
            "Add a val.csv, or a `group` column that tells more groups apart."
        )
    return train.index[train["group"].isin(chosen)]


def classes_of(table: pd.DataFrame) -> list[str]:
    """Class names in the order of the network's outputs: the training labels, sorted."""
    return sorted(table.loc[table["split"] == "train", "label"].unique())
