"""A small notebook that counts its runs, and the jobs of a sweep of it."""

from pathlib import Path

import nbformat
import pytest

PARAMETERS = """
number = 1
lr = 5e-4
frame_size = [64, 64]
log_dir = "logs"
experiments_dir = "experiments"
trouble = ""
"""
RUN = """
import json, os, pathlib, time
with open(pathlib.Path(log_dir) / "runs.txt", "a") as log:
    log.write(f"{number}\\n")
time.sleep(0.3)
once = pathlib.Path(log_dir) / "once"
if trouble == "once" and not once.exists():
    once.touch()
    raise ValueError("bad luck")
if trouble == "always":
    raise ValueError("no luck")
if trouble == "kills the worker" and not once.exists():
    once.touch()
    os.kill(os.getppid(), 9)
    time.sleep(60)
if trouble == "kernel dies" and not once.exists():
    once.touch()
    os.kill(os.getpid(), 9)
for told in (number, 1000):  # a second training goes its own way
    folder = pathlib.Path(experiments_dir) / f"{told}_{time.time_ns()}"
    folder.mkdir(parents=True)
    results = {"model": "tiny", "best_val_top1": told / 10, "test": {"top1": told / 20}, "train_seconds": 1.0}
    (folder / "config.json").write_text(json.dumps({"number": told, "frame_size": frame_size}))
    (folder / "results.json").write_text(json.dumps(results))
if trouble == "always, trained" or (trouble == "once, trained" and not once.exists()):
    once.touch()
    raise AssertionError("the lesson does not hold")
"""


@pytest.fixture(scope="session")
def counting_notebook(tmp_path_factory) -> Path:
    """Appends its `number` to `log_dir`/runs.txt, trains nothing, and gets into the trouble it is told to."""
    cells = [
        nbformat.v4.new_code_cell(code.strip())
        for code in (PARAMETERS, RUN, 'print("threads", os.environ["OMP_NUM_THREADS"])')
    ]
    cells[0].metadata["tags"], cells[2].metadata["tags"] = ["parameters"], ["headline"]
    path = tmp_path_factory.mktemp("notebook") / "counting.ipynb"
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def runs_of(tmp_path):
    """`runs_of()`: how often each number ran."""

    def read() -> dict[int, int]:
        numbers = [int(line) for line in (tmp_path / "runs.txt").read_text().split()]
        return {number: numbers.count(number) for number in sorted(set(numbers))}

    return read
