"""`varec data ucf101`: from a server, a mirror or an archive at hand to a dataset, through whatever interrupts it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archives import WRITERS, as_rar, as_zip
from web import Server, answer

from varec_lib import cli
from varec_lib.data import ucf101_source
from varec_lib.data.archive import RAR_TOOLS
from varec_lib.data.manifest import load_manifest
from varec_lib.data.ucf101_source import HASHES, LISTS, PUBLISHED, VIDEOS, Published
from varec_lib.errors import ConfigError

CLASSES = ("Archery", "Lunges")
CLIPS = [f"{name}/v_{name}_g{group:02}_c01.avi" for name in CLASSES for group in range(1, 9)]
CONTENT = {f"UCF-101/{clip}": f"not a real video, but {clip} ".encode() * 50 for clip in CLIPS}
IN_TEST = {1: "_g01", 2: "_g02", 3: "_g03"}


def official_lists() -> dict[str, bytes]:
    """Three splits, each with another group for testing."""
    files = {"classInd.txt": "1 Archery\r\n2 Lunges\r\n"}
    for split, group in IN_TEST.items():
        train = [f"{clip} {1 + CLASSES.index(clip.split('/')[0])}" for clip in CLIPS if group not in clip]
        files |= {f"trainlist0{split}.txt": "\r\n".join(train), f"testlist0{split}.txt": "\r\n".join(
            clip for clip in CLIPS if group in clip
        )}  # fmt: skip
    return {f"ucfTrainTestlist/{name}": text.encode() for name, text in files.items()}


@pytest.fixture
def published(server: Server, monkeypatch) -> Server:
    """The publisher: a server that has the lists and, as a RAR archive, the videos."""
    table = {}
    for name, content in {VIDEOS: as_rar(CONTENT), LISTS: as_zip(official_lists())}.items():
        (server.folder / name).write_bytes(content)
        table[name] = Published(server.url(name), len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(ucf101_source, "PUBLISHED", table)
    return server


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data" / "ucf101"


@pytest.fixture
def get(root, capsys) -> Callable[..., tuple[int, str, str]]:
    """`get("--split", "2")`: exit status of `varec data ucf101`, what it printed, and what it complained about."""

    def call(*words: object) -> tuple[int, str, str]:
        status = cli.main(["data", "ucf101", "--root", str(root), *map(str, words)])
        out, err = capsys.readouterr()
        assert err.count("\n") == (status == 2), err
        return status, out, err

    return call


def needs_a_tool() -> None:
    if not any(map(shutil.which, RAR_TOOLS)):
        pytest.skip("nothing here unpacks RAR: apt install libarchive-tools")


def holds_all(root: Path, split: int = 1) -> bool:
    """Whether the folder is the whole dataset, with nothing half done beside it."""
    table = load_manifest(root, ucf_split=split)
    assert all(
        Path(path).read_bytes() == CONTENT[f"UCF-101/{'/'.join(Path(path).parts[-2:])}"] for path in table["path"]
    )
    test = table[table["split"] == "test"]["path"]
    assert len(test) == len(CLASSES) and all(IN_TEST[split] in path for path in test)
    assert not [path for path in root.rglob("*") if path.suffix in (".partial", ".part", ".version")]
    return sorted(table["label"].unique()) == sorted(CLASSES) and len(table) == len(CLIPS)


def test_the_published_sizes_and_hashes_are_whole():
    assert set(PUBLISHED) >= {VIDEOS, LISTS}
    for name, row in PUBLISHED.items():
        assert row.url.startswith("https://") and row.url.endswith(f"/{name}")
        assert row.size > 100_000 and len(bytes.fromhex(row.sha256)) == 32


@pytest.mark.parametrize("split", [1, 2, 3])
def test_one_command_makes_a_dataset(published, root, get, split):
    needs_a_tool()
    status, out, _ = get("--split", split)
    assert status == 0 and holds_all(root, split)
    assert f"{len(CLIPS)} videos of 2 classes" in out and "2 test" in out
    assert f"varec train --data {root} --ucf_split {split}" in out
    assert all(count in out for count in ("4 val", "10 train"))
    recorded = subprocess.run(["sha256sum", "-c", HASHES], cwd=root, capture_output=True, text=True).stdout
    assert sorted(recorded.splitlines()) == [f"{VIDEOS}: OK", f"{LISTS}: OK"]


def test_again_it_does_nothing_and_asks_no_server(published, root, get):
    needs_a_tool()
    first = get()[1]
    asked = len(published.requests)
    for archive in root.glob("*.*"):  # only the folders are needed
        archive.unlink()
    status, again, _ = get()
    assert status == 0 and holds_all(root) and len(published.requests) == asked
    assert first.endswith(again) and "ownloading" not in again
    assert get("--ucf_split", 3)[0] == 0 and len(published.requests) == asked


@pytest.mark.parametrize("kind", WRITERS)
def test_mirror_of_another_archive_whose_hash_is_recorded(published, root, get, kind):
    if kind == "rar":
        needs_a_tool()
    (published.folder / f"mirror.{kind}").write_bytes(WRITERS[kind](CONTENT))
    status, out, _ = get("--url", published.url(f"mirror.{kind}?again=1"))
    assert status == 0 and holds_all(root)
    digest = hashlib.sha256(WRITERS[kind](CONTENT)).hexdigest() if kind != "tar.gz" else ""
    assert digest in out and f"mirror.{kind}\n" in (root / HASHES).read_text()
    assert published.requests == [f"/{LISTS}", f"/mirror.{kind}?again=1"]


def test_other_bytes_under_a_recorded_name_are_refused(published, root, get):
    mirror = published.folder / "mirror.zip"
    mirror.write_bytes(as_zip(CONTENT))
    url = published.url(mirror.name)
    assert get("--url", url)[0] == 0
    (root / "UCF-101").rename(root / "before")
    (root / mirror.name).unlink()
    mirror.write_bytes(as_zip({name: data.upper() for name, data in CONTENT.items()}))
    status, _, err = get("--url", url)
    assert status == 2 and "SHA-256" in err and not (root / "UCF-101").exists()
    assert get("--archive", mirror)[0] == 2


def test_the_hash_of_a_damaged_archive_is_not_recorded(published, root, get):
    archive = published.folder / "mine.zip"
    archive.write_bytes(as_zip(CONTENT)[:-400])
    status, out, err = get("--archive", archive)
    assert status == 2 and "mine.zip" in err and "damaged" in err and "must be right" not in out
    archive.write_bytes(as_zip(CONTENT))
    assert get("--archive", archive)[0] == 0 and holds_all(root)


def test_lists_come_from_the_publisher_where_the_mirror_has_none(published, root, get):
    folder = published.folder / "mirror"
    folder.mkdir()
    (folder / "all.zip").write_bytes(as_zip(CONTENT))
    assert get("--url", published.url("mirror/all.zip"))[0] == 0 and holds_all(root)
    assert published.requests == [f"/mirror/{LISTS}", f"/{LISTS}", "/mirror/all.zip"]


def test_archives_at_hand_need_no_server(published, root, get, tmp_path):
    published.shutdown()
    published.server_close()
    archive = tmp_path / "elsewhere.zip"
    archive.write_bytes(as_zip(CONTENT))
    status, _, err = get("--archive", archive)
    assert status == 2 and LISTS in err and not (root / "UCF-101").exists()
    (tmp_path / LISTS).write_bytes(as_zip(official_lists()))
    assert get("--archive", archive)[0] == 0 and holds_all(root)
    assert archive.exists() and (tmp_path / LISTS).exists()


def test_lists_that_are_there_are_kept(published, root, get, tmp_path):
    (root / "ucfTrainTestlist").mkdir(parents=True)
    for name, content in official_lists().items():
        (root / name).write_bytes(content)
    (published.folder / LISTS).unlink()
    archive = tmp_path / "clips.zip"
    archive.write_bytes(as_zip(CONTENT))
    assert get("--archive", archive)[0] == 0 and holds_all(root) and published.requests == []


REFUSED = {
    "no such file": (answer(b"", status="404 Not Found"), "Not Found"),
    "out of order": (answer(b"", status="500 Out Of Order"), "Out Of Order"),
    "another size": (answer(b"another file"), "12 bytes"),
    "other bytes": (answer(as_rar(CONTENT)[::-1]), "SHA-256"),
    "half": (answer(as_rar(CONTENT)[:9000], promised=len(as_rar(CONTENT))), "9000"),
}


@pytest.mark.parametrize(("sent", "said"), REFUSED.values(), ids=REFUSED)
def test_publisher_that_sends_something_else(published, root, get, sent, said):
    needs_a_tool()
    published.answers[f"/{VIDEOS}"] = sent
    status, _, err = get()
    assert status == 2 and said in err and published.url(VIDEOS) in err
    assert "--archive" in err and "--url" in err
    assert not (root / "UCF-101").exists() and not (root / VIDEOS).exists()
    published.answers.clear()
    assert get()[0] == 0 and holds_all(root)


def test_tool_that_is_missing_is_named_before_anything_is_fetched(published, root, get, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = get()
    assert status == 2 and "install" in err and published.requests == [] and not root.exists()
    (published.folder / "mirror.zip").write_bytes(as_zip(CONTENT))
    assert get("--url", published.url("mirror.zip"))[0] == 0 and holds_all(root)


def test_page_instead_of_an_archive(published, root, get):
    (published.folder / "log_in.zip").write_bytes(b"<html>Please log in</html>")
    status, _, err = get("--url", published.url("log_in.zip"))
    assert status == 2 and str(root / "log_in.zip") in err and "html" in err


def test_archive_with_other_videos(published, root, get):
    (published.folder / "other.zip").write_bytes(as_zip({"cats/1.avi": b"a cat"}))
    status, _, err = get("--url", published.url("other.zip"))
    assert status == 2 and str(root / "other.zip") in err and not (root / "UCF-101").exists()


def test_archive_at_hand_that_is_only_half_of_the_published_one(published, root, get, tmp_path):
    (tmp_path / VIDEOS).write_bytes(as_rar(CONTENT)[:9000])
    status, _, err = get("--archive", tmp_path / VIDEOS)
    assert status == 2 and str(tmp_path / VIDEOS) in err and "9000" in err
    assert (tmp_path / VIDEOS).exists()


def test_video_that_is_missing_is_counted(published, root, get, tmp_path):
    (tmp_path / "most.zip").write_bytes(as_zip(dict(list(CONTENT.items())[1:])))
    status, out, _ = get("--archive", tmp_path / "most.zip")
    assert status == 1 and f"{len(CLIPS) - 1} videos" in out and Path(CLIPS[0]).name in out


def test_folder_of_another_dataset_is_not_mixed_with(published, root, get):
    root.mkdir(parents=True)
    (root / "train.csv").write_text("video_name,label\n")
    status, _, err = get()
    assert status == 2 and str(root / "train.csv") in err and published.requests == []


@pytest.mark.parametrize("url", ["nonsense", "https://example.org/", "https://example.org/a/..", "file:///a.rar"])
def test_odd_address(published, root, get, url):
    with pytest.raises(ConfigError, match="--url"):
        ucf101_source.fetch_ucf101(root, url=url)


def test_archive_that_is_not_there(published, root, get, tmp_path):
    status, _, err = get("--archive", tmp_path / "none.rar")
    assert status == 2 and "none.rar" in err and not root.exists()


@pytest.fixture
def start(published, root) -> Iterator[Callable[[], subprocess.Popen]]:
    """`start()`: a real `varec data ucf101` that knows the publisher of this test."""
    started: list[subprocess.Popen] = []

    def begin() -> subprocess.Popen:
        script = "import sys\nfrom varec_lib import cli\nfrom varec_lib.data import ucf101_source\n"
        script += "from varec_lib.data.ucf101_source import Published\n"
        script += f"ucf101_source.PUBLISHED = {ucf101_source.PUBLISHED!r}\n"
        script += f"sys.exit(cli.main(['data', 'ucf101', '--root', {str(root)!r}]))\n"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", script], start_new_session=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_killed_download_goes_on(published, root, start):
    needs_a_tool()
    published.in_two_parts(f"/{VIDEOS}")
    process, part, half = start(), root / f"{VIDEOS}.part", len(as_rar(CONTENT)) // 2
    wait_for(lambda: part.exists() and part.stat().st_size == half)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (root / VIDEOS).exists()
    published.answers.clear()
    again = start()
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert published.ranges == [f"bytes={half}-"] and holds_all(root)
    assert out.rstrip().splitlines()[-1].startswith("Next: varec train")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_unpacking_that_was_killed_is_done_again(published, root, start, tmp_path, monkeypatch, number):
    needs_a_tool()
    fake = tmp_path / "bin" / next(iter(RAR_TOOLS))  # the one that is tried first
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor last; do :; done\necho half >"$last"v_Archery_g01_c01.avi\nexec sleep 30\n')
    fake.chmod(0o755)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{path}")
    process = start()
    wait_for(lambda: any(root.glob(".UCF-101.*/v_*")))
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 130), err
    assert not (root / "UCF-101").exists() and not (root / "ucfTrainTestlist").exists()
    assert any(root.glob(".UCF-101.*")) == (number == signal.SIGKILL)
    monkeypatch.setenv("PATH", path)
    again = start()
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert holds_all(root) and len(published.requests) == 2  # nothing was fetched again


def test_two_at_once_fetch_it_once(published, root, start):
    needs_a_tool()
    published.in_two_parts(f"/{VIDEOS}")
    first = start()
    assert published.half_sent.wait(30)
    second = start()
    assert "waiting" in second.stdout.readline()
    published.go_on.set()
    for process in (first, second):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert holds_all(root) and published.requests == [f"/{LISTS}", f"/{VIDEOS}"]
