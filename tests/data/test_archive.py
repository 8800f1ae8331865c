"""All of an archive comes into its folder, or nothing does: real archives and the tools that are here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from archives import WRITERS, as_rar, as_tar, as_zip

from varec_lib.data import archive as archives
from varec_lib.data.archive import RAR_TOOLS, unpack
from varec_lib.errors import DataError, StoreError

CLIPS = {
    "UCF-101/": b"",
    "UCF-101/Archery/": b"",
    "UCF-101/Archery/v_Archery_g01_c01.avi": bytes(range(256)) * 20,
    "UCF-101/Archery/v_Archery_g01_c02.avi": b"second",
    "UCF-101/Lunges/v_Lunges_g01..c01.avi": b"",
}
HERE = [tool for tool in RAR_TOOLS if shutil.which(tool)]


def written(place: Path, kind: str, content: dict) -> Path:
    file = place / f"clips.{kind}"
    file.write_bytes(WRITERS[kind](content))
    return file


def needs_a_tool(kind: str) -> None:
    if kind == "rar" and not HERE:
        pytest.skip("nothing here unpacks RAR: apt install libarchive-tools")


def below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(file: Path, folder: Path, kind: type[DataError] = DataError) -> str:
    """The error with which an archive is not unpacked; it leaves nothing."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(kind) as caught:
        unpack(file, folder)
    assert sorted(folder.parent.rglob("*")) == before
    assert str(caught.value).startswith(str(folder.parent)) and str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_all_of_an_archive_is_in_the_folder_without_its_top(tmp_path, kind):
    needs_a_tool(kind)
    file = written(tmp_path, kind, CLIPS)
    unpack(file, tmp_path / "videos")
    wanted = {name.removeprefix("UCF-101/"): data for name, data in CLIPS.items() if name[-1] != "/"}
    assert below(tmp_path / "videos") == wanted
    assert sorted(tmp_path.iterdir()) == [file, tmp_path / "videos"]


@pytest.mark.parametrize("tool", RAR_TOOLS)
def test_each_tool_that_unpacks_rar(tmp_path, monkeypatch, tool):
    if tool not in HERE:
        pytest.skip(f"there is no {tool} here")
    if tool.startswith("7z") and " Rar" not in subprocess.run([tool, "i"], capture_output=True, text=True).stdout:
        pytest.skip(f"this {tool} was built without RAR")
    monkeypatch.setattr(archives, "RAR_TOOLS", {tool: RAR_TOOLS[tool]})
    unpack(written(tmp_path, "rar", CLIPS), tmp_path / "videos")
    assert (tmp_path / "videos" / "Archery" / "v_Archery_g01_c02.avi").read_bytes() == b"second"


def test_next_tool_is_tried_where_one_cannot(tmp_path, monkeypatch):
    needs_a_tool("rar")
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "unrar"
    broken.write_text("#!/bin/sh\necho cannot >&2; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    file = written(tmp_path, "rar", CLIPS)
    unpack(file, tmp_path / "videos")
    assert (tmp_path / "videos").is_dir()
    monkeypatch.setattr(archives, "RAR_TOOLS", {"unrar": RAR_TOOLS["unrar"]})
    message = refused(file, tmp_path / "again")
    assert "unrar: cannot" in message


def test_without_a_tool_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = refused(written(tmp_path, "rar", CLIPS), tmp_path / "videos")
    assert all(name in message for name in ("apt install", "brew install", "winget install"))


OUTSIDE = {
    "above": {"../outside.avi": b"harmless"},
    "above from inside": {"a/b/../../../outside.avi": b"harmless"},
    "above on Windows": {"..\\outside.avi": b"harmless"},
    "absolute": {"/tmp/varec_outside.avi": b"harmless"},
    "absolute on Windows": {"C:\\outside.avi": b"harmless"},
    "another server on Windows": {"\\\\server\\outside.avi": b"harmless"},
    "a link out": {"a": ("..",), "b.avi": b"harmless"},
    "a link inside": {"a.avi": b"harmless", "b.avi": ("a.avi",)},
}


@pytest.mark.parametrize("content", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("kind", WRITERS)
def test_nothing_is_unpacked_where_something_leads_elsewhere(tmp_path, kind, content):
    (tmp_path / "in").mkdir()
    message = refused(written(tmp_path / "in", kind, {"good.avi": b"good"} | content), tmp_path / "in" / "videos")
    assert "Nothing was unpacked" in message
    assert list(tmp_path.iterdir()) == [tmp_path / "in"] and not Path("/tmp/varec_outside.avi").exists()


def test_special_file_in_a_tar_is_refused(tmp_path):
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "clip.avi")
    subprocess.run(["tar", "-cf", "clips.tar", "pipes"], cwd=tmp_path, check=True)
    assert "pipes/clip.avi" in refused(tmp_path / "clips.tar", tmp_path / "videos")


DAMAGED = {
    "cut off zip": as_zip(CLIPS)[:-40],
    "cut off tar": as_tar(CLIPS)[:-40],
    "cut off rar": as_rar(CLIPS)[:-40],
    "rar cut off in a file": as_rar({"a.avi": bytes(5000)})[:2000],
    "zip with other bytes": as_zip({"a.avi": bytes(range(256))}).replace(bytes(range(9)), b"\1" * 9),
    "rar with other bytes": as_rar(CLIPS).replace(b"second", b"SECOND"),
    "a page": b"<html>Please log in</html>",
    "nothing": b"",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_archive_is_named(tmp_path, content):
    needs_a_tool("rar" if content.startswith(b"Rar!") else "")
    (tmp_path / "clips").write_bytes(content)
    refused(tmp_path / "clips", tmp_path / "videos")


def test_archive_that_does_not_hold_what_is_wanted(tmp_path):
    file = written(tmp_path, "zip", CLIPS)
    with pytest.raises(DataError, match=str(file)):
        unpack(file, tmp_path / "videos", lambda folder: (folder / "classInd.txt").is_file())
    assert list(tmp_path.iterdir()) == [file]


def test_room_on_the_disk_is_looked_at_first(tmp_path, monkeypatch):
    file = written(tmp_path, "zip", {"a.avi": bytes(1_000_000)})  # which is small as long as it is packed
    usage = shutil._ntuple_diskusage
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2_000_000, 1_000_001, 999_999))
    assert "1.0 MB" in refused(file, tmp_path / "videos", StoreError)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2_000_000, 1_000_000, 1_000_000))
    unpack(file, tmp_path / "videos")


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    left = tmp_path / ".videos.12345.partial"
    left.mkdir()
    (left / "v_Archery_g01_c01.avi").write_bytes(b"half")
    file = written(tmp_path, "zip", CLIPS)
    unpack(file, tmp_path / "videos")
    assert sorted(tmp_path.iterdir()) == [file, tmp_path / "videos"]
