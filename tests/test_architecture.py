"""The house rules: imports run one way, files are small, what is public explains itself."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "varec_lib"
# Whoever imports stands below: chapters, and the modules of each.
ORDER = """
    errors files download config plots html
    diagrams: board files networks families
    data: thinning sampling stick_motion stick_figures folders ucf101 hmdb51 archive ucf101_source
        picture video_file frame_folder video facts preview manifest class_folders clip_spec dataset
        recordings findings check real_clips stick_actions looks duplicates shortcuts doctor store_writer store
    models: device precision registry frame_average novelty checkpoint cnn_lstm r3d18 i3d flax_i3d
        packages weights backbone pretrained export __init__
    evaluation: intervals metrics calibration figures apply temporal zero_shot compare explain report
    training: experiment multigrid schedule step interrupt report state feed features setup loop bench
    predictor: windows decoder predict live sandbox page.samples page.answer page.choices page.upload page.queue
        page.messages page.widget page.recorder page.live page.kernels page.server page.app
    course environment
    exercises: registry chapters_1_to_3 chapters_4_to_7 __init__
    sweep: __init__ grid jobs runner leaderboard
    commands: output train report evaluate compare export predict weights weights_get data_demo data_ucf101
        data_from_folders data_check data_store bench env course sweep app
    cli
"""
FILES = sorted(LIBRARY.rglob("*.py"))
NAMES = [str(file.relative_to(LIBRARY)) for file in FILES]


def places() -> dict[str, int]:
    """The place of every module in the order, by its dotted name."""
    names, chapter = [], ""
    for line in ORDER.strip().splitlines():
        if ":" in line or not line.startswith("        "):
            chapter, _, line = line.rpartition(":")
            chapter = f"{chapter.strip()}." if chapter else ""
        names += [f"{chapter}{name}" for name in line.split()]
    return {name: place for place, name in enumerate(names)}


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(LIBRARY).with_suffix("").parts)


def imported_modules(source: str, known: set[str]) -> set[str]:
    """Modules of varec_lib that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module lies"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("varec_lib.") for name in found} & known


def test_files_were_found():
    assert {"cli.py", "data/video.py", "models/r3d18.py", "training/loop.py"} <= set(NAMES)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_imports_run_one_way(file):
    place, own = places(), dotted(file)
    imported = imported_modules(file.read_text(encoding="utf-8"), set(place))
    if own.endswith("__init__") and own not in place:
        assert not imported
        return
    assert own in place, f"{own} has no place in the order yet"
    below = {name for name in imported if place[name] >= place[own]}
    assert not below, f"{own} imports {below}, which do not stand above it"


def test_the_order_names_nothing_that_is_not_there():
    assert set(places()) <= {dotted(file) for file in FILES}


def test_the_search_for_imports_sees_all_kinds():
    source = "import varec_lib.cli\nfrom varec_lib import plots\ndef f():\n    from varec_lib.data.ucf101 import x\n"
    assert imported_modules(source, set(places())) == {"cli", "plots", "data.ucf101"}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_file_is_small_and_named_after_what_it_holds(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300
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


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_functions_are_short(file):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    assert not [node.name for node in functions if node.end_lineno - node.lineno >= 50]
