"""What came of a sweep: a table, which parameter mattered, and a page with both."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from varec_lib.files import replacing
from varec_lib.sweep.jobs import Job

MEASURES = ("val_top1", "test_top1")  # the first that is there decides the order: choices are made on validation


def leaderboard(jobs: list[Job]) -> pd.DataFrame:
    """A row per trained model, or per job that trained none, the best first; what is not done or failed comes last."""
    rows = []
    for job in jobs:
        result = job.result or {"status": "not done", "trained": []}
        plain = {name: str(value) if isinstance(value, list | dict) else value for name, value in job.values.items()}
        about = {name: result.get(name) for name in ("status", "seconds", "headline", "attempts")}
        rows += [plain | trained | about | {"job": job.folder.name} for trained in result["trained"] or [{}]]
    table = pd.DataFrame(rows)
    order = [name for name in MEASURES if name in table and table[name].notna().any()]
    return table.sort_values(order, ascending=False, na_position="last", kind="stable").reset_index(drop=True)


def what_mattered(table: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """Of each parameter that varies: the share of the spread of top-1 that its values explain, and their means.

    The share is the correlation ratio (eta squared), 0 to 1; random numbers are cut into four equally full ranges. With
    few jobs a parameter that does nothing explains a part as well: `by_chance` is what it would in the mean.
    """
    measure = _measure(table)
    done = table[table[measure].notna()] if measure else table[:0]
    rows = []
    for name in parameters:
        if name not in done or done[name].nunique() < 2:
            continue
        values = done[name]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 6:
            values = pd.qcut(values, 4, duplicates="drop")
        groups = done.groupby(values.astype(str), sort=False)[measure]
        spread = ((done[measure] - done[measure].mean()) ** 2).sum()
        between = (groups.size() * (groups.mean() - done[measure].mean()) ** 2).sum()
        chance = (groups.ngroups - 1) / (len(done) - 1)
        means = ", ".join(f"{value}: {mean:.3f}" for value, mean in groups.mean().items())
        explained = between / spread if spread else 0.0
        rows.append({"parameter": name, "explains": explained, "by_chance": min(chance, 1.0), f"mean {measure}": means})
    columns = ["parameter", "explains", "by_chance", f"mean {measure}"]
    return pd.DataFrame(rows, columns=columns).sort_values("explains", ascending=False, ignore_index=True)


def _measure(table: pd.DataFrame) -> str | None:
    """What jobs are compared by: the first of `MEASURES` that at least two of them have."""
    return next((name for name in MEASURES if name in table and table[name].notna().sum() > 1), None)


def write_leaderboard(jobs: list[Job], out: Path, about: str = "") -> pd.DataFrame:
    """Writes `leaderboard.csv` and `leaderboard.html` into `out`, and returns the table."""
    from varec_lib.html import picture, write_page

    table = leaderboard(jobs)
    parameters = list(dict.fromkeys(name for job in jobs for name in job.values))
    mattered = what_mattered(table, parameters)
    with replacing(out / "leaderboard.csv") as partial:
        table.to_csv(partial, index=False)
    statuses = [(job.result or {}).get("status", "not done") for job in jobs]
    write_page(
        out / "leaderboard.html",
        "leaderboard.html",
        title=f"Sweep of {jobs[0].notebook.stem}",
        summary=f"{len(jobs)} jobs, {statuses.count('ok')} done. {about}".strip(),
        columns=list(table.columns),
        rows=[[_shown(value) for value in row] for row in table.itertuples(index=False)],
        notebooks=[f"jobs/{job}/notebook.ipynb" for job in table["job"]],
        mattered=mattered.to_dict("split")["data"],
        pictures=[(name, picture(figure)) for name, figure in _pictures(table, parameters).items()],
    )
    return table


def _shown(value: Any) -> str:
    """A value of the table as people read it."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pictures(table: pd.DataFrame, parameters: list[str]) -> dict[str, Any]:
    """For each parameter that varies, top-1 against its values, a dot per trained model."""
    import matplotlib.pyplot as plt

    from varec_lib.plots import ACCENT, BAD, GOOD, MUTED, STYLE

    measure = _measure(table)
    figures = {}
    for name in parameters if measure else []:
        done = table[table[measure].notna() & table[name].notna()]
        if done[name].nunique() < 2:
            continue
        with plt.rc_context(STYLE):
            figure, axis = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
            models = done["model"].dropna().unique() if "model" in done else []
            for model, colour, mark in zip(models, (ACCENT, BAD, GOOD, MUTED), "os^D", strict=False):
                part = done[done["model"] == model]
                axis.plot(part[name].astype(str), part[measure], mark, color=colour, alpha=0.8, label=model)
            axis.set(xlabel=name, ylabel=measure.replace("_top1", " top-1"))
            axis.tick_params(axis="x", rotation=30 if done[name].nunique() > 4 else 0)
            axis.grid(alpha=0.25)
            if len(models) > 1:
                axis.legend(frameon=False)
        figures[name] = figure
    return figures
