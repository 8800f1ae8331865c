"""The committed notebooks follow the rules of the course, and run as papermill jobs with other values."""

import ast
import builtins
import dataclasses
import json
import re
from contextlib import suppress
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from varec_lib.config import PROJECT_ROOT, TrainConfig
from varec_lib.course import find_notebooks, solutions_of
from varec_lib.exercises import exercises
from varec_lib.training.experiment import latest_experiment

NOTEBOOKS = find_notebooks()
NAMES = [notebook.stem for notebook in NOTEBOOKS]
SOLUTIONS = solutions_of(NOTEBOOKS)
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(home|root|Users|usr|opt|srv|mnt|private|var|tmp|work)/[\w.]")

# The smallest settings that make sense: every cell runs, nothing is learned.
SMALLEST = {
    "01_data_exploration": {"num_frames": 4, "frame_size": [32, 32], "num_workers": 0},
    "02_cnn_lstm": {"num_frames": 4, "frame_size": [32, 32], "epochs": 1, "batch_size": 4, "num_workers": 0},
    "03_r3d18": {"num_frames": 4, "frame_size": [32, 32], "epochs": 1, "batch_size": 4, "num_workers": 0},
    "04_gpu_training": {"num_frames": 4, "frame_size": [32, 32], "epochs": 1, "batch_size": 4, "num_workers": 0},
    "05_evaluation": {"num_frames": 4, "frame_size": [32, 32], "epochs": 1, "batch_size": 4, "num_workers": 0},
    "06_video_predictor": {"num_frames": 4, "frame_size": [32, 32], "epochs": 1, "batch_size": 4, "num_workers": 0},
    "07_your_own_actions": {"num_frames": 4, "frame_size": [32, 32], "epochs": 1, "batch_size": 4, "num_workers": 0},
}
MODELS = {"02_cnn_lstm": ["frame_average", "cnnlstm"], "03_r3d18": ["r3d18"], "05_evaluation": ["frame_average"]}
FIGURES = {
    "01_data_exploration": ["contact_sheet.png", "01_sampling.png", "01_augmentation.png", "01_arrow_of_time.png"],
    "02_cnn_lstm": ["02_training_curves.png", "02_time_orders.png"],
    "03_r3d18": ["03_volumes.png", "03_direction.png", "03_training_curves.png", "03_time_orders.png", "03_ladder.png"],
    "04_gpu_training": ["04_step_times.png", "04_speeds.png", "04_schedules.png"],
    "05_evaluation": ["confusion_matrix.png", "confusion_frame_average.png", "05_recall_frame_average.png"],
    "06_video_predictor": ["06_what_the_model_sees.png"],
    "07_your_own_actions": ["07_clips.png", "07_learning_curve.png", "07_live.png", "07_live_between.png"],
}


def read(notebook):
    return nbformat.read(notebook, as_version=4)


def tagged(notebook, tag):
    return [cell for cell in read(notebook).cells if tag in cell.metadata.get("tags", [])]


def test_every_chapter_is_known_here_and_has_solutions():
    assert set(NAMES) == set(SMALLEST)
    assert len(SOLUTIONS) == len(NOTEBOOKS) + 1  # the museum


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=NAMES)
def test_one_parameters_cell_with_plain_literals_named_as_in_train_config(notebook):
    (cell,) = tagged(notebook, "parameters")
    assignments = ast.parse(cell.source).body
    names = {statement.targets[0].id for statement in assignments}
    for statement in assignments:
        ast.literal_eval(statement.value)  # raises where it is no literal
    own = {"server_files", "recordings_dir", "actions", "bystander", "people"}
    assert names - {field.name for field in dataclasses.fields(TrainConfig)} - own == {"figures_dir"}
    code = [cell for cell in read(notebook).cells if cell.cell_type == "code"]
    assert "parameters" in code[0].metadata.get("tags", [])


@pytest.mark.parametrize("notebook", [n for n in NOTEBOOKS if tagged(n, "app")], ids=lambda notebook: notebook.stem)
def test_the_cells_of_the_page_need_no_other_cell(notebook):
    tree = ast.parse("\n".join(cell.source for cell in tagged(notebook, "app")))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    imported = [
        alias for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    ]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)} | set(dir(builtins))
    known |= {alias.asname or alias.name.split(".")[0] for alias in imported}
    assert {node.id for node in names} <= known


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=NAMES)
def test_opens_and_closes_as_every_chapter_does(notebook):
    prose = [cell.source for cell in read(notebook).cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    for part in ("You will learn", "**Needs**", "**Run time**"):
        assert part in prose[0]
    for part in ("## What you learned", "## Questions", "## Exercises"):
        assert part in prose[-1]
    assert prose[-1].count("<details><summary>") == prose[-1].count("</details>") >= 4  # questions, answers folded away
    tasks = re.findall(r"^\d\. (★+) ", prose[-1], re.MULTILINE)
    assert len(tasks) == len(re.findall(r"^\d\. ", prose[-1], re.MULTILINE)) and {"★", "★★", "★★★"} == set(tasks)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=NAMES)
