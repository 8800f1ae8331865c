"""The page of a report: what it says, that it needs nothing else, and how it looks in a real browser."""

import re
import shutil
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from varec_lib import cli
from varec_lib.config import TrainConfig
from varec_lib.evaluation.metrics import Predictions
from varec_lib.evaluation.report import write_report
from varec_lib.training.experiment import Experiment

RESULTS = {
    "model": "cnnlstm", "data": {"dataset": "many"}, "seed": 0, "precision": "fp32", "num_parameters": 15_400_000,
    "epochs_run": 3, "best_epoch": 2, "best_val_top1": 0.5, "train_seconds": 61.2, "processor": "CPU", "versions": {},
    "sure_above": 0.8,
}  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tiny_checkpoint, numbered_dataset, tmp_path_factory) -> Experiment:
    """An untrained model's, with a report of two views of each video, and of a class that it does not know."""
    config = TrainConfig(data_dir=numbered_dataset, experiments_dir=tmp_path_factory.mktemp("runs"), model="cnnlstm")
    made = Experiment.create(config)
    shutil.copy(tiny_checkpoint, made.best_checkpoint)
    made.write_results(RESULTS)
    other = shutil.copytree(numbered_dataset, tmp_path_factory.mktemp("other") / "data")
    lists = {file: file.read_text() for file in other.glob("*.csv")}
    for file, text in lists.items():
        file.write_text(text.replace(",gamma,", ",delta,"))
    words = ["--report", "--unknown", str(other), "--views", "2", "--num_workers", "0"]
    assert cli.main(["evaluate", str(made.folder), *words]) == 0
    return made


def test_the_page_needs_nothing_but_itself(experiment):
    page = (experiment.folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|<script|<link", page)
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    assert "/" not in "".join(re.findall(r"<b>(.*?)</b>", page))  # names of files without folders


def test_pictures_that_need_the_network_are_on_the_page(experiment):
    page = (experiment.folder / "report.html").read_text(encoding="utf-8")
    for name in ("heat", "embeddings"):
        picture = (experiment.folder / "plots" / f"{name}.png").read_bytes()
        assert b64encode(picture).decode() in page
    assert "2 videos of other classes" in page


@pytest.mark.parametrize(("width", "colours"), [(1100, "light"), (390, "dark")])
def test_the_page_in_a_browser(experiment, browser, width, colours):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours, offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((experiment.folder / "report.html").resolve().as_uri())
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 50)")
    assert page.locator("h2").all_inner_texts() == [
        "Does it look at time?", "Class by class", "What is mistaken for what", "The most certain mistakes",
        "Where and when did it look?", "Can its certainty be believed?", "Does it notice what is none of its classes?",
    ]  # fmt: skip
    wrong = sum(~Predictions.load(experiment.predictions("test")).as_table()["correct"])
    counts = [page.locator(what).count() for what in (".finding", "video", "svg", "polyline")]
    assert counts == [wrong, wrong, wrong, 2 * wrong] and wrong
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState >= 1 && v.duration > 0)")
    assert all(page.locator("img").nth(place).get_attribute("alt") for place in range(page.locator("img").count()))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    context.close()


def test_the_page_can_be_printed(experiment, browser, tmp_path):
    page = browser.new_page()
    page.goto((experiment.folder / "report.html").resolve().as_uri())
    page.emulate_media(media="print")
    assert not page.locator("video").first.is_visible()
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    page.close()


def test_videos_that_are_gone_leave_out_their_pictures(predictions, tmp_path):
    test = predictions([[0.9, 0.1], [0.2, 0.8]], ["b", "b"])
    write_report(tmp_path / "report.html", RESULTS, test)
    page = (tmp_path / "report.html").read_text()
    assert "0.avi" in page and "is b (10 %)" in page and "<video" not in page
    assert all(f"EXPERIMENT {flag}" in page for flag in ("--report_card", "--split val", "--unknown", "--report"))


@pytest.mark.parametrize(
    "rows",
    [[([0.9, 0.1], "a")], [([0.9, 0.1], "a"), ([0.8, 0.2], "a")], [([0.1, 0.9], "a")]],
    ids=["one video", "all right", "all wrong"],
)
def test_few_videos(predictions, tmp_path, rows):
    test = predictions([shares for shares, _ in rows], [label for _, label in rows], ["one group"] * len(rows))
    write_report(tmp_path / "report.html", RESULTS | {"sure_above": None, "best_val_top1": None}, test, test)
    assert "top-1 of videos" in (tmp_path / "report.html").read_text()


def test_an_experiment_without_a_test(experiment, tmp_path, capsys):
    empty = Experiment.create(TrainConfig(data_dir=tmp_path, experiments_dir=tmp_path / "runs", model="cnnlstm"))
    assert cli.main(["report", str(empty.folder)]) == 2
    assert "results.json" in capsys.readouterr().err
    empty.write_results(RESULTS)
    assert cli.main(["report", str(empty.folder)]) == 2
    assert "varec evaluate" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    assert cli.main(["report", str(experiment.folder), "--out", str(file / "below.html")]) == 2
    assert "below.html" in capsys.readouterr().err


def test_only_an_experiment_on_its_own_data_gets_a_report(experiment, numbered_dataset, tmp_path, capsys):
    other = shutil.copytree(numbered_dataset, tmp_path / "other")
    assert cli.main(["evaluate", str(experiment.folder), "--data", str(other), "--report"]) == 2
    assert cli.main(["evaluate", str(experiment.best_checkpoint), "--split", "val", "--report"]) == 2
    for words in (["--ucf_split", "2"], ["--protocol", "published"]):  # of which the folder keeps no scores
        assert cli.main(["evaluate", str(experiment.folder), *words, "--report"]) == 2
    assert capsys.readouterr().err.count("--report") == 4


def many(videos: int = 3783, classes: int = 101, views: int = 30) -> Predictions:
    """Scores as large as those of UCF-101's test list in 30 views."""
    rng = np.random.default_rng(0)
    names = [f"class {number:03d}" for number in range(classes)]
    labels = rng.integers(classes, size=videos)
    logits = rng.standard_normal((videos, views, classes), dtype=np.float32)
    logits[np.arange(videos), :, labels] += 2
    table = pd.DataFrame({
        "path": [f"{number}.avi" for number in range(videos)],
        "label": [names[label] for label in labels],
        "group": [f"g{number % 700}" for number in range(videos)],
    })  # fmt: skip
    return Predictions(table, names, logits)


def test_a_report_of_many_classes_and_views(tmp_path):
    found = many(videos=600, views=3)
    found.save(tmp_path / "test.npz")
    temporal = {order: {"top1": 0.5, "changed": 0, "per_class": dict.fromkeys(found.classes, 0.5)} for order in "ab"}
    write_report(tmp_path / "report.html", RESULTS | {"temporal": temporal}, Predictions.load(tmp_path / "test.npz"))
    assert Path(tmp_path / "report.html").stat().st_size < 3_000_000
