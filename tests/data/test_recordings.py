"""A dataset that grows clip by clip: names, lists, splits by session, and what it says is missing."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from varec_lib.data.manifest import load_manifest
from varec_lib.data.recordings import ENOUGH, Recordings
from varec_lib.errors import DataError, VideoError


@pytest.fixture(scope="module")
def clip(write_video, tmp_path_factory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.webm", 12, fourcc="VP80").read_bytes()


@pytest.fixture
def recordings(tmp_path) -> Recordings:
    return Recordings(tmp_path / "mine")


def test_clips_are_an_ordinary_dataset_whose_groups_are_sessions(recordings, clip):
    for session in ("anna", "ben", "carla"):
        for label in ("wave", "do nothing"):
            assert recordings.add(label, session, clip) == f"{label}/{session}_001.webm"
    assert recordings.add("wave", "anna", clip, ".MP4") == "wave/anna_002.mp4"
    table = load_manifest(recordings.folder)
    assert "carved" not in table.attrs
    splits = table.groupby("split")["group"].unique().map(list).to_dict()
    assert splits == {"train": ["anna"], "val": ["ben"], "test": ["carla"]}
    assert table["label"].value_counts().to_dict() == {"wave": 4, "do nothing": 3}
    assert recordings.counts().loc["wave"].to_dict() == {"anna": 2, "ben": 1, "carla": 1}
    again = Recordings(recordings.folder)  # as after a new start
    pd.testing.assert_frame_equal(again.table(), recordings.table())
    assert again.add("wave", "anna", clip) == "wave/anna_003.webm"


def test_the_folder_can_be_moved(recordings, clip, tmp_path):
    recordings.add("wave", "anna", clip)
    recordings.add("clap", "anna", clip)
    recordings.add("wave", "ben", clip)
    moved = recordings.folder.rename(tmp_path / "moved")
    assert load_manifest(moved, split="test")["group"].tolist() == ["ben"]


def test_a_clip_that_is_deleted_leaves_the_lists(recordings, clip):
    names = [recordings.add("wave", session, clip) for session in ("anna", "ben")]
    recordings.remove(names[1])
    assert recordings.table()["path"].tolist() == names[:1]
    assert not (recordings.folder / "test.csv").exists()  # one session is left
    assert recordings.add("wave", "ben", clip) == names[1]
    recordings.remove(names[0])
    recordings.remove(names[1])
    assert not (recordings.videos / "wave").exists() and recordings.table().empty
    for name in ("wave/anna_001.webm", "../train.csv", ""):
        with pytest.raises(DataError):
            recordings.remove(name)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\\b", "-x", "x ", "a\nb", "x" * 61, "ü/"])
def test_names_that_cannot_be_files(recordings, clip, name):
    for label, session in ((name, "anna"), ("wave", name)):
        with pytest.raises(DataError):
            recordings.add(label, session, clip)
    assert not any(recordings.videos.iterdir())


@pytest.mark.parametrize("name", ["x", "stand up", "Hände hoch", "2026-11-28 16.50", "a_b_c", "5"])
def test_names_that_can(recordings, clip, name):
    recordings.add(name, name, clip)
    assert recordings.table()[["label", "group"]].to_numpy().tolist() == [[name, name]]


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_not_kept(recordings, content):
    with pytest.raises(VideoError):
        recordings.add("wave", "anna", content)
    assert recordings.table().empty and not [*recordings.folder.rglob("*.partial")]


def test_another_dataset_is_not_written_into(numbered_dataset, tmp_path):
    with pytest.raises(DataError, match="of its own"):
        Recordings(numbered_dataset)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        Recordings(tmp_path / "file")


def test_what_others_leave_in_the_folder_is_no_clip(recordings, clip):
    """What a killed process left, and what file managers put everywhere."""
    recordings.add("wave", "anna", clip)
    for name in ("anna_002.webm.17.partial", ".DS_Store", "._anna_001.webm"):
        (recordings.videos / "wave" / name).write_bytes(b"?")
    again = Recordings(recordings.folder)
    assert again.table()["path"].tolist() == ["wave/anna_001.webm"]
    assert again.add("wave", "anna", clip) == "wave/anna_002.webm"


def test_two_pages_at_once_lose_no_clip(recordings, clip):
    pages = [Recordings(recordings.folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        names = [*threads.map(lambda page: page.add("wave", "anna", clip), pages * 3)]
    assert len(set(names)) == 12 == len(recordings.table())
    assert len(pd.read_csv(recordings.folder / "train.csv")) == 12


def test_what_is_missing_is_said(recordings, clip):
    recordings.add("wave", "anna", clip)
    said = " ".join(recordings.lacks())
    assert "Two labels" in said and "1 of 3 sessions" in said and "wave: 1 of at least" in said
    for session in ("anna", "ben", "carla"):
        for label in ("wave", "nothing"):
            for _ in range(ENOUGH if session == "anna" else 1):
                recordings.add(label, session, clip)
    assert recordings.lacks() == []
    recordings.remove("nothing/carla_001.webm")
    (said,) = recordings.lacks()
    assert "nothing" in said and "carla" in said
