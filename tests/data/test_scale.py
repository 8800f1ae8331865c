"""Large datasets: the manifest is loaded and split, and a worker's memory does not grow with the table."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import EpochBatches, Frames, TrainClips, VideoFiles, make_loader
from varec_lib.data.manifest import load_manifest
from varec_lib.data.store import StoredFrames, file_of
from varec_lib.data.store_writer import StoredVideo

pytestmark = pytest.mark.slow


# The manifest

ROWS = 60_000


def listed(row: int) -> tuple[str, str, str]:
    """Name, label and group of a video: 100 classes of 60 groups, ten videos each."""
    label, group = f"Class{row % 100:03d}", row // 100 % 60
    return f"v_{label}_g{group:02d}_c{row // 6000:02d}.avi", label, f"{label}_g{group:02d}"


def write_lists(root: Path, *, folders: bool, groups: bool) -> None:
    """train.csv and test.csv in no order; names with or without their class folder, with or without a group column."""
    (root / "videos").mkdir(parents=True)
    order = np.random.default_rng(0).permutation(ROWS).tolist()
    for split, rows in {"train": order[ROWS // 10 :], "test": order[: ROWS // 10]}.items():
        columns = ["video_name", "label", "group"][: 3 if groups else 2]
        table = pd.DataFrame([listed(row)[: len(columns)] for row in rows], columns=columns)
        if folders:
            table["video_name"] = table["label"] + "/" + table["video_name"]
        table.to_csv(root / f"{split}.csv", index=False)


@pytest.fixture(scope="module")
def folder_of_files(tmp_path_factory) -> Iterator[Path]:
    """Every listed video as an empty file in its class folder."""
    root = tmp_path_factory.mktemp("files")
    for name, label, _ in map(listed, range(ROWS)):
        (root / label).mkdir(exist_ok=True)
        (root / label / name).touch()
    yield root
    shutil.rmtree(root)  # pytest would keep three of them


@pytest.mark.parametrize("groups", [True, False], ids=["groups", "ucf-names"])
@pytest.mark.parametrize(("folders", "files"), [(True, False), (True, True), (False, True)])
def test_a_large_manifest_is_loaded_and_split(tmp_path, request, folders, files, groups):
    write_lists(tmp_path, folders=folders, groups=groups)
    if files:
        (tmp_path / "videos").rmdir()
        (tmp_path / "videos").symlink_to(request.getfixturevalue("folder_of_files"))
    table = load_manifest(tmp_path)
    counts = table["split"].value_counts()
    assert len(table) == ROWS and counts["test"] == ROWS // 10
    assert 0.14 < counts["val"] / (counts["val"] + counts["train"]) < 0.18
    assert table["group"].nunique() == 6000
    carved = {split: set(rows) for split, rows in table["group"].groupby(table["split"])}
    assert not carved["train"] & carved["val"]
    assert all(Path(path).is_file() == files for path in table["path"].iloc[::1000])


# Workers

ROWS_OF_WORKERS = 300_000
CLIP_SPEC = ClipSpec(4, (32, 32), *IMAGENET)
FRAMES, SIZE = 8, (64, 64)
TIMES = np.arange(FRAMES + 1) / 15


def video_files(folder: Path, rows: int) -> Frames:
    """A path of its own for every row, spelled with // and /./ in its own way; all lead to one file."""
    spelled = (f"{row:020b}".replace("0", "/").replace("1", "./") for row in range(rows))
    paths = [f"{folder}/{dots}one.avi" for dots in spelled]
    return VideoFiles(pd.DataFrame({"path": paths, "times": [TIMES] * rows, "promised_s": 0.0}), CLIP_SPEC)


def stored_frames(folder: Path, rows: int) -> Frames:
    video = np.zeros((FRAMES, *SIZE, 3), np.uint8)
    file = file_of(folder, "0" * 24)
    file.parent.mkdir(exist_ok=True)
    video.tofile(file)
    facts = StoredVideo(
        name="x", kept=FRAMES, stored_height=SIZE[0], stored_width=SIZE[1], frame_bytes=video.nbytes, times=TIMES
    )
    settings = {"form": "raw", "fps": 15.0}
    return StoredFrames(folder, settings, ["0" * 24] * rows, [facts] * rows, [(0.0, np.inf)] * rows)


def private_megabytes(pid: int) -> float:
    """Memory that this process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines}
    return (kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]) / 1024


def workers_megabytes(source_of: Callable[[Path, int], Frames], folder: Path, rows: int) -> dict[str, float]:
    """Memory of a forked and of a spawned worker after clips from all over the table.

    A forked one gets a copy of every page that reference counts are written to, one by one: it reads 4000 clips. A
    spawned one has its copy from the beginning.
    """
    source, measured = source_of(folder, rows), {}
    clips = TrainClips(source, np.zeros(rows, np.int64), CLIP_SPEC, augment=False, seed=0)
    for start_method, wanted in (("fork", 1000), ("spawn", 100)):
        batches = EpochBatches(rows, 4, 0)
        batches.start = max(0, len(batches) - wanted)
        loader = make_loader(clips, num_workers=1, batches=batches)
        loader.multiprocessing_context = start_method
        assert sum(1 for _ in range(wanted // len(batches)) for _ in loader) == wanted
        measured[start_method] = private_megabytes(loader._iterator._workers[0].pid)  # it lives on between epochs
    return measured


@pytest.fixture(scope="module")
def small_and_large(tmp_path_factory, write_video) -> Callable[[Callable], list[dict[str, float]]]:
    """`measure(source_of)`: `workers_megabytes` of 1000 rows and of 300,000.

    Each in a new process: workers forked from pytest, which grows for an hour, differ by 10 MB among themselves.
    """
    folder = tmp_path_factory.mktemp("workers")
    write_video(folder / "one.avi", FRAMES, SIZE)
    context = multiprocessing.get_context("forkserver")  # which imports the library once for all of them
    context.set_forkserver_preload(["varec_lib.data.store", "varec_lib.data.dataset"])

    @cache
    def measure(source_of: Callable[[Path, int], Frames]) -> list[dict[str, float]]:
        found = []
        for rows in (1000, ROWS_OF_WORKERS):
            with ProcessPoolExecutor(1, context) as fresh:
                found.append(fresh.submit(workers_megabytes, source_of, folder, rows).result())
        return found

    return measure


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells which memory is shared")
@pytest.mark.parametrize("source_of", [video_files, stored_frames])
@pytest.mark.parametrize(("start_method", "bound"), [("fork", 10), ("spawn", 50)])  # spawn copies the arrays
def test_a_workers_memory_does_not_grow_with_the_table(small_and_large, source_of, start_method, bound):
    assert start_method in multiprocessing.get_all_start_methods()
    small, large = (measured[start_method] for measured in small_and_large(source_of))
    print(f"{small:.1f} MB for 1,000 rows, {large:.1f} MB for {ROWS_OF_WORKERS:,}")
    assert large - small < bound
