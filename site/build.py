"""Builds the site from notebooks, docs and docstrings into build/site: `python site/build.py`, or `make site`.

Sphinx wants everything in one folder, so the pages are laid out in build/site_source first, in the same places as in
the project: links between them stay as they are. Nothing is run; notebooks show their committed outputs.
"""

import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "build" / "site_source", ROOT / "build" / "site"
PARTS = {  # what the pages of the library's reference are called, and its packages and modules
    "Data": "data",
    "Models": "models",
    "Training": "training",
    "Evaluation": "evaluation",
    "Prediction": "predictor",
    "Sweeps": "sweep",
    "Exercises": "exercises",
    "Diagrams": "diagrams",
    "Course, settings, pictures": "",
}
INDEX = """```{include} README.md
```

```{toctree}
:hidden:
:caption: The course

%(chapters)s
```

```{toctree}
:hidden:
:caption: Solutions

%(solutions)s
```

```{toctree}
:hidden:
:caption: How do I ...

docs/how_do_i
docs/your_videos
docs/your_model
docs/training
docs/sweeps
docs/evaluation
docs/predictor
docs/export
docs/pretrained
docs/troubleshooting
docs/coming_from
```

```{toctree}
:hidden:
:caption: Reference

docs/results
gallery
docs/flags
docs/architecture
%(reference)s
CONTRIBUTING
CHANGELOG
```
"""


def notebooks() -> None:
    """Copies the notebooks; cells that are closed in JupyterLab are closed on the site, too."""
    for file in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        for cell in notebook.cells:
            if cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        target = SOURCE / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    shutil.copytree(ROOT / "notebooks" / "label_maps", SOURCE / "notebooks" / "label_maps")


def reference() -> list[str]:
    """Writes a page for each part of the library, from its docstrings; returns the pages' names."""
    names = []
    for title, package in PARTS.items():
        folder = ROOT / "varec_lib" / package
        files = sorted(folder.glob("*.py") if not package else folder.rglob("*.py"))
        modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.stem[0] != "_"]
        sections = [f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in modules]
        name = f"reference/{package or 'course'}"
        (SOURCE / name).parent.mkdir(exist_ok=True)
        (SOURCE / f"{name}.md").write_text(f"# {title}\n\n" + "\n".join(sections), encoding="utf-8")
        names.append(name)
    return names


def gallery() -> None:
    """Writes a page of all pictures that the chapters show, with their alternative texts as captions."""
    parts = ["# Gallery\n\nThe pictures of the chapters, each of which a cell draws.\n"]
    for file in sorted((ROOT / "notebooks").glob("0*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        parts.append(f"## {title}\n")
        for number, cell in enumerate(notebook.cells):
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alt = output.metadata["image/png"]["alt"]
                    picture = f"gallery/{file.stem}_{number}.png"
                    _write_png(SOURCE / picture, output.data["image/png"])
                    parts.append(f"[![{alt}]({picture})](notebooks/{file.name})\n\n*{alt}*\n")
    (SOURCE / "gallery.md").write_text("\n".join(parts), encoding="utf-8")


def _write_png(file: Path, text: str) -> None:
    import base64

    file.parent.mkdir(exist_ok=True)
    file.write_bytes(base64.b64decode(text))


def main() -> int:
    """Lays out the source, builds it with warnings as errors, and says where the site is."""
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for name in ("docs", "figures", "sweeps"):
        shutil.copytree(ROOT / name, SOURCE / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, SOURCE / name)
    shutil.copy(ROOT / "site" / "conf.py", SOURCE / "conf.py")
    shutil.copytree(ROOT / "site" / "_static", SOURCE / "_static")
    notebooks()
    gallery()
    chapters = sorted(f"notebooks/{file.stem}" for file in (ROOT / "notebooks").glob("0*.ipynb"))
    solutions = sorted(
        f"notebooks/solutions/{file.stem}" for file in (ROOT / "notebooks" / "solutions").glob("*.ipynb")
    )
    parts = {"chapters": [*chapters, "notebooks/museum/bug_museum"], "solutions": solutions, "reference": reference()}
    index = INDEX % {name: "\n".join(pages) for name, pages in parts.items()}
    (SOURCE / "index.md").write_text(index, encoding="utf-8")
    failed = sphinx(["-W", "--keep-going", "-q", "-j", "auto", "-b", "html", str(SOURCE), str(SITE)])
    if not failed:
        print(f"Open {SITE.relative_to(ROOT) / 'index.html'} in a browser.")
    return failed


if __name__ == "__main__":
    sys.exit(main())
