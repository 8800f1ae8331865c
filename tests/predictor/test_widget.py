"""The widget's Python side, driven by the messages of the page: models, samples, files on the server, tables."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import psutil
import pytest
from page import FOLDER, Page, assert_sentence, make_experiment, sandboxes, until_sandboxed

from varec_lib.errors import VideoError
from varec_lib.models.checkpoint import load_checkpoint, save_checkpoint
from varec_lib.predictor.page import choices
from varec_lib.predictor.page.queue import FAILED_INSIDE, NO_WEIGHTS
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.sandbox import Limits


@pytest.fixture
def files(tmp_path, write_video) -> Path:
    """A video on the server."""
    write_video(tmp_path / "files" / "a.avi", 30)
    return tmp_path / "files"


@pytest.fixture
def page(experiments, files) -> Iterator[Page]:
    page = Page(experiments, server_files=files)
    yield page
    page.widget.close()
    page.settle()


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video) -> bytes:
    return write_video(tmp_path_factory.mktemp("widget") / "v.avi", 100, fps=10).read_bytes()


def test_what_a_page_finds(page):
    widget = page.widget
    assert [model["name"].split("_")[0] for model in widget.models] == ["first", "published i3d", "published r3d18"]
    assert widget.model == widget.models[0]["name"] and widget.rows == [] and widget.samples == []
    assert widget.limits == {"megabytes": 200, "seconds": 120.0} and widget.server_folder == "files"
    assert not FOLDER.search(json.dumps([widget.models, widget.limits, widget.server_folder]))


@pytest.mark.parametrize(
    "content",
    [
        {}, [], None, 7, "begin", {"do": None}, {"do": []}, {"do": {}}, {"do": "__class__"}, {"do": "begin"},
        {"do": "begin", "key": "k", "name": "v", "size": "many"},
        {"do": "begin", "key": "k", "name": "v", "size": None},
        {"do": "begin", "key": "k", "name": "v", "size": float("inf")},
        {"do": "begin", "key": "k", "name": "v", "size": float("nan")},
        {"do": "piece"}, {"do": "piece", "key": "k", "offset": 0}, {"do": "piece", "key": [], "offset": 0},
        {"do": "piece", "key": "nobody", "offset": "x"}, {"do": "end"}, {"do": "end", "key": "nobody", "preview": 1},
        {"do": "end", "key": {}, "preview": 1}, {"do": "cancel"}, {"do": "cancel", "key": ["a"]},
        {"do": "cancel", "key": "nobody"}, {"do": "sample"}, {"do": "sample", "number": 0},
        {"do": "sample", "number": -1},
        {"do": "sample", "number": 10**400}, {"do": "sample", "number": "zero"}, {"do": "path"}, {"do": "details"},
        {"do": "details", "key": "nobody"}, {"do": "pictures", "key": "nobody", "segment": 0},
        {"do": "preview", "key": None}, {"do": "table"},
    ],
)  # fmt: skip
def test_messages_that_make_no_sense_are_ignored(page, content):
    page.widget._receive(content, [])
    assert page.widget.rows == [] and page.sent == []


def test_details_pictures_and_preview_of_an_answer(page, video):
    key = page.upload(video, "holiday.avi", preview=True)
    assert page.said("details") == []
    page.tell("details", key=key)  # too early: nothing to tell yet
    row = page.answered(key)
    page.sent.clear()
    page.tell("details", key=key)
    ((details, _),) = page.said("details")
    assert details["key"] == key and details["frames"] == 4 and details["sure_above"] is None
    assert details["top"][0] == (row["label"], row["share"]) and details["published"] is False
    assert [(s["start"], s["end"]) for s in details["segments"]] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    for number in range(4):
        page.tell("pictures", key=key, segment=number)
    assert [(c["segment"], len(buffers)) for c, buffers in page.said("pictures")] == [(n, 4) for n in range(4)]
    page.sent.clear()
    for number in (4, -1, 10**6):
        page.tell("pictures", key=key, segment=number)
    assert [buffers for _, buffers in page.said("pictures")] == [[], [], []]
    page.tell("preview", key=key)
    ((_, (webm,)),) = page.said("preview")
    assert webm[:4] == b"\x1aE\xdf\xa3" and row["preview"]
    json.dumps([content for content, _ in page.sent] + page.widget.rows, allow_nan=False)


@pytest.mark.parametrize("about", ["details", "pictures", "preview", "table"])
def test_a_reply_is_for_the_view_that_asked(page, video, about):
    key = page.upload(video)
    page.answered(key)
    for view in ("one", "other"):
        page.tell(about, key=key, segment=0, view=view)
    assert [content["view"] for content, _ in page.said(about)] == ["one", "other"]


def test_a_year_is_named_where_it_is_another_one(tiny_checkpoint, tmp_path):
    for age_days in (0, 400):
        make_experiment(tmp_path, tiny_checkpoint, f"aged{age_days}", age_s=86400 * age_days)
    labels = [choice.label for choice in choices.model_choices(tmp_path)[:2]]
    assert re.fullmatch(r"CNN\+LSTM · stick_actions · \d\d \w+ \d\d:\d\d", labels[0])
    assert re.fullmatch(r"CNN\+LSTM · stick_actions · \d\d \w+ \d{4} \d\d:\d\d", labels[1])


def test_a_model_that_has_to_be_fetched_says_so_where_it_is_chosen_only(monkeypatch, tmp_path, experiments):
    monkeypatch.setattr(choices, "cached_file", lambda row: tmp_path / "absent")
    offered = Page(experiments).widget.models[1:]
    labels = [choice.label for choice in choices.model_choices(experiments)[1:]]
    assert [model["note"] for model in offered] == ["47 MB to download first", "127 MB to download first"]
    assert labels == ["I3D · Kinetics, 400 actions", "R3D-18 · Kinetics, 400 actions"]


def test_no_preview_where_the_page_plays_the_file_itself(page, video):
    key = page.upload(video, preview=False)
    assert page.answered(key)["preview"] is False
    page.tell("preview", key=key)
    assert page.said("preview")[0][1] == []


def test_progress_is_told(page, write_video, tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("varec_lib.predictor.page.answer.time.perf_counter", lambda: next(clock))
    path = write_video(tmp_path / "v.avi", 60)
    page.answered(page.upload(path.read_bytes()))
    shares = [content["share"] for content, _ in page.said("progress")]
    assert len(shares) == 60 and shares == sorted(shares) and shares[-1] == pytest.approx(1)


def test_several_videos_are_answered_in_the_order_they_came(page, video):
    keys = [page.upload(video, f"{number}.avi") for number in range(4)]
    for key in keys:
        page.answered(key)
    assert [(row["key"], row["state"]) for row in page.widget.rows] == [(key, "done") for key in keys]
    assert len({(row["label"], row["share"]) for row in page.widget.rows}) == 1
    page.tell("clear")
    assert page.widget.rows == []


def test_cancelling_one_of_several(page, video):
    keys = [page.upload(video) for _ in range(3)]
    page.tell("cancel", key=keys[2])
    page.tell("cancel", key=keys[0])
    assert page.answered(keys[1])["state"] == "done"
    assert page.row(keys[2])["state"] == "cancelled" and page.answered(keys[0])["state"] in ("cancelled", "done")


# Models


def test_newly_trained_models_come_first_and_what_was_chosen_stays(page, experiments, tiny_checkpoint, video):
    chosen = page.widget.model
    newer = make_experiment(experiments, tiny_checkpoint, "second")
    make_experiment(experiments, tiny_checkpoint, "oldest", age_s=900)
    page.tell("models")
    names = [model["name"] for model in page.widget.models]
    assert [name.split("_")[0] for name in names[:3]] == ["second", "first", "oldest"] and page.widget.model == chosen
    page.widget.model = newer.name
    row = page.answered(page.upload(video))
    assert row["state"] == "done" and row["model"] == page.widget.models[0]["label"]
    shutil.rmtree(newer)
    page.tell("models")
    assert page.widget.model == page.widget.models[0]["name"] == chosen


def trained(folder: Path, checkpoint: Path, name: str, age_s: float, top1: float, videos: int) -> None:
    """An experiment whose checkpoint says how it did on validation."""
    network, about, _ = load_checkpoint(checkpoint)
    metrics = {"val_top1": top1, "val_videos": videos}
    save_checkpoint(folder / "m.safetensors", network, replace(about, metrics=metrics))
    make_experiment(folder / "experiments", folder / "m.safetensors", name, age_s=age_s)


def test_the_best_of_the_newest_stands_first_and_one_at_chance_last(tiny_checkpoint, tmp_path):
    for name, age_s, top1, videos in (("newest", 0, 0.6, 50), ("best", 60, 0.9, 50), ("guesses", 30, 0.34, 50)):
        trained(tmp_path, tiny_checkpoint, name, age_s, top1, videos)
    cards = Page(tmp_path / "experiments").widget.models
    assert [card["name"].split("_")[0] for card in cards] == [
        "best", "newest", "published i3d", "published r3d18", "guesses",
    ]  # fmt: skip
    json.dumps(cards, allow_nan=False)
    best, guesses = cards[0], cards[-1]
    assert (best["val_top1"], best["val_videos"], best["at_chance"]) == (0.9, 50, False)
    assert guesses["at_chance"] is True and "guessing" in guesses["note"] and len(best["classes"]) == 3
    assert len(cards[2]["classes"]) == 400 and cards[2]["val_top1"] is None


def test_another_model_is_asked_about_the_same_video(page, files, video):
    page.tell("path", path="a.avi")
    first = page.answered()
    assert first["again"] and first["video"] == first["key"]
    page.tell("again", key=first["key"], model="nobody's")
    assert page.row()["state"] == "failed"
    page.tell("again", key=first["key"], model=first["choice"])
    second = page.answered()
    assert second["key"] != first["key"] and second["video"] == first["key"] and second["share"] == first["share"]
    (files / "a.avi").unlink()
    page.tell("again", key=first["key"], model=first["choice"])
    assert page.row()["state"] == "failed" and "no such video" in page.row()["sentence"]
    uploaded = page.answered(page.upload(video))
    assert uploaded["again"] is False  # the page has it, this side does not
    rows = len(page.widget.rows)
    page.tell("again", key=uploaded["key"], model=first["choice"])
    assert len(page.widget.rows) == rows


def damage(experiment: Path, how: str) -> None:
    file = experiment / "checkpoints" / "best_model.safetensors"
    content = file.read_bytes()
    if how == "vanished":
        shutil.rmtree(experiment)
    elif how == "half":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "other":
        file.write_bytes(content.replace(b'\\"format\\"', b'\\"farmot\\"'))


@pytest.mark.parametrize("how", ["vanished", "half", "empty", "other"])
def test_a_model_that_cannot_be_loaded_any_more(page, experiments, video, how):
    choices._loaded.cache_clear()
    (experiment,) = experiments.iterdir()
    damage(experiment, how)
    row = page.answered(page.upload(video))
    assert row["state"] == "failed" and row["sentence"].startswith("best_model.safetensors: ")
    assert_sentence(row["sentence"])
    page.tell("table")
    ((table, _),) = page.said("table")
    assert not FOLDER.search(table["csv"]) and "experiments" not in table["csv"].replace("into experiments/", "")


def test_a_published_model_that_cannot_be_fetched(page, video, monkeypatch, tmp_path, caplog):
    choices._loaded_published.cache_clear()
    (tmp_path / "torch home").write_text("a file, where a folder is wanted")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    page.widget.model = "published i3d"
    row = page.answered(page.upload(video))
    assert (row["state"], row["sentence"]) == ("failed", NO_WEIGHTS)
    assert "i3d_kinetics400" in caplog.text and str(tmp_path) in caplog.text  # for whoever runs this


def test_a_model_that_nobody_offered(page, video):
    page.widget.model = "../../x"
    keys = [page.upload(video, "up.avi")]
    page.tell("path", path="a.avi")
    keys.append(page.row()["key"])
    for key in keys:
        assert page.row(key)["state"] == "failed" and "choose another" in page.row(key)["sentence"]
        assert_sentence(page.row(key)["sentence"])


def test_something_that_breaks_inside_is_no_traceback(page, video, monkeypatch, caplog):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"boom in {__file__}")

    monkeypatch.setattr(Predictor, "windows", broken)
    row = page.answered(page.upload(video))
    assert (row["state"], row["sentence"]) == ("failed", FAILED_INSIDE)
    assert "boom" in caplog.text and "boom" not in str(page.sent) + str(page.widget.rows)
    monkeypatch.undo()
    monkeypatch.setattr(page.widget._queue, "cancel", broken)  # in an answer to a message, too
    page.tell("cancel", key="k")
    assert page.answered(page.upload(video))["state"] == "done"


@pytest.mark.parametrize(("above", "sure", "word"), [(0.01, True, "yes"), (0.999, False, "no"), (None, None, "")])
def test_sure(tmp_path, tiny_checkpoint, video, above, sure, word):
    model, about, _ = load_checkpoint(tiny_checkpoint)
    metrics = {} if above is None else {"sure_above": above, "sure_right": 18, "sure_videos": 20}
    save_checkpoint(tmp_path / "m.safetensors", model, replace(about, metrics=metrics))
    make_experiment(tmp_path / "experiments", tmp_path / "m.safetensors")
    page = Page(tmp_path / "experiments")
    key = page.upload(video)
    assert page.answered(key)["sure"] is sure
    page.tell("details", key=key)
    details = page.said("details")[0][0]
    assert details["sure_above"] == above
    assert details["rests_on"] == (None if above is None else {"right": 18, "videos": 20, "low": ANY, "high": ANY})
    page.tell("table")
    assert [row["sure"] for row in csv.DictReader(io.StringIO(page.said("table")[0][0]["csv"]))] == [word]


# The table, and from a notebook


def test_the_table(page, video):
    names = ["=cmd()", "+1.avi", "-1.avi", "@x.avi", 'a,"b".avi', "plain.avi"]
    for name in names:
        page.answered(page.upload(video, name))
    page.answered(page.upload(b"no video", "broken.avi"))
    page.tell("cancel", key=page.upload(video, "unwanted.avi", end=False))
    page.upload(video, "still coming.avi", end=False)
    page.tell("table")
    ((message, _),) = page.said("table")
    rows = list(csv.DictReader(io.StringIO(message["csv"])))
    assert [row["video"] for row in rows] == [
        "'=cmd()", "'+1.avi", "'-1.avi", "'@x.avi", 'a,"b".avi', "plain.avi", "broken.avi", "unwanted.avi",
    ]  # fmt: skip
    assert list(rows[0]) == ["video", "top1", "p1", "top2", "p2", "top3", "p3", "error", "sure", "unlike", "model"]
    assert [bool(row["top1"]) for row in rows] == [True] * 6 + [False] * 2
    assert "not a video" in rows[6]["error"] and rows[7]["error"] == "cancelled"
    assert re.fullmatch(r"first_\d{8}-\d{6}", rows[0]["model"])


def test_predict_from_a_notebook(page, files, tiny_checkpoint, tmp_path):
    page.widget.model = page.widget.models[0]["name"]
    prediction = page.widget.predict(files / "a.avi")
    expected = Predictor.load(tiny_checkpoint).predict_along(files / "a.avi")
    assert prediction.top == expected.top and prediction.path == Path("a.avi")
    assert page.row()["state"] == "done"
    with pytest.raises(VideoError, match=r"absent.avi: cannot be opened \(No such file"):
        page.widget.predict(tmp_path / "absent.avi")
    with pytest.raises(VideoError, match="cannot be opened"):
        page.widget.predict(tmp_path)
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(VideoError, match=r"text.avi: not a video"):
        page.widget.predict(str(tmp_path / "text.avi"))


def test_closing_ends_what_is_on_its_way(experiments, write_video, tmp_path):
    before = psutil.Process().num_fds()
    page = Page(experiments, limits=Limits())
    path = write_video(tmp_path / "long.avi", [n % 256 for n in range(2000)], size=(240, 320))
    jobs = [page.widget._queue.all[page.upload(path.read_bytes(), end=end)] for end in (True, True, False)]
    until_sandboxed()
    page.widget.close()
    assert all(job.ended.wait(10) and job.state == "cancelled" for job in jobs)
    page.settle()
    assert not sandboxes() and psutil.Process().num_fds() == before and page.widget.rows == []
