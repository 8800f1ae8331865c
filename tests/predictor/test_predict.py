"""What is in a video: whole or along it, single files, folders of them, and files that cannot be read."""

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from varec_lib import cli
from varec_lib.data import video as video_module
from varec_lib.data.sampling import uniform_indices
from varec_lib.data.thinning import kept_frames
from varec_lib.data.video import open_video
from varec_lib.errors import CheckpointError, ConfigError, VideoError
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.models.checkpoint import LoadedModel, load_checkpoint, save_checkpoint
from varec_lib.models.pretrained import kinetics_classes
from varec_lib.predictor import predict
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


def test_a_model_that_knows_nothing_untrained_is_refused():
    with pytest.raises(ConfigError, match=r"'cnnlstm'.*i3d and r3d18"):
        Predictor.pretrained("cnnlstm")


# Along a video


DENSE = {"sampling": "dense", "stride": 2}  # 4 frames 2 apart: segments of 8


@pytest.fixture
def predictor_for(predictor):
    """`make(**spec)`: the predictor as if its model had been trained on such clips."""

    def make(**spec: object) -> Predictor:
        model = predictor.model
        checkpoint = replace(model.checkpoint, clip_spec=replace(model.clip_spec, **spec))
        return replace(predictor, model=model._replace(checkpoint=checkpoint))

    return make


@pytest.fixture
def shown(monkeypatch, frame_numbers):
    """The frame numbers of each clip that the model is given, and the probabilities that it answers."""
    clips: list[tuple[list[int], torch.Tensor]] = []

    def watched(model, batch):
        answer = original(model, batch)
        assert batch.shape[:2] == (1, 1)
        clips.append((frame_numbers(batch[0, 0]), answer[0]))
        return answer

    original = LoadedModel.probabilities
    monkeypatch.setattr(LoadedModel, "probabilities", watched)
    return clips


def spans(prediction, fps: float) -> list[tuple[float, float]]:
    """First frame and end of each segment, at so many frames a second."""
    return [(round(s.start_s * fps, 6), round(s.end_s * fps, 6)) for s in prediction.segments]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (8, [(0, 8)]),
        (9, [(0, 8)]),
        (10, [(0, 8), (2, 10)]),  # more than an eighth of a clip is left over: one more that ends with the video
        (13, [(0, 8), (5, 13)]),
        (15, [(0, 8), (7, 15)]),
        (16, [(0, 8), (8, 16)]),
        (17, [(0, 8), (8, 16)]),
        (21, [(0, 8), (8, 16), (13, 21)]),
        (24, [(0, 8), (8, 16), (16, 24)]),
        (5, [(0, 5)]),  # shorter than a clip
        (1, [(0, 1)]),
    ],
)
def test_segments_cover_the_video_and_show_its_frames(predictor_for, shown, write_video, tmp_path, frames, expected):
    prediction = predictor_for(**DENSE).predict_along(write_video(tmp_path / "v.mkv", frames))
    assert prediction.path == tmp_path / "v.mkv"
    assert spans(prediction, 15) == expected
    assert [clip for clip, _ in shown] == [
        [start + (2 * i) % (end - start) for i in range(4)] for start, end in expected
    ]


def test_an_odd_clip_has_a_whole_frame_to_spare(predictor_for, write_video, tmp_path):
    along = predictor_for(num_frames=3, sampling="dense", stride=3).predict_along
    assert spans(along(write_video(tmp_path / "v.mkv", 9 + 1)), 15) == [(0, 9)]
    assert spans(along(write_video(tmp_path / "w.mkv", 9 + 2)), 15) == [(0, 9), (2, 11)]


