"""A model over the videos of a table: the answers depend on the videos and on nothing else."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.data.doctor import check_videos, load_dataset
from varec_lib.data.store import FrameStore
from varec_lib.data.store_writer import StoreSettings
from varec_lib.data.transforms import IMAGENET, PreprocessSpec
from varec_lib.errors import CheckpointError, ConfigError, DataError
from varec_lib.evaluation.evaluate import class_probabilities, evaluate_checkpoint, predict_table
from varec_lib.models.checkpoint import load_checkpoint

QUIET = {"precision": "fp32", "progress": False}


@pytest.fixture(scope="module")
def reference(tiny_checkpoint, numbered_dataset):
    return evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=3, batch_size=1, **QUIET)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(2, 0), (32, 0), (7, 2)])
def test_answers_do_not_depend_on_batches_or_workers(
    reference, tiny_checkpoint, numbered_dataset, batch_size, num_workers
):
    options = {"views": 3, "batch_size": batch_size, "num_workers": num_workers}
    other = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, **options, **QUIET)
    pd.testing.assert_frame_equal(other.table, reference.table)
    np.testing.assert_allclose(other.probabilities, reference.probabilities, rtol=1e-4, atol=1e-6)


def test_a_row_per_video_and_shares_that_add_up(reference):
    assert reference.probabilities.shape == (6, 3)
    np.testing.assert_allclose(reference.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert reference.table["label"].tolist() == ["alpha", "alpha", "beta", "beta", "gamma", "gamma"]
    assert reference.classes == ["alpha", "beta", "gamma"]


def test_views_are_averaged_probabilities(reference, tiny_checkpoint):
    model, about = load_checkpoint(tiny_checkpoint)
    files = VideoFiles(check_videos(reference.table, progress=False)[0], about.preprocess)
    for row in range(len(reference.table)):
        views = load_views(files, row, about.preprocess, views=3)  # (V, T, C, H, W)
        assert not torch.equal(views[0], views[1])
        with torch.no_grad():
            single = [model(about.preprocess.normalise(view[None])).softmax(dim=1)[0] for view in views]
        np.testing.assert_allclose(reference.probabilities[row], torch.stack(single).mean(dim=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_answers_from_the_frame_store_are_those_from_the_files(
    tmp_path, tiny_checkpoint, numbered_dataset, num_workers
):
    model, about = load_checkpoint(tiny_checkpoint)
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False)
    preprocess = PreprocessSpec(4, (32, 32), *IMAGENET, short_side=37, fps=10)
    store = FrameStore(numbered_dataset, tmp_path, StoreSettings(37, 10))
    store.update(table, progress=False)
    rows = table[table["split"] == "test"]
    options = {"views": 2, "batch_size": 5, "num_workers": num_workers, **QUIET}
    stored = predict_table(model, rows, about.classes, preprocess, source=store.frames_of(rows), **options)
    decoded = predict_table(model, rows, about.classes, preprocess, **options)
    pd.testing.assert_frame_equal(stored.table, decoded.table)
    np.testing.assert_array_equal(stored.probabilities, decoded.probabilities)


SHARED = """
import sys
import numpy as np
import pandas as pd
from accelerate import PartialState
from varec_lib.evaluation.evaluate import predict_table
from varec_lib.models.checkpoint import load_checkpoint
checkpoint, folder = sys.argv[1:]
state = PartialState(cpu=True)
assert state.num_processes == 2
model, about = load_checkpoint(checkpoint)
table = pd.read_csv(f"{folder}/table.csv")
found = predict_table(model, table, about.classes, about.preprocess, views=3, precision="fp32", progress=False)
np.savez(f"{folder}/{state.process_index}.npz", found.probabilities, found.table["path"].to_numpy(str))
state.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_share_the_videos_and_all_get_all_answers(tmp_path, reference, tiny_checkpoint):
    table, _ = check_videos(reference.table.head(5), progress=False)  # 3 + 2
    table.to_csv(tmp_path / "table.csv")
    (tmp_path / "shared.py").write_text(SHARED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = map(str, [tmp_path / "shared.py", tiny_checkpoint, tmp_path])
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for process in range(2):
        probabilities, paths = np.load(tmp_path / f"{process}.npz").values()
        assert paths.tolist() == reference.table["path"].tolist()[:5]
        np.testing.assert_allclose(probabilities, reference.probabilities[:5], rtol=1e-4, atol=1e-6)


def test_class_probabilities_of_a_batch(tiny_checkpoint):
    model, about = load_checkpoint(tiny_checkpoint)
    clips = torch.randint(0, 256, (2, 3, 4, 3, 32, 32), dtype=torch.uint8)  # (B, V, T, C, H, W)
    both = class_probabilities(model, clips, about.preprocess, "fp32")
    assert both.shape == (2, 3)
    assert both.dtype == torch.float32
    torch.testing.assert_close(both[1:], class_probabilities(model, clips[1:], about.preprocess, "fp32"))


def test_the_split_decides_which_videos(tiny_checkpoint, numbered_dataset):
    val = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, split="val", **QUIET)
    train = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, split="train", **QUIET)
    assert (len(val.table), len(train.table)) == (6, 18)
    assert not set(val.table["path"]) & set(train.table["path"])


def test_model_is_left_in_evaluation_mode(tiny_checkpoint, numbered_dataset):
    model, about = load_checkpoint(tiny_checkpoint)
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False).head(2)
    predict_table(model.train(), table, about.classes, about.preprocess, **QUIET)
    assert not any(module.training for module in model.modules())


def test_empty_split(tiny_checkpoint, numbered_dataset, tmp_path):
    shutil.copytree(numbered_dataset, tmp_path / "data")
    (tmp_path / "data" / "test.csv").unlink()
    with pytest.raises(DataError, match="test split"):
        evaluate_checkpoint(tiny_checkpoint, tmp_path / "data", **QUIET)
    with pytest.raises(DataError, match="nonsense split"):
        evaluate_checkpoint(tiny_checkpoint, numbered_dataset, split="nonsense", **QUIET)


def test_table_without_rows(tiny_checkpoint, numbered_dataset):
    model, about = load_checkpoint(tiny_checkpoint)
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False).head(0)
    with pytest.raises(DataError, match="evaluate"):
        predict_table(model, table, about.classes, about.preprocess, **QUIET)


def test_classes_that_the_checkpoint_does_not_know(tiny_checkpoint, tiny_stick_actions):
    with pytest.raises(CheckpointError, match=r"alpha, beta, gamma\b.*\bjump\b"):
        evaluate_checkpoint(tiny_checkpoint, tiny_stick_actions, **QUIET)


def test_no_views(tiny_checkpoint, numbered_dataset):
    with pytest.raises(ConfigError, match=r"\bviews\b.*\b0\b"):
        evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=0, **QUIET)
