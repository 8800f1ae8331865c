"""`varec sweep`: runs a notebook many times with other parameters, side by side."""

import os
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import OptionalPath, Settings, UserPath, Whole


@dataclass
class Options(Settings):
    """Run a notebook with every combination of parameters that a YAML file names; goes on where it was stopped."""

    grid: Positional[UserPath]
    """The YAML file: `grid`, `list` or `random` parameters, and the `notebook`."""
    notebook: str = ""
    """Number, name or file of the notebook, if not the one that the file names."""
    out: OptionalPath = None
    """Folder of jobs and leaderboard; runs/sweep/NAME-OF-THE-FILE if not given."""
    jobs: Annotated[int, Ge(1)] = 2
    """Jobs at the same time; each gets its share of the processor's threads."""
    retries: Whole = 1
    """How often a job that failed is tried again."""
    dask: str = ""
    """Address of a Dask scheduler (tcp://HOST:8786) whose workers run the jobs; they must see the same files."""


def run(options: Options) -> int:
    """Runs what is not finished and writes the leaderboard; 1 where a job failed."""
    from varec_lib.commands.output import made_possible
    from varec_lib.sweep.grid import read_grid
    from varec_lib.sweep.jobs import jobs_of
    from varec_lib.sweep.leaderboard import write_leaderboard
    from varec_lib.sweep.runner import run_jobs

    notebook, values, grid = read_grid(options.grid, options.notebook)
    out = (options.out or Path("runs") / "sweep" / options.grid.stem).absolute()
    made_possible(out / "leaderboard.csv")
    threads = None if options.dask else max((os.cpu_count() or 1) // options.jobs, 1)  # other machines have others
    jobs = jobs_of(notebook, values, out, threads)
    print(f"{len(jobs)} jobs of {notebook.stem}, {sum(bool(job.result) for job in jobs)} of them with a result already")
    try:
        run_jobs(jobs, workers=options.jobs, retries=options.retries, dask=options.dask)
    finally:
        table = write_leaderboard(jobs, out, grid.about)
    print(table.drop(columns=["headline", "job"]).head(10).to_string())
    failed = [job for job in jobs if (job.result or {}).get("status") != "ok"]
    for job in failed:
        print(f"{job.folder}: {(job.result or {}).get('status', 'not done')}")
    print(f"Wrote {out / 'leaderboard.html'} and leaderboard.csv.")
    return 1 if failed else 0
