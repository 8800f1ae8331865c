"""One job of a sweep: a notebook run with its parameters in a folder of its own, once."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from varec_lib.course import parameters_of, run_notebook
from varec_lib.files import locked, write_text

RESULT, EXECUTED = "result.json", "notebook.ipynb"


@dataclass(frozen=True)
class Job:
    """A notebook, the parameters that it is given, where it leaves everything, and how many threads it may use.

    Without a number, these are what the process that runs it would use.
    """

    notebook: Path
    values: dict[str, Any]
    folder: Path
    threads: int | None

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it: `status` ("ok" or what went wrong), `seconds`, `headline`, `trained`; None before that."""
        return _read(self.folder / RESULT) or None


def jobs_of(notebook: Path, values: list[dict[str, Any]], out: Path, threads: int | None) -> list[Job]:
    """The jobs of a sweep. A folder is named by what the notebook does and is given, so a change makes another one.

    They run a copy of the notebook in `out`, so that whoever edits it meanwhile changes nothing.
    """
    content = nbformat.read(notebook, as_version=4)
    code = "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")
    copy = out / "notebooks" / _name_of(code) / notebook.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_text(copy, nbformat.writes(content))
    return [Job(copy, given, out / "jobs" / _name_of([code, given]), threads) for given in values]


def _name_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def run_job(job: Job) -> dict[str, Any]:
    """Runs a job that was not finished yet, and returns its result; one process at a time, whoever else wants it.

    Experiments and figures are left in the job's folder, where the notebook can be told so. A notebook that fails is a
    result as well, with the models that it had trained by then; only a process that dies leaves none.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with locked(job.folder / ".lock"):
        if (before := job.result) and before["status"] == "ok":
            return before
        own = {"experiments_dir": "experiments", "figures_dir": "figures"}
        known = parameters_of(job.notebook)
        values = {name: str(job.folder / place) for name, place in own.items() if name in known} | job.values
        set_for_it = {"OMP_WAIT_POLICY": "PASSIVE", "VAREC_UCF5": os.devnull}  # no sweep needs chapter 3's ladder
        if job.threads:
            set_for_it["OMP_NUM_THREADS"] = str(job.threads)
        experiments = Path(values.get("experiments_dir", job.folder))
        earlier = _results_in(experiments)  # of an attempt that failed, or of other jobs
        with _environment(**set_for_it):
            run = run_notebook(job.notebook, values, job.folder / EXECUTED, progress_bar=False)
        result = {
            "status": run.status,
            "attempts": (before["attempts"] if before else 0) + 1,
            "seconds": round(run.seconds, 2),
            "headline": run.headline,
            "trained": _trained(dict(_results_in(experiments).items() - earlier.items()), job.values),
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


def _results_in(folder: Path) -> dict[Path, int]:
    """When each experiment in a folder got its results."""
    return {file: file.stat().st_mtime_ns for file in sorted(folder.rglob("results.json"))}


def _trained(files: Iterable[Path], given: dict[str, Any]) -> list[dict[str, Any]]:
    """Model and top-1 of the experiments with these results that were trained with what the job was given."""
    found = []
    for file in files:
        results, config = (_read(path) for path in (file, file.with_name("config.json")))
        told = {name: value for name, value in given.items() if name in config and not name.endswith("_dir")}
        if all((config[name] or "") == (value or "") for name, value in told.items()):
            found.append({
                "model": results.get("model"),
                "val_top1": results.get("best_val_top1"),
                "test_top1": (results.get("test") or {}).get("top1"),
                "train_seconds": results.get("train_seconds"),
            })  # fmt: skip
    return found


def _read(file: Path) -> dict[str, Any]:
    """A JSON file; nothing where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    return {}
