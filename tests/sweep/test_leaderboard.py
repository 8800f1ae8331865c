"""The table of a sweep, and which parameter mattered."""

import json

import numpy as np
import pandas as pd
import pytest

from varec_lib.plots import swept
from varec_lib.sweep.jobs import Job
from varec_lib.sweep.leaderboard import leaderboard, what_mattered, write_leaderboard


@pytest.fixture
def job_with(tmp_path):
    """`job_with(values, val_top1)`: a job with this result; without one where `val_top1` is None."""

    def make(values, val_top1=None, status="ok"):
        folder = tmp_path / "jobs" / str(len(list(tmp_path.glob("jobs/*"))))
        folder.mkdir(parents=True)
        if val_top1 is not None or status != "ok":
            trained = [] if val_top1 is None else [{"model": "m", "val_top1": val_top1, "test_top1": 1 - val_top1}]
            result = {"status": status, "seconds": 1.0, "headline": "", "attempts": 1, "trained": trained}
            (folder / "result.json").write_text(json.dumps(result))
        return Job(tmp_path / "02_cnn_lstm.ipynb", values, folder, 1)

    return make


def test_the_best_on_validation_comes_first_and_what_failed_last(job_with):
    jobs = [
        job_with({"lr": 1}, 0.5),
        job_with({"lr": 2}, status="failed in cell 3"),
        job_with({"lr": 3}, 0.9),
        job_with({"lr": 4}),
    ]
    table = leaderboard(jobs)
    assert table["lr"].tolist() == [3, 1, 2, 4]
    assert table["status"].tolist() == ["ok", "ok", "failed in cell 3", "not done"]


def test_a_parameter_that_decides_explains_all_and_one_that_does_nothing_little():
    rows = [{"lr": lr, "epochs": epochs, "val_top1": lr} for lr in (0.1, 0.9) for epochs in (1, 2, 3)]
    table = what_mattered(pd.DataFrame(rows), ["lr", "epochs"])
    assert table["parameter"].tolist() == ["lr", "epochs"]
    np.testing.assert_allclose(table["explains"], [1, 0], atol=1e-12)
    np.testing.assert_allclose(table["by_chance"], [1 / 5, 2 / 5])


def test_what_matters_is_judged_within_the_models_that_a_notebook_trains():
    rows = [
        {"lr": lr, "model": model, "val_top1": (0.5 if model == "average" else 0.9) + lr}
        for lr in (0.0, 0.1) for model in ("average", "lstm") for _ in range(2)
    ]  # fmt: skip
    (row,) = what_mattered(pd.DataFrame(rows), ["lr"]).to_dict("records")
    assert row["explains"] == pytest.approx(1) and row["by_chance"] == pytest.approx(1 / 6)


def test_numbers_stand_to_scale_and_words_in_their_order():
    top1, models = pd.Series([0.9, 0.8, 0.6]), pd.Series(["a", "b", "a"])
    axis = swept(pd.Series([1e-3, 1e-5, 1e-4], name="lr"), top1, models, "val top-1").axes[0]
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "lr"
    assert sorted(axis.collections[0].get_offsets()[:, 0]) == [1e-5, 1e-4, 1e-3]
    axis = swept(pd.Series(["late", "early", "late"], name="fusion"), top1, models, "val top-1").axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["early", "late"]


def test_without_effects_the_share_is_what_chance_explains():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        table = pd.DataFrame({"lr": [1, 2, 3] * 4, "val_top1": rng.random(12)})
        found.append(what_mattered(table, ["lr"]).iloc[0])
    assert np.mean([row["explains"] for row in found]) == pytest.approx(found[0]["by_chance"], abs=0.02)


def test_the_page_holds_table_pictures_and_links_and_escapes_what_notebooks_print(job_with, tmp_path):
    jobs = [job_with({"lr": lr, "epochs": epochs, "name": "<b>"}, lr) for epochs, lr in enumerate((0.1, 0.2, 0.7))]
    write_leaderboard(jobs, tmp_path, about="On a laptop.")
    page = (tmp_path / "leaderboard.html").read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page.split("</style>")[1]
    assert [f"values of {name}," in page for name in ("lr", "epochs", "name")] == [True, True, False]
    assert page.count("data:image/png") == 2 and "On a laptop." in page and "jobs/2/notebook.ipynb" in page
    assert pd.read_csv(tmp_path / "leaderboard.csv")["val_top1"].tolist() == [0.7, 0.2, 0.1]


def test_a_sweep_that_trains_nothing_still_has_a_table(job_with, tmp_path):
    table = write_leaderboard([job_with({"lr": 1}), job_with({"lr": 2})], tmp_path)
    assert table["status"].tolist() == ["not done"] * 2
