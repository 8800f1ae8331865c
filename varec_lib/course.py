"""Runs the notebooks of the course as papermill jobs, one after the other."""

import ast
import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from pydantic import TypeAdapter, ValidationError

from varec_lib.config import PROJECT_ROOT, TrainConfig, UserPath
from varec_lib.data.stick_actions import generate
from varec_lib.errors import ConfigError

NOTEBOOKS = PROJECT_ROOT / "notebooks"


@dataclass(frozen=True)
class NotebookRun:
    """How one notebook ended: `status` is "ok" or what went wrong; `headline` its main result in a line."""

    notebook: str
    status: str
    seconds: float
    headline: str


def project_path(path: Path | str) -> Path:
    """A path of a notebook parameter: absolute ones as they are, others from the project folder.

    So a notebook finds and leaves its files in the same place wherever it is started from.
    """
    path = Path(path).expanduser()
    return path if path.is_absolute() else PROJECT_ROOT / path


def dataset_folder(data_dir: Path | str) -> Path:
    """The absolute folder of a notebook's `data_dir`; the embedded dataset is drawn first if it is not there yet."""
    folder = project_path(data_dir)
    return generate(folder) if folder == PROJECT_ROOT / "data" / "stick_actions" else folder


def recipe(parameters: Mapping[str, Any], **more: Any) -> TrainConfig:
    """The settings that a notebook's parameters are, and `more` of them; `parameters` is the notebook's `globals()`.

    Parameters have the names of `TrainConfig`'s fields; other variables are passed over. Folders are taken from the
    project folder, and the embedded dataset is drawn if it is wanted and not there yet.
    """
    names = {field.name for field in fields(TrainConfig)}
    values = {name: value for name, value in parameters.items() if name in names} | more
    values |= {name: project_path(values[name]) for name in ("experiments_dir", "store_dir") if name in values}
    values["data_dir"] = dataset_folder(values["data_dir"])
    if "weights" in values:
        values["weights"] = project_path(values["weights"]) if values["weights"] else None
    return TrainConfig(**values)


def find_notebooks(names: list[str] | None = None) -> list[Path]:
    """All numbered notebooks, or those whose file name starts with one of `names` ("02", "02_cnn_lstm")."""
    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    for name in names or []:
        if not any(notebook.stem.startswith(name) for notebook in notebooks):
            known = ", ".join(notebook.stem for notebook in notebooks)
            raise ConfigError(f"There is no notebook {name!r}. Known: {known}.")
    return [n for n in notebooks if not names or any(n.stem.startswith(name) for name in names)]


def parameters_of(notebook: Path) -> dict[str, Any]:
    """The parameters of a notebook and their values in it; None where one is computed there."""
    try:
        found = papermill.inspect_notebook(_literal(notebook))
    except ValueError as error:
        raise ConfigError(f"{notebook}: names no kernel. Save it once in JupyterLab.") from error
    values = dict.fromkeys(found)  # None where it is an expression
    for name, parameter in found.items():
        with contextlib.suppress(ValueError, SyntaxError):
            values[name] = ast.literal_eval(parameter["default"])
    return values


def parse_parameters(pairs: list[tuple[str, str]], notebooks: list[Path]) -> dict[Path, dict[str, Any]]:
    """The parameters that each notebook takes of `-p name value` pairs, as the notebook's own values are.

    Raises `ConfigError` for a name that no chosen notebook has (papermill itself would only warn), and for a value that
    does not fit.
    """
    known = {notebook: parameters_of(notebook) for notebook in notebooks}
    values = fitted(dict(pairs), {name: value for names in known.values() for name, value in names.items()})
    return {notebook: {k: v for k, v in values.items() if k in names} for notebook, names in known.items()}


def fitted(given: Mapping[str, Any], known: Mapping[str, Any], where: str = "-p") -> dict[str, Any]:
    """Values for parameters of a notebook, of the types that it takes; `known` has its own values by name.

    Text is read as Python or YAML people write it (`False`, `no`, `1e-3`, `[64, 64]`, `None`); paths are looked for
    where the command was typed. Raises `ConfigError` for a name that is not known and a value that does not fit, which
    came from `where`.
    """
    values = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"No chosen notebook has a parameter {name!r}. Known: {', '.join(sorted(known))}.")
        text = value if isinstance(value, str) else repr(value)
        try:
            values[name] = _value(name, text, known[name])
        except ValidationError as error:
            said = f"the notebook has {name} = {known[name]!r} ({error.errors()[0]['msg']})"
            raise ConfigError(f"{where} {name} {text}: does not fit; {said}.") from error
    return values


