"""The house rules: imports run one way, files are small, what is public explains itself."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "varec_lib"
ORDER = [
    "errors",
    "config",
    "plots",
    "data",
    "models",
    "evaluation",
    "training",
    "predictor",
    "course",
    "environment",
    "commands",
    "handlers",
    "cli",
]
FILES = sorted(LIBRARY.rglob("*.py"))
NAMES = [str(file.relative_to(LIBRARY)) for file in FILES]


def chapter(file: Path) -> str:
    return file.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported_chapters(source: str) -> set[str]:
    """Chapters of varec_lib that a module imports anywhere, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module lies"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("varec_lib.")} - {"__version__"}


def test_files_were_found():
    assert {"cli.py", "data/decode.py", "models/r3d18.py", "training/loop.py"} <= set(NAMES)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_imports_run_one_way(file):
    if file == LIBRARY / "__init__.py":
        assert imported_chapters(file.read_text(encoding="utf-8")) == set()
        return
    own = chapter(file)
    assert own in ORDER, f"{own} has no place in the order of chapters yet"
    later = imported_chapters(file.read_text(encoding="utf-8")) - set(ORDER[: ORDER.index(own) + 1])
    assert not later, f"{file.name} imports {later}, which come after {own}"


def test_the_search_for_imports_sees_all_kinds():
    source = "import varec_lib.cli\nfrom varec_lib import plots\ndef f():\n    from varec_lib.data.ucf101 import x\n"
    assert imported_chapters(source) == {"cli", "plots", "data"}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_file_is_small_and_named_after_what_it_holds(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) < 300
    assert file.stem not in ("utils", "helpers", "util", "helper", "misc", "common")


def public_definitions(tree: ast.Module) -> list[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_module_and_everything_public_have_docstrings(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    bare = [node.name for node in public_definitions(tree) if not ast.get_docstring(node)]
    assert not bare
