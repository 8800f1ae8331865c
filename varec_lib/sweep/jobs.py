"""One job of a sweep: a notebook run with its parameters in a folder of its own, once."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from varec_lib.course import headline
from varec_lib.files import locked, write_text

RESULT, EXECUTED = "result.json", "notebook.ipynb"


@dataclass(frozen=True)
class Job:
    """A notebook, the parameters that it is given, where it leaves everything, and the threads it may use."""

    notebook: Path
    values: dict[str, Any]
    folder: Path
    threads: int

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it: `status` ("ok" or what went wrong), `seconds`, `headline`, `trained`; None before that."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
        return None


def jobs_of(notebook: Path, values: list[dict[str, Any]], out: Path, threads: int) -> list[Job]:
    """The jobs of a sweep. A folder is named by what the notebook does and is given, so a change makes another one."""
    content = nbformat.read(notebook, as_version=4)
    code = "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")
    folders = [hashlib.sha256(json.dumps([code, given], sort_keys=True).encode()).hexdigest()[:12] for given in values]
    return [Job(notebook, v, out / "jobs" / folder, threads) for v, folder in zip(values, folders, strict=True)]


def run_job(job: Job) -> dict[str, Any]:
    """Runs a job that was not finished yet, and returns its result; one process at a time, whoever else wants it.

    Experiments and figures are left in the job's folder, where the notebook can be told so. A notebook that fails is a
    result as well; only a process that dies leaves none.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with locked(job.folder / ".lock"):
        if (before := job.result) and before["status"] == "ok":
            return before
        own = {"experiments_dir": "experiments", "figures_dir": "figures"}
        known = papermill.inspect_notebook(str(job.notebook))
        values = {name: str(job.folder / place) for name, place in own.items() if name in known} | job.values
        start, status, output = time.perf_counter(), "ok", job.folder / EXECUTED
        try:
            with _environment(OMP_NUM_THREADS=str(job.threads), OMP_WAIT_POLICY="PASSIVE"):
                papermill.execute_notebook(
                    str(job.notebook), str(output), values, kernel_name="python3", cwd=str(job.folder),
                    progress_bar=False,
                )  # fmt: skip
        except PapermillExecutionError as error:
            status = f"failed in cell {error.exec_count}: {error.ename}: {error.evalue}".splitlines()[0]
        result = {
            "status": status,
            "attempts": (before["attempts"] if before else 0) + 1,
            "seconds": round(time.perf_counter() - start, 2),
            "headline": headline(output),
            "trained": _trained(Path(values.get("experiments_dir", job.folder))) if status == "ok" else [],
        }
        write_text(job.folder / RESULT, json.dumps(result, indent=2) + "\n")
    return result


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for processes that are started meanwhile; afterwards all is as before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _trained(folder: Path) -> list[dict[str, Any]]:
    """Model and top-1 of every experiment in a folder."""
    found = []
    for file in sorted(folder.rglob("results.json")):
        results = json.loads(file.read_text(encoding="utf-8"))
        found.append({
            "model": results.get("model"),
            "val_top1": results.get("best_val_top1"),
            "test_top1": (results.get("test") or {}).get("top1"),
            "train_seconds": results.get("train_seconds"),
        })  # fmt: skip
    return found
