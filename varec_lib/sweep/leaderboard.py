"""What came of a sweep: a table, which parameter mattered, and a page with both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from varec_lib.files import locked, replacing
from varec_lib.sweep.jobs import Job

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

    The share is the correlation ratio (eta squared), 0 to 1, within the models that a notebook trains side by side;
    random numbers are cut into four equally full ranges. With few jobs a parameter that does nothing explains a part as
    well: `by_chance` is what it would in the mean.
    """
    measure = _measure(table)
    done = table[table[measure].notna()] if measure else table[:0]
    models = done["model"].fillna("") if "model" in done else pd.Series("", done.index)
    rows = []
    for name in parameters:
        if name not in done or done[name].nunique() < 2:
            continue
        values = done[name]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 6:
            values = pd.qcut(values, 4, duplicates="drop")
        values = values.astype(str)
        within = done[measure] - done.groupby(models)[measure].transform("mean")
        groups = within.groupby(values, sort=False)
        spread, freedom = (within**2).sum(), len(done) - models.nunique()
        explained = (groups.size() * groups.mean() ** 2).sum() / spread if spread else 0.0
        chance = min((groups.ngroups - 1) / freedom, 1.0) if freedom else 1.0
        means = ", ".join(
            f"{value}: {mean:.3f}" for value, mean in done.groupby(values, sort=False)[measure].mean().items()
        )
        rows.append({"parameter": name, "explains": explained, "by_chance": chance, f"mean {measure}": means})
    columns = ["parameter", "explains", "by_chance", f"mean {measure}"]
    return pd.DataFrame(rows, columns=columns).sort_values("explains", ascending=False, ignore_index=True)


def _measure(table: pd.DataFrame) -> str | None:
    """What jobs are compared by: the first of `MEASURES` that at least two of them have."""
    return next((name for name in MEASURES if name in table and table[name].notna().sum() > 1), None)


def write_leaderboard(jobs: list[Job], out: Path, about: str = "") -> pd.DataFrame:
    """Writes `leaderboard.csv` and `leaderboard.html` into `out`, and returns the table."""
    from varec_lib.html import picture, write_page

    with locked(out / ".lock"):  # two sweeps of one folder may end together
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
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value)


def _pictures(table: pd.DataFrame, parameters: list[str]) -> dict[str, "Figure"]:
    """For each parameter that varies, top-1 against its values, a dot per trained model."""
    from varec_lib.plots import swept

    measure = _measure(table)
    done = table[table[measure].notna()] if measure else table[:0]
    models = done["model"].fillna("") if "model" in done else pd.Series("", done.index)
    varying = [name for name in parameters if name in done and done[name].nunique() > 1]
    return {name: swept(done[name], done[measure], models, measure.replace("_top1", " top-1")) for name in varying}
