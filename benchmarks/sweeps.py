"""What running many notebooks at once costs and gains, on this machine alone.

    python benchmarks/sweeps.py [--jobs 40] [--seconds 1] [--preset sweeps/fast.yaml]

First small jobs, on a Dask scheduler with two workers and by hand: papermill in two shells, half of the jobs in each.
Then the jobs of a preset, two at a time and one after the other. Nothing else should run meanwhile.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

VAREC, PAPERMILL, PYTHON = (str(Path(sys.executable).with_name(name)) for name in ("varec", "papermill", "python"))


def write_small(folder: Path, jobs: int, seconds: float) -> tuple[Path, Path]:
    """A notebook that takes about so many seconds beside its kernel's start, and a sweep of it."""
    parameters = new_code_cell('number = 0\nexperiments_dir = ""\n', metadata={"tags": ["parameters"]})
    cells = [parameters, new_code_cell(f"import time\ntime.sleep({seconds})\nnumber")]
    notebook, sweep = folder / "small.ipynb", folder / "small.yaml"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)
    sweep.write_text(f"notebook: {notebook}\ngrid:\n  number: {list(range(jobs))}\n")
    return notebook, sweep


def by_hand(notebook: Path, jobs: int, folder: Path) -> float:
    """Seconds until two shells have run half of the jobs each."""
    lines = []
    for shell in (0, 1):
        one = f"{PAPERMILL} {notebook} {folder}/$i.ipynb -p number $i --no-progress-bar 2>/dev/null"
        lines.append(f"for i in $(seq {shell} 2 {jobs - 1}); do {one}; done")
    start = time.perf_counter()
    shells = [subprocess.Popen(["bash", "-c", line]) for line in lines]
    assert [shell.wait() for shell in shells] == [0, 0]
    assert len(list(folder.glob("[0-9]*.ipynb"))) == jobs
    return time.perf_counter() - start


def sweep(file: Path, out: Path, *options: str) -> float:
    """Seconds of `varec sweep`, its own start and the leaderboard included."""
    start = time.perf_counter()
    subprocess.run([VAREC, "sweep", str(file), "--out", str(out), *options], check=True, capture_output=True)
    return time.perf_counter() - start


def on_dask(file: Path, folder: Path) -> float:
    """The same on a scheduler with two workers, which stand ready."""
    address = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    base = ["--scheduler-file", str(address), "--no-dashboard"]
    command = [PYTHON, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1", *base]
    worker = [PYTHON, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *base]
    processes = [subprocess.Popen(command, **quiet)]
    try:
        while not address.is_file() or not address.read_text().strip():
            time.sleep(0.1)
        processes += [subprocess.Popen([*worker, "--local-directory", str(folder)], **quiet) for _ in range(2)]
        time.sleep(5)
        return sweep(file, folder / "dask", "--dask", json.loads(address.read_text())["address"])
    finally:
        for process in processes:
            process.kill()


def main() -> None:
    """Prints seconds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--preset", type=Path, default=Path("sweeps/fast.yaml"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notebook, file = write_small(folder, args.jobs, args.seconds)
        shells, dask = by_hand(notebook, args.jobs, folder), on_dask(file, folder)
        print(f"{args.jobs} small jobs: {shells:.0f} s in two shells, {dask:.0f} s on Dask: {dask / shells:.2f}")
        both, one = (sweep(args.preset, folder / f"jobs{jobs}", "--jobs", str(jobs)) for jobs in (2, 1))
        print(f"{args.preset.name}: {both:.0f} s two at a time, {one:.0f} s one after the other: {both / one:.2f}")


if __name__ == "__main__":
    main()