def test_is_prose_with_small_cells(notebook):
    cells = read(notebook).cells
    assert 2000 <= sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown") <= 3500
    assert max(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code") <= 25


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=NAMES)
def test_ends_with_exercises_that_are_open(notebook):
    last = read(notebook).cells[-1]
    asked = re.findall(r'^check\("(\d\.\d)"', last.source, re.MULTILINE)
    assert asked == [number for number in exercises() if number.startswith(f"{int(notebook.stem[:2])}.")]
    assert "".join(output.text for output in last.outputs) == "".join(f"{number}  open\n" for number in asked)


def prose_of(notebook):
    return "\n".join(cell.source for cell in read(notebook).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS, ids=lambda notebook: notebook.stem)
def test_links_lead_somewhere(notebook):
    links = [link for link in re.findall(r"\]\(([^)#]+)", prose_of(notebook)) if "://" not in link]
    assert not [link for link in links if not (notebook.parent / link).exists()]


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS, ids=lambda notebook: notebook.stem)
def test_every_picture_says_in_words_what_it_shows(notebook):
    for cell in read(notebook).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"].split()) >= 5, cell.source
    prose = prose_of(notebook)
    assert all(re.findall(r"!\[([^\]]*)\]\(", prose))


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS, ids=lambda notebook: notebook.stem)
def test_is_committed_with_the_outputs_of_one_clean_run(notebook):
    content = read(notebook)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in content.metadata and "papermill" not in content.metadata
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    for cell in tagged(notebook, "nbval-check-output") + tagged(notebook, "headline"):
        assert cell.outputs, f"no output to compare: {cell.source[:60]}"
    assert notebook.stat().st_size < 1.5e6
    text = [o.get("text", "") + "".join(o.get("data", {}).get("text/plain", "")) for o in outputs]
    assert not MACHINE_PATH.search("\n".join(text + [cell.source for cell in content.cells]))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=NAMES)
def test_states_certain_results_and_a_headline(notebook):
    assert tagged(notebook, "nbval-check-output") and len(tagged(notebook, "headline")) == 1


def test_every_room_of_the_museum_refuses_the_mistake_and_accepts_a_repair_that_is_hidden():
    museum = next(notebook for notebook in SOLUTIONS if notebook.stem == "bug_museum")
    refused, accepted = set(), set()
    for cell in read(museum).cells:
        repairs = set(re.findall(r"^assert check_(\d+)\(", cell.source, re.MULTILINE))
        assert bool(repairs) == bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        accepted |= repairs
        refused |= set(re.findall(r"^assert not check_(\d+)\(", cell.source, re.MULTILINE))
    assert accepted == refused == {str(room) for room in range(1, 16)}


