"""A model over the videos of a table: the answers depend on the videos and on nothing else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from varec_lib.config import TrainConfig
from varec_lib.data.check import check_videos, load_dataset
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.data.manifest import load_manifest, video_keys
from varec_lib.data.store import FrameStore
from varec_lib.errors import CheckpointError, ConfigError, DataError
from varec_lib.evaluation.apply import evaluate_checkpoint, fit_novelty, predict_table, published, split_table, views_of
from varec_lib.models.checkpoint import Checkpoint, LoadedModel, load_checkpoint
from varec_lib.training.loop import train

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
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    files = VideoFiles(check_videos(reference.table, progress=False)[0], model.clip_spec)
    for row in range(len(reference.table)):
        views = load_views(files, row, model.clip_spec, views=3)  # (V, T, C, H, W)
        assert not torch.equal(views[0], views[1])
        with torch.no_grad():
            single = [model.network(model.clip_spec.normalise(view[None])).softmax(dim=1)[0] for view in views]
        np.testing.assert_allclose(reference.probabilities[row], torch.stack(single).mean(dim=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_answers_from_the_frame_store_are_those_from_the_files(
    tmp_path, tiny_checkpoint, numbered_dataset, num_workers
):
    network, checkpoint, _ = load_checkpoint(tiny_checkpoint)
    clip_spec = ClipSpec(4, (32, 32), *IMAGENET, short_side=37, fps=10)
    model = LoadedModel(network, replace(checkpoint, clip_spec=clip_spec), "fp32")
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False)
    store = FrameStore(numbered_dataset, tmp_path, 37, 10)
    store.update(table, progress=False)
    rows = table[table["split"] == "test"]
    options = {"views": 2, "batch_size": 5, "num_workers": num_workers, "progress": False}
    stored = predict_table(model, rows, source=store.frames_of(rows), **options)
    decoded = predict_table(model, rows, **options)
    pd.testing.assert_frame_equal(stored.table, decoded.table)
    np.testing.assert_array_equal(stored.probabilities, decoded.probabilities)


SHARED = """
import sys
import numpy as np
import pandas as pd
from accelerate import PartialState
from varec_lib.evaluation.apply import predict_table
from varec_lib.models.checkpoint import LoadedModel, load_checkpoint
from varec_lib.training.loop import train
checkpoint, folder = sys.argv[1:]
state = PartialState(cpu=True)
assert state.num_processes == 2
model = load_checkpoint(checkpoint)._replace(precision="fp32")
table = pd.read_pickle(f"{folder}/table.pickle")
found = predict_table(model, table, views=3, progress=False)
np.savez(f"{folder}/{state.process_index}.npz", found.probabilities, found.table["path"].to_numpy(str))
state.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_share_the_videos_and_all_get_all_answers(tmp_path, reference, tiny_checkpoint):
    table, _ = check_videos(reference.table.head(5), progress=False)  # 3 + 2
    table.to_pickle(tmp_path / "table.pickle")
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


def test_probabilities_of_a_batch(tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    clips = torch.randint(0, 256, (2, 3, 4, 3, 32, 32), dtype=torch.uint8)  # (B, V, T, C, H, W)
    both = model.probabilities(clips)
    assert both.shape == (2, 3)
    assert both.dtype == torch.float32
    torch.testing.assert_close(both[1:], model.probabilities(clips[1:]))


def test_the_split_decides_which_videos(tiny_checkpoint, numbered_dataset):
    val = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, split="val", **QUIET)
    train = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, split="train", **QUIET)
    assert (len(val.table), len(train.table)) == (6, 18)
    assert not set(val.table["path"]) & set(train.table["path"])


def test_model_is_left_in_evaluation_mode(tiny_checkpoint, numbered_dataset):
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False).head(2)
    model.network.train()
    predict_table(model, table, progress=False)
    assert not any(module.training for module in model.network.modules())


def test_empty_split(tiny_checkpoint, numbered_dataset, tmp_path):
    shutil.copytree(numbered_dataset, tmp_path / "data")
    (tmp_path / "data" / "test.csv").unlink()
    with pytest.raises(DataError, match="test split"):
        evaluate_checkpoint(tiny_checkpoint, tmp_path / "data", **QUIET)
    with pytest.raises(DataError, match="nonsense split"):
        evaluate_checkpoint(tiny_checkpoint, numbered_dataset, split="nonsense", **QUIET)


def test_table_without_rows(tiny_checkpoint, numbered_dataset):
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False).head(0)
    with pytest.raises(DataError, match="no video to evaluate"):
        predict_table(model, table, progress=False)


