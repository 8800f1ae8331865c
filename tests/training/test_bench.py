"""What `varec bench` measures, and what it concludes. Figures themselves are not asserted: they are benchmarks."""

import json
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from varec_lib import cli
from varec_lib.errors import ConfigError
from varec_lib.training import bench as module
from varec_lib.training.bench import advice, bench
from varec_lib.training.stock import timed_epoch

SPEEDS = {"decode_clips_per_s", "store_clips_per_s", "loader_clips_per_s", "step_clips_per_s", "train_clips_per_s"}


def test_measures_every_part_and_leaves_no_experiment(tiny_config):
    config = tiny_config()
    figures = bench(config, steps=1, rounds=1)
    assert SPEEDS | {"data_wait_share", "peak_memory_mb", "ratio_store_to_decode"} <= figures.keys()
    assert all(figures[name] > 0 for name in SPEEDS)
    assert 0 < figures["data_wait_share"] < 1
    assert figures["ratio_store_to_decode"] == figures["store_clips_per_s"] / figures["decode_clips_per_s"]
    assert not [name for name in figures if "stock" in name or name.startswith("ratio_train")]
    assert not config.experiments_dir.exists()


def test_a_model_of_ones_own(start, train_command, plugin):
    _, _, *flags = train_command(model="slow_plain", plugin=plugin)
    process = start(Path(sys.executable).with_name("varec"), "bench", *flags, "--steps", 1, "--rounds", 1, "--json")
    assert process.status() == 0, process.shown
    assert json.loads(process.shown[process.shown.index("{") :])["model"] == "slow_plain"


def test_without_a_store_it_is_not_measured(tiny_config):
    figures = bench(tiny_config(store="off"), steps=1, rounds=1)
    assert "store_clips_per_s" not in figures and "ratio_store_to_decode" not in figures
    assert "--store raw" in advice(figures | {"data_wait_share": 0.5})


@pytest.mark.parametrize(
    ("wait", "loader", "bottleneck"), [(0.01, 500.0, "model"), (0.2, 500.0, "data"), (0.01, 5.0, "data")]
)
def test_advice_names_the_bottleneck(wait, loader, bottleneck):
    figures = {
        "data_wait_share": wait,
        "loader_clips_per_s": loader,
        "step_clips_per_s": 10.0,
        "store_clips_per_s": 1.0,
    }
    line = advice(figures)
    assert re.search("data|model", line)[0] == bottleneck and "\n" not in line
    assert ("--num_workers" in line) == (bottleneck == "data")


def test_waiting_and_working_are_told_apart(monkeypatch):
    """Two batches of four clips, each waited for one second and worked on for three."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def later(seconds):
        clock[0] += seconds

    def batches():
        while True:
            later(1.0)
            yield torch.zeros(4)

    assert timed_epoch(batches(), lambda batch: later(3.0), len, steps=2) == (1.0, 0.25)


def test_unusable_settings(tiny_config):
    with pytest.raises(ConfigError, match=r"--against-stock\b.*r3d18"):
        bench(tiny_config(), against_stock=True)
    with pytest.raises(ConfigError, match=r"steps\b.*\b0\b"):
        bench(tiny_config(), steps=0)


def test_ratios_compare_medians_of_rounds(tiny_config, monkeypatch):
    """The first round of each only warms up."""

    class Side:
        def __init__(self, speeds):
            self.speeds = iter(speeds)

        def epoch(self):
            return next(self.speeds), 0.5

        def step_speed(self):
            return 20.0

        def loader_speed(self):
            return 100.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(module, "_Ours", lambda *_: Side([1000.0, 8.0, 10.0, 12.0]))
    monkeypatch.setattr(module, "stock_training", lambda *_: Side([0.1, 4.0, 5.0, 90.0]))
    figures = bench(tiny_config(model="r3d18"), steps=1, rounds=3, against_stock=True)
    assert (figures["train_clips_per_s"], figures["stock_train_clips_per_s"]) == (10.0, 5.0)
    assert (figures["ratio_train_clips_per_s"], figures["ratio_step_clips_per_s"]) == (2.0, 1.0)


@pytest.mark.slow
def test_the_command_against_stock(numbered_dataset, tmp_path, capsys):
    status = cli.main(
        ["bench", "--data", str(numbered_dataset), "--store-dir", str(tmp_path), "--num-frames", "2", "--frame-size",
         "16", "16", "--batch-size", "6", "--num-workers", "1", "--steps", "1", "--rounds", "1", "--against-stock",
         "--to-top1", "0.1", "--epochs", "1", "--no-augment", "--json"]
    )  # fmt: skip
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert status == 0
    assert "--resume" not in printed.err  # an accuracy that is reached is no interruption
    assert figures["ratio_train_clips_per_s"] == figures["train_clips_per_s"] / figures["stock_train_clips_per_s"] > 0
    assert figures["ratio_step_clips_per_s"] > 0
    assert figures["ratio_seconds_to_top1"] == figures["stock_seconds_to_top1"] / figures["seconds_to_top1"] > 0
    assert min(figures["best_val_top1"], figures["stock_best_val_top1"]) >= 0.1


@pytest.mark.slow
def test_an_accuracy_that_is_not_reached_has_no_time(numbered_dataset, tmp_path, capsys):
    status = cli.main(
        ["bench", "--data", str(numbered_dataset), "--store-dir", str(tmp_path), "--num-frames", "2", "--frame-size",
         "16", "16", "--batch-size", "6", "--num-workers", "0", "--steps", "1", "--rounds", "1", "--against-stock",
         "--to-top1", "1", "--epochs", "1", "--lr", "1e-9"]
    )  # fmt: skip
    assert status == 0
    assert re.search(r"^seconds_to_top1 +None$", capsys.readouterr().out, re.MULTILINE)
