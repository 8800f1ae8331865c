"""Runs the jobs of a sweep side by side: on this machine with joblib, or on a Dask cluster."""

from collections.abc import Iterator
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from varec_lib.errors import ConfigError
from varec_lib.sweep.jobs import Job, run_job

CONNECT_S = 10  # to wait for a scheduler's answer
DEATHS = 3  # of worker processes in a row without a finished job in between, after which a sweep gives up


def run_jobs(jobs: list[Job], *, workers: int, retries: int = 1, dask: str = "", progress: bool = True) -> None:
    """Runs every job that is not finished; one that fails is tried again up to `retries` times.

    What a job left is in its folder, so nothing is lost when this process, a worker or a machine dies, and what is
    finished is never run again. Raises `ConfigError` where the Dask scheduler at `dask` cannot be reached, or workers
    keep dying.
    """
    todo = [job for job in jobs if not _finished(job)]
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc="jobs", disable=not progress) as bar:
        for _ in range(retries + 1):
            for _result in _on_dask(todo, dask) if dask else _here(todo, workers):
                bar.update(_result["status"] == "ok")
            todo = [job for job in todo if not _finished(job)]
            if not todo:
                break


def _finished(job: Job) -> bool:
    return (job.result or {}).get("status") == "ok"


def _here(jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    """Results as they come; a worker that was killed takes nothing with it but the job at hand."""
    deaths, tried = 0, set()
    while left := [job for job in jobs if job.folder not in tried and not _finished(job)]:
        before = {job.folder: job.result for job in left}
        try:
            with Parallel(n_jobs=min(workers, len(left)), return_as="generator_unordered", batch_size=1) as parallel:
                for result in parallel(delayed(run_job)(job) for job in left):
                    deaths = 0
                    yield result
            return
        except TerminatedWorkerError as error:
            deaths += 1
            if deaths == DEATHS:
                raise ConfigError(
                    f"Processes of the sweep keep being killed, {deaths} times now: is memory short?"
                ) from error
            tried |= {job.folder for job in left if job.result != before[job.folder]}  # failed, not killed


def _on_dask(jobs: list[Job], address: str) -> Iterator[dict[str, Any]]:
    """Results as they come from a cluster whose workers see the same files."""
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise ConfigError("--dask needs the package distributed: pip install 'varec[dask]'.") from error
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--dask {address}: no Dask scheduler answers there ({error}).") from error
    with client:
        futures = client.map(run_job, jobs, pure=False, retries=DEATHS)
        try:
            for _future, result in as_completed(futures, with_results=True):
                yield result
        except KilledWorker as error:
            raise ConfigError("Workers of the Dask cluster keep being killed: is memory short?") from error
