"""One table for every dataset layout: `path, label, group, split` (the data contract; notebook 01).

A group is what was filmed together: clips of one group show the same people and place, so a group must never be
split between training and validation or test.
"""

import csv
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cache, partial
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd

from varec_lib.data import hmdb51, ucf101
from varec_lib.data.folders import PlacesOf, by_their_tails, locate, places_by_name
from varec_lib.data.frame_folder import state_of
from varec_lib.errors import DataError
from varec_lib.files import replacing

COLUMNS = ["path", "label", "group", "split"]
SEGMENT = {"start": 0.0, "end": inf}  # columns where videos are cut into clips, in seconds; a whole video has these
CUTTING = re.compile(r"(?:^|_)(?:start|begin|stop|end)(?:$|_)")  # names of columns that may be meant as these
SPLITS = ("train", "val", "test")
VAL_SHARE = 0.15
CARVING_SEED = 0
# Names of common datasets, at the end of a path, and what in them tells which clips were cut from one film.
GROUPS = {
    "UCF-101": ucf101.CLIP_FILE,
    "HMDB51": hmdb51.CLIP_FILE,
    "Kinetics": re.compile(r"(?:^|[/\\])(?P<group>[\w-]{11})_\d{6}_\d{6}(?:\.[^./\\]*)?\Z"),
}


def load_manifest(
    data_dir: Path | str, *, split: str | None = None, ucf_split: int = 1, lenient: bool = False
) -> pd.DataFrame:
    """Every video a dataset folder lists, or those of one split, one row each, with absolute paths. Opens no video.

    Reads these layouts: `videos/` with `{train,val,test}.csv` of `video_name,label[,group][,start,end][,fps]`, where
    seconds may cut many clips out of one video, and `fps` is that of folders of pictures; the Kaggle UCF-101 layout
    (`archive/`, CSVs of `clip_name,clip_path,label`, whose paths may be those of another machine); UCF-101 and HMDB51
    themselves with their official lists, of which `ucf_split` (1 to 3) is used. Where no validation list exists, about
    15 % of the training groups become it, always the same ones, and `carved` is among the table's `attrs`. A list that
    is not asked for need not be there. Raises `DataError` that names file and row; `lenient`, classes may lack training
    videos, and validation its rows.
    """
    root = Path(data_dir).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{data_dir}: no such folder. `varec data demo` makes the embedded dataset.")
    read = _lists(root, data_dir, ucf_split)
    if split == "test":
        return read("test")
    val = read("val")
    if split == "val" and len(val):
        return val
    lists = [read("train"), val, *([read("test")] if split is None else [])]
    table = pd.concat([one for one in lists if len(one)] or lists, ignore_index=True)
    if "start" in table:  # but not in every list
        table = table.fillna(SEGMENT)
    training = table["split"] == "train"
    if not training.any():
        raise DataError(f"{data_dir}: the training list is empty.")
    trained = set(table.loc[training, "label"].unique())
    unknown = sorted(set(table["label"].unique()) - trained)
    if unknown and not lenient:
        where = table[table["label"].isin(unknown)].iloc[0]
        alike = sorted(label for label in trained if plain(label) == plain(where["label"]))
        advice = f"Is it train's {alike[0]}?" if alike else "Add training videos, or take these rows out."
        raise DataError(
            f"{data_dir}: train has no video of {', '.join(unknown)}, but {where['split']} has "
            f"({Path(where['path']).name}). {advice}"
        )
    if not len(val):
        with suppress(DataError) if lenient else nullcontext():
            table.loc[validation_rows(table), "split"] = "val"
            table.attrs["carved"] = True
    if split is None and (note := ucf101.note_on_siblings(root, table)):
        print(note)
    return table if split is None else table[table["split"] == split].reset_index(drop=True)


def _lists(root: Path, data_dir: Path | str, ucf_split: int) -> Callable[[str], pd.DataFrame]:
    """A function that reads the list of a split; one that is not there is empty."""
    for folder in (root, root / "archive"):
        if any((folder / f"{split}.csv").is_file() for split in SPLITS):
            places_of = cache(places_by_name)  # walks the folder once for all lists, and only if one needs it
            return lambda split: _read_list(folder, split, places_of)
    for dataset in (ucf101, hmdb51):
        if lists := dataset.find_lists(root, ucf_split):
            below, say = dataset.videos_below, cache(print)  # which says each thing once
            videos = below(root) or below(root.parent)  # the folder of the lists was named
            return partial(dataset.read_list, lists, ucf_split, videos=videos, say=say)
    raise DataError(
        f"{data_dir}: found neither train.csv (columns video_name,label beside a folder videos/) nor official lists: "
        f"UCF-101's trainlist0{ucf_split}.txt, or HMDB51's <class>_test_split{ucf_split}.txt. Of folders of classes "
        "`varec data from-folders` makes a dataset. docs/your_videos.md shows the layouts."
    )


