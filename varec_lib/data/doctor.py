"""The doctor of datasets: looks at every row and every file, and says what is wrong and what to do (notebook 01)."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from varec_lib.config import TrainConfig
from varec_lib.data.check import check_videos, summary
from varec_lib.data.duplicates import near_copies
from varec_lib.data.findings import KINDS, Finding, in_order, plain, quick_findings, repeated
from varec_lib.data.looks import Look, looks_of
from varec_lib.data.manifest import SPLITS, load_manifest, segments_of
from varec_lib.data.shortcuts import shortcuts
from varec_lib.data.thinning import KeptFrames
from varec_lib.data.video import open_video
from varec_lib.errors import VideoError
from varec_lib.files import replacing
from varec_lib.html import film_strip, write_page

SHOWN = 24  # findings of a kind on the page
STRIP, STRIP_HEIGHT = 4, 72  # frames, pixels


class Diagnosis(NamedTuple):
    """A dataset's usable rows, the others with their `problem`, all findings, and the looks of its videos by path."""

    good: pd.DataFrame
    bad: pd.DataFrame
    findings: list[Finding]
    looks: dict[str, Look]


def diagnose(data_dir: Path | str, *, ucf_split: int = 1, progress: bool = True) -> Diagnosis:
    """Examines a dataset folder with all processors. Raises `DataError` where its lists cannot be read at all."""
    listed = load_manifest(data_dir, ucf_split=ucf_split)
    looks = looks_of(listed, progress=progress)
    good, bad = check_videos(listed, progress=progress)  # whose facts are known by now
    seen = good[good["path"].isin(looks)].reset_index(drop=True)
    deep = [*_of_looks(seen, looks), *_same(seen, looks), *_copies(seen, looks), *_short(good), *_told(seen, looks)]
    return Diagnosis(good, bad, in_order(quick_findings(good, bad) + deep), looks)


def _of_looks(table: pd.DataFrame, looks: dict[str, Look]) -> Iterator[Finding]:
    for row in table.drop_duplicates("path").itertuples():
        look, size = looks[row.path], f"shown as {row.width}x{row.height}"
        for kind, there in (("hdr", look.hdr), ("turned", look.turned), ("non_square", look.non_square)):
            if there:
                yield Finding(kind, row.path, row.split, row.codec if kind == "hdr" else size)


def _contents(table: pd.DataFrame, looks: dict[str, Look]) -> pd.Series:
    """What each row shows: a number for every content of a file, and the segment of it."""
    digests = pd.factorize(np.array([looks[path].digest.hex() for path in table["path"]], object))[0]
    return pd.Series(list(zip(digests.tolist(), segments_of(table), strict=True)), table.index)


def _same(table: pd.DataFrame, looks: dict[str, Look]) -> Iterator[Finding]:
    """Files that are equal byte for byte."""
    contents = _contents(table, looks)
    for _, rows in table[contents.duplicated(keep=False)].groupby(contents):
        if rows["path"].nunique() > 1:  # a path that is listed twice is said already
            yield repeated(rows)


def _copies(table: pd.DataFrame, looks: dict[str, Look]) -> Iterator[Finding]:
    """Files that show the same in another encoding, size or cut."""
    whole = table.drop_duplicates("path").set_index("path")
    for one, other in near_copies(looks):
        first, second = whole.loc[one], whole.loc[other]
        between = [
            f"{a}, {b}" for a, b in ((first["label"], second["label"]), (first["split"], second["split"])) if a != b
        ]
        kind = "near_duplicate" if between else "near_copy"
        where = f" ({'; '.join(between)})" if between else ""
        yield Finding(kind, one, first["split"], f"shows the same as {Path(other).name}{where}", other)


def _short(table: pd.DataFrame) -> Iterator[Finding]:
    """Videos of which a clip of the default settings shows frames more than once."""
    settings, videos = TrainConfig(), zip(table["times"], table["promised_s"], strict=True)
    frames = KeptFrames(videos, settings.fps, segments_of(table)).frames
    for count, row in zip(frames.tolist(), table.itertuples(), strict=True):
        if count < settings.num_frames:
            detail = f"has {count} frames at {settings.fps:g} a second, a clip {settings.num_frames}"
            yield Finding("short", row.path, row.split, detail)


