"""Answers to a stream: the same as for a clip of these frames, for every kind of model, and through the widget."""

import threading
import time

import numpy as np
import pytest
import torch

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.errors import CheckpointError
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.models.registry import build_model
from varec_lib.predictor.live import LiveStream
from varec_lib.predictor.page.live import THRESHOLD, LivePredictor

CLASSES = ["alpha", "beta", "gamma"]


def loaded(name: str = "cnnlstm", metrics: dict | None = None, **spec: object) -> LoadedModel:
    arguments = {"backbone": "squeezenet1_1", "frame_size": (32, 32), "num_frames": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_model(name, 3, **arguments).eval()
    made = ClipSpec(**({"num_frames": 4, "frame_size": (32, 32), "mean": IMAGENET[0], "std": IMAGENET[1]} | spec))
    return LoadedModel(network, Checkpoint(name, arguments, CLASSES, made, metrics=metrics or {}), "fp32")


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["cnnlstm", "frame_average", "r3d18"])
def test_the_streamed_answer_is_that_for_the_whole_clip(name):
    model, shown = loaded(name), frames(12)
    stream = LiveStream(model, seconds=0.8)
    for number, frame in enumerate(shown):
        stream.add(frame, number / 10)
    newest = torch.from_numpy(shown[[5, 7, 9, 11]]).permute(0, 3, 1, 2)  # the middles of quarters of 0.3 to 1.1 s
    expected = model.probabilities(model.clip_spec.crop(newest)[None, None])[0]
    torch.testing.assert_close(stream.answer(), expected, rtol=1e-4, atol=1e-5)
    assert len(stream.latest) <= 10  # no more than a clip is held


def test_a_frame_is_encoded_once_where_the_network_does_that_frame_by_frame(monkeypatch):
    model, seen = loaded(), []
    features = model.network.features
    monkeypatch.setattr(model.network, "features", lambda clips: seen.append(clips.shape) or features(clips))
    stream = LiveStream(model, seconds=0.8)
    for number, frame in enumerate(frames(12)):
        stream.add(frame, number / 10)
        stream.answer()
    assert seen == [(1, 1, 3, 32, 32)] * 12


def test_there_is_no_answer_before_a_clip_is_full_nor_after_time_went_back():
    stream = LiveStream(loaded(), seconds=0.8)
    assert stream.answer() is None
    told = []
    for number, frame in enumerate(frames(10)):
        stream.add(frame, number / 10)
        told.append(stream.answer() is not None)
    assert told == [False] * 7 + [True] * 3
    stream.add(frames(1)[0], 0.0)
    assert stream.answer() is None


def test_dense_clips_have_their_own_length():
    spec = {"sampling": "dense", "stride": 2, "fps": 10.0}
    stream = LiveStream(loaded(**spec), seconds=30)
    assert stream.length_s == pytest.approx(0.8) and stream.fps == 10
    assert LiveStream(loaded(sampling="dense"), seconds=2).length_s == pytest.approx(2)
    for number, frame in enumerate(shown := frames(8)):
        stream.add(frame, number / 10)
    clip = stream.model.clip_spec.crop(torch.from_numpy(shown[::2]).permute(0, 3, 1, 2))
    expected = stream.model.probabilities(clip[None, None])[0]
    torch.testing.assert_close(stream.answer(), expected, rtol=1e-4, atol=1e-5)


def test_along_a_file_it_says_what_it_would_have_said_live(write_video, tmp_path):
    video = write_video(tmp_path / "film.mkv", 60, fps=15)  # 4 s
    stream = LiveStream(loaded(), seconds=2)
    said = [*stream.along(video, every_s=0.5)]
    times = [time_s for time_s, _ in said]
    assert times[0] == pytest.approx(2, abs=0.2) and times[-1] > 3.4 and len(said) in (4, 5)
    assert np.diff(times) == pytest.approx(0.5, abs=0.15)
    assert all(float(answer.sum()) == pytest.approx(1) for _, answer in said)
    again = [*stream.along(video, every_s=0.5)]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(said, again, strict=True))


class Told:
    """A `LivePredictor`, and what it sent to the page."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.widget, self.sent = LivePredictor(*arguments, **options), []
        self.came = threading.Event()
        self.widget.send = self.keep

    def keep(self, content: dict, buffers: object = None) -> None:
        self.sent.append(content)
        if content["kind"] != "taken":
            self.came.set()

    def show(self, frame: np.ndarray, time_s: float) -> None:
        pixels = np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])
        content = {"do": "frame", "time_s": time_s, "height": frame.shape[0], "width": frame.shape[1]}
        self.widget._receive(content, [memoryview(pixels.tobytes())])

    def kinds(self) -> list[str]:
        return [content["kind"] for content in self.sent]


def test_the_widget_answers_with_all_classes_the_best_first():
    told, shown = Told(loaded(), seconds=0.8), frames(12)
    told.widget._receive({"do": "begin"}, [])
    for number, frame in enumerate(shown):
        told.show(frame, number / 10)
        while told.widget._waiting:  # so that none is passed over
            time.sleep(0.005)
    assert told.came.wait(20)
    time.sleep(0.2)
    assert told.kinds().count("taken") == 12
    last = [content for content in told.sent if content["kind"] == "answer"][-1]
    stream = LiveStream(loaded(), seconds=0.8)
    for number, frame in enumerate(shown):
        stream.add(frame, number / 10)
    assert last["time_s"] == 1.1 and {name for name, _ in last["top"]} == set(CLASSES)
    shares = [share for _, share in last["top"]]
    assert shares == sorted(shares, reverse=True)
    assert dict(last["top"])["alpha"] == pytest.approx(float(stream.answer()[0]), abs=1e-4)
    worker = told.widget._worker
    told.widget.close()
    worker.join(10)
    assert not worker.is_alive()


@pytest.mark.parametrize(
    ("metrics", "given", "expected"),
    [({}, None, THRESHOLD), ({"sure_above": 1.0}, None, THRESHOLD), ({"sure_above": 0.83}, None, 0.83), ({}, 0.2, 0.2)],
)
def test_below_which_probability_it_says_nothing(metrics, given, expected):
    assert LivePredictor(loaded(metrics=metrics), threshold=given).threshold == expected


@pytest.mark.parametrize(
    "content",
    [
        {},
        None,
        5,
        {"do": "frame"},
        {"do": "frame", "time_s": "x"},
        {"do": "frame", "time_s": 1, "height": 9, "width": 9},
    ],
)
def test_messages_that_make_no_sense_are_ignored(content):
    told = Told(loaded())
    told.widget._receive(content, [memoryview(b"1234")])
    assert told.sent == [] and told.widget._worker is None


def test_a_model_that_fails_says_so(monkeypatch):
    told = Told(loaded(), seconds=0.2)
    monkeypatch.setattr(told.widget.stream.model.network, "features", lambda clips: 1 / 0)
    told.show(frames(1)[0], 0.0)
    assert told.came.wait(20)
    assert told.sent[-1]["kind"] == "problem"
    told.widget.close()


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError):
        LivePredictor(tmp_path / "none.safetensors")
