"""The real clips that the course compares models on: five classes of UCF-101, where they are on this machine."""

import os
from pathlib import Path

from varec_lib.config import PROJECT_ROOT
from varec_lib.data.manifest import load_manifest, write_lists
from varec_lib.errors import DataError

REAL_CLASSES = ("Archery", "BodyWeightSquats", "JumpingJack", "Lunges", "PlayingViolin")


def real_clips() -> Path | None:
    """A dataset folder with the five classes of UCF-101 that the course compares models on, or None.

    It is what the environment variable VAREC_UCF5 names, else `data/ucf101`: such a folder, or all of UCF-101 as
    `varec data check` reads it; of that, lists of the five classes are written into `data/ucf5`, with groups 23 to 25
    for validation. Raises `DataError` where the folder lacks these classes.
    """
    folder = Path(os.environ.get("VAREC_UCF5") or PROJECT_ROOT / "data" / "ucf101").expanduser()
    if not folder.is_dir():
        return None
    table = load_manifest(folder)
    missing = set(REAL_CLASSES) - set(table["label"])
    if missing:
        raise DataError(f"{folder}: has no videos of {', '.join(sorted(missing))}.")
    if set(table["label"]) == set(REAL_CLASSES):
        return folder
    table = table[table["label"].isin(REAL_CLASSES)]
    late = table["group"].str.extract(r"_g(\d+)$")[0].fillna("0").astype(int) >= 23
    table = table.assign(split=table["split"].where(table["split"] == "test", late.map({True: "val", False: "train"})))
    lists = PROJECT_ROOT / "data" / "ucf5"
    lists.mkdir(parents=True, exist_ok=True)
    write_lists(table, lists)
    return lists
