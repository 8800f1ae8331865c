"""Which jobs a sweep file means, and that nothing runs where it is wrong."""

import nbformat
import numpy as np
import pytest

from varec_lib.errors import ConfigError
from varec_lib.sweep.grid import Between, read_grid


@pytest.fixture
def jobs_of_file(tmp_path, counting_notebook):
    def read(text):
        file = tmp_path / "sweep.yaml"
        file.write_text(text)
        return read_grid(file, str(counting_notebook))[1]

    return read


def test_a_grid_is_the_product_and_every_job_has_what_is_common(jobs_of_file):
    jobs = jobs_of_file("common: {trouble: x}\ngrid: {number: [1, 2], lr: [1e-3, 0.5]}")
    assert [(job["number"], job["lr"]) for job in jobs] == [(1, 1e-3), (1, 0.5), (2, 1e-3), (2, 0.5)]
    assert all(job["trouble"] == "x" for job in jobs)


def test_a_list_adds_jobs_and_what_comes_twice_runs_once(jobs_of_file):
    jobs = jobs_of_file("grid: {number: [1, 2]}\nlist: [{number: 3, lr: 1e-4}, {number: 2}]")
    assert jobs == [{"number": 1, "lr": 5e-4}, {"number": 2, "lr": 5e-4}, {"number": 3, "lr": 1e-4}]


def test_values_that_are_written_in_two_ways_are_one_job(jobs_of_file):
    assert len(jobs_of_file("grid: {lr: [1e-3, 0.001, 1.0e-3], frame_size: [[64, 64], [ 64,64 ]]}")) == 1


@pytest.mark.parametrize("word", ["null", "~", "yes", "off", "2024-01-01", "3", "x: y"])
def test_text_stays_the_text_that_was_written(jobs_of_file, word):
    (job,) = jobs_of_file(f'grid: {{trouble: ["{word}"]}}' if ":" in word else f"grid: {{trouble: [{word}]}}")
    assert job["trouble"] == word


def test_whole_numbers_are_drawn_evenly():
    rng, numbers = np.random.default_rng(0), Between(low="1", high="3")  # text, as it stands in a file
    drawn = [numbers.draw(rng) for _ in range(3000)]
    assert all(900 < drawn.count(number) < 1100 for number in (1, 2, 3))


def test_a_notebook_may_compute_a_parameter_or_leave_it_open(tmp_path):
    cell = nbformat.v4.new_code_cell("lr = 10**-3\nwhat = None\nseed = 0", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "own.ipynb")
    (tmp_path / "s.yaml").write_text("grid: {seed: [1], what: [3, x]}")
    _, jobs, _ = read_grid(tmp_path / "s.yaml", str(tmp_path / "own.ipynb"))
    assert jobs == [{"seed": 1, "what": 3}, {"seed": 1, "what": "x"}]


def test_random_draws_stay_in_their_ranges_and_are_the_same_again(jobs_of_file):
    text = """random:
  draws: 60
  seed: 3
  parameters: {number: {low: 2, high: 5}, lr: {low: 1.0e-5, high: 0.1, scale: log}, frame_size: [[32, 32], [64, 64]]}"""
    jobs = jobs_of_file(text)
    assert len(jobs) == 60 and jobs == jobs_of_file(text)
    assert {job["number"] for job in jobs} == {2, 3, 4, 5} and all(type(job["number"]) is int for job in jobs)
    assert all(1e-5 <= job["lr"] <= 0.1 for job in jobs) and sum(job["lr"] < 1e-3 for job in jobs) > 15
    assert {tuple(job["frame_size"]) for job in jobs} == {(32, 32), (64, 64)}


def test_a_file_that_says_nothing_is_one_job(jobs_of_file):
    assert jobs_of_file("") == [{}]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("grid: {epoch: [1]}", "epoch"),
        ("grid: {number: [1, two]}", "number"),
        ("grid: {frame_size: [64]}", "frame_size"),
        ("gird: {number: [1]}", "gird"),
        ("grid: {number: 1}", "grid.number"),
        ("random: {draws: 0, parameters: {number: [1]}}", "random.draws"),
        ("random: {draws: 1, parameters: {number: []}}", "number"),
        ("random: {draws: 1, seed: -1, parameters: {number: [1]}}", "random.seed"),
        ("random: {draws: 1, parameters: {lr: {low: 0, high: .inf}}}", "high"),
        ("grid: {lr: []}", "grid.lr"),
        ("random: {draws: 3, parameters: {lr: {low: 0, high: 1, scale: log}}}", "low"),
        ("grid: [1", "YAML"),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(jobs_of_file, text, named):
    with pytest.raises(ConfigError, match=named):
        jobs_of_file(text)


def test_a_file_that_is_not_there_and_a_sweep_without_notebook_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_grid(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(ConfigError, match="notebook"):
        read_grid(tmp_path / "empty.yaml")
    with pytest.raises(ConfigError, match="12_none"):
        read_grid(tmp_path / "empty.yaml", "12_none")
