"""`varec data from-folders`: makes a dataset of class folders."""

import shlex

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import OptionalPath, Settings, UserPath, Whole
from varec_lib.errors import DataError


@dataclass
class Options(Settings):
    """Write train.csv, val.csv and test.csv for a folder of class folders; moves and copies nothing.

    DIR/<class>/... is split by group, about 70/15/15; DIR/train/<class>/..., DIR/test/<class>/... stays as it is.
    """

    data: Positional[UserPath]
    """Folder of class folders, at any depth of which videos lie."""
    out: OptionalPath = None
    """Folder for the lists; DIR itself if not given."""
    by_group: str = ""
    """Regular expression that finds in a video's path below DIR what was filmed together: what its first ( ) matches,
    or all of it. If not given, names as in UCF-101, HMDB51 and Kinetics tell it, and any other video is on its own."""
    seed: Whole = 0
    """Seed of the split."""
    overwrite: bool = False
    """Replace lists that are there."""


def run(options: Options) -> int:
    """Writes the lists and says how videos were split."""
    from varec_lib.data.class_folders import read_folders
    from varec_lib.data.manifest import SPLITS, write_lists

    if not options.data.is_dir():
        raise DataError(f"{options.data}: no such folder.")
    out = options.out or options.data
    there = next((out / f"{split}.csv" for split in SPLITS if (out / f"{split}.csv").exists()), None)
    if there and not options.overwrite:
        raise DataError(f"{there}: is there already. --overwrite replaces the lists; --out writes them elsewhere.")
    root = options.data / "videos" if (options.data / "videos").is_dir() else options.data
    table = read_folders(root, options.by_group, options.seed)
    counts = table["split"].value_counts()
    split = ", ".join(f"{counts[split]} {split}" for split in SPLITS if split in counts)
    print(f"{len(table)} videos of {table['label'].nunique()} classes in {table['group'].nunique()} groups: {split}.")
    absent = {split: sorted(set(table["label"]) - set(table.loc[table["split"] == split, "label"])) for split in SPLITS}
    for split, labels in ((split, labels) for split, labels in absent.items() if labels):
        shown = ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
        print(f"Note: {split} has no video of {len(labels)} classes, for want of groups or of a folder ({shown}).")
    if out.resolve() != options.data.resolve():
        table["path"] = [str(root.resolve() / path) for path in table["path"]]
    out.mkdir(parents=True, exist_ok=True)
    write_lists(table, out)
    print(f"The lists are in {out}. Next: varec data check {shlex.quote(str(out))}")
    return 0
