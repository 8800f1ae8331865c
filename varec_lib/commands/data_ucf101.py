"""`varec data ucf101`: fetches UCF-101."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic.dataclasses import dataclass

from varec_lib.config import OptionalPath, Settings, UserPath


@dataclass
class Options(Settings):
    """Fetch UCF-101 (13,320 videos, 6.9 GB, twice that while it is unpacked) with its official lists; again, go on."""

    root: UserPath = Path("data/ucf101")
    """Folder to create."""
    ucf_split: Annotated[Literal[1, 2, 3], tyro.conf.arg(aliases=["--split"])] = 1
    """Which official list to count, and to name in the command that trains."""
    url: str = ""
    """Address of another RAR, ZIP or TAR archive with the videos, on a mirror; empty: the publisher's."""
    archive: OptionalPath = None
    """Archive with the videos that is on this machine."""


def run(options: Options) -> int:
    """Fetches UCF-101 and says how to train on it; 1 where a listed video is missing."""
    from varec_lib.data.manifest import load_manifest
    from varec_lib.data.ucf101_source import fetch_ucf101

    root, split = options.root, options.ucf_split
    fetch_ucf101(root, url=options.url, archive=options.archive, split=split)
    table = load_manifest(root, ucf_split=split)
    missing = [path for path in table["path"] if not os.path.isfile(path)]
    table = table[~table["path"].isin(missing)]
    counts = ", ".join(f"{count} {name}" for name, count in table["split"].value_counts(sort=False).items())
    print(f"{root}: {len(table)} videos of {table['label'].nunique()} classes; split {split}: {counts}")
    if missing:
        example = os.path.basename(missing[0])
        print(f"{len(missing)} listed videos are missing, such as {example}. To unpack again, delete {root}/UCF-101")
    print(f"Next: varec train --data {shlex.quote(str(root))} --ucf_split {split} --model cnnlstm --pretrained")
    return 1 if missing else 0