def some_real_clips(ucf5, folder, **counts: int):
    """Writes a dataset folder of so many real clips (`train=3, val=1, test=1`) of each of the five classes."""
    folder.mkdir()
    for split, count in counts.items():
        rows = pd.read_csv(ucf5 / f"{split}.csv").groupby("label").head(count)
        names = [next((ucf5 / "videos").rglob(name)) for name in rows["video_name"]]
        rows.assign(video_name=names).to_csv(folder / f"{split}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def smallest_runs(tiny_stick_actions, tmp_path_factory, request):
    """All notebooks with the smallest settings, run from a folder that has nothing to do with the project.

    Chapter 3 is the first, so that it finds no models of chapter 2; under nbval it finds them. Where real clips are,
    it climbs its ladder on one training clip of each class.
    """
    folder = tmp_path_factory.mktemp("smallest runs")  # a space in the path, too
    real = None  # then chapter 3 shows the ladder of an earlier run, as it does under nbval
    with suppress(pytest.skip.Exception):
        real = request.getfixturevalue("ucf5")
    for notebook in sorted(NOTEBOOKS, key=lambda notebook: notebook.stem != "03_r3d18"):
        values = SMALLEST[notebook.stem] | {
            "data_dir": str(tiny_stick_actions), "figures_dir": str(folder / "figures"), "seed": 1,
        }  # fmt: skip
        if notebook.stem != "01_data_exploration":
            own = (
                "trials" if notebook.stem == "04_gpu_training" else "experiments"
            )  # chapter 4 leaves no models to keep
            values |= {"experiments_dir": str(folder / own), "store_dir": str(folder / "store")}
        if notebook.stem == "07_your_own_actions":
            values |= {"recordings_dir": str(folder / "mine")}
        with pytest.MonkeyPatch.context() as patched:
            if notebook.stem == "03_r3d18" and real is not None:
                patched.setenv("VAREC_UCF5", str(some_real_clips(real, folder / "real", train=1, val=1, test=1)))
            papermill.execute_notebook(
                notebook, folder / notebook.name, values, kernel_name="python3", cwd=folder, progress_bar=False
            )
    return folder


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.parametrize("name", NAMES)
def test_runs_with_other_values_and_leaves_its_artefacts(name, smallest_runs, tiny_stick_actions):
    for figure in FIGURES[name]:
        assert (smallest_runs / "figures" / figure).stat().st_size > 1000
    for model in MODELS.get(name, []):
        experiment = latest_experiment(smallest_runs / "experiments", model=model, data_dir=tiny_stick_actions)
        assert experiment.best_checkpoint.is_file()
        assert experiment.results["epochs_run"] == 1 and experiment.results["seed"] == 1
        assert experiment.results["test"]["num_videos"] == 8
        assert experiment.config.frame_size == (32, 32)
        assert len(experiment.history) == 1
    assert re.search(r"\d", headline_of(smallest_runs / f"{name}.ipynb"))


def headline_of(executed):
    (cell,) = tagged(executed, "headline")
    return "".join(output.text for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.notebooks
def test_chapter_5_takes_the_models_of_chapter_2_and_trains_none(smallest_runs, tiny_stick_actions):
    configs = [json.loads(file.read_text()) for file in (smallest_runs / "experiments").glob("*/config.json")]
    trained = [config["model"] for config in configs if Path(config["data_dir"]) == tiny_stick_actions]
    assert sorted(trained) == ["cnnlstm", "frame_average", "r3d18"]


@pytest.mark.slow
@pytest.mark.notebooks
def test_real_clips_run_as_papermill_jobs(ucf5, tmp_path):
    """Chapters 1, 2 and 5 on real UCF-101 clips, through `varec course -p data_dir ...`."""
    from varec_lib.cli import main

    weights = ucf5.parent / "weights" / "mobilenet_v2_imagenet_features.pt"
    given = {
        "data_dir": some_real_clips(ucf5, tmp_path / "real", train=8, val=2, test=4),
        "experiments_dir": tmp_path / "experiments",
        "store_dir": tmp_path / "store", "figures_dir": tmp_path / "figures",
        "num_frames": 4, "epochs": 2, "backbone": "mobilenet_v2", "freeze_backbone": "true", "frame_size": "[112, 112]",
        **({"weights": weights} if weights.is_file() else {}),
    }  # fmt: skip
    parameters = [part for name, value in given.items() for part in ("-p", name, str(value))]
    assert main(["course", "01", "02", "05", *parameters, "--out", str(tmp_path / "runs")]) == 0
    test = latest_experiment(tmp_path / "experiments", model="cnnlstm").results["test"]
    assert test["num_videos"] == 20 and len(test["classes"]) == 5
    assert test["top1"] > 0.3  # chance is 0.2
    assert "5 classes" in headline_of(tmp_path / "runs" / "01_data_exploration.ipynb")


@pytest.mark.slow
@pytest.mark.notebooks
def test_the_ladder_is_climbed_where_real_clips_are(ucf5, smallest_runs):
    """On one training clip of each class, an epoch or two: every rung is measured, or says why not."""
    table = pd.read_csv(smallest_runs / "figures" / "03_ladder.csv", index_col="rung", keep_default_na=False)
    assert len(table) == 6
    assert table.loc["R3D-18 from scratch", "top1"] != ""
    unreachable = "not measured: weights not reachable where this was run"
    assert all((row["note"] == unreachable) == (row["top1"] == "") for _, row in table.iterrows())
    measured = table[table["top1"] != ""].astype({"top1": float, "low": float, "high": float})
    assert (measured["low"] <= measured["top1"]).all() and (measured["top1"] <= measured["high"]).all()


def test_the_recorded_ladder_holds_what_was_measured():
    """Shown where no real clips are: the wide gap between training from scratch and a pretrained video network."""
    table = pd.read_csv(PROJECT_ROOT / "figures" / "03_ladder.csv", index_col="rung")
    assert table.loc["Kinetics video, I3D", "low"] > table.loc["R3D-18 from scratch", "high"]
    assert table.loc["I3D with random weights, frozen", "low"] < 0.2 < table.loc["ImageNet frames, averaged", "low"]
    movement = pd.read_csv(PROJECT_ROOT / "figures" / "03_movement.csv", index_col="class")
    lost = movement["the clip"] - movement["its middle frame"]
    assert lost["JumpingJack"] > 0.5 and lost["Archery"] < 0.1
    assert ((table["note"].fillna("") == "") == table["top1"].notna()).all()


def test_the_project_root_is_where_the_notebooks_are():
    assert (PROJECT_ROOT / "notebooks").is_dir()