@pytest.mark.parametrize(
    ("seconds", "frames", "expected"),
    [
        (0.0, 100, [(0, 40), (20, 60), (40, 80), (60, 100)]),  # 4 s by default
        (0.0, 85, [(0, 40), (20, 60), (40, 80)]),
        (0.0, 106, [(0, 40), (20, 60), (40, 80), (60, 100), (66, 106)]),
        (0.0, 30, [(0, 30)]),
        (2.0, 50, [(0, 20), (10, 30), (20, 40), (30, 50)]),
        (0.1, 13, [(0, 4), (4, 8), (8, 12), (9, 13)]),  # never less than a clip
    ],
)
def test_a_model_that_takes_frames_from_all_over_gets_segments_of_seconds(
    predictor_for, shown, write_video, tmp_path, seconds, frames, expected
):
    video = write_video(tmp_path / "v.mkv", frames, fps=10)
    prediction = predictor_for().predict_along(video, seconds=seconds)
    assert spans(prediction, 10) == expected
    assert [clip for clip, _ in shown] == [
        [start + index for index in uniform_indices(np.arange(end - start + 1) / 10, 4)] for start, end in expected
    ]


def test_seconds_mean_nothing_to_a_model_of_dense_clips(predictor_for, write_video, tmp_path):
    prediction = predictor_for(**DENSE).predict_along(write_video(tmp_path / "v.mkv", 16), seconds=30)
    assert spans(prediction, 15) == [(0, 8), (8, 16)]


@pytest.mark.parametrize(
    ("native", "fps", "frames", "seconds"),
    [
        (30, 10, 120, [(0.8 * n, 0.8 * n + 0.8) for n in range(5)]),
        (25, 15, 60, [(8 / 15 * n, 8 / 15 * (n + 1)) for n in range(4)] + [(28 / 15, 36 / 15)]),
        (15, 15, 16, [(0, 8 / 15), (8 / 15, 16 / 15)]),
        (10, 0, 16, [(0, 0.8), (0.8, 1.6)]),
    ],
)
def test_times_are_those_of_the_video_where_frames_are_left_out(
    predictor_for, shown, write_video, tmp_path, native, fps, frames, seconds
):
    video = write_video(tmp_path / "v.mkv", frames, fps=native)
    prediction = predictor_for(**DENSE, fps=float(fps)).predict_along(video)
    found = [(segment.start_s, segment.end_s) for segment in prediction.segments]
    assert np.array(found) == pytest.approx(np.array(seconds))
    kept, rate = kept_frames(np.arange(frames) / native, fps, frames / native), fps or native
    starts = [round(start * rate) for start, _ in seconds]
    assert [clip for clip, _ in shown] == [kept[start : start + 8 : 2].tolist() for start in starts]
    for (start, _), (clip, _) in zip(found, shown, strict=True):
        assert start == pytest.approx(clip[0] / native, abs=1 / native)  # when that frame is shown


def test_segments_of_seconds_have_fewer_frames_where_frames_are_left_out(predictor_for, shown, write_video, tmp_path):
    prediction = predictor_for(fps=5.0).predict_along(write_video(tmp_path / "v.mkv", 80, fps=10))
    assert spans(prediction, 1) == [(0, 4), (2, 6), (4, 8)]
    assert [clip for clip, _ in shown] == [[4, 14, 24, 34], [24, 34, 44, 54], [44, 54, 64, 74]]


def test_a_recording_of_a_browser_has_segments_in_time(predictor_for, record, tmp_path):
    """The rate in its header is that of its clock."""
    prediction = predictor_for(**DENSE, fps=15).predict_along(record(tmp_path / "v.webm", 30))
    assert spans(prediction, 15)[0] == (0, 8) and prediction.segments[-1].end_s == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("fps", "step"), [(0.0, 1), (1000.0, 2)])
def test_a_camera_that_is_faster_than_any_clock_rate(predictor_for, shown, write_video, tmp_path, fps, step):
    video = write_video(tmp_path / "v.mp4", 16 * step, fps=2000)
    prediction = predictor_for(**DENSE, fps=fps).predict_along(video)
    assert spans(prediction, 2000) == [(0, 8 * step), (8 * step, 16 * step)]
    assert len(shown) == 2