def _value(name: str, text: str, default: Any) -> Any:
    """What the text says, of the type of the setting with that name, or else of the notebook's default."""
    kind = next((field.type for field in fields(TrainConfig) if field.name == name), type(default))
    if kind is type(None):
        kind = Any
    if name.endswith("_dir") or name == "server_files":
        kind = UserPath
    readings = [text]
    if kind is not str:
        with contextlib.suppress(ValueError, SyntaxError):
            readings.insert(0, ast.literal_eval(text))
    for reading in readings:
        try:
            value = TypeAdapter(kind).validate_python(reading)
        except ValidationError as error:
            refused = error
            continue
        if isinstance(value, Path) and text:
            return str(value.absolute() if value.exists() or name != "weights" else value)  # else a name of weights
        return list(value) if isinstance(value, tuple) else value if text else ""
    raise refused


def run_course(parameters: dict[Path, dict[str, Any]], output_dir: Path) -> list[NotebookRun]:
    """Runs each notebook with its parameters; the executed copies land in `output_dir`, also when a cell fails."""
    output_dir = output_dir.resolve()  # papermill changes the working directory
    output_dir.mkdir(parents=True, exist_ok=True)
    return [_run(notebook, values, output_dir / notebook.name) for notebook, values in parameters.items()]


def _run(notebook: Path, values: dict[str, Any], output: Path) -> NotebookRun:
    print(f"\n== {notebook.stem}", flush=True)
    return run_notebook(notebook, values, output, stdout_file=sys.stdout)


def run_notebook(notebook: Path, values: dict[str, Any], output: Path, **options: Any) -> NotebookRun:
    """Runs a notebook in the folder of its executed copy, `output`, with `options` of papermill.

    A cell that fails and a kernel that dies are told in the status.
    """
    start, status = time.perf_counter(), "ok"
    try:
        papermill.execute_notebook(
            _literal(notebook), _literal(output), values, kernel_name="python3", cwd=str(output.parent), **options
        )
    except PapermillExecutionError as error:
        status = f"failed in cell {error.exec_count}: {error.ename}: {error.evalue}".splitlines()[0]
        if "stdout_file" in options:
            print(error)
    except DeadKernelError:
        status = "failed: its kernel died (was memory short?)"
    return NotebookRun(notebook.stem, status, time.perf_counter() - start, _headline(output))


def _literal(path: Path) -> str:
    """A path for papermill, which would fill in parameters between braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _headline(executed: Path) -> str:
    """The text that the cell tagged `headline` printed, or nothing."""
    for cell in nbformat.read(executed, as_version=4).cells:
        if "headline" in cell.metadata.get("tags", []):
            return " ".join(o.get("text", "") for o in cell.get("outputs", []) if o.output_type == "stream").strip()
    return ""


def closing_table(runs: list[NotebookRun]) -> str:
    """The runs as a text table."""
    table = pd.DataFrame([vars(run) for run in runs])
    table["seconds"] = table["seconds"].map("{:.0f}".format)
    columns = [[name, *table[name]] for name in table]
    widths = [max(map(len, column)) for column in columns]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]
    return "\n".join(lines)


def without_run_traces(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook as it is committed: without progress bars, stderr, widget state and run times.

    Changes and returns the notebook.
    """
    for key in ("widgets", "papermill"):
        notebook.metadata.pop(key, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")})
        if cell.cell_type == "code":
            cell.outputs = _joined([output for output in cell.outputs if not _is_trace(output)])
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    return notebook


def _is_trace(output: nbformat.NotebookNode) -> bool:
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Prints that a progress bar stood between become one output again."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def solutions_of(notebooks: list[Path]) -> list[Path]:
    """The solutions to the exercises of these notebooks, and with chapter 5 the museum of mistakes."""
    candidates = [n.parent / "solutions" / f"{n.stem[:2]}_solutions.ipynb" for n in notebooks]
    candidates += [n.parent / "museum" / "bug_museum.ipynb" for n in notebooks if n.stem.startswith("05")]
    return [solutions for solutions in candidates if solutions.is_file()]


def refresh(notebook: Path) -> None:
    """Runs a notebook with its own parameters and saves it in place with the outputs of this clean run."""
    executed = papermill.execute_notebook(str(notebook), None, kernel_name="python3", cwd=str(notebook.parent))
    nbformat.write(without_run_traces(executed), notebook)
