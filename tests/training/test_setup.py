"""What a run knows of its videos before it trains: how they look."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from varec_lib.evaluation.apply import evaluate_checkpoint, predict_table, split_table
from varec_lib.evaluation.metrics import report
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.models.novelty import ENOUGH
from varec_lib.training.experiment import Experiment
from varec_lib.training.loop import train

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def larger(tmp_path_factory, write_video) -> Path:
    """Two classes with 12 training, 10 validation and 5 test videos each of numbered frames."""
    root, rng = tmp_path_factory.mktemp("larger"), np.random.default_rng(0)
    for split, count in {"train": 12, "val": 10, "test": 5}.items():
        rows = []
        for label, first in (("low", 0), ("high", 128)):
            for number in range(count):
                name = f"{label}/{split}_{number}.mkv"
                write_video(root / "videos" / name, (first + rng.integers(0, 128, 10)).tolist())
                rows.append((name, label, f"{split}_{number}"))
        pd.DataFrame(rows, columns=["video_name", "label", "group"]).to_csv(root / f"{split}.csv", index=False)
    return root


@pytest.fixture(scope="module")
def still(tmp_path_factory, write_video) -> Path:
    """A dataset of the same classes in which nothing moves."""
    root = tmp_path_factory.mktemp("still")
    rows = [
        (write_video(root / "videos" / f"{n}.mkv", [n] * 10).name, label) for n, label in ((0, "low"), (255, "high"))
    ]
    pd.DataFrame(rows, columns=["video_name", "label"]).to_csv(root / "test.csv", index=False)
    for split in ("train", "val"):
        pd.DataFrame(rows, columns=["video_name", "label"]).to_csv(root / f"{split}.csv", index=False)
    return root


@pytest.fixture
def run(tiny_config, larger, tmp_path):
    """`run(**settings)`: a training on `larger`."""
    return lambda **others: train(
        tiny_config(data_dir=larger, store_dir=tmp_path / "store", epochs=1, **others), progress=False
    )


def accepted(experiment: Experiment, folder: Path) -> float | None:
    return report(evaluate_checkpoint(experiment.folder, folder, progress=False))["accepted"]


@pytest.mark.parametrize("others", [{}, {"precision": "bf16", "num_workers": 1}, {"model": "constant"}, {"views": 2}])
def test_a_run_knows_its_own_videos_from_others(run, larger, still, others):
    experiment = run(**others)
    loaded, results = load_checkpoint(experiment.folder), experiment.results
    assert results["unlike_above"] == loaded.unlike_above > 0
    assert results["test"]["accepted"] >= 0.7
    if "views" not in others:
        assert results["test"]["accepted"] == accepted(experiment, larger)
    assert accepted(experiment, still) == 0
    json.dumps(results, allow_nan=False)


def test_stored_features_of_a_frozen_backbone_make_no_difference(run, plugin):
    frozen = run(model="slow_tiny", plugin=plugin, freeze_backbone=True, augment=False)
    learned = run(model="slow_tiny", plugin=plugin)
    assert frozen.results["unlike_above"] == pytest.approx(learned.results["unlike_above"], rel=0.05)
    assert frozen.results["test"]["accepted"] >= 0.7


def test_a_continued_run_measures_the_same(run, larger):
    whole = run()
    before = load_checkpoint(whole.folder).checkpoint.novelty
    again = train(whole.config.replaced(resume=whole.folder, epochs=2), progress=False)
    assert before.to_dict() == load_checkpoint(again.folder).checkpoint.novelty.to_dict()


def test_it_changes_nothing_of_what_is_learned(run, monkeypatch, weights_of):
    with_it = run()
    monkeypatch.setattr("varec_lib.evaluation.apply.ENOUGH", 10**6)
    without = run()
    assert without.results["unlike_above"] is None and without.results["test"]["accepted"] is None
    assert all(torch.equal(tensor, weights_of(without)[name]) for name, tensor in weights_of(with_it).items())
    first, second = ({k: v for k, v in r.results["test"].items() if k != "accepted"} for r in (with_it, without))
    assert first == second


def test_too_few_validation_videos_are_not_even_read(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("varec_lib.evaluation.apply.appearance", None)
    experiment = train(tiny_config(epochs=1), progress=False)
    assert 6 < ENOUGH and experiment.results["unlike_above"] is None
    assert experiment.results["test"]["accepted"] is None


def test_a_single_video_is_judged(run, still):
    model = load_checkpoint(run().folder)
    one = split_table(still, "test", progress=False)[:1]
    assert predict_table(model, one, progress=False).unlike.tolist() == [True]
