"""The runner of the course: parameters, failures, the closing table."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest

from varec_lib import course
from varec_lib.cli import main
from varec_lib.data.manifest import load_manifest
from varec_lib.errors import ConfigError, DataError


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


def test_prints_between_progress_bars_become_one_output():
    bar = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar"})
    lines = [nbformat.v4.new_output("stream", name="stdout", text=f"epoch {i}\n") for i in (1, 2)]
    warning = nbformat.v4.new_output("stream", name="stderr", text="warning\n")
    cell = nbformat.v4.new_code_cell("train()", outputs=[bar, lines[0], warning, bar, lines[1]])
    content = course.without_run_traces(nbformat.v4.new_notebook(cells=[cell]))
    assert [output.text for output in content.cells[0].outputs] == ["epoch 1\nepoch 2\n"]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of the project's, where no clips are, nor named elsewhere."""
    monkeypatch.setattr(course, "PROJECT_ROOT", tmp_path / "project")
    monkeypatch.delenv("VAREC_UCF5", raising=False)
    return tmp_path / "project"


@pytest.fixture
def listed(tmp_path, project):
    """`make(classes)`: UCF-101 as it comes (class folders, official lists), two clips of groups 1, 22, 23 and 25."""

    def make(classes) -> Path:
        root = tmp_path / "ucf101"
        lists = root / "ucfTrainTestlist"
        lists.mkdir(parents=True)
        names = [f"{c}/v_{c}_g{g:02d}_c{n:02d}.avi" for c in classes for g in (1, 22, 23, 25) for n in (1, 2)]
        for name in names:
            (root / "UCF-101" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "UCF-101" / name).touch()
        numbers = {name: number for number, name in enumerate(classes, start=1)}
        (lists / "classInd.txt").write_text("".join(f"{n} {c}\n" for c, n in numbers.items()))
        test = [name for name in names if "_g01_" in name]
        (lists / "testlist01.txt").write_text("".join(f"{name}\n" for name in test))
        train = [f"{name} {numbers[name.split('/')[0]]}\n" for name in names if name not in test]
        (lists / "trainlist01.txt").write_text("".join(train))
        return root

    return make


def test_no_real_clips(project, monkeypatch):
    assert course.real_clips() is None
    monkeypatch.setenv("VAREC_UCF5", str(project / "absent"))
    assert course.real_clips() is None


def test_of_all_of_ucf101_five_classes_are_listed_with_late_groups_for_validation(listed, project, monkeypatch):
    root = listed([*course.REAL_CLASSES, "Typing", "YoYo"])
    monkeypatch.setenv("VAREC_UCF5", str(root))
    folder = course.real_clips()
    assert folder == project / "data" / "ucf5"
    table = load_manifest(folder)
    assert set(table["label"]) == set(course.REAL_CLASSES)
    groups = table.groupby("split")["group"].agg(lambda names: sorted({name[-3:] for name in names}))
    assert groups.to_dict() == {"train": ["g22"], "val": ["g23", "g25"], "test": ["g01"]}
    assert all(Path(path).is_file() for path in table["path"])
    assert table["split"].value_counts().to_dict() == {"val": 20, "train": 10, "test": 10}


def test_a_folder_of_the_five_classes_is_used_as_it_is(listed, project, monkeypatch):
    root = listed(course.REAL_CLASSES)
    monkeypatch.setenv("VAREC_UCF5", str(root))
    assert course.real_clips() == root
    monkeypatch.delenv("VAREC_UCF5")
    (project / "data").mkdir(parents=True)
    root.rename(project / "data" / "ucf101")
    assert course.real_clips() == project / "data" / "ucf101"


def test_a_folder_without_these_classes_is_refused(listed, monkeypatch):
    root = listed([*course.REAL_CLASSES[1:], "YoYo"])
    monkeypatch.setenv("VAREC_UCF5", str(root))
    with pytest.raises(DataError, match=rf"{root}\b.*\bArchery\b"):
        course.real_clips()


def test_the_label_map_of_ucf101_names_every_class_and_kinetics_classes_only(ucf_splits):
    from varec_lib.evaluation.zero_shot import read_label_map
    from varec_lib.models.pretrained import kinetics_classes

    mapped = read_label_map(course.NOTEBOOKS / "label_maps" / "ucf101_kinetics400.csv", kinetics_classes())
    names = pd.read_csv(ucf_splits / "classInd.txt", sep=r"\s+", header=None)[1]
    assert list(mapped) == names.tolist()
    five = {label: mapped[label] for label in course.REAL_CLASSES}
    assert five == {
        "Archery": "archery", "BodyWeightSquats": "squat", "JumpingJack": "", "Lunges": "lunge",
        "PlayingViolin": "playing violin",
    }  # fmt: skip
