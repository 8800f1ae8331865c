"""What is in a video: single files, folders of them, and files that cannot be read."""

import pytest

from varec_lib.errors import CheckpointError, ConfigError, VideoError
from varec_lib.evaluation.evaluate import evaluate_checkpoint
from varec_lib.predictor.predict import Predictor, as_table, find_videos, predict_videos


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint):
    return Predictor.load(tiny_checkpoint, precision="fp32")


@pytest.fixture(scope="module")
def videos(numbered_dataset):
    return sorted((numbered_dataset / "videos" / "beta").glob("*.mkv"))


def test_all_classes_best_first(predictor, videos):
    prediction = predictor.predict(videos[0], top=5)  # there are three
    names, shares = zip(*prediction.top, strict=True)
    assert prediction.path == videos[0]
    assert sorted(names) == ["alpha", "beta", "gamma"]
    assert list(shares) == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_fewer_classes_are_the_first_of_all(predictor, videos):
    assert predictor.predict(videos[0], top=2).top == predictor.predict(videos[0]).top[:2]


@pytest.mark.parametrize("views", [1, 3])
def test_same_answer_as_the_evaluation(tiny_checkpoint, numbered_dataset, views):
    expected = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=views, precision="fp32", progress=False)
    predictor = Predictor.load(tiny_checkpoint, views=views, precision="fp32")
    for row, path in enumerate(expected.table["path"]):
        shares = dict(predictor.predict(path).top)
        assert [shares[name] for name in expected.classes] == pytest.approx(expected.probabilities[row], rel=1e-4)


def test_clips_are_what_the_network_sees(tiny_checkpoint, videos):
    clips = Predictor.load(tiny_checkpoint, views=2).clips(videos[0])
    assert clips.shape == (2, 4, 3, 32, 32)


def test_settings_that_make_no_sense(tiny_checkpoint, predictor, videos):
    with pytest.raises(ConfigError, match="views is 0"):
        Predictor.load(tiny_checkpoint, views=0)
    with pytest.raises(ConfigError, match="top is 0"):
        predictor.predict(videos[0], top=0)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        Predictor.load(tmp_path)


def test_find_videos_takes_files_as_they_are_and_folders_in_order(write_video, tmp_path):
    for name in ("b.mkv", "a.avi", "deep/er/c.mp4"):
        write_video(tmp_path / "folder" / name, 3)
    (tmp_path / "folder" / "a.avi").rename(tmp_path / "folder" / "UPPER.AVI")
    (tmp_path / "folder" / "notes.txt").write_text("no video")
    (tmp_path / "folder" / "looks_like.mkv").mkdir()
    found = find_videos([tmp_path / "absent.mkv", tmp_path / "folder"])
    assert found == [
        tmp_path / "absent.mkv",
        *(tmp_path / "folder" / name for name in ("UPPER.AVI", "b.mkv", "deep/er/c.mp4")),
    ]


def test_find_videos_without_any(tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(VideoError, match="no video in this folder"):
        find_videos([tmp_path])
    with pytest.raises(VideoError, match="No video was given"):
        find_videos([])


def test_broken_files_get_a_sentence_and_the_others_an_answer(predictor, videos, tmp_path):
    empty, text, cut = tmp_path / "empty.mkv", tmp_path / "text.mp4", tmp_path / "cut.mkv"
    empty.touch()
    text.write_text("this is not a video")
    cut.write_bytes(videos[0].read_bytes()[:200])
    paths = [videos[0], empty, text, tmp_path / "absent.avi", cut, videos[1]]
    table = as_table(predict_videos(predictor, paths, top=2))
    assert list(table.columns) == ["video", "top1", "p1", "top2", "p2", "error"]
    assert table["video"].tolist() == [str(path) for path in paths]
    broken = table["error"] != ""
    assert broken.tolist() == [False, True, True, True, True, False]
    for _, row in table[broken].iterrows():
        assert row["error"].startswith(row["video"])
        assert row[["top1", "p1"]].isna().all()
    for row, path in ((0, videos[0]), (5, videos[1])):
        assert (table["top1"][row], table["p1"][row]) == predictor.predict(path).top[0]


def test_only_broken_files(predictor, tmp_path):
    table = as_table(predict_videos(predictor, [tmp_path / "absent.avi"]))
    assert list(table.columns) == ["video", "error"]
    assert "no such file" in table["error"][0]
