"""Files on their way here: in pieces, within limits, without a name, and without leaving anything."""

import os
import resource
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from page import Page, assert_sentence, make_experiment

from varec_lib.errors import VideoError
from varec_lib.predictor.page.upload import Upload
from varec_lib.predictor.sandbox import Limits


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files; nothing is ever seen in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert [*folder.iterdir()] == []


@pytest.fixture(scope="module")
def experiments(tmp_path_factory, tiny_checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("experiments")
    make_experiment(folder, tiny_checkpoint)
    return folder


@pytest.fixture
def page(experiments) -> Page:
    page = Page(experiments, limits=Limits(megabytes=2))
    yield page
    page.widget.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video) -> bytes:
    return write_video(tmp_path_factory.mktemp("upload") / "v.avi", 30).read_bytes()


def test_pieces_make_the_file(temporary):
    upload = Upload(10, Limits())
    assert upload.add(0, b"abc") == 3
    assert upload.add(3, memoryview(b"defg")) == 7
    assert [*temporary.iterdir()] == []  # it has no name
    with pytest.raises(VideoError, match="a part of it is missing"):
        upload.complete()
    assert upload.add(7, b"hij") == 10
    upload.complete()
    upload.file.seek(0)
    assert upload.file.read() == b"abcdefghij"
    upload.close()
    upload.close()
    assert upload.file.closed


@pytest.mark.parametrize(("offset", "data"), [(0, b"x"), (6, b"x"), (4, b"xx"), (-1, b"x"), (0, b"01234"), (9, b"x")])
def test_only_the_next_piece_is_taken(offset, data):
    upload = Upload(10, Limits())
    upload.add(0, b"01234")
    assert upload.add(offset, data) == upload.received == 5
    assert upload.add(5, b"56789") == 10
    upload.complete()
    upload.file.seek(0)
    assert upload.file.read() == b"0123456789"
    upload.close()


@pytest.mark.parametrize(("offset", "data"), [(5, b"123456"), (0, b"x" * 11), (10**30, b"")])
def test_no_more_is_taken_than_was_announced(offset, data):
    upload = Upload(10, Limits())
    upload.add(0, b"01234")
    with pytest.raises(VideoError, match="more of it"):
        upload.add(offset, data)
    assert upload.received == 5
    upload.close()


@pytest.mark.parametrize(
    ("size", "words"), [(0, "empty"), (-1, "empty"), (-(10**30), "empty"), (2_000_001, "2 MB"), (10**30, "2 MB")]
)
def test_sizes_that_are_not_taken(size, words):
    with pytest.raises(VideoError, match=words):
        Upload(size, Limits(megabytes=2))


def test_no_room(monkeypatch):
    """The disk is full: everything is a sentence, the file goes, and so does what was not written yet."""
    before = psutil.Process().num_fds()
    uploads = [Upload(2_000_000, Limits()) for _ in range(2)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(VideoError, match="no room"):
            for offset in range(0, 2_000_000, 500_000):
                uploads[0].add(offset, bytes(500_000))
        uploads[1].size = 2000
        uploads[1].add(0, bytes(2000))  # stays in memory at first
        with pytest.raises(VideoError, match="no room"):
            uploads[1].complete()
        for upload in uploads:
            upload.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert psutil.Process().num_fds() == before


def test_no_place_for_temporary_files(page, monkeypatch, tmp_path, video):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    key = page.upload(video)
    assert page.row(key)["state"] == "failed"
    assert page.row(key)["sentence"] == "there is no room for it here. Try a smaller video."
    monkeypatch.undo()


# Through the page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("holiday.mp4", "holiday.mp4"),
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("/etc/passwd", "passwd"),
        ("..", ".."),
        ("a/", "video"),
        ("", "video"),
        ("\0", "video"),
        ("a\0b.mp4", "ab.mp4"),
        ("a\nb\r\t\x1b[31m\x7f.mp4", "ab[31m.mp4"),
        ("evil\u202e4pm.exe", "evil4pm.exe"),  # right to left
        ("\ud800.mp4", ".mp4"),  # no character at all
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),  # which the page shows as text
        ("a" * 10_000 + ".mp4", "a" * 120),
        ("Übung 走 🏃.mov", "Übung 走 🏃.mov"),
        (None, "None"),
        (["a", "b"], "['a', 'b']"),
        ({"length": 3}, "{'length': 3}"),
        (7, "7"),
    ],
)
def test_a_name_is_only_shown(page, video, tmp_path, monkeypatch, name, shown):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    key = page.upload(video, name)
    row = page.answered(key)
    assert (row["name"], row["state"]) == (shown, "done")
    assert str(page.widget._queue.all[key].prediction.path) == shown
    assert sorted(tmp_path.rglob("*")) == before


