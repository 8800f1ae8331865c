"""`varec data check`: the doctor of datasets."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import OptionalPath, Settings, UserPath
from varec_lib.errors import ConfigError

if TYPE_CHECKING:
    from varec_lib.data.doctor import Diagnosis

NAMED = 20  # videos that cannot be used; `findings.csv` has all


@dataclass
class Options(Settings):
    """Look at every row and every video of a dataset, and say what is wrong; exits with 1 where there are errors.

    Errors are videos that cannot be used, or that are there under two labels or in two splits. Warnings are worth a
    look. Notes need none.
    """

    data: Positional[UserPath]
    """Dataset folder."""
    ucf_split: Literal[1, 2, 3] = 1
    """Which official list to use where the folder is UCF-101 or HMDB51 itself."""
    out: OptionalPath = None
    """Folder for all findings: findings.csv, and findings.html with pictures."""
    fix: bool = False
    """Write cleaned lists into --out, which is then a dataset folder too: each video once, labels in one spelling,
    nothing that cannot be used; of what is in several splits, the rows for testing stay. Moves no video."""
    overwrite: bool = False
    """Replace lists that are in --out."""


def run(options: Options) -> int:
    """Prints what a dataset holds and what is wrong with it; 1 where there are errors."""
    from varec_lib.data.doctor import diagnose, write_findings
    from varec_lib.data.findings import verdict

    if options.fix:
        _refuse_to_replace(options)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    found = diagnose(options.data, ucf_split=options.ucf_split)
    good, bad = found.good, found.bad
    print(found.counts().to_string())
    if len(good):
        frames = f"{good['frames'].min()} to {good['frames'].max()} frames"
        print(f"\n{len(good)} usable videos, {frames}, {good['group'].nunique()} groups")
    severities = [finding.severity for finding in found.findings]
    counts = [(severities.count(one), one) for one in ("error", "warning", "note")]
    print(", ".join(f"{count} {one}{'s' * (count != 1)}" for count, one in counts))
    print("\n".join([*verdict(found.findings), *bad["problem"].head(NAMED)]))
    if len(bad):
        more = f"... and {len(bad) - NAMED} more.\n" if len(bad) > NAMED else ""
        print(f"{more}{len(bad)} of {len(good) + len(bad)} videos cannot be used.")
    if options.out:
        write_findings(found, options.data, options.out)
        print(f"All of them: {options.out / 'findings.html'}, {options.out / 'findings.csv'}")
    else:
        print("--out FOLDER lists all of them, with pictures." if severities else "Nothing is wrong.")
    if options.fix:
        _fix(found, options.out)
    return int("error" in severities)


def _refuse_to_replace(options: Options) -> None:
    from varec_lib.data.manifest import SPLITS

    if options.out is None or options.out.resolve() == options.data.resolve():
        raise ConfigError("--fix writes new lists: name a folder for them with --out, not that of the dataset.")
    there = next((file for split in SPLITS if (file := options.out / f"{split}.csv").exists()), None)
    if there and not options.overwrite:
        raise ConfigError(f"{there}: is there already. --overwrite replaces the lists, or choose another --out.")


def _fix(found: "Diagnosis", out: Path) -> None:
    from varec_lib.data.doctor import cleaned, untrainable
    from varec_lib.data.manifest import write_lists

    table, rows = cleaned(found), len(found.good) + len(found.bad)
    write_lists(table, out)
    stay = [{one.video_name, one.other} <= set(table["path"]) for one in found.findings if one.kind == "near_duplicate"]
    if any(stay):
        print(f"Pairs of copies that stay, for you to decide: {sum(stay)}.")
    lost = untrainable(table, found.good)
    said = (
        f", but no training video is left of {', '.join(lost)}." if lost else f": varec train --data {quote(str(out))}"
    )
    print(f"{len(table)} of {rows} rows are in the cleaned lists{said}")