def _told(table: pd.DataFrame, looks: dict[str, Look]) -> Iterator[Finding]:
    if "start" in table or table.empty:  # the clips of one video have all that in common
        return
    for what, right, chance in shortcuts(table, [looks[path].sound for path in table["path"]]):
        yield Finding(
            "shortcut", "", "", f"{what} alone tells the label of {right:.0%} of the videos, chance {chance:.0%}"
        )


def cleaned(diagnosis: Diagnosis) -> pd.DataFrame:
    """The usable rows without what is wrong for certain: each video once, labels in one spelling, none with two labels.

    Of a video in several splits, and of copies, the row for testing stays. Groups in several splits stay as they are.
    """
    table = diagnosis.good[diagnosis.good["path"].isin(diagnosis.looks)].reset_index(drop=True)
    spelled = table.groupby(table["label"].map(plain))["label"].agg(lambda labels: labels.value_counts().index[0])
    table["label"] = table["label"].map(plain).map(spelled)
    contents = _contents(table, diagnosis.looks)
    table = table[table.groupby(contents)["label"].transform("nunique") == 1]
    last = table.sort_values("split", key=lambda splits: splits.map(SPLITS.index), kind="stable", ascending=False)
    table = table.loc[sorted(last.index[~contents[last.index].duplicated()])]
    split = dict(zip(table["path"], table["split"], strict=True))
    between = [(f.video_name, f.other) for f in diagnosis.findings if f.kind == "near_duplicate"]
    pairs = [pair for pair in between if all(path in split for path in pair) and len({split[p] for p in pair}) == 2]
    return table[~table["path"].isin(min(pair, key=lambda path: SPLITS.index(split[path])) for pair in pairs)]


def write_findings(diagnosis: Diagnosis, data_dir: Path, folder: Path) -> None:
    """Writes `findings.csv` (`severity, kind, video_name, split, detail`) and `findings.html`, with pictures inside."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(f.severity, f.kind, _named(f.video_name, data_dir), f.split, f.detail) for f in diagnosis.findings]
    table = pd.DataFrame(rows, columns=["severity", "kind", "video_name", "split", "detail"])
    with replacing(folder / "findings.csv") as partial:
        table.to_csv(partial, index=False)
    counts = summary(diagnosis.good)
    write_page(
        folder / "findings.html",
        "findings.html",
        title=f"Dataset check: {data_dir.resolve().name}",
        summary=f"{len(diagnosis.good)} usable videos, {len(diagnosis.bad)} that cannot be used.",
        splits=list(counts),
        classes=[(label, row.tolist()) for label, row in counts.iterrows()],
        kinds=[_on_page(kind, diagnosis, data_dir) for kind in dict.fromkeys(table["kind"])],
    )


def _on_page(kind: str, diagnosis: Diagnosis, data_dir: Path) -> dict:
    severity, what, advice = KINDS[kind]
    found = [finding for finding in diagnosis.findings if finding.kind == kind]
    times = dict(zip(diagnosis.good["path"], diagnosis.good["times"], strict=True))
    rows = []
    for finding in found[:SHOWN]:
        strips = [_strip(path, times[path]) for path in (finding.video_name, finding.other) if path in times]
        rows.append({"video_name": _named(finding.video_name, data_dir), "split": finding.split,
                     "detail": finding.detail, "strips": [strip for strip in strips if strip]})  # fmt: skip
    return {"name": kind, "severity": severity, "what": what, "advice": advice, "count": len(found), "rows": rows}


def _strip(path: str, times: np.ndarray) -> str:
    """Some frames of a video, spread over its time, as the address of a picture; empty where it cannot be read."""
    wanted = np.searchsorted(times[:-1], (np.arange(STRIP) + 0.5) / STRIP * times[-1], side="right") - 1
    pictures = {}
    with suppress(VideoError), open_video(path) as video:
        for number, frame in enumerate(video):
            if number in wanted:
                width = max(round(video.width * STRIP_HEIGHT / video.height), 1)
                pictures[number] = frame.scaled((STRIP_HEIGHT, width))
            if number == wanted[-1]:
                return film_strip([pictures[number] for number in wanted.tolist()])
    return ""


def _named(path: str, data_dir: Path) -> str:
    """A path as the lists of a dataset write it, where it lies there."""
    for folder in (data_dir / "videos", data_dir):
        with suppress(ValueError):
            return Path(path).relative_to(folder.resolve()).as_posix()
    return path
