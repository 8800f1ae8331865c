"""Which jobs a sweep has: the YAML file that names parameters of a notebook and their values."""

import itertools
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from varec_lib.course import find_notebooks, fitted, parameters_of
from varec_lib.errors import ConfigError

Values = dict[str, Any]  # by name of a notebook's parameter


class Between(BaseModel):
    """A range to draw from: whole numbers where both ends are."""

    model_config = ConfigDict(extra="forbid")

    low: int | float
    high: int | float
    scale: Literal["linear", "log"] = "linear"

    def draw(self, rng: np.random.Generator) -> int | float:
        """One value of the range, both ends included."""
        if self.scale == "log":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return round(value) if whole else float(f"{value:.4g}")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Between":
        if self.low > self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError("low must be at most high, and above 0 on a log scale")
        return self


class Draws(BaseModel):
    """Random values: of each parameter one of a list, or a number between `low` and `high`, evenly or by its `log`."""

    model_config = ConfigDict(extra="forbid")

    draws: int = Field(ge=1)
    seed: int = 0
    parameters: dict[str, list[Any] | Between]


class Grid(BaseModel):
    """A sweep file: jobs are the product of `grid`, then those of `list`, then random ones, each with `common`."""

    model_config = ConfigDict(extra="forbid")

    about: str = ""
    notebook: str = ""
    common: Values = {}
    grid: dict[str, list[Any]] = {}
    runs: list[Values] = Field(default=[], alias="list")
    random: Draws | None = None

    def jobs(self) -> list[Values]:
        """The parameters of every job, each combination once, in the order of the file."""
        found = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        found = (found if self.grid else []) + self.runs
        if self.random:
            rng = np.random.default_rng(self.random.seed)
            for _ in range(self.random.draws):
                found.append({name: _drawn(of, rng) for name, of in self.random.parameters.items()})
        jobs = [self.common | values for values in found or [{}]]
        return [job for place, job in enumerate(jobs) if job not in jobs[:place]]


def _drawn(of: list[Any] | Between, rng: np.random.Generator) -> Any:
    return of.draw(rng) if isinstance(of, Between) else of[rng.integers(len(of))]


def read_grid(file: Path, notebook: str = "") -> tuple[Path, list[Values], Grid]:
    """The notebook of a sweep, the parameters of its jobs as that notebook takes them, and the file's contents.

    Raises `ConfigError` for a file that is not as described, a notebook that is not there, and for a parameter that the
    notebook does not have or a value that does not fit it: before anything runs.
    """
    try:
        grid = Grid.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no YAML ({' '.join(str(error).split())}).") from error
    except ValidationError as error:
        first = error.errors()[-1]  # of a value that is neither a list nor a range, what is wrong with the range
        raise ConfigError(f"{file}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}.") from error
    name = notebook or grid.notebook
    if not name:
        raise ConfigError(f"{file}: names no notebook. Say `notebook: 02_cnn_lstm` there, or --notebook.")
    path = Path(name) if name.endswith(".ipynb") else find_notebooks([name])[0]
    if not path.is_file():
        raise ConfigError(f"{path}: no such notebook.")
    known = parameters_of(path)
    return path, [fitted(job, known) for job in grid.jobs()], grid
