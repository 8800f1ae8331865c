"""The runner of the course: parameters, failures, the closing table."""

import nbformat
import pytest

from varec_lib import course
from varec_lib.cli import main
from varec_lib.errors import ConfigError


@pytest.fixture
def notebook(tmp_path):
    """A notebook with two parameters; it fails if `wrong` is true."""
    cells = [
        nbformat.v4.new_code_cell("number = 1\nwrong = False\nsome_dir = 'x'", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("assert not wrong, 'as asked'"),
        nbformat.v4.new_code_cell("print('number', number, some_dir)", metadata={"tags": ["headline"]}),
    ]
    path = tmp_path / "notebooks" / "01_example.ipynb"
    path.parent.mkdir()
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_values_are_read_as_json_where_they_are_json(notebook):
    values = course.parse_parameters([("number", "[2, 3]"), ("wrong", "false")], [notebook])[notebook]
    assert values == {"number": [2, 3], "wrong": False}


def test_folders_become_absolute_from_where_the_command_is_typed(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert course.parse_parameters([("some_dir", "here")], [notebook])[notebook] == {"some_dir": str(tmp_path / "here")}


def test_a_misspelt_parameter_is_refused_by_name(notebook):
    with pytest.raises(ConfigError, match=r"'nummer'.*number"):
        course.parse_parameters([("nummer", "2")], [notebook])


def test_the_command_refuses_a_misspelt_parameter(capsys):
    assert main(["course", "01", "-p", "num_frame", "4"]) == 2
    assert "num_frame" in capsys.readouterr().err


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
    assert run.status.startswith("failed in cell") and "as asked" in run.status
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


def test_prints_between_progress_bars_become_one_output():
    bar = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar"})
    lines = [nbformat.v4.new_output("stream", name="stdout", text=f"epoch {i}\n") for i in (1, 2)]
    warning = nbformat.v4.new_output("stream", name="stderr", text="warning\n")
    cell = nbformat.v4.new_code_cell("train()", outputs=[bar, lines[0], warning, bar, lines[1]])
    content = course.without_run_traces(nbformat.v4.new_notebook(cells=[cell]))
    assert [output.text for output in content.cells[0].outputs] == ["epoch 1\nepoch 2\n"]
