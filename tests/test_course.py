"""The runner of the course: parameters, failures, the closing table."""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from varec_lib import course
from varec_lib.cli import main
from varec_lib.data.real_clips import REAL_CLASSES
from varec_lib.errors import ConfigError

PARAMETERS = """
number = 1
wrong = False
some_dir = 'x'
text = "a"
augment = True
lr = 5e-4  # as TrainConfig has them
epochs = 3
frame_size = [64, 64]
weights = ""
plugin = ""
server_files = "data"
experiment_name = ""
"""


@pytest.fixture
def notebook(tmp_path):
    """A notebook with two parameters; it fails if `wrong` is true."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("assert not wrong, 'as asked'"),
        nbformat.v4.new_code_cell("print('number', number, some_dir)", metadata={"tags": ["headline"]}),
    ]
    path = tmp_path / "notebooks" / "01_example.ipynb"
    path.parent.mkdir()
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def value_of(notebook: Path, name: str, text: str) -> object:
    return course.parse_parameters([(name, text)], [notebook])[notebook][name]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", "07", 7), ("wrong", "False", False), ("wrong", "no", False), ("wrong", "off", False),
        ("wrong", "true", True), ("wrong", "0", False), ("text", "07", "07"), ("text", "None", "None"),
        ("augment", "False", False), ("lr", ".001", 0.001), ("lr", "1e-3", 0.001), ("frame_size", "[32, 48]", [32, 48]),
        ("frame_size", "(32, 48)", [32, 48]), ("weights", "None", None), ("weights", "", ""),
        ("weights", "i3d_kinetics400", "i3d_kinetics400"), ("experiment_name", "3", "3"),
    ],
)  # fmt: skip
def test_values_are_read_as_people_write_them(notebook, name, text, value):
    found = value_of(notebook, name, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("number", "[2, 3]"), ("number", "four"), ("number", "1.5"), ("wrong", "perhaps"), ("frame_size", "32"),
        ("frame_size", "[8, 32]"), ("lr", "-1"), ("lr", "fast"), ("epochs", "0"), ("augment", "2"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_by_name(notebook, name, text):
    with pytest.raises(ConfigError, match=f"{name} .*{re.escape(text)}"):
        value_of(notebook, name, text)


@pytest.mark.parametrize("name", ["some_dir", "weights", "plugin", "server_files"])
def test_files_are_looked_for_where_the_command_is_typed(notebook, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").touch()
    assert value_of(notebook, name, "mine.pt") == str(tmp_path / "mine.pt")
    assert value_of(notebook, name, "~/mine.pt") == str(Path.home() / "mine.pt")


def test_folders_become_absolute_from_where_the_command_is_typed(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert course.parse_parameters([("some_dir", "here")], [notebook])[notebook] == {"some_dir": str(tmp_path / "here")}


def test_a_misspelt_parameter_is_refused_by_name(notebook):
    with pytest.raises(ConfigError, match=r"'nummer'.*number"):
        course.parse_parameters([("nummer", "2")], [notebook])


def test_the_command_refuses_a_misspelt_parameter(capsys):
    assert main(["course", "01", "-p", "num_frame", "4"]) == 2
    assert "num_frame" in capsys.readouterr().err


def test_a_recipe_is_what_the_parameters_say():
    notebook = {
        "data_dir": "data/d0",
        "store_dir": "data/store",
        "weights": "",
        "epochs": 3,
        "figures_dir": "figures",
        "pd": pd,
    }
    config = course.recipe(notebook, model="r3d18", epochs=2)
    assert (config.model, config.epochs, config.weights) == ("r3d18", 2, None)
    assert config.data_dir == course.PROJECT_ROOT / "data" / "d0" and config.store_dir.is_absolute()
    assert course.recipe(notebook | {"weights": "mine.pt"}).weights == course.PROJECT_ROOT / "mine.pt"


def test_unknown_notebook_is_refused():
    with pytest.raises(ConfigError, match="99"):
        course.find_notebooks(["99"])


def test_run_keeps_the_executed_copy_and_its_headline(notebook, tmp_path, capfd):
    (run,) = course.run_course({notebook: {"number": 7}}, tmp_path / "out")
    assert (run.status, run.headline) == ("ok", "number 7 x")
    assert (tmp_path / "out" / "01_example.ipynb").is_file()
    assert "number 7" in capfd.readouterr().out  # what cells print is shown while they run


def test_a_failing_notebook_is_named_with_its_reason_and_kept(notebook, tmp_path):
    (run,) = course.run_course({notebook: {"wrong": True}}, tmp_path / "out")
    assert run.status.startswith("failed") and "as asked" in run.status
    assert (tmp_path / "out" / "01_example.ipynb").is_file()


def test_closing_table_has_a_line_per_notebook():
    runs = [course.NotebookRun("01_a", "ok", 12.4, "top-1 0.97"), course.NotebookRun("02_b", "failed", 3.0, "")]
    lines = course.closing_table(runs).splitlines()
    assert lines[0].split() == ["notebook", "status", "seconds", "headline"]
    assert "12" in lines[1] and "top-1 0.97" in lines[1] and "failed" in lines[2]


def test_refresh_saves_outputs_without_traces_of_the_run(notebook):
    course.refresh(notebook)
    content = nbformat.read(notebook, as_version=4)
    assert [cell.execution_count for cell in content.cells] == [1, 2, 3]
    assert content.cells[2].outputs[0].text == "number 1 x\n"
    assert "papermill" not in content.metadata
    assert set(content.cells[0].metadata) == {"tags"}


def test_a_closed_cell_stays_closed():
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": [], "jupyter": {"source_hidden": True}, "collapsed": True})
    content = course.without_run_traces(nbformat.v4.new_notebook(cells=[cell]))
    assert content.cells[0].metadata == {"tags": [], "jupyter": {"source_hidden": True}}


def test_prints_between_progress_bars_become_one_output():
    bar = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar"})
    lines = [nbformat.v4.new_output("stream", name="stdout", text=f"epoch {i}\n") for i in (1, 2)]
    warning = nbformat.v4.new_output("stream", name="stderr", text="warning\n")
    cell = nbformat.v4.new_code_cell("train()", outputs=[bar, lines[0], warning, bar, lines[1]])
    content = course.without_run_traces(nbformat.v4.new_notebook(cells=[cell]))
    assert [output.text for output in content.cells[0].outputs] == ["epoch 1\nepoch 2\n"]


def test_the_label_map_of_ucf101_names_every_class_and_kinetics_classes_only(ucf_splits):
    from varec_lib.evaluation.zero_shot import read_label_map
    from varec_lib.models.pretrained import kinetics_classes

    mapped = read_label_map(course.NOTEBOOKS / "label_maps" / "ucf101_kinetics400.csv", kinetics_classes())
    names = pd.read_csv(ucf_splits / "classInd.txt", sep=r"\s+", header=None)[1]
    assert list(mapped) == names.tolist()
    five = {label: mapped[label] for label in REAL_CLASSES}
    assert five == {
        "Archery": "archery", "BodyWeightSquats": "squat", "JumpingJack": "", "Lunges": "lunge",
        "PlayingViolin": "playing violin",
    }  # fmt: skip
