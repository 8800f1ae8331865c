"""`varec data check`: finds videos that cannot be used."""

from typing import Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import Settings, UserPath


@dataclass
class Options(Settings):
    """Open every video of a dataset and list what cannot be used; exits with 1 if there is any."""

    data: Positional[UserPath]
    """Dataset folder."""
    ucf_split: Literal[1, 2, 3] = 1
    """Which official list to use where the folder is UCF-101 itself."""


def run(options: Options) -> int:
    """Prints what a dataset holds and what of it cannot be used; 1 where there is any."""
    from varec_lib.data.check import check_videos, notes_on, summary
    from varec_lib.data.manifest import load_manifest

    good, bad = check_videos(load_manifest(options.data, ucf_split=options.ucf_split))
    print(summary(good).to_string())
    if len(good):
        print(
            f"\n{len(good)} usable videos, {good['frames'].min()} to {good['frames'].max()} frames, "
            f"{good['group'].nunique()} groups"
        )
    for note in notes_on(good):
        print(f"Note: {note}")
    for problem in bad["problem"]:
        print(problem)
    if len(bad):
        print(f"{len(bad)} of {len(good) + len(bad)} videos cannot be used.")
    return 1 if len(bad) else 0
