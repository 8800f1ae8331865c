"""Clips that are cut out of long videos by seconds: each is what is shown then, and the video is decoded once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from varec_lib.config import TrainConfig
from varec_lib.data.check import check_videos
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import TrainClips, VideoFiles, class_numbers, load_views
from varec_lib.data.findings import quick_findings
from varec_lib.data.manifest import load_manifest, video_keys
from varec_lib.data.store import FrameStore
from varec_lib.errors import DataError
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.training.loop import train

CLIP = ClipSpec(4, (64, 64), *IMAGENET)  # the videos' own size, so that frame numbers stay legible


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_video) -> Path:
    """Four videos of 10 s at 15 fps; the first half of each is alpha, the second beta; two more rows are whole."""
    root = tmp_path_factory.mktemp("segments")
    for name in ("a", "b", "c", "d"):
        write_video(root / "videos" / f"{name}.mkv", 150)
    halves = "".join(
        f"{name}.mkv,{label},{cut}\n" for name in "ab" for label, cut in (("alpha", "0,5"), ("beta", "5,10"))
    )
    (root / "train.csv").write_text(f"video_name,label,start,end\n{halves}")
    (root / "val.csv").write_text("video_name,label,start,end\nc.mkv,alpha,0,5\nc.mkv,beta,5,\n")
    (root / "test.csv").write_text("video_name,label,start,end\nd.mkv,alpha,,4.9\nd.mkv,beta,6,9\nd.mkv,beta,7,9.5\n")
    return root


@pytest.fixture(scope="module")
def table(root) -> pd.DataFrame:
    good, bad = check_videos(load_manifest(root), progress=False)
    assert len(good) == 9 and not len(bad)
    return good


def test_a_clip_shows_its_own_seconds_alone(table, frame_numbers):
    source = VideoFiles(table, CLIP)
    for row, (start, end) in enumerate(zip(table["start"], table["end"], strict=True)):
        numbers = frame_numbers(load_views(source, row, CLIP)[0])
        middles = start + (np.arange(4) + 0.5) * (min(end, 10) - start) / 4
        assert np.abs(np.array(numbers) / 15 - middles).max() < 1 / 15
    clips = TrainClips(source, class_numbers(table, ["alpha", "beta"]), CLIP, augment=False, seed=0)
    seen = {number for epoch in range(60) for number in frame_numbers(clips[epoch, 1].clips)}
    assert seen <= set(range(75, 150)) and len(seen) > 60


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_stored_video_is_decoded_once_for_all_its_clips(root, table, tmp_path, form):
    store = FrameStore(root, tmp_path, 0, 15, form)
    good, _ = store.update(load_manifest(root), progress=False, num_workers=0)
    assert len(good) == 9 and len([*store.folder.glob("*/*.bin")]) == 4
    stored, files = store.frames_of(good), VideoFiles(table, CLIP)
    for row in range(9):
        assert np.array_equal(stored.times(row), files.times(row)) and stored.frames[row] == files.frames[row]
        every = [*range(files.frames[row])]
        difference = stored.read(row, every).int() - files.read(row, every).int()
        assert difference.abs().float().mean() <= (0 if form == "raw" else 6)


def test_training_and_evaluation_take_the_clips_apart(root, tmp_path):
    experiment = train(
        TrainConfig(
            data_dir=root, model="frame_average", backbone="squeezenet1_1", num_frames=4, frame_size=(32, 32), epochs=1,
            batch_size=4, num_workers=0, store_dir=tmp_path / "store", experiments_dir=tmp_path / "experiments",
        ),
        progress=False,
    )  # fmt: skip
    assert experiment.results["test"]["num_videos"] == 3
    found = evaluate_checkpoint(experiment.folder, root, progress=False).as_table()
    assert found[["start", "end"]].values.tolist() == [[0, 4.9], [6, 9], [7, 9.5]]


def test_a_clip_of_a_trained_video_is_another_clip(table):
    keys = video_keys(table)
    assert len(set(keys.tolist())) == 9
    whole = video_keys(table.drop(columns=["start", "end"]))
    assert len(set(whole.tolist())) == 4 and not set(keys.tolist()) & set(whole.tolist())


def test_clips_of_one_video_are_a_group_and_no_duplicates(table):
    none = table.iloc[:0].assign(problem="")

    def kinds(rows: pd.DataFrame) -> set[str]:
        return {finding.kind for finding in quick_findings(rows, none)}

    assert not kinds(table) & {"duplicate", "two_labels", "shared_group"}
    assert "duplicate" in kinds(pd.concat([table, table.iloc[:1]]))
    assert "shared_group" in kinds(table.assign(split=["train", "test"] * 4 + ["test"]))


def test_a_clip_behind_the_end_of_its_video_cannot_be_used(root, tmp_path):
    (tmp_path / "videos").symlink_to(root / "videos")
    (tmp_path / "test.csv").write_text("video_name,label,start,end\na.mkv,alpha,9.9,20\nb.mkv,alpha,10,12\n")
    listed = load_manifest(tmp_path, split="test")
    for good, bad in (
        check_videos(listed, progress=False),
        FrameStore(tmp_path, tmp_path / "store", 32, 15).update(listed, progress=False, num_workers=0),
    ):
        assert len(good) == 1 and len(bad) == 1
        assert "b.mkv" in bad["problem"][0] and "10 s" in bad["problem"][0]
    clip = load_views(VideoFiles(good.assign(times=[np.arange(151) / 15]), CLIP), 0, CLIP)
    assert isinstance(clip, torch.Tensor)


@pytest.mark.parametrize("columns", ["start,stop", "start", "begin,end"])
def test_half_of_the_columns_that_cut_clips_is_refused(root, tmp_path, columns):
    (tmp_path / "videos").symlink_to(root / "videos")
    lines = "".join(f"{name}.mkv,alpha{',1' * len(columns.split(','))}\n" for name in "ab")
    (tmp_path / "train.csv").write_text(f"video_name,label,{columns}\n{lines}")
    with pytest.raises(DataError, match=r"train\.csv.*\bstart and end\b.*" + columns.split(",")[0]):
        load_manifest(tmp_path)


def test_columns_that_look_as_if_they_cut_clips_are_named(root, tmp_path, capsys):
    (tmp_path / "videos").symlink_to(root / "videos")
    (tmp_path / "test.csv").write_text("video_name,label,time_start,time_end,camera\na.mkv,alpha,1,2,left\n")
    assert "start" not in load_manifest(tmp_path, split="test")
    printed = capsys.readouterr().out
    assert "time_start, time_end" in printed and "camera" not in printed


@pytest.mark.parametrize("sign", [";", "\t"])
def test_other_signs_than_commas_are_named(tmp_path, sign):
    (tmp_path / "train.csv").write_text(f"video_name{sign}label\na.mkv{sign}alpha\n")
    with pytest.raises(DataError, match=r"train\.csv.*commas"):
        load_manifest(tmp_path)
