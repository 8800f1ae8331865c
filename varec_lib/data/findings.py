"""What is wrong or odd in a dataset, one finding each: what its lists and the facts of its files tell at once."""

import os
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from varec_lib.data.manifest import SEGMENT, SPLITS, groups_by_name, plain
from varec_lib.data.video import NO_FILE, damage

# What a kind of finding is, and what to do about it; errors first, as they are listed.
KINDS = {
    "missing": ("error", "videos that are not there", "Check the name in the list, or the folder."),
    "unreadable": ("error", "files that cannot be used", "Copy or download it again, or take its row out."),
    "two_labels": ("error", "videos under several labels", "Decide which label is right, and take the other rows out."),
    "leak": ("error", "videos in several splits", "Keep each in one, else the model is tested on what it saw."),
    "untrained": ("error", "classes without a training video", "Add some, or take their rows out. Is it a spelling?"),
    "no_val": ("error", "no validation split", "Add a val.csv, or a column group by which one can be made."),
    "near_duplicate": ("warning", "copies under several labels or in several splits",
                       "Look at both. Take one out, or give both the same group and split by group."),
    "shared_group": ("warning", "groups in several splits", "Split by group, else results look too good."),
    "damaged": ("warning", "videos damaged in places", "Reading goes on behind it; replace the file if you can."),
    "truncated": ("warning", "videos that end before their header says", "They were probably cut short by copying."),
    "short": ("warning", "videos shorter than a clip", "They repeat frames; lower --num_frames, or raise --fps."),
    "duplicate": ("warning", "videos listed more than once", "They count twice; keep one row."),
    "segment": ("warning", "clips that end behind their video", "Are start and end in seconds?"),
    "spelling": ("warning", "labels that differ in spelling alone", "They are different classes; choose one spelling."),
    "imbalance": ("warning", "classes of very different size", "Train with --balanced, and read recall per class."),
    "rare": ("warning", "classes with one training video", "Expect them to be missed."),
    "shortcut": ("warning", "what tells the label without the pictures",
                 "A model may learn that instead. Encode all videos alike, or cut them to one length."),
    "named_group": ("note", "groups told by names", "Clips of one film are one group."),
    "near_copy": ("note", "copies in one class of one split", "They count twice."),
    "untested": ("note", "classes without a test video", "Nothing will be known of them."),
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
SHORT_S = 1.0  # by which a video may end before a clip of it, or before what its header says
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
    return in_order([*list_findings(good), *file_findings(good, bad)])


def list_findings(table: pd.DataFrame) -> list[Finding]:
    """What the lists of a dataset tell, whatever its files are."""
    return in_order([*clashes(table, table["path"]), *_of_groups(table), *_of_labels(table)])


def file_findings(good: pd.DataFrame, bad: pd.DataFrame) -> list[Finding]:
    """What the facts of files tell."""
    return in_order([*_unusable(bad), *_of_files(good)])


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


def in_one_line(findings: list[Finding]) -> str:
    """What a training says of its dataset: errors, warnings, and how groups were told; empty where there are none."""
    told = [line.split(maxsplit=2)[1:] for line in verdict(findings) if not line.startswith("note")]
    told += [[finding.detail] for finding in findings if finding.kind == "named_group"]
    return "; ".join(" ".join(parts) for parts in told)


def _unusable(bad: pd.DataFrame) -> Iterator[Finding]:
    for path, split, problem in zip(bad["path"], bad["split"], bad["problem"], strict=True):
        said = problem.removeprefix(f"{path}: ")
        if said == NO_FILE:
            yield Finding("missing", path, split, f"is not in {os.path.dirname(path)}")
        else:
            yield Finding("unreadable", path, split, said.split(". ")[0].rstrip("."))


def clashes(table: pd.DataFrame, content: pd.Series) -> Iterator[Finding]:
    """Rows that hold the same: of one `content` each, and where videos are cut into clips, at the same time."""
    for _, rows in table[content.duplicated(keep=False)].groupby(content):
        if "start" not in rows:
            yield _repeated(rows)
            continue
        for _, same in rows[rows.duplicated([*SEGMENT], keep=False)].groupby([*SEGMENT]):
            yield _repeated(same)
        if both := _overlap(rows.drop_duplicates([*SEGMENT])):
            clips = ", ".join(
                f"{name_of(row.path, rows)} {row.start:g} to {row.end:g} s in {row.split}" for row in both
            )
            yield Finding("leak", both[1].path, in_splits({row.split for row in both}), f"{clips} overlap")


def _overlap(rows: pd.DataFrame) -> tuple[Any, Any] | None:
    """Two clips of one video that overlap and are in different splits."""
    longest: dict[str, Any] = {}  # of each split, the clip that ends last
    for row in rows.sort_values("start").itertuples():
        if other := next((one for split, one in longest.items() if split != row.split and one.end > row.start), None):
            return other, row
        longest[row.split] = max(longest.get(row.split, row), row, key=lambda one: one.end)
    return None


def _repeated(rows: pd.DataFrame) -> Finding:
    path, labels, splits = rows["path"].iloc[0], sorted(set(rows["label"])), in_splits(rows["split"])
    names = sorted({name_of(other, rows) for other in rows["path"] if other != path})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    also = f", also as {', '.join(names[:NAMED])}{more}" if names else ""
    if len(labels) > 1:
        return Finding("two_labels", path, splits, f"has the labels {', '.join(labels)}{also}")
    if "," in splits:
        return Finding("leak", path, splits, f"is in {splits}{also}")
    return Finding("duplicate", path, splits, f"is there {len(rows)} times{also}")


def name_of(path: str, rows: pd.DataFrame) -> str:
    """A file's name, with its folder where several of these files have that name."""
    name = os.path.basename(path)
    alike = {other for other in rows["path"] if os.path.basename(other) == name}
    return "/".join(path.split(os.sep)[-2:]) if len(alike) > 1 else name


def in_splits(splits: Iterable[str]) -> str:
    """Names of splits, in their order."""
    return ", ".join(sorted(set(splits), key=SPLITS.index))


def _of_groups(table: pd.DataFrame) -> Iterator[Finding]:
    if named := groups_by_name(table):
        yield Finding("named_group", "", "", f"{named}, so clips of one film are one group")
    pairs = table[["group", "split"]].drop_duplicates()
    shared = pairs[pairs["group"].duplicated(keep=False)].groupby("group")["split"].unique()
    for number, (group, splits) in enumerate(shared.items()):
        where = in_splits(splits)
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
    if "end" in table:
        for row in table[(table["end"] < inf) & (table["end"] > ends_s + SHORT_S)].itertuples():
            said = f"its clip from {row.start:g} to {row.end:g} s, but it ends after {row.times[-1]:.1f} s"
            yield Finding("segment", row.path, row.split, said)


def _range(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}"


def cut_short(ends_s: float, promised_s: float) -> bool:
    """Whether a video's pictures end well before the time that its header promises, which is not exact."""
    return ends_s < promised_s - max(SHORT_S, 0.1 * promised_s)


def _of_labels(table: pd.DataFrame) -> Iterator[Finding]:
    spelled = table.groupby(table["label"].map(plain))["label"].unique()
    for names in spelled[spelled.map(len) > 1]:
        yield Finding("spelling", "", "", ", ".join(map(repr, names)))
    counts = table.loc[table["split"] == "train", "label"].value_counts()
    for kind, split in (("untrained", "train"), ("untested", "test")):
        for label in sorted(set(table["label"]) - set(table.loc[table["split"] == split, "label"])):
            yield Finding(kind, "", split, label)
    if len(table) and not (table["split"] == "val").any():
        yield Finding("no_val", "", "val", "and none can be made, because every class has one group only")
    for label in sorted(counts[counts == 1].index):
        yield Finding("rare", "", "train", label)
    if len(counts) and counts.iloc[0] >= IMBALANCE * counts.iloc[-1] and counts.iloc[0] > IMBALANCE:
        detail = f"{counts.index[0]} has {counts.iloc[0]} training videos, {counts.index[-1]} {counts.iloc[-1]}"
        yield Finding("imbalance", "", "train", detail)