@pytest.mark.parametrize(
    "encoder", [["v.mkv", "-c:v", "ffv1"], ["v.mp4", "-c:v", "libx264", "-qp", "0"], ["v.avi", "-c:v", "ffv1"]]
)  # the rate in their headers is that of the start, the mean, and that of the start
def test_a_variable_frame_rate_loses_no_frame_and_times_are_those_of_the_file(
    predictor_for, shown, write_video, ffmpeg, tmp_path, encoder
):
    source, video = write_video(tmp_path / "even.mkv", 30), tmp_path / encoder[0]
    uneven = ["-vf", r"select=lt(n\,10)+not(mod(n\,3))", "-fps_mode", "vfr"]
    ffmpeg("-i", source, *uneven, *encoder[1:], video)
    prediction = predictor_for(**DENSE).predict_along(video)
    numbers = [*range(10), 12, 15, 18, 21, 24, 27]
    assert sorted({number for clip, _ in shown for number in clip} - {*numbers}) == []
    found = [(segment.start_s, segment.end_s) for segment in prediction.segments]
    length = found[0][1]
    assert 0.5 < length < 1.2 and found[0][0] == 0 and found[-1][1] == pytest.approx(2, abs=0.15)
    assert all(end - start == pytest.approx(length) for start, end in found)


@pytest.mark.parametrize("spec", [DENSE, {}, {"short_side": 40, **DENSE}], ids=["dense", "uniform", "scaled-down"])
def test_a_segment_is_answered_like_a_video_of_these_frames(predictor_for, write_video, tmp_path, spec):
    predictor = predictor_for(**spec)
    options = {"size": (64, 96), "fps": 5}
    prediction = predictor.predict_along(write_video(tmp_path / "v.mkv", 71, **options))
    parts = spans(prediction, 5)
    assert len(parts) == (14 if spec else 6)
    assert not spec or parts[-1][1] == 71  # the last one ends with the video
    tops = set()
    for number, ((start, end), segment) in enumerate(zip(parts, prediction.segments, strict=True)):
        part = write_video(tmp_path / f"{number}.mkv", range(int(start), int(end)), **options)
        expected = predictor.predict(part)
        assert dict(segment.top) == pytest.approx(dict(expected.top), rel=1e-5)
        tops.add(segment.top[0][1])
    assert len(tops) == len(parts)


def test_the_whole_is_the_mean_of_the_segments(predictor_for, shown, write_video, tmp_path):
    prediction = predictor_for(**DENSE).predict_along(write_video(tmp_path / "v.mkv", 29))
    answers = torch.stack([answer for _, answer in shown])
    assert len(answers) == 4 and len(answers.unique(dim=0)) == 4
    expected = dict(zip(["alpha", "beta", "gamma"], answers.mean(dim=0).tolist(), strict=True))
    assert dict(prediction.top) == pytest.approx(expected)
    for segment, answer in zip(prediction.segments, answers, strict=True):
        assert dict(segment.top) == pytest.approx(dict(zip(expected, answer.tolist(), strict=True)))
    for top in (prediction.top, *(segment.top for segment in prediction.segments)):
        assert [share for _, share in top] == sorted((share for _, share in top), reverse=True)


def test_only_the_best_classes_of_each(predictor_for, write_video, tmp_path):
    video, along = write_video(tmp_path / "v.mkv", 16), predictor_for(**DENSE).predict_along
    few, all_of_them = along(video, top=2), along(video)
    assert few.top == all_of_them.top[:2]
    assert [s.top for s in few.segments] == [s.top[:2] for s in all_of_them.segments]
    with pytest.raises(ConfigError, match="top is 0"):
        along(video, top=0)


