"""Videos in line: answered one after the other, cancelled at any time, forgotten in the end, whatever goes wrong."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
from page import FOLDER, assert_sentence, sandboxes, until_sandboxed

from varec_lib.errors import CheckpointError, VideoError, WeightsError
from varec_lib.models.novelty import STATISTICS, Novelty
from varec_lib.models.weights import cached_file, weights_for
from varec_lib.predictor.page import upload as uploads
from varec_lib.predictor.page.choices import Choice
from varec_lib.predictor.page.queue import (
    FAILED_INSIDE,
    KEPT_JOBS,
    KEPT_PICTURES,
    MOST_WAITING,
    NO_WEIGHTS,
    TOO_MANY,
    Job,
    Queue,
)
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.sandbox import Limits
from varec_lib.predictor.windows import MOST_WINDOWS


def changed(predictor: Predictor, **fields: object) -> Predictor:
    """The predictor with a model whose checkpoint says something else."""
    checkpoint = replace(predictor.model.checkpoint, **fields)
    return replace(predictor, model=predictor.model._replace(checkpoint=checkpoint))


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint) -> Predictor:
    return Predictor.load(tiny_checkpoint, precision="fp32")


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video) -> Path:
    return write_video(tmp_path_factory.mktemp("queue") / "v.avi", 30, fps=10)


@pytest.fixture
def choice(predictor) -> Choice:
    return Choice("tiny", "Tiny", lambda: predictor)


@pytest.fixture
def failing() -> Callable[[Exception], Choice]:
    """`failing(error)`: a model that cannot be loaded."""

    def make(error: Exception) -> Choice:
        def load() -> Predictor:
            raise error

        return Choice("broken", "Broken", load)

    return make


class Held:
    """A model that takes as long to load as a test wants."""

    def __init__(self, predictor: Predictor) -> None:
        self.loading, self.go = threading.Event(), threading.Event()
        self.predictor = predictor

    def __call__(self) -> Predictor:
        self.loading.set()
        assert self.go.wait(20)
        return self.predictor


@pytest.fixture
def held(predictor) -> Iterator[Held]:
    held = Held(predictor)
    yield held
    held.go.set()


@pytest.fixture
def told() -> list[dict[str, str]]:
    """What a page would be told: the state of each video, or the share that is done."""
    return []


@pytest.fixture
def queue(told) -> Iterator[Queue]:
    def changed() -> None:
        told.append({job.key: job.state for job in list(queue.all.values())})

    queue = Queue(Limits(), changed, lambda job, progress: told.append({f"{job.key} share": progress.share}))
    yield queue
    queue.clear()
    end(queue)


def end(queue: Queue) -> None:
    """Until the thread has ended."""
    deadline = time.monotonic() + 30
    while queue.working:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def upload(queue: Queue, key: str, content: bytes) -> Job:
    queue.begin(key, f"{key}.avi", len(content))
    queue.piece(key, 0, memoryview(content))
    return queue.all[key]


def states(queue: Queue) -> list[str]:
    return [job.state for job in queue.all.values()]


def test_an_answer(queue, told, choice, predictor, video):
    job = queue.add("a", "v.avi", lambda: video.open("rb"), choice)
    assert job.ended.wait(20) and (job.state, job.sentence) == ("done", "")
    prediction = job.prediction
    along = predictor.predict_along(video)
    assert prediction.path == Path("v.avi") and len(prediction.top) == 3
    assert prediction.top == along.top and prediction.segments == along.segments  # one window: 3 of 4 seconds
    end(queue)
    row = job.row()
    assert (row["label"], row["share"]) == prediction.top[0]
    assert (row["model"], row["state"], row["sure"], row["preview"]) == ("Tiny", "done", None, True)
    assert 0 < row["seconds"] < 20
    seen = [states["a"] for states in told if "a" in states]
    order = ["waiting", "loading", "predicting", "done"]
    assert seen[-1] == "done" and [order.index(state) for state in seen] == sorted(order.index(s) for s in seen)


def test_windows_overlap_and_have_pictures(queue, choice, write_video, tmp_path):
    path = write_video(tmp_path / "v.avi", 100, fps=10)
    job = queue.add("a", "v.avi", lambda: path.open("rb"), choice)
    assert job.ended.wait(20)
    spans = [(round(10 * s.start_s), round(10 * s.end_s)) for s in job.prediction.segments]
    assert spans == [(0, 40), (20, 60), (40, 80), (60, 100)]
    assert len(job.answer.pictures) == 4 and job.answer.clip_frames == 4
    assert all(picture[:2] == b"\xff\xd8" for pictures in job.answer.pictures for picture in pictures)
    assert {len(pictures) for pictures in job.answer.pictures} == {4}


def test_they_are_answered_in_order_one_at_a_time(queue, held, predictor, video):
    started: list[str] = []

    def choice_of(key: str) -> Choice:
        return Choice(key, key, lambda: started.append(key) or held())

    keys = list("cab")
    for key in keys:
        queue.add(key, key, lambda: video.open("rb"), choice_of(key))
    assert held.loading.wait(20)
    assert started == ["c"] and states(queue) == ["loading", "waiting", "waiting"]
    held.go.set()
    assert all(queue.all[key].ended.wait(20) for key in keys)
    assert started == keys and states(queue) == ["done"] * 3
    end(queue)
    queue.add("later", "later", lambda: video.open("rb"), choice_of("later"))  # by a new thread
    assert queue.all["later"].ended.wait(20) and queue.all["later"].state == "done"


@pytest.mark.parametrize("state", ["uploading", "waiting", "loading", "predicting"])
@pytest.mark.alone
def test_cancel(queue, held, choice, video, write_video, tmp_path, state):
    slow = Choice("slow", "Slow", held)
    if state == "predicting":  # a real decoder, of a video that it is not done with
        held.go.set()
        path = write_video(tmp_path / "long.avi", [n % 256 for n in range(3000)], size=(240, 320))
        queue.add("a", "long.avi", lambda: path.open("rb"), slow)
        until_sandboxed()
    else:
        queue.add("a", "v.avi", lambda: video.open("rb"), slow)
        assert held.loading.wait(20)
    if state == "uploading":
        upload(queue, "b", b"abc")
    if state == "waiting":
        queue.add("b", "v.avi", lambda: video.open("rb"), choice)
    job = queue.all.get("b", queue.all["a"])
    assert job.state == state
    queue.cancel(job.key)  # a model that is being loaded, or downloaded, does not delay it
    assert job.ended.wait(20)
    held.go.set()
    assert (job.state, job.sentence, job.answer, job.file, job.upload) == ("cancelled", "", None, None, None)
    assert queue.all["a"].ended.wait(20) and queue.all["a"].state == ("done" if job.key == "b" else "cancelled")
    end(queue)
    assert job.state == "cancelled"
    assert not sandboxes()
    queue.cancel(job.key)  # again, and one that nobody knows
    queue.cancel("nobody")
    assert job.state == "cancelled"


def test_a_model_that_cannot_be_loaded_does_not_change_what_was_cancelled(queue, video):
    loading, go = threading.Event(), threading.Event()

    def load() -> Predictor:
        loading.set()
        assert go.wait(20)
        raise WeightsError("no network.")

    job = queue.add("a", "v.avi", lambda: video.open("rb"), Choice("slow", "Slow", load))
    assert loading.wait(20)
    queue.cancel("a")
    go.set()
    end(queue)
    assert (job.state, job.sentence) == ("cancelled", "")


def test_cancelling_what_has_ended_changes_nothing(queue, choice, video):
    job = queue.add("a", "v.avi", lambda: video.open("rb"), choice)
    assert job.ended.wait(20)
    queue.cancel("a")
    assert job.state == "done" and job.prediction


def test_clear_forgets_all_and_ends_what_is_on_its_way(queue, held, choice, video):
    first = queue.add("a", "v.avi", lambda: video.open("rb"), Choice("slow", "Slow", held))
    others = [queue.add("b", "v.avi", lambda: video.open("rb"), choice), upload(queue, "c", b"abc")]
    assert held.loading.wait(20)
    queue.clear()
    assert queue.all == {} and [job.state for job in others] == ["cancelled"] * 2
    held.go.set()
    assert first.ended.wait(20) and first.state == "cancelled" and queue.all == {}


# What goes wrong


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("No ffmpeg exe")])
def test_an_answer_outlives_a_preview_that_fails(queue, choice, video, monkeypatch, caplog, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", fail)
    with caplog.at_level(logging.WARNING):
        job = queue.add("a", "v.avi", lambda: video.open("rb"), choice)
        assert job.ended.wait(20)
    assert (job.state, job.sentence, job.preview, job.file) == ("done", "", b"", None) and job.prediction
    assert type(error).__name__ in caplog.text


def test_an_upload_whose_page_has_gone_makes_room(queue, told, monkeypatch):
    left = [upload(queue, f"k{number}", b"abc") for number in range(MOST_WAITING)]
    assert upload(queue, "late", b"abc").sentence == TOO_MANY
    monkeypatch.setattr(uploads, "STALLED_S", 0.0)
    left[3].upload.latest += 1000  # of this one a piece has just come
    assert upload(queue, "later", b"abc").state == "uploading"
    assert [job.state for job in left] == ["uploading" if number == 3 else "failed" for number in range(MOST_WAITING)]
    assert left[0].sentence == "it stopped coming midway; send it again." and left[0].upload is None
    assert queue.piece("k0", 3, memoryview(b"d")) is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (VideoError("is Tuesday."), "is Tuesday."),
        (
            CheckpointError("/srv/my models/x/best.safetensors: no such checkpoint."),
            "best.safetensors: no such checkpoint.",
        ),
        (CheckpointError("../x/y.safetensors: damaged (a/b). Copy it."), "y.safetensors: damaged (a/b). Copy it."),
        (WeightsError("i3d could not be kept: ~/.cache/torch/hub is full. Put it into /srv/x y/z."), NO_WEIGHTS),
        (RuntimeError("CUDA out of memory in /usr/lib/x.py"), FAILED_INSIDE),
        (MemoryError(), FAILED_INSIDE),
    ],
)
def test_errors_are_sentences_without_folders(queue, failing, choice, video, caplog, error, sentence):
    with caplog.at_level(logging.ERROR):
        job = queue.add("a", "v.avi", lambda: video.open("rb"), failing(error))
        assert job.ended.wait(20)
    assert (job.state, job.sentence, job.file) == ("failed", sentence, None)
    assert_sentence(job.sentence)
    assert ("Traceback" in caplog.text) == (sentence == FAILED_INSIDE)  # in the log only
    job = queue.add("b", "v.avi", lambda: video.open("rb"), choice)
    assert job.ended.wait(20) and job.state == "done"


def test_what_cannot_be_decoded_fails_and_the_next_is_answered(queue, choice, video):
    for key, content in (("a", b"no video"), ("b", video.read_bytes()), ("c", video.read_bytes()[:300])):
        upload(queue, key, content)
        queue.uploaded(key, choice, wants_preview=True)
        assert queue.all[key].ended.wait(20)
    assert states(queue) == ["failed", "done", "failed"]
    assert not FOLDER.search(queue.all["a"].sentence + queue.all["c"].sentence)


def test_a_page_that_cannot_be_told_ends_nothing(choice, write_video, tmp_path, caplog):
    def fail(*_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the page is gone")

    path = write_video(tmp_path / "v.avi", 200)
    queue = Queue(Limits(), fail, fail)
    for key in "ab":
        assert queue.add(key, key, lambda: path.open("rb"), choice).ended.wait(20)
        end(queue)
    assert states(queue) == ["done", "done"] and "the page is gone" in caplog.text


@pytest.mark.parametrize("value", ["high", {"a": 1}, None, [0.3]])
def test_a_checkpoint_that_measured_nonsense_says_nothing_of_being_sure(queue, predictor, video, value):
    odd = changed(predictor, metrics={"sure_above": value})
    job = queue.add("a", "v.avi", lambda: video.open("rb"), Choice("odd", "Odd", lambda: odd))
    assert job.ended.wait(20) and job.state == "done" and job.row()["sure"] is None


@pytest.mark.parametrize(
    ("metrics", "sure"), [({}, None), ({"sure_above": 0.01}, True), ({"sure_above": 0.999}, False)]
)
def test_sure(queue, predictor, video, metrics, sure):
    measured = changed(predictor, metrics=metrics)
    job = queue.add("a", "v.avi", lambda: video.open("rb"), Choice("m", "M", lambda: measured))
    assert job.row()["sure"] is None  # before the answer
    assert job.ended.wait(20) and job.row()["sure"] is sure


@pytest.mark.parametrize(("above", "unlike"), [(1e9, False), (0.0, True)])
def test_what_is_unlike_the_training_is_never_sure(queue, predictor, video, above, unlike):
    novelty = Novelty(np.zeros(STATISTICS, np.float32), np.eye(STATISTICS, dtype=np.float32), above)
    judging = changed(predictor, metrics={"sure_above": 0.01}, novelty=novelty)
    job = queue.add("a", "v.avi", lambda: video.open("rb"), Choice("m", "M", lambda: judging))
    assert job.ended.wait(20) and (job.row()["unlike"], job.row()["sure"]) == (unlike, not unlike)
    assert judging.predict(video).unlike is judging.predict_along(video).unlike is unlike
    assert predictor.predict(video).unlike is None  # nobody measured it
    assert judging.unlike([above - 1, above - 1, above + 1e12]) is False  # a cut in one window of three


# Bounds


def test_no_more_than_so_many_wait(queue, held, video):
    before = psutil.Process().num_fds()
    slow = Choice("slow", "Slow", held)
    for number in range(MOST_WAITING):
        if number % 2:
            queue.add(f"k{number}", "v", lambda: video.open("rb"), slow)
        else:
            upload(queue, f"k{number}", b"abc")
    refused = [queue.add("x", "v", lambda: video.open("rb"), slow), upload(queue, "y", b"abc")]
    assert [(job.state, job.sentence) for job in refused] == [("failed", TOO_MANY)] * 2
    assert psutil.Process().num_fds() <= before + MOST_WAITING
    queue.cancel("k0")
    assert upload(queue, "z", b"abc").state == "uploading"


def test_a_video_that_was_told_there_is_no_file_for(queue, told):
    queue.refuse("a", "v", "there is no such video.")
    assert queue.all["a"].row()["sentence"] == "there is no such video." and told == [{"a": "failed"}]


def test_only_so_many_are_remembered(queue, held, video):
    waiting = queue.add("waiting", "v", lambda: video.open("rb"), Choice("slow", "Slow", held))
    for number in range(KEPT_JOBS + 30):
        queue.refuse(f"k{number}", "v", "no.")
        queue.all[f"k{number}"].preview = b"webm"
    assert len(queue.all) == KEPT_JOBS and queue.all["waiting"] is waiting  # not those that wait
    assert list(queue.all)[-1] == f"k{KEPT_JOBS + 29}"
    kept = [key for key, job in queue.all.items() if job.preview]
    assert KEPT_PICTURES <= len(kept) <= KEPT_PICTURES + 1 and kept == list(queue.all)[-len(kept) :]


def test_the_share_of_a_download_is_told_while_the_model_is_loaded(
    queue, told, predictor, video, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    row = replace(weights_for("r3d18", ""), megabytes=1.0)
    part = cached_file(row).with_name(f"{cached_file(row).name}.part")  # as `fetch` leaves it

    def load() -> Predictor:
        part.parent.mkdir(parents=True)
        for size in (250_000, 500_000):
            part.write_bytes(bytes(size))
            deadline = time.monotonic() + 20
            while {"a share": size / 1e6} not in told:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        return predictor

    job = queue.add("a", "v.avi", lambda: video.open("rb"), Choice("p", "P", load, weights=row))
    assert job.ended.wait(30) and job.state == "done"
    shares = [news["a share"] for news in told if "a share" in news]
    assert shares[shares.index(0.5) :][1:2] == [0.0]  # and nothing of it is left when the video is looked at


def test_a_long_video_is_looked_at_in_part_and_says_so(choice, write_video, tmp_path):
    path = write_video(tmp_path / "v.avi", [n % 256 for n in range(600)], fps=10)
    queue = Queue(Limits(seconds=30), lambda: None, lambda job, progress: None)
    job = queue.add("a", "v", lambda: path.open("rb"), choice)
    assert job.ended.wait(30) and job.state == "done"
    assert job.sentence == "Only its first 30 seconds were looked at."
    assert job.prediction.segments[-1].end_s == 30


@pytest.mark.parametrize("name", ["v.avi", "v.mkv"])
def test_a_video_that_ends_early_is_answered_and_says_so(queue, choice, write_video, tmp_path, name):
    path = write_video(tmp_path / name, [n * 7 % 256 for n in range(200)], fps=10)
    whole = queue.add("whole", "v", lambda: path.open("rb"), choice)
    assert whole.ended.wait(30) and (whole.state, whole.sentence) == ("done", "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    cut = queue.add("cut", "v", lambda: path.open("rb"), choice)
    assert cut.ended.wait(30) and cut.state == "done"
    reached, promised = re.fullmatch(
        r"Its pictures end after (.*) of the (.*) seconds that it should have; it may be cut short\.", cut.sentence
    ).groups()
    assert 8 < float(reached) < 18 and float(promised) == 20
    assert cut.prediction.segments[-1].end_s == pytest.approx(float(reached), abs=0.3)


def test_times_are_those_of_a_camera_that_slowed_down(queue, choice, write_video, ffmpeg, tmp_path):
    source = write_video(tmp_path / "even.mkv", 60, fps=10)
    slower = ["-vf", r"select=lt(n\,30)+not(mod(n\,5))", "-fps_mode", "vfr", "-c:v", "ffv1"]  # 36 frames are left
    ffmpeg("-i", source, *slower, tmp_path / "v.mkv")
    job = queue.add("a", "v", lambda: (tmp_path / "v.mkv").open("rb"), choice)
    assert job.ended.wait(30) and job.state == "done"
    assert job.prediction.segments[-1].end_s == pytest.approx(5.6, abs=0.1)


@pytest.mark.parametrize("promised", [0, 5, 10**9])
def test_a_header_that_lies_costs_no_more_windows(queue, predictor, write_video, tmp_path, promised):
    """Of 900 frames, each window has 8 and the next starts 4 later: they would be 224."""
    model = changed(predictor, clip_spec=replace(predictor.model.clip_spec, sampling="dense", stride=2))
    path = write_video(tmp_path / "v.avi", [n % 256 for n in range(900)])
    frames = bytearray(path.read_bytes())
    for at in (48, frames.index(b"strh") + 8 + 32):  # the two places where AVI tells the number of frames
        assert int.from_bytes(frames[at : at + 4], "little") == 900
        frames[at : at + 4] = promised.to_bytes(4, "little")
    path.write_bytes(frames)
    job = queue.add("a", "v", lambda: path.open("rb"), Choice("d", "D", lambda: model))
    assert job.ended.wait(30) and job.state == "done", job.sentence
    assert len(job.answer.pictures) == len(job.prediction.segments) <= MOST_WINDOWS + 1
    if promised < 900:
        assert len(job.prediction.segments) > 14 and job.prediction.segments[-1].end_s > 58


def test_short_windows_are_a_second_apart_or_side_by_side(queue, predictor, write_video, tmp_path):
    """Four frames at ten a second are 0.4 s: half of that would be many windows for little news."""
    dense = changed(predictor, clip_spec=replace(predictor.model.clip_spec, sampling="dense", stride=1))
    path = write_video(tmp_path / "v.avi", 40, fps=10)
    job = queue.add("a", "v.avi", lambda: path.open("rb"), Choice("dense", "Dense", lambda: dense))
    end(queue)
    assert [segment.start_s for segment in job.prediction.segments] == pytest.approx([0.4 * n for n in range(10)])
