"""benchmarks/against_stock.py: both sides are trained, and its ratios compare like with like."""

import json
from contextlib import nullcontext

import against_stock
import pytest
from against_stock import Options, compare, main

from varec_lib.errors import ConfigError


@pytest.fixture
def words(numbered_dataset, tmp_path) -> list[str]:
    """Words for R3D-18 on the smallest clips there are."""
    return [
        "--data", str(numbered_dataset), "--store-dir", str(tmp_path), "--num-frames", "2", "--frame-size", "16", "16",
        "--batch-size", "6", "--steps", "1", "--rounds", "1", "--epochs", "1", "--no-augment",
    ]  # fmt: skip


@pytest.mark.slow
def test_both_sides_are_trained_until_they_are_good_enough(words, capsys):
    status = main([*words, "--num-workers", "1", "--to-top1", "0.1"])
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert status == 0
    assert "--resume" not in printed.err  # an accuracy that is reached is no interruption
    assert figures["ratio_train_clips_per_s"] == figures["train_clips_per_s"] / figures["stock_train_clips_per_s"] > 0
    assert figures["ratio_step_clips_per_s"] > 0
    assert figures["ratio_seconds_to_top1"] == figures["stock_seconds_to_top1"] / figures["seconds_to_top1"] > 0
    assert min(figures["best_val_top1"], figures["stock_best_val_top1"]) >= 0.1


@pytest.mark.slow
def test_an_accuracy_that_is_not_reached_has_no_time(words, capsys):
    assert main([*words, "--num-workers", "0", "--to-top1", "0.99", "--lr", "1e-9"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["seconds_to_top1"] is figures["stock_seconds_to_top1"] is figures["ratio_seconds_to_top1"] is None


def test_it_compares_r3d18_only(tiny_config, words, capsys):
    with pytest.raises(ConfigError, match="frame_average"):
        compare(Options(tiny_config(model="frame_average")))
    assert main([*words, "--model", "frame_average"]) == 2
    assert "frame_average" in capsys.readouterr().err


def test_ratios_compare_medians_of_rounds(tiny_config, monkeypatch):
    """The first round of each only warms up."""
    speeds = iter([0.1, 4.0, 5.0, 90.0])

    class Stock:
        def epoch(self):
            return next(speeds), 0.5

        def step_speed(self):
            return 20.0

    class Parts(against_stock.TrainingParts):
        own = iter([1000.0, 8.0, 10.0, 12.0])

        def epoch(self):
            return next(self.own), 0.1

        def step_speed(self):
            return 30.0

    monkeypatch.setattr(against_stock, "stock_training", lambda *_: nullcontext(Stock()))
    monkeypatch.setattr(against_stock, "TrainingParts", Parts)
    figures = compare(Options(tiny_config(model="r3d18"), steps=1, rounds=3))
    assert (figures["train_clips_per_s"], figures["stock_train_clips_per_s"]) == (10.0, 5.0)
    assert (figures["ratio_train_clips_per_s"], figures["ratio_step_clips_per_s"]) == (2.0, 1.5)
