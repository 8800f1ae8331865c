"""Which jobs a sweep has: the YAML file that names parameters of a notebook and their values."""

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from varec_lib.course import find_notebooks, fitted, parameters_of
from varec_lib.errors import ConfigError

Values = dict[str, Any]  # by name of a notebook's parameter; scalars are text, as they stand in the file
Choices = Annotated[list[Any], Field(min_length=1)]
Number = Annotated[int | float, Field(allow_inf_nan=False)]


class Between(BaseModel):
    """A range to draw from: whole numbers where both ends are."""

    model_config = ConfigDict(extra="forbid")

    low: Number
    high: Number
    scale: Literal["linear", "log"] = "linear"

    def draw(self, rng: np.random.Generator) -> int | float:
        """One value of the range, both ends included."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.scale == "log":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        elif whole:
            return int(rng.integers(self.low, self.high + 1))
        else:
            value = rng.uniform(self.low, self.high)
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
    seed: int = Field(default=0, ge=0)
    parameters: dict[str, Choices | Between]


class Grid(BaseModel):
    """A sweep file: jobs are the product of `grid`, then those of `list`, then random ones, each with `common`."""

    model_config = ConfigDict(extra="forbid")

    about: str = ""
    notebook: str = ""
    common: Values = {}
    grid: dict[str, Choices] = {}
    runs: list[Values] = Field(default=[], alias="list")
    random: Draws | None = None

    def jobs(self) -> list[Values]:
        """The parameters of every job, in the order of the file."""
        found = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        found = (found if self.grid else []) + self.runs
        if self.random:
            rng = np.random.default_rng(self.random.seed)
            for _ in range(self.random.draws):
                found.append({name: _drawn(of, rng) for name, of in self.random.parameters.items()})
        return [self.common | values for values in found or [{}]]


def _drawn(of: list[Any] | Between, rng: np.random.Generator) -> Any:
    return of.draw(rng) if isinstance(of, Between) else of[rng.integers(len(of))]


def read_grid(file: Path, notebook: str = "") -> tuple[Path, list[Values], Grid]:
    """The notebook of a sweep, the parameters of its jobs as that notebook takes them, and the file's contents.

    Each combination comes once. A parameter that only some jobs name has the notebook's own value in the others.

    Raises `ConfigError` for a file that is not as described, a notebook that is not there, and for a parameter that the
    notebook does not have or a value that does not fit it: before anything runs.
    """
    try:
        grid = Grid.model_validate(yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader) or {})
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
    path = Path(name).absolute() if name.endswith(".ipynb") else find_notebooks([name])[0]
    if not path.is_file():
        raise ConfigError(f"{path}: no such notebook.")
    known = parameters_of(path)
    jobs = [fitted({k: _numbers(v) for k, v in job.items()}, known, f"{file}:") for job in grid.jobs()]
    own = {name: known[name] for job in jobs for name in job if known[name] is not None}
    jobs = [own | job for job in jobs]
    return path, [job for place, job in enumerate(jobs) if job not in jobs[:place]], grid


def _numbers(value: Any) -> Any:
    """A value of a parameter; the numbers in a list as numbers. Text is read when it is known what it is for."""
    if not isinstance(value, list):
        return value
    read = (yaml.safe_load(part) if isinstance(part, str) else _numbers(part) for part in value)
    return [found if type(found) in (int, float, list) else part for found, part in zip(read, value, strict=True)]