def test_classes_that_the_checkpoint_does_not_know(tiny_checkpoint, tiny_stick_actions):
    with pytest.raises(CheckpointError, match=r"alpha, beta, gamma\b.*\bjump\b"):
        evaluate_checkpoint(tiny_checkpoint, tiny_stick_actions, **QUIET)


def test_no_views(tiny_checkpoint, numbered_dataset):
    with pytest.raises(ConfigError, match=r"\bviews\b.*\b0\b"):
        evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=0, **QUIET)
    with pytest.raises(ConfigError, match=r"\bcrops\b.*\b0\b"):
        evaluate_checkpoint(tiny_checkpoint, numbered_dataset, crops=0, **QUIET)


def test_views_and_crops_multiply(tiny_checkpoint, numbered_dataset):
    found = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=2, crops=3, **QUIET)
    assert (found.logits.shape, found.views, found.crops) == ((6, 6, 3), 2, 3)
    one = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=2, **QUIET)
    np.testing.assert_allclose(found.logits[:, 1::3], one.logits, rtol=1e-4, atol=1e-5)  # the crops in the middle


def test_scores_that_are_no_numbers_are_named(tiny_checkpoint, numbered_dataset):
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    with torch.no_grad():
        model.network.head[1].bias.fill_(torch.nan)
    with pytest.raises(DataError, match=r"6 of 6 videos.*alpha.*not numbers"):
        predict_table(model, split_table(numbered_dataset, "test", progress=False), progress=False)


# The published protocols


@pytest.mark.parametrize(
    ("name", "frames", "fps", "side", "views"), [("r3d18", 16, 15, (112, 128), 5), ("i3d", 64, 25, (224, 256), 1)]
)
def test_published_protocols(name, frames, fps, side, views):
    """Of R3D-18 that of torchvision's reference, of I3D that of the paper; the model keeps its own colours."""
    checkpoint = Checkpoint(name, {}, ["a", "b"], ClipSpec(4, (32, 32), *IMAGENET))
    model = published(LoadedModel(torch.nn.Linear(1, 1), checkpoint))
    spec = model.clip_spec
    assert (spec.num_frames, spec.fps, spec.sampling, spec.stride) == (frames, fps, "dense", 1)
    assert (spec.frame_size, spec.crop_side, spec.short_side) == ((side[0],) * 2, side[1], side[1])
    assert (spec.mean, spec.std) == IMAGENET
    assert views_of(model, "published", None) == views and views_of(model, "published", 2) == 2
    assert views_of(model, "own", None) == 1


def test_a_model_without_a_published_protocol(tiny_checkpoint, numbered_dataset):
    with pytest.raises(ConfigError, match=r"cnnlstm\b.*protocol.*r3d18 and i3d"):
        evaluate_checkpoint(tiny_checkpoint, numbered_dataset, protocol="published", **QUIET)


# Videos that a model was trained on


@pytest.fixture
def trained(numbered_dataset, tmp_path) -> Callable[..., Path]:
    """`make(folder, **settings)`: the experiment of a small model, trained for an epoch on that folder."""

    def make(folder: Path = numbered_dataset, **settings: object) -> Path:
        config = TrainConfig(
            data_dir=folder, model="frame_average", backbone="squeezenet1_1", num_frames=2, frame_size=(32, 32),
            epochs=1, batch_size=6, num_workers=0, store="off", experiments_dir=tmp_path / "runs", **settings,
        )  # fmt: skip
        return train(config, progress=False).folder

    return make


def test_a_carved_validation_split_is_the_one_that_training_left_out(trained, numbered_dataset, tmp_path, capsys):
    """Whatever the seed of the training."""
    data = Path(shutil.copytree(numbered_dataset, tmp_path / "data"))
    (data / "val.csv").unlink()
    folder = trained(data, seed=1)
    known = load_checkpoint(folder).checkpoint.data
    capsys.readouterr()
    val = evaluate_checkpoint(folder, data, split="val", **QUIET)
    assert not known.among(video_keys(val.table)).any()
    assert known.among(video_keys(load_manifest(data, split="train"))).all()
    assert "trained on" not in capsys.readouterr().out


def test_videos_that_the_model_was_trained_on_are_said_wherever_they_lie(trained, numbered_dataset, tmp_path, capsys):
    folder = trained()
    other = Path(shutil.copytree(numbered_dataset, tmp_path / "other"))
    rows = pd.concat([pd.read_csv(other / "test.csv"), pd.read_csv(other / "train.csv").head(2)])
    rows.to_csv(other / "test.csv", index=False)
    capsys.readouterr()
    evaluate_checkpoint(folder, other, **QUIET)
    shown = capsys.readouterr().out
    assert "trained on 2 of these 8" in shown and "alpha_0.mkv" in shown
    evaluate_checkpoint(folder, numbered_dataset, **QUIET)
    evaluate_checkpoint(folder, numbered_dataset, split="train", **QUIET)
    assert "trained on" not in capsys.readouterr().out


