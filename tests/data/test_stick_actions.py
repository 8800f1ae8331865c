"""stick-actions: what is drawn, what is written, and what must never be overwritten."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from varec_lib.data import stick_actions
from varec_lib.data.stick_actions import CLASSES, REVERSED, generate, render_clip
from varec_lib.errors import DataError

SMALL = dict(performers=(2, 1, 1), takes=1, jobs=1, progress=False)


def decode(path) -> np.ndarray:
    """All frames of a video, uint8 RGB (T, H, W, 3)."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame[..., ::-1])
    return np.array(frames)


def snapshot(root) -> dict:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("stick") / "set", **SMALL)


@pytest.mark.parametrize("label", CLASSES)
def test_a_clip_depends_on_its_arguments_alone(label):
    clip = render_clip(label, 3, 1, seed=5)
    np.random.seed(0)  # noqa: NPY002  (the global state is what must not matter)
    assert np.array_equal(clip, render_clip(label, 3, 1, seed=5))
    assert clip.dtype == np.uint8 and clip.shape[1:] == (128, 128, 3) and 24 <= len(clip) <= 40
    for performer, take, seed in ((3, 1, 6), (3, 2, 5), (4, 1, 5)):
        assert not np.array_equal(clip, render_clip(label, performer, take, seed=seed))


@pytest.mark.parametrize("label", ["sit_down", "pick_up"])
def test_twins_differ_in_the_order_of_time_alone(label):
    clip, twin = render_clip(label, 0, 0), render_clip(REVERSED[label], 0, 0)
    assert np.array_equal(twin, clip[::-1]) and not np.array_equal(twin, clip)
    assert sorted(frame.tobytes() for frame in clip) == sorted(frame.tobytes() for frame in twin)
    assert all(REVERSED[REVERSED[label]] == label for label in REVERSED)


@pytest.mark.parametrize("label", ["sit_down", "pick_up"])
def test_pauses_are_alike_at_both_ends(label):
    """The stillness before and after the movement hints at no direction: on average both are alike."""
    head, tail = [], []
    for take in range(300):
        rng, t = np.random.default_rng(take), np.arange(32) / 15
        poses = stick_actions.ACTIONS[label](stick_actions.make_person(0, 0), rng, t)
        moving = np.flatnonzero(np.abs(np.diff([pose.shoulder for pose in poses])) > 1e-3)
        head.append(moving[0])
        tail.append(len(t) - 2 - moving[-1])
    assert abs(np.mean(head) - np.mean(tail)) < 0.5  # frames


def test_size_is_height_and_width():
    assert render_clip("walk", 0, 0, size=(96, 160)).shape[1:] == (96, 160, 3)


def test_an_unknown_label_is_named_with_the_known_ones():
    with pytest.raises(DataError, match=r"'fly'.*walk, run"):
        render_clip("fly", 0, 0)


def test_the_person_is_large_central_and_stands_out(monkeypatch):
    clips = [render_clip(label, performer, 0) for label in CLASSES for performer in (0, 1)]
    monkeypatch.setattr(stick_actions, "draw_person", lambda *_: None)
    empty = [render_clip(label, performer, 0) for label in CLASSES for performer in (0, 1)]
    for clip, room in zip(clips, empty, strict=True):
        change = np.abs(clip.astype(int) - room).sum(axis=-1)  # (T, H, W)
        ys, xs = np.nonzero((change > 30).any(axis=0))
        assert 0.7 < (ys.max() - ys.min()) / 128 < 1 and 40 < xs.mean() < 88
        assert xs.min() > 2 and xs.max() < 125
        assert np.median(change[change > 30]) > 100


def test_the_dataset_has_the_promised_files(dataset):
    tables = {split: pd.read_csv(dataset / f"{split}.csv") for split in ("train", "val", "test")}
    assert [len(table) for table in tables.values()] == [16, 8, 8]
    everything = pd.concat(tables.values())
    assert list(everything.columns) == ["video_name", "label", "group"]
    videos = {path.relative_to(dataset / "videos").as_posix() for path in dataset.rglob("*.webm")}
    assert videos == set(everything.video_name) and len(videos) == len(everything)
    assert sorted(tables["train"].group.unique()) == ["p00", "p01"]
    assert everything.groupby("group").size().tolist() == [8, 8, 8, 8]
    assert set(tables["val"].group) == {"p02"} and set(tables["test"].group) == {"p03"}
    assert json.loads((dataset / "dataset.json").read_text())["classes"] == list(CLASSES)
    assert [path.name for path in dataset.parent.iterdir()] == ["set"]  # nothing is left lying about


def test_decoded_frames_are_the_rendered_ones(dataset):
    for label, take in (("run", 0), ("sit_down", 0), ("stand_up", 1), ("put_down", 1)):
        decoded = decode(dataset / f"videos/{label}/{label}_p00_t{take:02d}.webm")
        clip = render_clip(label, 0, take)
        assert decoded.shape == clip.shape
        assert np.abs(decoded.astype(int) - clip).mean() < 6


def test_two_generations_agree_also_in_parallel(tmp_path):
    tiny = dict(performers=(1, 0, 0), takes=1, size=(64, 64), progress=False)
    one, two = generate(tmp_path / "one", **tiny, jobs=1), generate(tmp_path / "two", **tiny, jobs=2)
    for path in one.rglob("*.webm"):
        assert np.array_equal(decode(path), decode(two / path.relative_to(one)))


def test_a_second_call_writes_nothing(dataset):
    before = snapshot(dataset)
    assert generate(dataset, **SMALL) == dataset
    assert snapshot(dataset) == before


def test_other_settings_or_a_lost_file_generate_again(tmp_path):
    tiny = dict(performers=(1, 0, 0), takes=1, size=(32, 32), jobs=1, progress=False)
    root = generate(tmp_path / "set", **tiny)
    video = root / "videos/walk/walk_p00_t00.webm"
    first = decode(video)
    video.unlink()
    assert np.array_equal(decode(generate(root, **tiny) / "videos/walk/walk_p00_t00.webm"), first)
    generate(root, **tiny, seed=1)
    assert json.loads((root / "dataset.json").read_text())["seed"] == 1
    assert not np.array_equal(decode(video), first)
    assert len(pd.read_csv(root / "val.csv")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("foreign", ["notes.txt", "dataset.json"])
def test_a_foreign_folder_is_refused_and_kept(tmp_path, foreign):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / foreign).write_text('{"name": "mine"}')
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=r"\bset\b.*something else"):
        generate(tmp_path / "set", **SMALL)
    assert snapshot(tmp_path) == before


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cv2, "VideoWriter", no_room)
    with pytest.raises(DataError, match=r"\bset\b.*No space left on device"):
        generate(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_target_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"\bset\b.*Not a directory"):
        generate(tmp_path / "file" / "set", **SMALL)


def test_a_video_cut_short_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *_: 0x20202020)  # no codec's
    with pytest.raises(DataError, match=r"webm.*\b0 of \d"):
        generate(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_impossible_settings_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"\b63, 64\b.*even"):
        generate(tmp_path / "set", size=(63, 64), progress=False)


def test_opencv_prints_nothing(tmp_path, capfd):
    generate(tmp_path / "set", performers=(1, 0, 0), takes=1, size=(32, 32), jobs=1, progress=False)
    assert capfd.readouterr() == ("", "")
