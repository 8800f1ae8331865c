"""What is wrong or odd in a dataset, one finding each: what its lists and the facts of its files tell at once."""

import os
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from varec_lib.data.manifest import SEGMENT, groups_by_name
from varec_lib.data.video import NO_FILE, damage

# What a kind of finding is, and what to do about it; errors first, as they are listed.
KINDS = {
    "missing": ("error", "videos that are not there", "Check the name in the list, or the folder."),
    "unreadable": ("error", "files that cannot be used", "Copy or download it again, or take its row out."),
    "two_labels": ("error", "videos under several labels", "Decide which label is right, and take the other rows out."),
    "leak": ("error", "videos in several splits", "Keep it in one, else the model is tested on what it saw."),
    "near_duplicate": ("warning", "copies under several labels or in several splits",
                       "Look at both. Take one out, or give both the same group and split by group."),
    "shared_group": ("warning", "groups in several splits", "Split by group, else results look too good."),
    "damaged": ("warning", "videos damaged in places", "Reading goes on behind it; replace the file if you can."),
    "truncated": ("warning", "videos that end before their header says", "They were probably cut short by copying."),
    "short": ("warning", "videos shorter than a clip", "They repeat frames; lower --num_frames, or raise --fps."),
    "duplicate": ("warning", "videos listed more than once", "They count twice; keep one row."),
    "spelling": ("warning", "labels that differ in spelling alone", "They are different classes; choose one spelling."),
    "imbalance": ("warning", "classes of very different size", "Train with --balanced, and read recall per class."),
    "rare": ("warning", "classes with one training video", "Expect them to be missed."),
    "shortcut": ("warning", "what tells the label without the pictures",
                 "A model may learn that instead. Encode all videos alike, or cut them to one length."),
    "named_group": ("note", "groups told by names", "Clips of one film are one group."),
    "near_copy": ("note", "copies in one class of one split", "They count twice."),
    "uneven": ("note", "videos with uneven times", "Clips are sampled in seconds, so nothing need be done."),
    "interlaced": ("note", "interlaced videos", "Their halves are joined to whole pictures."),
    "non_square": ("note", "videos with pixels that are not square", "They are read as they are displayed."),
    "hdr": ("note", "HDR videos, or wide colours", "Colours are mapped to those of an ordinary screen."),
    "turned": ("note", "videos turned or mirrored by their header", "They are read as they are displayed."),
    "codec": ("note", "uncommon codecs", "They are read here, but not by every program and browser."),
}  # fmt: skip
COMMON_CODECS = {"h264", "hevc", "mpeg4", "msmpeg4v3", "mpeg2video", "mpeg1video", "mjpeg", "vp8", "vp9", "av1",
                 "png", "webp", "bmp"}  # fmt: skip
NAMED = 3  # copies of a video
IMBALANCE = 5  # times as many training videos as in the smallest class


class Finding(NamedTuple):
    """What is wrong or odd with a video (its path), maybe together with another, or without one with the dataset."""

    kind: str
    video_name: str
    split: str
    detail: str
    other: str = ""

    @property
    def severity(self) -> str:
        """error, warning or note."""
        return KINDS[self.kind][0]


def quick_findings(good: pd.DataFrame, bad: pd.DataFrame) -> list[Finding]:
    """What a checked table (usable rows, and the others with their `problem`) tells without opening a file."""
    found = [*_unusable(bad), *_of_rows(good), *_of_groups(good), *_of_files(good), *_of_labels(good)]
    return in_order(found)


def in_order(findings: list[Finding]) -> list[Finding]:
    """Findings as they are listed: by kind, the worst first."""
    return sorted(findings, key=lambda finding: list(KINDS).index(finding.kind))


def verdict(findings: list[Finding]) -> list[str]:
    """A line for each kind of finding: how bad, how many, and the first of them."""
    lines = []
    for kind, (severity, what, _) in KINDS.items():
        if found := [finding for finding in findings if finding.kind == kind]:
            first = ": ".join(part for part in (os.path.basename(found[0].video_name), found[0].detail) if part)
            lines.append(f"{severity:8s} {len(found):6d}  {what} ({first})")
    return lines


def in_one_line(findings: list[Finding], videos: int) -> str:
    """What a training says of its dataset: errors, warnings, and how groups were told."""
    told = [line.split(maxsplit=2)[1:] for line in verdict(findings) if not line.startswith("note")]
    told += [["", finding.detail] for finding in findings if finding.kind == "named_group"]
    said = "; ".join(" ".join(part for part in parts if part) for parts in told)
    return f"Data: {videos} usable videos; {said or 'nothing is wrong with their lists and files'}."


