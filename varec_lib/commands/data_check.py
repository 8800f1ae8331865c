"""`varec data check`: the doctor of datasets."""

from typing import Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import OptionalPath, Settings, UserPath
from varec_lib.errors import ConfigError

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
    nothing that cannot be used. Moves no video."""


def run(options: Options) -> int:
    """Prints what a dataset holds and what is wrong with it; 1 where there are errors."""
    from varec_lib.data.check import summary
    from varec_lib.data.doctor import cleaned, diagnose, write_findings
    from varec_lib.data.findings import verdict
    from varec_lib.data.manifest import write_lists

    if options.fix and (options.out is None or options.out.resolve() == options.data.resolve()):
        raise ConfigError("--fix writes new lists: name a folder for them with --out, not that of the dataset.")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    found = diagnose(options.data, ucf_split=options.ucf_split)
    good = found.good
    print(summary(good).to_string())
    if len(good):
        frames = f"{good['frames'].min()} to {good['frames'].max()} frames"
        print(f"\n{len(good)} usable videos, {frames}, {good['group'].nunique()} groups")
    severities = [finding.severity for finding in found.findings]
    print(", ".join(f"{severities.count(one)} {one}s" for one in ("error", "warning", "note")))
    print("\n".join([*verdict(found.findings), *found.bad["problem"].head(NAMED)]))
    if len(found.bad):
        more = f"... and {len(found.bad) - NAMED} more.\n" if len(found.bad) > NAMED else ""
        print(f"{more}{len(found.bad)} of {len(good) + len(found.bad)} videos cannot be used.")
    if options.out:
        write_findings(found, options.data, options.out)
        print(f"All of them: {options.out / 'findings.html'}, {options.out / 'findings.csv'}")
    else:
        print("--out FOLDER lists all of them, with pictures." if severities else "Nothing is wrong.")
    if options.fix:
        table = cleaned(found)
        write_lists(table, options.out)
        rows = len(good) + len(found.bad)
        print(f"{len(table)} of {rows} rows are in the cleaned lists: varec train --data {options.out}")
    return int("error" in severities)