def test_a_video_is_decoded_once_and_only_a_segment_of_it_held(predictor_for, write_video, tmp_path, monkeypatch):
    alive, most, calls = weakref.WeakSet(), 0, []

    class Frame(np.ndarray):
        """Arrays compare by value, and so cannot be in a set by themselves."""

        __hash__ = object.__hash__

    def noted(self, short_side):
        nonlocal most
        frame = picture(self, short_side).view(Frame)
        alive.add(frame)
        most = max(most, len(alive))
        return frame

    def opened(path):
        calls.append(path)
        return open_video(path)

    picture = video_module.Frame.picture
    monkeypatch.setattr(video_module.Frame, "picture", noted)
    monkeypatch.setattr(predict, "open_video", opened)
    monkeypatch.setattr(predict, "probe", lambda path: pytest.fail("decodes it another time"))
    video = write_video(tmp_path / "v.mkv", 200)
    assert len(predictor_for(**DENSE).predict_along(video).segments) == 25
    assert calls == [video]
    assert 8 <= most <= 10


@pytest.mark.parametrize("content", [b"", b"this is not a video"])
def test_a_file_that_cannot_be_read_along(predictor, tmp_path, content):
    (tmp_path / "v.mkv").write_bytes(content)
    for path in (tmp_path / "v.mkv", tmp_path / "absent.mkv"):
        with pytest.raises(VideoError, match=path.name):
            predictor.predict_along(path)


def test_along_several_videos_broken_ones_get_a_sentence(predictor_for, write_video, tmp_path):
    first, second = write_video(tmp_path / "a.mkv", 24), write_video(tmp_path / "b.mkv", 3)
    broken = tmp_path / "broken.mkv"
    broken.touch()
    predictor = predictor_for(**DENSE)
    found = predict_videos(predictor, [first, broken, second], along=True)
    assert [len(prediction.segments) for prediction in found] == [3, 0, 1]
    assert found[0] == predictor.predict_along(first)
    assert found[1].error.startswith(f"{broken}: the file is empty")
    table = as_table(found)
    assert list(table.columns) == ["video", "top1", "p1", "top2", "p2", "top3", "p3", "error"]
    assert table["video"].tolist() == [str(path) for path in (first, broken, second)]
    assert (table["top1"][0], table["p1"][0]) == found[0].top[0]
    assert all(not prediction.segments for prediction in predict_videos(predictor, [first, second]))


# On the command line


@pytest.fixture(scope="module")
def dense_checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    """`tiny_checkpoint` as if it had been trained on dense clips."""
    model, about, _ = load_checkpoint(tiny_checkpoint)
    path = tmp_path_factory.mktemp("dense") / "dense.safetensors"
    save_checkpoint(path, model, replace(about, clip_spec=replace(about.clip_spec, **DENSE)))
    return path


def printed(capsys, *words: object) -> list[str]:
    capsys.readouterr()
    assert cli.main([str(word) for word in ("predict", *words)]) == 0
    return capsys.readouterr().out.splitlines()


def test_along_prints_times_and_the_mean(dense_checkpoint, write_video, tmp_path, capsys):
    video = write_video(tmp_path / "v.mkv", 24, fps=10)
    words = [video, "--checkpoint", dense_checkpoint, "--top", 2, "--precision", "fp32"]
    prediction = Predictor.load(dense_checkpoint, precision="fp32").predict_along(video, top=2)
    path, *lines, mean, first, second = printed(capsys, *words, "--along")
    assert (path, mean) == (str(video), "whole video, mean of 3 clips up to 2.4 s")
    for line, segment, times in zip(
        lines, prediction.segments, ("0.0 to 0.8", "0.8 to 1.6", "1.6 to 2.4"), strict=True
    ):
        best = ", ".join(f"{share:.0%} {name}" for name, share in segment.top)
        assert line.strip() == f"{times} s  {best}"
    for line, (name, share) in zip((first, second), prediction.top, strict=True):
        assert line.split() == [f"{share:.1%}", name]
    whole = printed(capsys, *words)
    assert len(whole) == 3 and not any(" s  " in line or "mean" in line for line in whole)
    assert printed(capsys, *words, "--whole") == whole


def test_along_a_video_of_one_clip_prints_no_times(dense_checkpoint, write_video, tmp_path, capsys):
    lines = printed(capsys, write_video(tmp_path / "v.mkv", 9), "--checkpoint", dense_checkpoint, "--along")
    assert len(lines) == 4


