"""The folder of a run, and how it is found again."""

import os
import re
import time

import pytest

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError
from varec_lib.training.experiment import Experiment, finished_experiments, latest_experiment


def finished(root, minutes_ago: float = 0, **settings) -> Experiment:
    experiment = Experiment.create(TrainConfig(experiments_dir=root, **settings))
    experiment.best_checkpoint.write_bytes(b"weights")
    experiment.write_results({"stopped": "all epochs done"})
    when = time.time() - 60 * minutes_ago
    os.utime(experiment.folder / "results.json", (when, when))
    return experiment


def test_folder_is_named_after_experiment_and_time(tmp_path):
    before = time.strftime("%Y%m%d-%H%M%S")
    experiment = Experiment.create(TrainConfig(experiments_dir=tmp_path / "new" / "folder", experiment_name="my run"))
    after = time.strftime("%Y%m%d-%H%M%S")
    stamp = re.fullmatch(r"my run_(\d{8}-\d{6})", experiment.folder.name)
    assert before <= stamp[1] <= after
    assert experiment.folder.parent == tmp_path / "new" / "folder"
    assert sorted(path.name for path in experiment.folder.iterdir()) == [
        "checkpoints", "config.json", "launch.json", "plots",
    ]  # fmt: skip


def test_without_a_name_the_model_gives_it(tmp_path):
    assert Experiment.create(TrainConfig(experiments_dir=tmp_path, model="cnnlstm")).folder.name.startswith("cnnlstm_2")


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path):
    config = TrainConfig(experiments_dir=tmp_path)
    folders = [Experiment.create(config).folder for _ in range(5)]
    assert len(set(folders)) == 5
    assert all((folder / "config.json").is_file() for folder in folders)
    assert any(folder.name.endswith("-2") for folder in folders)


def test_config_results_and_history_come_back(tmp_path):
    config = TrainConfig(experiments_dir=tmp_path, frame_size=(64, 80), weights="w.pt", lr=3e-4)
    experiment = Experiment.create(config)
    experiment.write_results({"test": {"top1": 0.5}})
    experiment.write_history([{"epoch": 1, "val_loss": 0.25}, {"epoch": 2, "val_loss": 0.125}])
    assert experiment.config == config
    assert experiment.results == {"test": {"top1": 0.5}}
    assert experiment.history["val_loss"].tolist() == [0.25, 0.125]


def test_latest_is_the_newest_that_matches(tmp_path):
    old = finished(tmp_path, 30, model="r3d18", seed=1)
    new = finished(tmp_path, 20, model="r3d18", seed=2)
    other = finished(tmp_path, 10, model="cnnlstm", frame_size=(64, 64))
    assert latest_experiment(tmp_path) == other
    assert latest_experiment(tmp_path, model="r3d18") == new
    assert latest_experiment(tmp_path, model="r3d18", seed=1) == old
    assert latest_experiment(tmp_path, frame_size=[64, 64]) == other
    assert latest_experiment(tmp_path, model="frame_average") is None
    assert latest_experiment(tmp_path / "absent") is None


def test_latest_passes_over_what_is_no_finished_experiment(tmp_path):
    good = finished(tmp_path, 30)
    (finished(tmp_path, 20).folder / "config.json").write_text('{"setting_of_the_future": 1}')
    (finished(tmp_path, 15).folder / "config.json").write_text("{ broken")
    finished(tmp_path, 10).best_checkpoint.unlink()
    (finished(tmp_path, 5).folder / "results.json").unlink()
    assert latest_experiment(tmp_path) == good


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"test": {}}'])
def test_finished_experiments_come_newest_first_without_what_others_left(tmp_path, content):
    folders = [finished(tmp_path, minutes_ago).folder for minutes_ago in (2, 1, 3)]
    (finished(tmp_path).folder / "results.json").write_text(content)
    found = [experiment.folder for experiment in finished_experiments(tmp_path)]
    assert found == [folders[1], folders[0], folders[2]]


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=rf"{re.escape(str(place))}\b.*written"):
            Experiment.create(TrainConfig(experiments_dir=place))
