"""What `varec bench` measures, and what it concludes. Figures themselves are not asserted: they are benchmarks."""

import json
import sys
from pathlib import Path

import pytest
import torch

from varec_lib.errors import ConfigError
from varec_lib.training.bench import TrainingParts, advice, bench, timed_epoch

SPEEDS = {"decode_clips_per_s", "store_clips_per_s", "loader_clips_per_s", "step_clips_per_s", "train_clips_per_s"}


def test_measures_every_part_and_leaves_no_experiment(tiny_config):
    config = tiny_config()
    figures = bench(config, steps=1, rounds=1)
    assert SPEEDS | {"data_wait_share", "peak_memory_mb", "ratio_store_to_decode"} <= figures.keys()
    assert all(figures[name] > 0 for name in SPEEDS)
    assert 0 < figures["data_wait_share"] < 1
    assert figures["ratio_store_to_decode"] == figures["store_clips_per_s"] / figures["decode_clips_per_s"]
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
    ("wait", "loader", "expected"),
    [(0.01, 500.0, "Bottleneck: the model"), (0.2, 500.0, "Bottleneck: data"), (0.01, 5.0, "Bottleneck: data")],
)
def test_advice_names_the_bottleneck(wait, loader, expected):
    figures = {
        "data_wait_share": wait,
        "loader_clips_per_s": loader,
        "step_clips_per_s": 10.0,
        "store_clips_per_s": 1.0,
    }
    line = advice(figures)
    assert line.startswith(expected) and "\n" not in line
    assert ("--num_workers" in line) == (expected == "Bottleneck: data")


def test_waiting_and_working_are_told_apart(monkeypatch):
    """Two batches of four clips, each waited for one second and worked on for three."""
    clock = [0.0]
    monkeypatch.setattr("varec_lib.training.bench.time.perf_counter", lambda: clock[0])

    def later(seconds):
        clock[0] += seconds

    def batches():
        while True:
            later(1.0)
            yield torch.zeros(4)

    assert timed_epoch(batches(), lambda batch: later(3.0), len, steps=2) == (1.0, 0.25)


def test_unusable_settings(tiny_config):
    with pytest.raises(ConfigError, match="steps is 0"):
        bench(tiny_config(), steps=0)


def test_figures_are_medians_of_all_rounds_but_the_first(tiny_config):
    """The first round only warms up."""
    figures = TrainingParts(tiny_config(), steps=1).figures([(1000.0, 0.9), (8.0, 0.1), (10.0, 0.2), (12.0, 0.3)])
    assert (figures["train_clips_per_s"], figures["data_wait_share"]) == (10.0, 0.2)