def read_rows(file: Path) -> pd.DataFrame:
    """A small CSV file as text, values stripped and blank lines left out; the index is the row in the file.

    Names of columns are in small letters, with _ for spaces. A value that a short row lacks is missing (NaN). Raises
    `DataError` with file and row.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, [value.strip() for value in line]) for line in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8 ({error}).") from error
    rows = {number: values for number, values in lines if any(values)}
    columns = [name.lower().replace(" ", "_") for name in rows.pop(next(iter(rows), 0), [])]
    for number, values in rows.items():
        while len(values) > len(columns) and not values[-1]:  # a comma at the end of the line
            values.pop()
        if len(values) > len(columns):
            raise DataError(
                f"{file}, row {number}: has {len(values)} values, but there are {len(columns)} columns. Put names that "
                "contain a comma in quotes."
            )
        values += [None] * (len(columns) - len(values))
    if len(columns) == 1 and (sign := next((sign for sign in ";\t" if sign in columns[0]), "")):
        raise DataError(f"{file}: has {sign!r} between its values. Put commas there.")
    table = pd.DataFrame(list(rows.values()), list(rows), columns, dtype=str)
    return table.loc[:, ~table.columns.duplicated()]


def _read_list(root: Path, split: str, places_of: PlacesOf) -> pd.DataFrame:
    file = root / f"{split}.csv"
    if not file.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    rows = read_rows(file).fillna("")
    if not len(rows.columns):  # an empty file
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    kaggle = "clip_path" in rows
    name = "clip_path" if kaggle else "video_name"
    missing = [column for column in (name, "label") if column not in rows]
    if missing:
        found = ", ".join(rows.columns) or "none"
        raise DataError(f"{file}: column {' and '.join(missing)} is missing. Found: {found}.")
    names, labels = rows[name], rows["label"]
    for column in (name, "label"):
        if (rows[column] == "").any():
            raise DataError(f"{file}, row {(rows[column] == '').idxmax()}: {column} is empty.")
    paths = locate(root, file, by_their_tails(root, names) if kaggle else names, places_of)
    groups = rows["group"].copy() if "group" in rows else pd.Series("", index=rows.index)
    unnamed = names[groups == ""]
    groups[unnamed.index] = list(map(infer_group, unnamed.tolist(), labels[unnamed.index].tolist()))
    table = pd.DataFrame({"path": paths, "label": labels, "group": groups, "split": split})
    return table.assign(**_segments(file, rows), **_rates(file, rows, paths)).reset_index(drop=True)


def _segments(file: Path, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns `start` and `end` of a list that has them. Raises `DataError` with file and row."""
    there = [name for name in SEGMENT if name in rows]
    if len(there) < len(SEGMENT):
        others = [name for name in rows if name in there or CUTTING.search(name)]
        if there:
            raise DataError(f"{file}: clips are cut by both columns start and end, but there is {', '.join(others)}.")
        if others:
            print(f"Note: {file.name}: {', '.join(others)} are not read; columns start and end cut videos into clips.")
        return {}
    found = {name: pd.to_numeric(rows[name].replace("", whole), errors="coerce") for name, whole in SEGMENT.items()}
    wrong = ~((found["start"] >= 0) & (found["end"] > found["start"]))
    if wrong.any():
        number = wrong.idxmax()
        said = f"start {rows['start'][number]!r} and end {rows['end'][number]!r}"
        raise DataError(f"{file}, row {number}: {said} must be seconds, the end after the start.")
    return {name: values.astype(float) for name, values in found.items()}


def _rates(file: Path, rows: pd.DataFrame, paths: list[str]) -> dict[str, pd.Series]:
    """The column `rate`: what the column `fps` of a list says of folders of pictures. Videos tell it themselves."""
    if "fps" not in rows:
        return {}
    found = pd.to_numeric(rows["fps"].replace("", "0"), errors="coerce")
    wrong = ~((found >= 0) & (found < inf))
    if wrong.any():
        number = wrong.idxmax()
        raise DataError(f"{file}, row {number}: fps {rows['fps'][number]!r} must be pictures a second, such as 12.")
    return {"rate": found.astype(float).where(list(map(os.path.isdir, paths)), 0.0)}


def segments_of(table: pd.DataFrame) -> list[tuple[float, float]]:
    """From when to when each row wants its video, in seconds; the whole video where the table does not say."""
    columns = (table[name] if name in table else [whole] * len(table) for name, whole in SEGMENT.items())
    return list(zip(*columns, strict=True))


