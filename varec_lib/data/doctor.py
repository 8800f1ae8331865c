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
from varec_lib.data.findings import KINDS, Finding, clashes, in_order, in_splits, name_of, quick_findings
from varec_lib.data.looks import Look, looks_of
from varec_lib.data.manifest import SEGMENT, SPLITS, load_manifest, plain, segments_of
from varec_lib.data.shortcuts import shortcuts
from varec_lib.data.thinning import KeptFrames
from varec_lib.data.video import open_video
from varec_lib.errors import VideoError
from varec_lib.files import replacing
from varec_lib.html import film_strip, write_page

CARVED = "val (carved from train)"  # how the doctor names validation rows that the lists have in train
SHOWN = 24  # findings of a kind on the page
STRIP, STRIP_HEIGHT = 4, 72  # frames, pixels


class Diagnosis(NamedTuple):
    """A dataset's usable rows, the others with their `problem`, all findings, and the looks of its videos by path.

    Where the dataset lists no validation split, it is `carved` out of train, and findings call it `CARVED`.
    """

    good: pd.DataFrame
    bad: pd.DataFrame
    findings: list[Finding]
    looks: dict[str, Look]
    carved: bool

    def counts(self) -> pd.DataFrame:
        """Usable videos per class and split, as `summary`."""
        return summary(self.good).rename(columns={"val": CARVED} if self.carved else {})


def diagnose(data_dir: Path | str, *, ucf_split: int = 1, progress: bool = True) -> Diagnosis:
    """Examines a dataset folder with all processors. Raises `DataError` where its lists cannot be read at all."""
    listed = load_manifest(data_dir, ucf_split=ucf_split, lenient=True)
    looks = looks_of(listed, progress=progress)
    good, bad = check_videos(listed, progress=progress)  # whose facts are known by now
    seen = good[good["path"].isin(looks)].reset_index(drop=True)
    copies = _copies(seen, looks, progress)
    deep = [*_of_looks(seen, looks), *_same(seen, looks), *copies, *_short(good), *_told(seen, looks)]
    findings, carved = in_order(quick_findings(good, bad) + deep), listed.attrs.get("carved", False)
    if carved:
        findings = [finding._replace(split=finding.split.replace("val", CARVED)) for finding in findings]
    return Diagnosis(good, bad, findings, looks, carved)


def _of_looks(table: pd.DataFrame, looks: dict[str, Look]) -> Iterator[Finding]:
    for row in table.drop_duplicates("path").itertuples():
        look, size = looks[row.path], f"shown as {row.width}x{row.height}"
        for kind, there in (("hdr", look.hdr), ("turned", look.turned), ("non_square", look.non_square)):
            if there:
                yield Finding(kind, row.path, row.split, row.codec if kind == "hdr" else size)


def _contents(table: pd.DataFrame, looks: dict[str, Look]) -> pd.Series:
    """What the file of each row holds."""
    return table["path"].map(lambda path: looks[path].digest)


def _same(table: pd.DataFrame, looks: dict[str, Look]) -> Iterator[Finding]:
    """Files that are equal byte for byte; a path that is listed twice is said already."""
    contents = _contents(table, looks)
    several = table.groupby(contents)["path"].transform("nunique") > 1
    return clashes(table[several], contents[several])


def _copies(table: pd.DataFrame, looks: dict[str, Look], progress: bool) -> Iterator[Finding]:
    """Files that show the same in another encoding, size or cut, and all rows of these files."""
    rows = dict(iter(table.groupby(_contents(table, looks))))
    for one, other in near_copies(looks, progress=progress):
        both = rows[looks[one].digest], rows[looks[other].digest]
        labels, splits = sorted({*both[0]["label"], *both[1]["label"]}), {*both[0]["split"], *both[1]["split"]}
        relabelled = len(labels) > 1 and "start" not in table  # clips of one video have labels of their own
        differ = [", ".join(labels)] if relabelled else []
        differ += [in_splits(splits)] if len(splits) > 1 else []
        where = f" ({'; '.join(differ)})" if differ else ""
        detail = f"shows the same as {name_of(other, pd.concat(both))}{where}"
        yield Finding("near_duplicate" if differ else "near_copy", one, in_splits(both[0]["split"]), detail, other)


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
    """The usable rows without what is wrong for certain: labels in one spelling, each video once, and none under two.

    Of what is in several splits, also as a copy with the same label, the rows for testing stay. Groups in several
    splits stay as they are, and so do copies that were given different labels. Carved validation rows are training
    rows again, as the dataset lists them.
    """
    looks = diagnosis.looks
    table = diagnosis.good[diagnosis.good["path"].isin(looks)].reset_index(drop=True)
    spelled = table.groupby(table["label"].map(plain))["label"].agg(lambda labels: labels.value_counts().index[0])
    table["label"] = table["label"].map(plain).map(spelled)
    contents, (starts, ends) = _contents(table, looks), zip(*segments_of(table), strict=True)
    table = table.assign(content=contents, start=starts, end=ends, rank=table["split"].map(SPLITS.index))
    table = table[table.groupby(["content", *SEGMENT])["label"].transform("nunique") == 1]
    table = table.sort_values("rank", ascending=False, kind="stable").drop_duplicates(["content", *SEGMENT])
    table = table[~_shown_later(table, table["content"])]
    for finding in diagnosis.findings:
        if finding.kind == "near_duplicate" and "start" not in diagnosis.good:
            both = table[table["content"].isin([looks[path].digest for path in (finding.video_name, finding.other)])]
            if both["label"].nunique() == 1:
                table = table.drop(both.index[both["rank"] < both["rank"].max()])
    if diagnosis.carved:
        table["split"] = table["split"].replace("val", "train")
    return table.sort_index()[list(diagnosis.good)]


def _shown_later(table: pd.DataFrame, contents: pd.Series) -> pd.Series:
    """Which rows overlap in time with a row of the same content in a later split, by index."""
    overlapping = pd.Series(False, table.index)
    for _, rows in table[contents.duplicated(keep=False)].groupby(contents):
        starts, ends, ranks = (rows[name].to_numpy()[:, None] for name in ("start", "end", "rank"))
        overlapping[rows.index] = ((starts < ends.T) & (ends > starts.T) & (ranks < ranks.T)).any(axis=1)
    return overlapping


def untrainable(table: pd.DataFrame, listed: pd.DataFrame) -> list[str]:
    """The labels of which cleaned lists have no training video left, as the lists before spelled them."""
    left = set(table.loc[table["split"] == "train", "label"].map(plain))
    return sorted(label for label in set(listed["label"]) if plain(label) not in left)


def write_findings(diagnosis: Diagnosis, data_dir: Path, folder: Path) -> None:
    """Writes `findings.csv` (`severity, kind, video_name, split, detail`) and `findings.html`, with pictures inside."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(f.severity, f.kind, _named(f.video_name, data_dir), f.split, f.detail) for f in diagnosis.findings]
    table = pd.DataFrame(rows, columns=["severity", "kind", "video_name", "split", "detail"])
    with replacing(folder / "findings.csv") as partial:
        table.to_csv(partial, index=False)
    counts = diagnosis.counts()
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
    for folder in (data_dir.resolve() / "videos", data_dir.resolve(), (data_dir / "videos").resolve()):
        with suppress(ValueError):
            return Path(path).relative_to(folder).as_posix()
    return path
