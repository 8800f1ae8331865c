"""Videos that are on the server already: files of a folder that may be named, and samples of a dataset."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from page import Page

from varec_lib.predictor.page import choices
from varec_lib.predictor.page.queue import MOST_WAITING
from varec_lib.predictor.page.samples import MOST_SAMPLES, sample_clips


@pytest.fixture
def files(tmp_path, write_video) -> Path:
    """Videos on the server, and what must not be had through their folder."""
    folder = tmp_path / "files"
    write_video(folder / "a.avi", 30)
    write_video(folder / "deep" / "er" / "b.avi", 30)
    write_video(tmp_path / "outside.avi", 30)
    (folder / "link.avi").symlink_to(tmp_path / "outside.avi")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside.avi").symlink_to(folder / "a.avi")
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "fifo.avi")
    return folder


@pytest.fixture
def page(experiments, files) -> Iterator[Page]:
    page = Page(experiments, server_files=files)
    yield page
    page.widget.close()
    page.settle()


@pytest.mark.parametrize("name", ["a.avi", "deep/er/b.avi", "./deep/../a.avi", "inside.avi"])
def test_a_file_on_the_server(page, name):
    page.tell("path", path=name)
    row = page.answered()
    assert (row["state"], row["name"]) == ("done", name.split("/")[-1])


@pytest.mark.alone
def test_files_that_are_not_to_be_had_are_all_the_same(page, files, tmp_path):
    names = [
        "absent.avi", "/etc/passwd", str(files / "absent.avi"), "../outside.avi", str(tmp_path / "outside.avi"),
        "deep/../../outside.avi", "link.avi", "up/outside.avi", "up/files/../outside.avi", "circle", "fifo.avi", "deep",
        "", ".", "..", "/", "a.avi/x", "a\0.avi", "\ud800", "x" * 5000, "a/" * 3000, "~", "~root/.bashrc",
        "/dev/zero", "/proc/self/environ", None, 7, ["a.avi"],
    ]  # fmt: skip
    before = psutil.Process().num_fds()
    sentences = []
    for name in names:
        page.tell("path", path=name)
        sentences.append((page.row()["state"], page.row()["sentence"]))
    assert set(sentences) == {("failed", "there is no such video in the folder 'files' on the server.")}
    assert psutil.Process().num_fds() == before
    assert len({row["key"] for row in page.widget.rows}) == len(names)


def test_its_own_absolute_name_does_no_harm(page, files):
    page.tell("path", path=str(files / "a.avi"))
    assert page.answered()["state"] == "done"


def test_no_files_on_the_server_without_a_folder(experiments):
    page = Page(experiments)
    page.tell("path", path="a.avi")
    assert page.row()["sentence"] == "videos on the server cannot be chosen here." and page.widget.server_folder == ""


def test_no_more_files_are_open_than_may_wait(page, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(choices, "_loaded", lambda *_: go.wait(20))
    before = psutil.Process().num_fds()
    for _ in range(MOST_WAITING + 5):
        page.tell("path", path="a.avi")
    assert psutil.Process().num_fds() == before + MOST_WAITING
    states = [row["state"] for row in page.widget.rows]
    assert states[MOST_WAITING:] == ["failed"] * 5 and "failed" not in states[:MOST_WAITING]
    page.tell("clear")
    go.set()


# Samples


def test_samples(experiments, numbered_dataset):
    page = Page(experiments, samples_dir=numbered_dataset)
    assert [sample["label"] for sample in page.widget.samples] == ["alpha", "beta", "gamma"]
    assert all(
        sample["picture"][:2] == b"\xff\xd8" and len(sample["picture"]) < 20_000 for sample in page.widget.samples
    )
    page.tell("sample", number=1)
    assert (page.answered()["state"], page.row()["name"]) == ("done", "beta")
    assert set(page.widget.samples[0]) == {"label", "picture"}  # no path


def test_samples_of_a_damaged_dataset(experiments, numbered_dataset, tmp_path):
    dataset = tmp_path / "data"
    shutil.copytree(numbered_dataset, dataset)
    tests = sorted((dataset / "videos" / "alpha").glob("*.mkv"))
    for path in tests:
        path.write_bytes(b"")
    page = Page(experiments, samples_dir=dataset)
    assert [sample["label"] for sample in page.widget.samples] == ["beta", "gamma"]  # alpha has none that is readable
    shutil.rmtree(dataset / "videos" / "beta")
    page.tell("sample", number=0)
    assert (page.row()["state"], page.row()["sentence"]) == ("failed", "this sample is not there any more.")
    assert Page(experiments, samples_dir=tmp_path / "absent").widget.samples == []
    assert Page(experiments, samples_dir=experiments).widget.samples == []


def test_samples_are_few(experiments, tmp_path, write_video):
    rows = ["video_name,label"]
    for number in range(MOST_SAMPLES + 4):
        write_video(tmp_path / "many" / "videos" / f"{number}.avi", 3)
        rows.append(f"{number}.avi,label{number:02}")
    for split in ("train", "val", "test"):
        (tmp_path / "many" / f"{split}.csv").write_text("\n".join(rows))
    labels = [sample["label"] for sample in Page(experiments, samples_dir=tmp_path / "many").widget.samples]
    assert labels == [f"label{number:02}" for number in range(MOST_SAMPLES)]


def test_a_folder_of_pictures_is_no_sample(tmp_path, write_video, monkeypatch):
    """The page hands open files to a decoder that may open nothing itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_video(tmp_path / "videos" / "film.mkv", 5)
    (tmp_path / "videos" / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "videos" / "pictures" / "1.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "test.csv").write_text("video_name,label\npictures,a\nfilm.mkv,a\npictures,b\n")
    assert [(sample.label, sample.path.name) for sample in sample_clips(tmp_path)] == [("a", "film.mkv")]