def _unusable(bad: pd.DataFrame) -> Iterator[Finding]:
    for path, split, problem in zip(bad["path"], bad["split"], bad["problem"], strict=True):
        said = problem.removeprefix(f"{path}: ")
        if said == NO_FILE:
            yield Finding("missing", path, split, f"is not in {os.path.dirname(path)}")
        else:
            yield Finding("unreadable", path, split, said.split(". ")[0].rstrip("."))


def _of_rows(table: pd.DataFrame) -> Iterator[Finding]:
    clips = ["path", *(name for name in SEGMENT if name in table)]
    for _, rows in table[table.duplicated(clips, keep=False)].groupby(clips):
        yield repeated(rows)


def repeated(rows: pd.DataFrame) -> Finding:
    """The finding about rows that hold the same video."""
    path = rows["path"].iloc[0]
    labels, splits = sorted(set(rows["label"])), sorted(set(rows["split"]))
    others = sorted({os.path.basename(other) for other in rows["path"]} - {os.path.basename(path)})
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    also = f", also as {', '.join(others[:NAMED])}{more}" if others else ""
    if len(labels) > 1:
        return Finding("two_labels", path, ", ".join(splits), f"has the labels {', '.join(labels)}{also}")
    if len(splits) > 1:
        return Finding("leak", path, ", ".join(splits), f"is in {', '.join(splits)}{also}")
    return Finding("duplicate", path, splits[0], f"is listed {len(rows)} times{also}")


def _of_groups(table: pd.DataFrame) -> Iterator[Finding]:
    if named := groups_by_name(table):
        yield Finding("named_group", "", "", f"{named}, so clips of one film are one group")
    pairs = table[["group", "split"]].drop_duplicates()
    shared = pairs[pairs["group"].duplicated(keep=False)].groupby("group")["split"].unique()
    for number, (group, splits) in enumerate(shared.items()):
        where = ", ".join(sorted(splits))
        share = "" if number else f"; {training_siblings(table):.0%} of the test videos have a sibling in training"
        yield Finding("shared_group", "", where, f"{group} is in {where}{share}")


def training_siblings(table: pd.DataFrame) -> float:
    """The share of test videos of whose group some video is in training, 0 to 1: they were filmed together."""
    test = table.loc[table["split"] == "test", "group"]
    return float(test.isin(table.loc[table["split"] == "train", "group"]).mean()) if len(test) else 0.0


def _of_files(table: pd.DataFrame) -> Iterator[Finding]:
    if "codec" not in table:  # it was not checked
        return
    ends_s = np.array([times[-1] for times in table["times"]])
    odd = {
        "damaged": (table["lost"] > 0, lambda row: damage(row.lost)),
        "truncated": (
            [cut_short(*both) for both in zip(ends_s, table["promised_s"], strict=True)],
            lambda row: f"its pictures end after {row.times[-1]:.1f} of {row.promised_s:.1f} s",
        ),
        "uneven": (table["uneven"], lambda row: f"a frame is shown for {_range(np.diff(row.times)[:-1])} s"),
        "interlaced": (table["interlaced"], lambda row: row.codec),
        "codec": (~table["codec"].isin(COMMON_CODECS), lambda row: row.codec),
    }
    for kind, (rows, detail) in odd.items():
        for row in table[rows].drop_duplicates("path").itertuples():
            yield Finding(kind, row.path, row.split, detail(row))


def _range(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}"


def cut_short(ends_s: float, promised_s: float) -> bool:
    """Whether a video's pictures end well before the time that its header promises, which is not exact."""
    return ends_s < promised_s - max(1.0, 0.1 * promised_s)


def _of_labels(table: pd.DataFrame) -> Iterator[Finding]:
    spelled = table.groupby(table["label"].map(plain))["label"].unique()
    for names in spelled[spelled.map(len) > 1]:
        yield Finding("spelling", "", "", ", ".join(map(repr, names)))
    counts = table.loc[table["split"] == "train", "label"].value_counts()
    for label in sorted(counts[counts == 1].index):
        yield Finding("rare", "", "train", label)
    if len(counts) and counts.iloc[0] >= IMBALANCE * counts.iloc[-1] and counts.iloc[0] > IMBALANCE:
        detail = f"{counts.index[0]} has {counts.iloc[0]} training videos, {counts.index[-1]} {counts.iloc[-1]}"
        yield Finding("imbalance", "", "train", detail)


def plain(label: str) -> str:
    """A label without what people overlook: case, spaces, underscores and the form of its letters."""
    return unicodedata.normalize("NFKC", label).casefold().replace(" ", "").replace("_", "")
