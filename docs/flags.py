"""Writes flags.md, the page of `varec train`'s flags, from the fields of `TrainConfig` and the sentences below them.

python docs/flags.py
"""

import ast
import inspect
from dataclasses import fields
from pathlib import Path

from varec_lib.config import TrainConfig, changeable_on_resume

HEAD = """# Flags of `varec train`

Generated from `varec_lib/config.py` by `python docs/flags.py`. Underscores and hyphens are both accepted; switches have
a `--no-` form. The notebooks' parameters and the fields of `TrainConfig` in Python have the same names (`--data` is
`data_dir` there). A resumed run keeps its settings; those marked R may be given anew.

| flag | default | | |
|---|---|---|---|
"""


def sentences() -> dict[str, str]:
    """The docstring below each field."""
    (tree,) = ast.parse(inspect.getsource(TrainConfig)).body
    pairs = zip(tree.body, tree.body[1:], strict=False)
    return {
        field.target.id: " ".join(after.value.value.split())
        for field, after in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr)
    }


def page() -> str:
    """The page as Markdown."""
    ordinary, said, resumable = TrainConfig(), sentences(), changeable_on_resume()
    rows = []
    for field in fields(TrainConfig):
        value = getattr(ordinary, field.name) if field.name != "experiment_name" else "the model's name"
        if isinstance(value, bool):
            shown = "on" if value else "off"
        elif isinstance(value, tuple):
            shown = " ".join(map(str, value))
        else:
            shown = "" if value is None else str(value)
        flag = "data" if field.name == "data_dir" else field.name
        text = said[field.name].replace("|", "\\|")
        rows.append(f"| `--{flag}` | {shown} | {text} | {'R' if field.name in resumable else ''} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