def test_the_official_list_of_a_training_is_the_one_it_is_tested_on(trained, ucf_layout, capsys):
    folder = trained(ucf_layout, ucf_split=2)
    results = json.loads((folder / "results.json").read_text())
    assert (results["data"]["ucf_split"], results["data"]["dataset"]) == (2, ucf_layout.name)
    capsys.readouterr()
    assert len(evaluate_checkpoint(folder, ucf_layout, **QUIET).table) == results["test"]["num_videos"]
    assert "trained on" not in capsys.readouterr().out
    evaluate_checkpoint(folder, ucf_layout, ucf_split=1, **QUIET)
    assert "trained on" in capsys.readouterr().out


@pytest.fixture
def ucf_layout(tmp_path, write_video) -> Path:
    """Class folders and official lists: two classes, four groups; split 1 tests on group 1, split 2 on group 2."""
    root, names = tmp_path / "ucf", []
    for label in ("Archery", "Typing"):
        for group in range(1, 5):
            name = f"{label}/v_{label}_g{group:02d}_c01.avi"
            write_video(root / "UCF-101" / name, range(group, group + 8 + group), fourcc="MJPG")
            names.append(name)
    for split in (1, 2):
        test = [name for name in names if f"_g{split:02d}_" in name]
        (root / f"testlist{split:02d}.txt").write_text("".join(f"{name}\n" for name in test))
        train = "".join(f"{name} {1 + name.startswith('T')}\n" for name in names if name not in test)
        (root / f"trainlist{split:02d}.txt").write_text(train)
    return root


# What must not be in the way of an evaluation


def test_a_test_set_alone(tiny_checkpoint, numbered_dataset, tmp_path):
    shutil.copytree(numbered_dataset / "videos", tmp_path / "videos")
    shutil.copy(numbered_dataset / "test.csv", tmp_path)
    assert len(evaluate_checkpoint(tiny_checkpoint, tmp_path, **QUIET).table) == 6
    shutil.copy(numbered_dataset / "train.csv", tmp_path)
    for number in range(6):
        for video in (tmp_path / "videos").glob(f"*/*_{number}.mkv"):
            video.unlink()
    assert len(evaluate_checkpoint(tiny_checkpoint, tmp_path, strict=True, **QUIET).table) == 6


def test_more_batches_than_files_may_be_open(tiny_checkpoint, numbered_dataset):
    """A batch of a worker is shared memory; each of them that is kept holds a file open."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n"
        "from varec_lib.data.check import check_videos\n"
        "from varec_lib.data.manifest import load_manifest\n"
        "from varec_lib.evaluation.apply import predict_table\n"
        "from varec_lib.models.checkpoint import load_checkpoint\n"
        "import pandas as pd\n"
        "model = load_checkpoint(sys.argv[1])\n"
        "table, _ = check_videos(load_manifest(sys.argv[2]), progress=False)\n"
        "table = pd.concat([table] * 7, ignore_index=True)\n"
        "how = {'batch_size': 1, 'num_workers': 1, 'progress': False}\n"
        "print(len(predict_table(model, table, **how).table))\n"
    )
    words = [sys.executable, "-c", code, tiny_checkpoint, numbered_dataset]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.strip() == "210", done.stderr[-2000:]


@pytest.mark.slow
def test_drawn_figures_are_unlike_real_clips(ucf5, tiny_stick_actions):
    """Fitted on the official split of real clips; the drawn ones lie not far beyond the line (docs/results.md)."""
    clip_spec = ClipSpec(8, (32, 32), *IMAGENET, short_side=37)
    splits = {split: split_table(ucf5, split, progress=False) for split in ("train", "val", "test")}
    drawn = split_table(tiny_stick_actions, "train", progress=False)
    train, val, own, foreign = (VideoFiles(table, clip_spec) for table in (*splits.values(), drawn))
    novelty = fit_novelty(train, val, clip_spec)

    def unlike(source):
        clips = torch.cat([load_views(source, row, clip_spec) for row in range(len(source.frames))])
        return (novelty.distances(clips) > novelty.unlike_above).float().mean()

    assert unlike(own) < 0.1 and unlike(foreign) > 0.9
