"""Which videos of a manifest can be used: every file is opened and its frames counted (notebook 01).

A file that is missing, unreadable or empty is never swapped for another: it is named, counted and left out, or the
run stops (`strict`).
"""

from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from varec_lib.config import TrainConfig
from varec_lib.data import facts
from varec_lib.data.findings import file_findings, in_one_line, list_findings
from varec_lib.data.manifest import SPLITS, load_manifest, rates_of, segments_of
from varec_lib.data.video import NO_FILE, VideoInfo, probe
from varec_lib.errors import DataError, VideoError

FACTS = [field.name for field in fields(VideoInfo) if field.name != "problem"]  # columns of a checked table


def split_usable(table: pd.DataFrame, infos: Iterable[VideoInfo]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The usable rows of a manifest, with the columns of `FACTS`, and the others, with a column `problem`."""
    found = pd.DataFrame(map(vars, infos), columns=[*FACTS, "problem"])
    rows = table.reset_index(drop=True)
    for number, (start_s, _) in enumerate(segments_of(rows)):
        if start_s and not found["problem"][number] and start_s >= (ends_s := found["times"][number][-1]):
            found.loc[number, "problem"] = f"its segment begins at {start_s:g} s, but it ends after {ends_s:.1f} s."
    usable = found["problem"] == ""
    good, bad = rows.assign(**found[FACTS])[usable], rows[~usable]
    problems = [f"{path}: {said}" for path, said in zip(bad["path"], found["problem"][~usable], strict=True)]
    return good.reset_index(drop=True), bad.reset_index(drop=True).assign(problem=problems)


def check_videos(table: pd.DataFrame, *, progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decodes every file of a manifest that is not known yet, and returns what `split_usable` does.

    With all processors. What was found is remembered, so each file is decoded once, until it changes.
    """
    rates = dict(zip(table["path"], rates_of(table), strict=True))
    keys = facts.identities(rates.keys(), rates.values())
    found = facts.known(keys.values())

    def examine(path: str) -> VideoInfo:
        try:
            return probe(path, rates[path])
        except VideoError as error:
            return VideoInfo(problem=str(error).removeprefix(f"{path}: "))

    new = [path for path, key in keys.items() if key not in found]
    for some in facts.examined(new, examine, "checking videos", progress):
        fresh = {keys[path]: info for path, info in some}
        facts.remember(fresh)
        found |= fresh
    absent = VideoInfo(problem=NO_FILE)
    return split_usable(table, (found[keys[path]] if path in keys else absent for path in table["path"]))


def load_dataset(config: TrainConfig, *, progress: bool = True) -> pd.DataFrame:
    """The videos of `config.data_dir`, listed, checked and accepted for training; raises as `trainable` does."""
    table = load_manifest(config.data_dir, ucf_split=config.ucf_split)
    announce(table)
    return trainable(table, *check_videos(table, progress=progress), strict=config.strict)


def trainable(listed: pd.DataFrame, good: pd.DataFrame, bad: pd.DataFrame, *, strict: bool) -> pd.DataFrame:
    """The good rows of a manifest, checked for training; prints what was left out and what looks wrong.

    Raises `DataError` if `strict` and a video is unusable, if a class loses all its training videos, or if train or
    val would be empty.
    """
    accept(good, bad, strict=strict)
    lost = sorted(set(listed["label"]) - set(good.loc[good["split"] == "train", "label"]))
    if lost:
        raise DataError(f"No usable training video is left of {', '.join(lost)}. Add some, or take these rows out.")
    for split in ("train", "val"):
        if not (good["split"] == split).any():
            raise DataError(f"The {split} split has no usable video.")
    if said := in_one_line(file_findings(good, bad.iloc[:0])):  # `accept` has named the others
        print(f"Data: {said}.")
    return good


def announce(listed: pd.DataFrame) -> None:
    """Says in one line what is wrong with the lists of a dataset, before hours go into decoding its videos."""
    print(f"Data: {len(listed)} videos; {in_one_line(list_findings(listed)) or 'nothing is wrong with their lists'}.")


def accept(good: pd.DataFrame, bad: pd.DataFrame, *, strict: bool) -> pd.DataFrame:
    """The good rows; prints which videos are left out, or with `strict` raises `DataError` if there are any."""
    listed = len(good) + len(bad)
    if len(bad):
        if strict:
            more = f" And {len(bad) - 1} more: `varec data check` lists all." if len(bad) > 1 else ""
            raise DataError(f"{len(bad)} of {listed} videos cannot be used: {bad['problem'].iloc[0]}{more}")
        named = "\n".join(f"  {problem}" for problem in bad["problem"].head(5))
        more = f"\n  ... and {len(bad) - 5} more (`varec data check` lists all)" if len(bad) > 5 else ""
        print(f"Left out {len(bad)} of {listed} videos that cannot be used:\n{named}{more}")
    return good


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Videos per class and split, with a row of totals."""
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=SPLITS, fill_value=0)
    counts.columns.name = counts.index.name = None
    return pd.concat([counts, counts.sum().to_frame("all classes").T])