def test_every_piece_is_acknowledged(page, video):
    key = page.upload(video, piece=len(video) // 3)
    sizes = [content["bytes"] for content, _ in page.said("received") if content["key"] == key]
    assert sizes[-1] == len(video) and len(sizes) in (3, 4) and sizes == sorted(sizes)
    assert page.answered(key)["state"] == "done"


@pytest.mark.parametrize("size", [0, -1, -(10**18), 2_000_001, 10**30])
def test_announced_sizes_that_are_not_taken(page, size):
    page.tell("begin", key="k", name="v.mp4", size=size)
    assert page.row("k")["state"] == "failed"
    assert_sentence(page.row("k")["sentence"])
    page.tell("piece", [b"abc"], key="k", offset=0)
    page.tell("end", key="k", preview=False)
    assert page.row("k")["state"] == "failed" and page.said("received") == []


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([(1, b"a")], "missing"),
        ([(0, b"ab"), (0, b"ab")], "missing"),
        ([(0, b"ab"), (4, b"ab")], "missing"),
        ([(0, b"abcdefghijk")], "more of it"),  # than announced
        ([(0, b"abcde"), (5, b"abcdefgh")], "more of it"),
        ([(0, b"abc")], "missing"),
        ([], "missing"),
    ],
)
def test_pieces_that_do_not_fit_together(page, pieces, words):
    page.tell("begin", key="k", name="v.mp4", size=10)
    for offset, data in pieces:
        page.tell("piece", [data], key="k", offset=offset)
    page.tell("end", key="k", preview=False)
    assert page.row("k")["state"] == "failed" and words in page.row("k")["sentence"]
    assert_sentence(page.row("k")["sentence"])
    assert page.widget._queue.all["k"].upload is None


def test_pieces_in_any_order_are_answered_with_what_is_missing(page, video):
    page.tell("begin", key="k", name="v.mp4", size=len(video))
    for offset in (400, 0, 0, 200, 800, 400):
        page.tell("piece", [video[offset : offset + 200]], key="k", offset=offset)
    told = [(content["bytes"], content["missing"]) for content, _ in page.said("received")]
    assert told == [(0, True), (200, False), (200, False), (400, False), (400, True), (600, False)]
    page.tell("piece", [video[600:]], key="k", offset=600)
    page.tell("end", key="k", preview=False)
    assert page.answered("k")["state"] == "done"


def test_messages_of_several_threads_are_answered_one_at_a_time(page, video):
    page.tell("begin", key="k", name="v.mp4", size=len(video))
    file = page.widget._queue.all["k"].upload.file
    write = file.write
    file.write = lambda data: (time.sleep(0.005), write(data))  # long enough for another thread to begin

    def send_all() -> None:
        for offset in range(0, len(video), 2000):
            page.tell("piece", [video[offset : offset + 2000]], key="k", offset=offset)

    threads = [threading.Thread(target=send_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    page.tell("end", key="k", preview=False)
    assert page.answered("k")["state"] == "done"


def test_pieces_after_a_cancel_are_not_wanted(page, video):
    page.tell("begin", key="k", name="v.mp4", size=len(video))
    page.tell("piece", [video[:100]], key="k", offset=0)
    page.tell("cancel", key="k")
    told = len(page.sent)
    page.tell("piece", [video[100:]], key="k", offset=100)
    page.tell("end", key="k", preview=False)
    page.tell("cancel", key="k")
    assert page.row("k")["state"] == "cancelled" and len(page.sent) == told
    assert page.widget._queue.all["k"].ended.is_set()


def test_a_second_end_and_pieces_after_the_end_change_nothing(page, video):
    key = page.upload(video)
    page.tell("end", key=key, preview=True)
    page.tell("piece", [b"abc"], key=key, offset=len(video))
    page.tell("piece", [b"abc"], key=key, offset=0)
    row = page.answered(key)
    page.tell("end", key=key, preview=True)
    assert row["state"] == "done" and page.row(key) == row and len(page.widget.rows) == 1


def test_a_key_that_is_taken_is_left_alone(page, video):
    key = page.upload(video, "first.avi")
    page.tell("begin", key=key, name="second.avi", size=5)
    page.answered(key)
    page.tell("begin", key=key, name="third.avi", size=5)
    assert [(row["name"], row["state"]) for row in page.widget.rows] == [("first.avi", "done")]


def test_an_upload_is_gone_when_it_was_answered(page, video):
    before = psutil.Process().num_fds()
    for content in (video, b"not a video", video[:100]):
        page.answered(page.upload(content))
    page.tell("cancel", key=page.upload(video, end=False))
    assert psutil.Process().num_fds() == before
    assert not any(job.file or job.upload for job in page.widget._queue.all.values())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux lists open files")
def test_an_unfinished_upload_has_no_name(page, video, temporary):
    page.upload(video, end=False)
    opened = [os.readlink(link.path) for link in os.scandir("/proc/self/fd") if os.path.islink(link.path)]
    assert [name for name in opened if str(temporary) in name and not name.endswith("(deleted)")] == []
    assert [name for name in opened if str(temporary) in name]
