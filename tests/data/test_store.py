"""The frame store: every frame decoded once, the right ones whatever happens to the process, the disk or the videos."""

import contextlib
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from torch.utils.data import DataLoader

from varec_lib.cli import main
from varec_lib.config import TrainConfig
from varec_lib.data import store as store_module
from varec_lib.data import store_writer
from varec_lib.data.check import check_videos, load_dataset, trainable
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import EvalClips, VideoFiles, load_views
from varec_lib.data.manifest import load_manifest
from varec_lib.data.store import FrameStore, StoredFrames, file_of
from varec_lib.data.store_writer import StoredVideo
from varec_lib.data.video import Frame
from varec_lib.errors import DataError, StoreError

RAW = (32, 10)
#        name                  frames  size      fps
FILMS = {
    "a.mkv": (12, (48, 64), 15),
    "b.mkv": (30, (90, 120), 30),
    "c.avi": (20, (64, 48), 25),
    "deep/d.mp4": (9, (64, 64), 12),
    'odd, "e" – é.mkv': (14, (80, 96), 24),
    "f.mkv": (1, (48, 64), 15),
}


def draw(path: Path, frames: int, size: tuple[int, int], fps: float = 15, *, seed: int = 0) -> Path:
    """A video of a random smooth pattern that moves: no two frames of any two seeds are alike."""
    rng = np.random.default_rng(seed)
    pattern = cv2.resize(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    code = {".mkv": "FFV1", ".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), fps, size[::-1])
    assert writer.isOpened(), f"OpenCV cannot write {path}"
    for number in range(frames):
        writer.write(np.roll(pattern, 3 * number, axis=1) ^ np.uint8(number % 8))
    writer.release()
    return path


def table_of(root: Path, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"path": [str(root / "videos" / name) for name in names], "label": "x", "group": names, "split": "train"}
    )


@pytest.fixture(scope="module")
def drawn_films(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "films"
    for seed, (name, (frames, size, fps)) in enumerate(FILMS.items()):
        draw(root / "videos" / name, frames, size, fps, seed=seed)
    return root


@pytest.fixture
def films(tmp_path, drawn_films) -> Path:
    """A dataset folder with six videos of different sizes, rates and formats, to be changed at will."""
    return Path(shutil.copytree(drawn_films, tmp_path / "films"))


@pytest.fixture
def table(films) -> pd.DataFrame:
    return table_of(films, list(FILMS))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Path:
    """Ten videos that take 4 MB each in a raw store, so that they are written in several pieces. Not to be changed."""
    root = tmp_path_factory.mktemp("heavy") / "set"
    names = [f"{number}.mkv" for number in range(10)]
    for seed, name in enumerate(names):
        draw(root / "videos" / name, 25, (200, 260), seed=seed)
    for split, part in (("train", names[:6]), ("val", names[6:])):
        pd.DataFrame({"video_name": part, "label": "x"}).to_csv(root / f"{split}.csv", index=False)
    return root


@pytest.fixture
def open_store(films, tmp_path) -> Callable[..., FrameStore]:
    """`open(settings)`: the store of the films below tmp_path."""
    return lambda settings=RAW: FrameStore(films, tmp_path / "store", *settings)


def update(store: FrameStore, table: pd.DataFrame, *, num_workers: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    return store.update(table, progress=False, num_workers=num_workers)


def assert_right(store: FrameStore, table: pd.DataFrame) -> None:
    """All frames of all videos of the table lie in the store as `VideoFiles` reads them."""
    good, bad = check_videos(table, progress=False)
    assert len(bad) == 0
    settings = store.settings
    files = VideoFiles(good, ClipSpec(4, (32, 32), *IMAGENET, short_side=settings["short_side"], fps=settings["fps"]))
    stored = store.frames_of(good)
    assert stored.frames.tolist() == files.frames.tolist()
    for row, frames in enumerate(files.frames.tolist()):
        every = [*range(frames)]
        assert torch.equal(stored.read(row, every), files.read(row, every)), good["path"][row]
        assert np.array_equal(stored.times(row), files.times(row))


def finished(store: FrameStore) -> dict[Path, int]:
    """The files of the store, and when each was written."""
    return {file: file.stat().st_mtime_ns for file in store.folder.glob("*/*.bin")}


def names_in(files: Iterable[Path]) -> list[str]:
    """The videos of files of a raw store, without folder and ending."""
    names = (StoredVideo.read(file, "raw").name for file in files)
    return sorted(re.sub(r"^videos/", "", name).split(".")[0] for name in names)


def files_of(store: FrameStore, table: pd.DataFrame) -> list[Path]:
    """The file in which each video of a table is, or will be."""
    return [file_of(store.folder, store.keys(table)[path]) for path in table["path"]]


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


# The right frames


@pytest.mark.parametrize(("short_side", "fps"), [(0, 0), (32, 0), (32, 10), (50, 7.5), (500, 100), (17, 1)])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_raw_frames_are_those_of_the_files(open_store, table, short_side, fps, num_workers):
    store = open_store((short_side, fps))
    update(store, table, num_workers=num_workers)
    assert_right(store, table)
    assert len(finished(store)) == len(table)


def test_frames_come_in_the_order_asked_and_may_repeat(open_store, table):
    store = open_store()
    update(store, table)
    stored = store.frames_of(table)
    every = stored.read(1, [*range(10)])
    clip = stored.read(1, [7, 0, 7, 3])
    assert clip.shape == (4, 3, 32, 43) and clip.dtype == torch.uint8
    assert torch.equal(clip, every[[7, 0, 7, 3]])
    clip.zero_()  # a copy: the store itself cannot be changed by what is done to a clip
    assert torch.equal(stored.read(1, [7, 0, 7, 3]), every[[7, 0, 7, 3]])


def test_real_clips_are_stored_as_they_are_read(ucf5, tmp_path):
    rows = load_manifest(ucf5)[::60].reset_index(drop=True)
    store = FrameStore(ucf5, tmp_path, 128, 15)
    update(store, rows)
    assert_right(store, rows)


def test_a_table_without_rows_has_no_frames(open_store, table):
    store = open_store()
    update(store, table)
    assert store.frames_of(table.head(0)).frames.tolist() == []


@pytest.mark.parametrize("views", [1, 3])
def test_views_of_stored_videos_are_those_of_the_files(open_store, table, views):
    store, clip_spec = open_store(), ClipSpec(4, (30, 30), *IMAGENET, short_side=32, fps=10)
    good, _ = update(store, table)
    stored, files = store.frames_of(good), VideoFiles(good, clip_spec)
    for row in range(len(good)):
        expected = load_views(files, row, clip_spec, views=views)
        assert torch.equal(load_views(stored, row, clip_spec, views=views), expected)


def test_jpeg_is_close_to_raw_and_much_smaller(tiny_stick_actions, tmp_path):
    rows = load_manifest(tiny_stick_actions)[::4].reset_index(drop=True)
    raw, jpeg = (FrameStore(tiny_stick_actions, tmp_path, 112, 0, form) for form in ("raw", "jpeg"))
    for store in (raw, jpeg):
        update(store, rows, num_workers=2)
    exact, lossy = raw.frames_of(rows), jpeg.frames_of(rows)
    assert exact.frames.tolist() == lossy.frames.tolist()
    for row, frames in enumerate(exact.frames.tolist()):
        one, other = exact.read(row, [*range(frames)]).float(), lossy.read(row, [*range(frames)]).float()
        errors = (one - other).abs().mean(dim=(1, 2, 3))
        assert 0 < errors.mean() and errors.max() < 2.5  # of 255, in every frame
        order = [frames - 1, 0, 5, 5]
        assert torch.equal(lossy.read(row, order).float(), other[order])
    assert jpeg.used_bytes()[0] < raw.used_bytes()[0] / 8


def test_rows_may_come_in_any_order_and_more_than_once(open_store, table):
    store = open_store()
    rows = table.iloc[[4, 1, 4, 0]]
    good, bad = update(store, rows)
    assert good["path"].tolist() == rows["path"].tolist() and len(bad) == 0
    assert len(finished(store)) == 3  # decoded once
    assert_right(store, rows)
    assert_right(store, rows.iloc[[3]])


def test_one_store_serves_each_way_of_naming_the_folder(films, table, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(films)
    update(FrameStore(films, tmp_path / "store", *RAW), table)
    monkeypatch.chdir(tmp_path)
    for name in ("link", "films", "films/../films"):
        assert FrameStore(name, "store", *RAW).folder.resolve() == FrameStore(films, tmp_path / "store", *RAW).folder
        store = FrameStore(name, "store", *RAW)
        before = snapshot(store.folder)
        update(store, table)
        assert snapshot(store.folder) == before


# Nothing twice


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_second_update_decodes_nothing(open_store, table, num_workers, capsys):
    first = update(open_store(), table, num_workers=2)
    before = snapshot(open_store().folder)
    capsys.readouterr()
    store = open_store()
    again = update(store, table, num_workers=num_workers)
    assert snapshot(store.folder) == before and capsys.readouterr().out == ""
    for one, other in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert_right(store, table)


def test_new_videos_are_added_to_the_others(films, open_store, table):
    store = open_store()
    update(store, table.iloc[:3], num_workers=2)
    before = finished(store)
    update(store, table, num_workers=2)
    assert before.items() < finished(store).items() and len(finished(store)) == 6
    assert_right(store, table)


def test_a_changed_video_is_decoded_anew_and_no_other(films, open_store, table):
    store = open_store()
    update(store, table)
    before, former = finished(store), files_of(store, table)[1].stat().st_size
    draw(films / "videos" / "b.mkv", 22, (90, 120), 30, seed=99)
    store = open_store()
    update(store, table)
    assert before.items() < finished(store).items() and names_in(finished(store).keys() - before) == ["b"]
    assert_right(store, table)
    total, unused = store.used_bytes()
    assert unused == former > 10 * 32 * 43 * 3 and total > unused  # the former 30 frames, thinned to 10
    update(store, table)
    assert len(finished(store)) == 7


def test_whoever_reads_former_frames_of_a_changed_video_goes_on_reading_them(films, open_store, table):
    """A training that started earlier."""
    store = open_store()
    update(store, table, num_workers=2)
    reader = store.frames_of(table)
    before = [reader.read(row, [0]) for row in range(6)]
    for number, path in enumerate(table["path"]):
        size = cv2.VideoCapture(path).read()[1].shape[:2]
        draw(Path(path), 10, size, seed=100 + number)
    fresh = open_store()
    update(fresh, table)
    assert_right(fresh, table)
    for frames in (reader, store.frames_of(table)):
        assert all(torch.equal(frames.read(row, [0]), then) for row, then in enumerate(before))


def test_times_of_frames_are_those_of_the_file(open_store, table, tmp_path):
    store = open_store((32, 10))
    update(store, table)
    stored = store.frames_of(table)
    for row, (frames, _, fps) in enumerate(FILMS.values()):
        assert np.allclose(stored.times(row), np.arange(frames + 1) / fps)  # too short to be thinned out
    thinned = open_store((32, 1))
    update(thinned, table)
    assert np.allclose(thinned.frames_of(table).times(1), np.arange(31) / 30)
    jpeg = open_store((32, 10, "jpeg"))
    update(jpeg, table)
    assert all(np.array_equal(jpeg.frames_of(table).times(row), stored.times(row)) for row in range(6))


def test_another_time_of_change_counts_as_a_change(films, open_store, table):
    store = open_store()
    update(store, table)
    before = finished(store)
    os.utime(films / "videos" / "a.mkv", ns=(1, 1))
    update(store, table)
    assert names_in(finished(store).keys() - before) == ["a"]
    assert_right(store, table)


def test_other_settings_make_another_store(open_store, table):
    settings = [RAW, (31, 10), (32, 12.5), (32, 0), (32, 10, "jpeg")]
    stores = [open_store(choice) for choice in settings]
    before = {}
    for store in stores:
        update(store, table.iloc[:2])
        before |= {store.folder: snapshot(store.folder)}
    assert len(before) == len(settings)
    assert all(snapshot(folder) == files for folder, files in before.items())
    for store in stores[:4]:
        assert_right(store, table.iloc[:2])


def test_rates_that_are_almost_alike_have_stores_of_their_own(open_store, table):
    stores = [open_store((32, fps)) for fps in (29.97, 30000 / 1001)]
    for store in stores:
        update(store, table.iloc[:2])
        assert_right(store, table.iloc[:2])
    assert stores[0].folder != stores[1].folder


def test_datasets_of_the_same_name_have_stores_of_their_own(tmp_path):
    for seed, place in enumerate(("one", "two")):
        draw(tmp_path / place / "set" / "videos" / "a.mkv", 5, (48, 64), seed=seed)
    stores = [FrameStore(tmp_path / place / "set", tmp_path / "store", *RAW) for place in ("one", "two")]
    for store, place in zip(stores, ("one", "two"), strict=True):
        rows = table_of(tmp_path / place / "set", ["a.mkv"])
        update(store, rows)
        assert_right(store, rows)
    assert stores[0].folder != stores[1].folder


def test_the_settings_come_from_the_configuration(films, tmp_path):
    config = TrainConfig(data_dir=films, store_dir=tmp_path, frame_size=(112, 140), fps=12.5, store="jpeg")
    assert tuple(FrameStore.of(config).settings.values()) == (128, 12.5, "jpeg")
    assert tuple(FrameStore.of(config.replaced(short_side=100, fps=0)).settings.values()) == (100, 0, "jpeg")


# Videos that cannot be used


@pytest.fixture
def spoiled(films, table) -> pd.DataFrame:
    """The films and, among them, files that cannot be used."""
    videos = films / "videos"
    (videos / "empty.avi").touch()
    (videos / "notes.txt").write_text("notes")
    (videos / "text.mp4").write_text("no video\n" * 99)
    (videos / "folder.mkv").mkdir()
    data = (videos / "deep" / "d.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(data[: len(data) // 2])
    bad = table_of(films, ["missing.avi", "empty.avi", "notes.txt", "text.mp4", "folder.mkv", "cut.mp4"])
    return pd.concat([table, bad])[["path", "label", "group", "split"]].sample(frac=1, random_state=0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_cannot_be_used_is_reported_as_by_check_videos_and_stores_no_frame(
    open_store, table, spoiled, num_workers
):
    expected = check_videos(spoiled, progress=False)
    assert [len(part) for part in expected] == [6, 6]
    store = open_store()
    for _ in range(2):  # decoded, and remembered
        for found, known in zip(update(store, spoiled, num_workers=num_workers), expected, strict=True):
            pd.testing.assert_frame_equal(found, known)
    only_good = open_store((32, 10, "raw"))
    only_good.folder = store.folder.with_name("only good")
    update(only_good, table)
    assert store.used_bytes()[0] - only_good.used_bytes()[0] < 6 * 1000  # a sentence each
    assert_right(store, table)


def test_a_dataset_without_any_usable_video_is_reported_as_by_check_videos(open_store, spoiled, table):
    rows = spoiled[~spoiled["path"].isin(table["path"])]
    for found, known in zip(update(open_store(), rows), check_videos(rows, progress=False), strict=True):
        assert found.to_dict("records") == known.to_dict("records")


def test_a_broken_video_that_is_replaced_is_taken_in(films, open_store, spoiled):
    store = open_store()
    update(store, spoiled)
    draw(films / "videos" / "cut.mp4", 9, (64, 64), seed=5)
    good, bad = update(store, spoiled)
    assert [len(good), len(bad)] == [7, 5]
    assert_right(store, good[["path", "label", "group", "split"]])


def test_a_stored_video_that_is_deleted_is_missing(films, open_store, table):
    store = open_store()
    update(store, table)
    (films / "videos" / "a.mkv").unlink()
    good, bad = update(store, table)
    assert len(good) == 5 and bad["path"].tolist() == [table["path"][0]]
    assert re.search(r"a\.mkv.*no such", bad["problem"][0])


def test_the_same_videos_are_left_out_with_a_store_as_without(numbered_dataset, tmp_path, capsys):
    root = Path(shutil.copytree(numbered_dataset, tmp_path / "set"))
    (root / "videos" / "alpha" / "alpha_0.mkv").unlink()
    (root / "videos" / "beta" / "beta_3.mkv").write_text("no video" * 100)
    config = TrainConfig(data_dir=root, store_dir=tmp_path / "store", frame_size=(32, 32))
    expected = load_dataset(config, progress=False)
    without = capsys.readouterr().out
    listed = load_manifest(root)
    found = trainable(listed, *FrameStore.of(config).update(listed, progress=False), strict=False)
    pd.testing.assert_frame_equal(found, expected)
    left_out = without[without.index("Left out 2 of 30") :]
    assert "alpha_0.mkv" in left_out and capsys.readouterr().out.endswith(left_out)
    with pytest.raises(DataError, match="2 of 30"):
        trainable(listed, *FrameStore.of(config).update(listed, progress=False), strict=True)


# Processes that are killed

# What `varec` does, but a fiftieth of a second per frame slower.
SLOW_BUILD = """
import sys, time
from varec_lib.cli import main
from varec_lib.data.video import Frame
picture = Frame.picture
def slowly(frame, short_side):
    time.sleep(0.02)
    return picture(frame, short_side)
Frame.picture = slowly
sys.exit(main(sys.argv[1:]))
"""


def wait_until(met: Callable[[], bool], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "everyone"),
    [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, True)],
    ids=["killed", "killed without its workers", "terminated", "Ctrl-C"],
)
def test_a_build_that_is_stopped_goes_on_where_it_was(heavy, tmp_path, number, everyone):
    store = FrameStore(heavy, tmp_path / "store", 500, 0)
    with (tmp_path / "printed").open("w") as printed:
        build = subprocess.Popen(
            [sys.executable, "-c", SLOW_BUILD, *build_arguments(heavy, store)], stdout=printed, stderr=printed,
            start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: len(finished(store)) >= 3 or build.poll() is not None)
        (os.killpg if everyone else os.kill)(build.pid, number)
        assert build.wait(timeout=60) == (130 if number == signal.SIGINT else -number)
    done = finished(store)
    assert 3 <= len(done) < 10
    rows = load_manifest(heavy)
    update(store, rows, num_workers=2)
    assert done.items() < finished(store).items() and len(finished(store)) == 10
    assert_right(store, rows)
    total, unused = store.used_bytes()
    assert unused == 0 and total - 10 * 25 * 200 * 260 * 3 < 10 * 1000
    assert not list(store.folder.rglob("*.partial"))  # nothing half-written is left


DAMAGES = {
    "empty": lambda data: b"",
    "cut within its frames": lambda data: data[:100],
    "cut within its facts": lambda data: data[:-20],
    "the length is missing": lambda data: data[:-4],
    "longer": lambda data: data + b"x",
    "without its first byte": lambda data: data[1:],
    "zeros at its end": lambda data: data[:-9] + bytes(9),
    "facts that are none": lambda data: data[:-2] + b"\xff\xff",
    "another column": lambda data: data.replace(b'"kept"', b'"held"'),
    "a text for a number": lambda data: data.replace(b'"frame_bytes": ', b'"frame_bytes": "a'),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_damaged_file_is_written_again_with_a_note(open_store, table, capsys, form, damage):
    settings = (32, 10, form)
    update(open_store(settings), table.iloc[:3])
    store = open_store(settings)
    files = files_of(store, table)
    expected = [file.read_bytes() for file in files[:3]]
    for file in files[:2]:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    capsys.readouterr()
    update(store, table.iloc[:3])
    printed = capsys.readouterr().out
    assert "2 of its files are damaged" in printed and "Decoding 2 videos" in printed
    assert [file.read_bytes() for file in files[:3]] == expected
    update(open_store(settings), table.iloc[:3])
    assert capsys.readouterr().out == ""


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error_that_names_it(open_store, table):
    store = open_store()
    update(store, table)
    (file,) = files_of(store, table.iloc[[0]])
    os.truncate(file, 100)
    with pytest.raises(StoreError, match=file.name):
        store.frames_of(table).read(0, [7])


def test_what_a_killed_process_left_behind_is_no_video_and_goes(open_store, table):
    store = open_store()
    update(store, table.iloc[:3])
    left = [file.with_name(f"{file.name}.7.partial") for file in files_of(store, table)[3:5]]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 12345)
    update(store, table)
    assert_right(store, table)
    assert not any(file.exists() for file in left)


def test_lost_files_are_written_again(open_store, table):
    update(open_store(), table, num_workers=2)
    store = open_store()
    for file in files_of(store, table)[::2]:
        file.unlink()
    update(store, table, num_workers=2)
    assert_right(store, table)


# Stores that cannot be read


@pytest.mark.parametrize("change", [{"format": 99}, {"short_side": 33}, {"form": "jpeg"}, None])
def test_a_store_of_another_version_is_an_error_that_says_what_to_do(open_store, table, change):
    store = open_store()
    update(store, table.iloc[:1])
    file = store.folder / "store.json"
    file.write_text(json.dumps([1] if change is None else json.loads(file.read_text()) | change))
    before = snapshot(store.folder)
    with pytest.raises(StoreError, match=rf"{store.folder}.*version.*\b3\b.*--store_dir"):
        update(open_store(), table)
    assert snapshot(store.folder) == before


def test_a_damaged_description_is_an_error_that_names_it(open_store, table):
    store = open_store()
    update(store, table.iloc[:1])
    for content in ("", '{"format": 1', "nonsense"):
        (store.folder / "store.json").write_text(content)
        with pytest.raises(StoreError, match=r"store\.json.*damaged"):
            update(open_store(), table)


def test_a_folder_below_a_file_is_an_error(films, table, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"written.*--store_dir.*--store off"):
        update(FrameStore(films, tmp_path / "file" / "store", *RAW), table)


# Disks that are full

Usage = namedtuple("Usage", "total used free")
needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")


def fill_disk_for(file: Path) -> None:
    """What this process writes into that file of a store meets a full disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(f"{file.name}.{os.getpid()}.partial").symlink_to("/dev/full")


@needs_dev_full
@pytest.mark.parametrize("form", ["raw", "jpeg"])
@pytest.mark.parametrize("kind", ["light", "heavy"])  # the disk is full at the end of a video, or within one
def test_a_full_disk_is_an_error_that_keeps_what_is_finished(films, heavy, table, tmp_path, form, kind):
    root, rows = (films, table) if kind == "light" else (heavy, load_manifest(heavy).iloc[:4])
    store = FrameStore(root, tmp_path / "store", 0, 0, form)
    update(store, rows.iloc[:2])
    done = finished(store)
    fill_disk_for(files_of(store, rows)[2])
    with pytest.raises(StoreError, match="No space left") as caught:
        update(store, rows)
    message = str(caught.value)
    assert str(store.folder) in message and "kept" in message and "--store off" in message
    assert finished(store) == done
    update(store, rows, num_workers=2)
    assert done.items() < finished(store).items() and len(finished(store)) == len(rows)
    assert store.used_bytes()[1] == 0
    if form == "raw":
        assert_right(store, rows)


@needs_dev_full
def test_a_disk_that_is_full_from_the_start_stores_nothing(open_store, table):
    store = open_store()
    fill_disk_for(files_of(store, table)[0])
    with pytest.raises(StoreError, match="No space left"):
        update(store, table)
    assert not finished(store)
    update(store, table)
    assert_right(store, table)


# What `varec` does where no file may grow beyond 2000 bytes, which the frames of every other video need.
LITTLE_ROOM = """
import resource, sys
from varec_lib.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
sys.exit(main(sys.argv[1:]))
"""


def build_arguments(root: Path, store: FrameStore) -> list[str]:
    """The words of `varec data store` that build this store."""
    settings, store_dir = store.settings, store.folder.parents[1]
    return [
        "data", "store", str(root), "--store_dir", str(store_dir), "--short_side", str(settings["short_side"]),
        "--fps", str(settings["fps"]), "--store", settings["form"],
    ]  # fmt: skip


def test_a_file_that_may_not_grow_is_the_same_error(tmp_path):
    pytest.importorskip("resource", reason="no file size limits on this system")
    root = tmp_path / "set"
    names = [f"{number:02d}.mkv" for number in range(20)]
    for seed, name in enumerate(names):
        draw(root / "videos" / name, 1 if seed < 10 else 9, (16, 16), seed=seed)
    rows, store = table_of(root, names), FrameStore(root, tmp_path / "store", 100, 0)

    rows.assign(video_name=names)[["video_name", "label"]].to_csv(root / "train.csv", index=False)
    build = subprocess.run(
        [sys.executable, "-c", LITTLE_ROOM, *build_arguments(root, store)], capture_output=True, text=True, timeout=120
    )
    message = build.stderr.splitlines()[-1]
    assert build.returncode == 2 and str(store.folder) in message
    assert "written" in message and "kept" in message
    done = finished(store)
    assert 5 < len(done) < 15
    update(store, rows)
    assert done.items() < finished(store).items() and len(finished(store)) == 20
    assert_right(store, rows)


def test_too_little_room_is_refused_before_anything_is_decoded(open_store, table, monkeypatch):
    monkeypatch.setattr(store_module, "expected_bytes", lambda path, **_: 2_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(9e12, 9e12, 11_000_000_000))
    store = open_store()
    with pytest.raises(StoreError, match=r"\b12\.0 GB.*\b11\.0 GB.*free") as caught:
        update(store, table)
    message = str(caught.value)
    assert str(store.folder) in message
    assert all(way in message for way in ("--store jpeg", "--fps", "--short_side", "--store_dir", "--store off"))
    assert not finished(store)
    with pytest.raises(StoreError) as caught:
        update(open_store((32, 10, "jpeg")), table)
    assert "--store jpeg" not in str(caught.value)


def test_the_expected_size_is_announced_before_decoding(open_store, table, spoiled, monkeypatch, capsys):
    printed = []

    decode_with(monkeypatch, lambda path: printed.append(capsys.readouterr().out))
    store = open_store((0, 0))
    update(store, table)
    exact = sum(frames * height * width * 3 for frames, (height, width), _ in FILMS.values())
    assert re.fullmatch(rf".*\b6 videos.*{store}.*\b{exact / 1e6:.1f} MB\n", printed[0])
    total, unused = store.used_bytes()
    assert 0 < total - exact < 6 * 1000 and unused == 0
    store = open_store()
    update(store, spoiled)
    assert "Decoding 11 videos" in "".join(printed)  # one of the 12 is not there


def test_a_header_that_promises_millions_of_frames_stops_nothing(films, open_store, table, monkeypatch):
    path = films / "videos" / "c.avi"
    data = bytearray(path.read_bytes())
    for chunk, distance in ((b"avih", 24), (b"strh", 40)):  # the two places of an AVI that tell the number of frames
        place = data.index(chunk) + distance
        assert int.from_bytes(data[place : place + 4], "little") == 20
        data[place : place + 4] = (2**22).to_bytes(4, "little")
    path.write_bytes(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(9e12, 9e12, 1_000_000_000))
    store = open_store()
    update(store, table)
    assert_right(store, table)


def test_the_expected_size_is_close_for_a_thinned_jpeg_store(tiny_stick_actions, tmp_path, capsys):
    rows = load_manifest(tiny_stick_actions)
    store = FrameStore(tiny_stick_actions, tmp_path, 100, 7.5, "jpeg")
    update(store, rows, num_workers=2)
    announced = float(re.search(r"about ([\d.]+) MB", capsys.readouterr().out)[1])
    assert announced == pytest.approx(store.used_bytes()[0] / 1e6, rel=0.25)


# Several processes


def decode_with(monkeypatch, before: Callable[[Path], None] = lambda path: None, *, pause: float = 0) -> None:
    """Decoding processes call `before` with a video's path first, and then pause (seconds) at every frame."""
    write, picture = store_writer._write_frames, Frame.picture

    def write_frames(stream, path, *how):
        before(Path(path))
        return write(stream, path, *how)

    def slowly(frame, short_side):
        time.sleep(pause)
        return picture(frame, short_side)

    monkeypatch.setattr(store_writer, "_write_frames", write_frames)
    monkeypatch.setattr(Frame, "picture", slowly)


def kill_at(name: str) -> Callable[[Path], None]:
    def before(path: Path) -> None:
        if path.name == name:
            time.sleep(0.3)  # let the other process finish one
            os.kill(os.getpid(), signal.SIGKILL)

    return before


def test_a_decoding_process_that_dies_is_an_error_that_names_the_video(open_store, table, monkeypatch):
    store = open_store()
    with monkeypatch.context() as patch:
        decode_with(patch, kill_at("d.mp4"))
        with pytest.raises(StoreError, match=r"died.*\bd\.mp4") as caught:
            update(store, table, num_workers=2)
    assert "kept" in str(caught.value) and "a.mkv" not in str(caught.value)
    done = finished(store)
    assert len(done) > 0 and "deep/d" not in names_in(done)
    update(store, table, num_workers=2)
    assert done.items() < finished(store).items() and len(finished(store)) == 6
    assert_right(store, table)


def test_no_process_writes_on_after_a_build_has_failed(open_store, table, monkeypatch):
    """A notebook may start the next build at once."""
    store, others = open_store(), multiprocessing.active_children()
    with monkeypatch.context() as patch:
        decode_with(patch, kill_at("c.avi"), pause=0.03)
        with pytest.raises(StoreError, match="died") as caught:  # held on to, as a notebook does
            update(store, table, num_workers=2)
    assert [process for process in multiprocessing.active_children() if process not in others] == []
    update(store, table, num_workers=2)
    assert "c.avi" in str(caught.value)
    assert_right(store, table)


def test_an_interrupted_build_can_be_started_again_at_once(open_store, table, monkeypatch):
    """Interrupted as by `kill -INT`, which reaches the main process only."""
    store, main_process = open_store(), os.getpid()

    def before(path: Path) -> None:
        if path.name == "b.mkv":
            time.sleep(0.05)
            os.kill(main_process, signal.SIGINT)  # while it waits for us

    with monkeypatch.context() as patch:
        decode_with(patch, before, pause=0.04)
        with pytest.raises(KeyboardInterrupt) as caught:  # held on to, as a notebook does
            update(store, table, num_workers=2)
    with monkeypatch.context() as patch:
        decode_with(patch, pause=0.04)
        update(store, table.iloc[::-1], num_workers=2)
    assert_right(store, table)
    del caught


@pytest.mark.slow
def test_processes_that_want_the_same_store_build_it_once(heavy, tmp_path):
    store = FrameStore(heavy, tmp_path / "store", 40, 5)
    printed = [tmp_path / f"printed{number}" for number in range(3)]
    with contextlib.ExitStack() as stack:
        store.folder.mkdir(parents=True)
        with FileLock(store.folder / ".lock"):  # until all three are waiting
            builds = [
                subprocess.Popen(
                    [sys.executable, "-m", "varec_lib.cli", *build_arguments(heavy, store)],
                    stdout=stack.enter_context(file.open("w")), stderr=subprocess.STDOUT,
                )
                for file in printed
            ]  # fmt: skip
            for build in builds:
                stack.callback(build.kill)
            wait_until(lambda: all(f"{store}: waiting" in f.read_text() for f in printed))
        assert [build.wait(timeout=120) for build in builds] == [0, 0, 0]
    assert sum("Decoding 10 videos" in file.read_text() for file in printed) == 1
    rows = load_manifest(heavy)
    update(store, rows)
    assert len(finished(store)) == 10 and store.used_bytes()[1] == 0
    assert_right(store, rows)


def test_a_finished_store_is_only_read(open_store, table):
    """It may lie on a disk that is mounted for reading; here its lock cannot be opened."""
    store = open_store()
    update(store, table.iloc[:4])
    (store.folder / ".lock").unlink(missing_ok=True)
    (store.folder / ".lock").mkdir()
    before = snapshot(store.folder)
    store = open_store()
    update(store, table.iloc[1:4])
    assert snapshot(store.folder) == before
    assert_right(store, table.iloc[1:4].reset_index(drop=True))
    with pytest.raises(StoreError, match=r"written.*--store_dir.*--store off"):
        update(store, table)


def test_stored_frames_survive_pickling(open_store, table):
    store = open_store()
    update(store, table, num_workers=2)
    stored = store.frames_of(table)
    expected = [stored.read(row, [0]) for row in range(6)]
    content = pickle.dumps(stored)
    assert len(content) < 20_000  # no frames
    copy = pickle.loads(content)
    assert isinstance(copy, StoredFrames) and copy.frames.tolist() == stored.frames.tolist()
    assert all(torch.equal(copy.read(row, [0]), expected[row]) for row in range(6))


@pytest.mark.parametrize(("num_workers", "context"), [(2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_loader_processes_read_the_same_frames(open_store, table, num_workers, context, form):
    store, clip_spec = open_store((32, 10, form)), ClipSpec(4, (30, 30), *IMAGENET)
    update(store, table)
    clips = EvalClips(store.frames_of(table), clip_spec, views=2)
    expected = [clips[row][0] for row in range(6)]
    for found, rows in DataLoader(clips, 1, num_workers=num_workers, multiprocessing_context=context):
        assert torch.equal(found[0], expected[rows.item()])


# Memory


def anonymous_memory() -> int:
    """Bytes of this process's memory that are no file's."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def bytes_read() -> int:
    """What this process has read from files so far."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="no /proc on this system")


@needs_proc
def test_reading_frames_touches_no_others(heavy, tmp_path):
    store, rows = FrameStore(heavy, tmp_path, 0, 0), load_manifest(heavy)
    update(store, rows)
    stored, frame = store.frames_of(rows), 200 * 260 * 3
    for indices in ([7], [0, 24]):
        before = bytes_read()
        stored.read(4, indices)
        assert len(indices) * frame <= bytes_read() - before < (len(indices) + 0.1) * frame  # of 25 in the video


@needs_proc
@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path, monkeypatch, form):
    """2000 frames of 49 kB: 98 MB, if they were kept."""
    draw(tmp_path / "set" / "videos" / "long.avi", 2000, (128, 128))
    rows, store = (table_of(tmp_path / "set", ["long.avi"]), FrameStore(tmp_path / "set", tmp_path, 0, 0, form))
    picture, used = Frame.picture, []

    def picture_and_measure(frame: Frame, short_side: int) -> np.ndarray:
        used.append(anonymous_memory())
        return picture(frame, short_side)

    monkeypatch.setattr(Frame, "picture", picture_and_measure)
    update(store, rows)
    assert len(used) - 1 == store.frames_of(rows).frames[0] == 2000  # and the one that tells how large they are
    assert max(used) - used[50] < 8e6


# The command


def test_the_command_fills_a_store_that_training_uses(heavy, tmp_path, capsys):
    arguments = ["data", "store", str(heavy), "--store_dir", str(tmp_path), "--frame_size", "28", "32", "--fps", "5"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    store = FrameStore.of(TrainConfig(data_dir=heavy, store_dir=tmp_path, frame_size=(28, 32), fps=5))
    assert re.search(rf"Decoding 10 videos.*{store}", printed)
    assert re.search(rf"{store}.*\b10 videos\b.*\b250 frames\b", printed)
    before = snapshot(store.folder)
    rows = load_manifest(heavy)
    update(store, rows)
    assert_right(store, rows)
    assert main(arguments) == 0 and "Decoding" not in capsys.readouterr().out
    assert snapshot(store.folder) == before


def test_the_command_lists_what_cannot_be_used_and_what_has_changed(numbered_dataset, tmp_path, capsys):
    root = Path(shutil.copytree(numbered_dataset, tmp_path / "set"))
    arguments = ["data", "store", str(root), "--store_dir", str(tmp_path / "store"), "--short_side", "32"]
    assert main(arguments) == 0
    (root / "videos" / "alpha" / "alpha_0.mkv").unlink()
    draw(root / "videos" / "beta" / "beta_3.mkv", 5, (64, 64))
    capsys.readouterr()
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "29 videos" in printed and re.search(r"alpha_0\.mkv.*no such", printed) and "changed" in printed