def rates_of(table: pd.DataFrame) -> list[float]:
    """How many pictures a second each row has, where it is a folder of them; 0 where the table does not say."""
    return table["rate"].fillna(0.0).tolist() if "rate" in table else [0.0] * len(table)


def infer_group(video_name: str, label: str = "") -> str:
    """The group of a video by the naming of common datasets; any other video is a group of its own.

    UCF-101's `v_Archery_g07_c02.avi` belongs to `Archery_g07`; HMDB51's `Film_A_run_f_nm_np1_fr_med_3.avi`, with the
    label `run`, to `Film_A`, as all clips of that film do; Kinetics' `ID_000010_000020.mp4` (its seconds) to the video
    `ID`, which has 11 characters.
    """
    return _named_as(video_name, label)[1] or video_name


def _named_as(video_name: str, label: str) -> tuple[str, str]:
    """The dataset whose naming a video follows, and its group; both empty where it follows none."""
    for dataset, pattern in GROUPS.items():
        if match := pattern.search(video_name):
            return dataset, match["group"].removesuffix(f"_{label}")
    return "", ""


def groups_by_name(table: pd.DataFrame) -> str:
    """A sentence that counts the videos whose group comes from their names; empty where there are none."""
    rows = zip(table["path"], table["label"], table["group"], strict=True)
    told = Counter(
        named for path, label, group in rows for named, by_name in [_named_as(path, label)] if by_name == group
    )
    return ", ".join(f"{count} videos are named as in {dataset}" for dataset, count in told.items())


def validation_rows(table: pd.DataFrame, seed: int = CARVING_SEED) -> pd.Index:
    """Training rows that become the validation split: whole groups, about 15 % of every class, at least one group.

    No class loses its last training group. The choice depends on the group names alone, not on the seed of a training,
    because whoever evaluates a model must find the very videos that it was not trained on.
    """
    # Not scikit-learn's StratifiedGroupKFold, because it refuses classes with fewer videos than folds, and because of
    # 300,000 videos in 300 classes of 25 (100) groups it takes 4.4 (15.9) s, and this 0.13 (0.35) s.
    train = table[table["split"] == "train"]
    videos: dict[str, dict[str, int]] = {}  # of each class: how many in each group
    classes: dict[str, list[str]] = {}  # of each group
    for (label, group), count in train.groupby(["label", "group"]).size().items():
        videos.setdefault(label, {})[group] = count
        classes.setdefault(group, []).append(label)
    left = {label: len(groups) for label, groups in videos.items()}  # groups that stay in training
    rng, chosen = np.random.default_rng(seed), set()
    for groups in videos.values():
        taken = sum(count for group, count in groups.items() if group in chosen)
        for group in rng.permutation(list(groups)).tolist():
            if taken >= VAL_SHARE * sum(groups.values()):
                break
            if group not in chosen and all(left[other] > 1 for other in classes[group]):
                chosen.add(group)
                taken += groups[group]
                for other in classes[group]:
                    left[other] -= 1
    if not chosen:
        raise DataError(
            "No validation list, and none can be carved out of train: every class has one group only. "
            "Add a val.csv, or a `group` column that tells more groups apart."
        )
    return train.index[train["group"].isin(chosen)]


def write_lists(table: pd.DataFrame, folder: Path) -> None:
    """Writes the rows of a manifest as the CSV files of their splits, and removes that of a split without rows."""
    for split in SPLITS:
        file, rows = folder / f"{split}.csv", table[table["split"] == split].rename(columns={"path": "video_name"})
        if rows.empty:
            file.unlink(missing_ok=True)
            continue
        with replacing(file) as partial:
            columns = [name for name in ("video_name", "label", "group", *SEGMENT, "rate") if name in rows]
            rows[columns].replace(inf, "").rename(columns={"rate": "fps"}).to_csv(partial, index=False)


def plain(label: str) -> str:
    """A label without what people overlook: case, spaces, underscores and the form of its letters."""
    return unicodedata.normalize("NFKC", label).casefold().replace(" ", "").replace("_", "")


def classes_of(table: pd.DataFrame) -> list[str]:
    """Class names in the order of the network's outputs: the training labels, sorted."""
    return sorted(table.loc[table["split"] == "train", "label"].unique())


def video_keys(table: pd.DataFrame) -> np.ndarray:
    """A number for every video, uint64 `(N,)`, by which it is known again in another folder: from its name and size.

    A copy under another name is not, nor is one that was encoded again: whoever wants to know that must look into them.
    """
    names = (
        f"{os.path.basename(path)}/{state_of(path)[0]}" + (f"/{segment}" if segment != (0.0, inf) else "")
        for path, segment in zip(table["path"], segments_of(table), strict=True)
    )
    digests = (hashlib.blake2b(os.fsencode(name), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), "<u8")
