"""The index of known videos: none of them is opened again, until it changes."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from varec_lib.data import check, facts
from varec_lib.data.check import check_videos
from varec_lib.data.looks import looks_of
from varec_lib.data.video import VideoInfo, probe


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch) -> Path:
    """An index of this test alone."""
    monkeypatch.setattr(facts, "index_file", lambda: tmp_path / "cache" / "videos.sqlite3")
    return facts.index_file()


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the videos that were decoded."""
    names: list[str] = []

    def noted(path: str, rate: float) -> VideoInfo:
        names.append(Path(path).name)
        return probe(path, rate)

    monkeypatch.setattr(check, "probe", noted)
    return names


@pytest.fixture
def table(tmp_path, write_video, record) -> pd.DataFrame:
    paths = [write_video(tmp_path / f"{number}.mkv", 5 + number, fps=10 + number / 3) for number in range(3)]
    return pd.DataFrame({"path": [*map(str, paths), str(record(tmp_path / "uneven.webm", 20))], "split": "train"})


def alike(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    pairs = list(zip(one["times"], other["times"], strict=True))
    return all(np.array_equal(*pair) for pair in pairs) and one.drop(columns="times").equals(
        other.drop(columns="times")
    )


def test_known_videos_are_not_opened_and_have_the_same_facts(table, opened):
    first, _ = check_videos(table, progress=False)
    assert sorted(opened) == ["0.mkv", "1.mkv", "2.mkv", "uneven.webm"] and first["uneven"].tolist() == [False] * 3 + [
        True
    ]
    opened.clear()
    again, bad = check_videos(table, progress=False)
    assert not opened and alike(first, again) and not len(bad)
    assert [probe(path).times.tolist() for path in table["path"]] == [times.tolist() for times in again["times"]]


def test_another_process_knows_them_too(table, index):
    check_videos(table, progress=False)
    script = """
import sys
import pandas as pd
from varec_lib.data import check, facts
from pathlib import Path
facts.index_file = lambda: Path(sys.argv[1])
check.probe = lambda path, rate: sys.exit(f"opened {path}")
good, bad = check.check_videos(pd.DataFrame({"path": sys.argv[2:]}), progress=False)
print(len(good), len(bad))
"""
    command = [sys.executable, "-c", script, str(index), *table["path"]]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "4 0\n"


def test_a_video_that_changed_is_opened_again(table, opened, write_video):
    check_videos(table, progress=False)
    opened.clear()
    write_video(Path(table["path"][1]), 17)
    os.utime(table["path"][2], ns=(1, 1))
    good, _ = check_videos(table, progress=False)
    assert sorted(opened) == ["1.mkv", "2.mkv"] and good["frames"].tolist()[:3] == [5, 17, 7]


def test_what_cannot_be_used_is_looked_at_again(table, opened, write_video):
    broken = Path(table["path"][0])
    content = broken.read_bytes()
    broken.write_bytes(bytes(500))
    Path(table["path"][1]).unlink()
    _, bad = check_videos(table, progress=False)
    assert len(bad) == 2 and "no such file" in bad["problem"][1]
    opened.clear()
    check_videos(table, progress=False)
    assert opened == ["0.mkv"]
    broken.write_bytes(content)
    assert len(check_videos(table, progress=False)[1]) == 1


@pytest.mark.parametrize("trouble", ["damaged", "no folder", "held"])
def test_without_an_index_everything_works(table, opened, index, monkeypatch, trouble):
    monkeypatch.setattr(facts, "WAIT_S", 0.1)
    index.parent.mkdir()
    holder = None
    if trouble == "damaged":
        index.write_bytes(b"no database " * 1000)
    elif trouble == "no folder":
        index.parent.rmdir()
        index.parent.write_text("a file where the folder should be")
    else:
        holder = sqlite3.connect(index, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
    for _ in range(2):
        opened.clear()
        good, bad = check_videos(table, progress=False)
        assert (len(good), len(bad), len(opened)) == (4, 0, 4)
    if holder:
        holder.close()


def test_another_reader_finds_facts_of_its_own(table, opened, monkeypatch):
    check_videos(table, progress=False)
    opened.clear()
    monkeypatch.setattr(facts, "READER", facts.READER + 1)
    check_videos(table, progress=False)
    assert len(opened) == 4


def test_all_facts_are_columns_of_a_checked_table(table):
    good, _ = check_videos(table, progress=False)
    assert {field.name for field in fields(VideoInfo)} - {"problem"} <= set(good)


def rows_of(index: Path) -> list[tuple]:
    """How many rows each table of the index has."""
    with closing(sqlite3.connect(index)) as opened:
        return [opened.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in facts.TABLES]


def test_what_was_not_used_for_long_is_forgotten(table, opened, index, monkeypatch):
    kept, gone = table.iloc[:1], table.iloc[1:3]
    looks_of(table.iloc[:3], progress=False)
    assert rows_of(index) == [3, 3, 3]
    start = facts._today()
    monkeypatch.setattr(facts, "_today", lambda: start + facts.KEPT_DAYS - 1)
    check_videos(kept, progress=False)
    looks_of(kept, progress=False)
    check_videos(table.iloc[3:], progress=False)  # a new video, on a day that is early enough for all
    assert rows_of(index) == [4, 3, 4]
    monkeypatch.setattr(facts, "_today", lambda: start + facts.KEPT_DAYS + 1)
    facts.add_rows("looks", [("another", b"", b"", 0)])
    assert rows_of(index) == [2, 2, 3]
    opened.clear()
    check_videos(table, progress=False)
    assert sorted(opened) == sorted(map(os.path.basename, gone["path"]))


def test_an_index_of_before_uses_were_noted_is_read(table, opened, index):
    check_videos(table, progress=False)
    with closing(sqlite3.connect(index)) as older:
        older.execute("DROP TABLE used")
    opened.clear()
    check_videos(table, progress=False)
    assert not opened and rows_of(index) == [4, 0, 4]