def test_along_several_videos_as_json(dense_checkpoint, write_video, tmp_path, capsys):
    write_video(tmp_path / "set" / "a.mkv", 24, fps=10)
    write_video(tmp_path / "set" / "b.mkv", 5, fps=10)
    words = [tmp_path / "set", "--checkpoint", dense_checkpoint, "--json"]
    (text,) = printed(capsys, *words, "--along", "--csv", tmp_path / "answers.csv")
    first, second = json.loads(text)
    found = [(part["start_s"], part["end_s"]) for part in first["segments"]]
    assert found == [pytest.approx(span) for span in ((0, 0.8), (0.8, 1.6), (1.6, 2.4))]
    assert [(part["start_s"], part["end_s"]) for part in second["segments"]] == [(0, 0.5)]
    for answer in (first, second, *first["segments"], *second["segments"]):
        assert {entry["label"] for entry in answer["top"]} == {"alpha", "beta", "gamma"}
        assert sum(entry["probability"] for entry in answer["top"]) == pytest.approx(1, abs=1e-4)
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 3
    (text,) = printed(capsys, *words)
    assert not any("segments" in answer for answer in json.loads(text))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name either --checkpoint, or --pretrained for a model that nobody needs to train"),
        (["--model", "i3d"], "Name either --checkpoint, or --pretrained"),
        (["--checkpoint", "CHECKPOINT", "--pretrained"], "Name either --checkpoint, or --pretrained"),
        (["--checkpoint", "CHECKPOINT", "--model", "i3d"], "--model goes with --pretrained"),
        (["--checkpoint", "CHECKPOINT", "--along", "--whole"], "--along and --whole exclude each other"),
    ],
)
def test_words_that_do_not_go_together(words, message, tiny_checkpoint, videos, capsys):
    words = [str(tiny_checkpoint) if word == "CHECKPOINT" else word for word in words]
    capsys.readouterr()
    assert cli.main(["predict", str(videos[0]), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("varec: ") and message in line


@pytest.mark.parametrize(("words", "model"), [([], "i3d"), (["--model", "r3d18"], "r3d18")])
def test_a_published_model_goes_along_the_video_by_itself(
    words, model, dense_checkpoint, write_video, tmp_path, monkeypatch, capsys
):
    """A small model stands for the published one."""
    asked = []
    monkeypatch.setattr(
        predict, "load_pretrained", lambda name: asked.append(name) or load_checkpoint(dense_checkpoint)
    )
    video = write_video(tmp_path / "v.mkv", 24)
    along = printed(capsys, video, "--checkpoint", dense_checkpoint, "--along")
    whole = printed(capsys, video, "--checkpoint", dense_checkpoint)
    assert (len(along), len(whole)) == (8, 4)
    assert printed(capsys, video, "--pretrained", *words) == along
    assert printed(capsys, video, "--pretrained", "--along", *words) == along
    assert printed(capsys, video, "--pretrained", "--whole", *words) == whole
    assert asked == [model] * 3


@pytest.mark.slow
def test_a_published_model_says_what_is_in_a_real_video_and_when(i3d_weights, ucf5, capsys):
    video = ucf5 / "videos" / "v_PlayingViolin_g01_c01.avi"
    path, *lines = printed(capsys, video, "--pretrained", "--top", 1)
    times = [line for line in lines if " s  " in line]
    assert path == str(video)
    assert (
        len(times) == 5
        and times[0].strip().startswith("0.0 to 2.6 s")
        and any("mean of 5 clips" in line for line in lines)
    )
    assert all("playing violin" in line.split(",")[0] for line in times)
    assert lines[-1].endswith("playing violin")
    (text,) = printed(capsys, video, "--pretrained", "--whole", "--json", "--top", 400)
    (answer,) = json.loads(text)
    assert "segments" not in answer
    assert answer["top"][0]["label"] == "playing violin"
    assert sorted(entry["label"] for entry in answer["top"]) == kinetics_classes()
