"""Bad input: every case gets an error that names what is wrong and what to do, or demonstrably works."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from varec_lib.cli import main
from varec_lib.config import TrainConfig
from varec_lib.data.check import check_videos, load_dataset
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import TrainClips, VideoFiles
from varec_lib.data.manifest import classes_of, load_manifest
from varec_lib.data.video import probe, read_frames
from varec_lib.errors import CheckpointError, ConfigError, DataError, VarecError
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.models.checkpoint import load_checkpoint, save_checkpoint
from varec_lib.predictor.predict import Predictor

CLASSES = ["alpha", "beta", "gamma"]
TINY = ["--num_frames", "4", "--frame_size", "32", "32", "--num_workers", "0", "--store", "off"]


@pytest.fixture
def dataset(tmp_path, numbered_dataset) -> Path:
    """A copy of the numbered dataset to spoil."""
    return Path(shutil.copytree(numbered_dataset, tmp_path / "set"))


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint) -> Predictor:
    return Predictor.load(tiny_checkpoint, precision="fp32")


@pytest.fixture
def fails(capsys) -> Callable[..., str]:
    """`fails(*arguments)`: the one line that `varec` prints before it exits with status 2."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
        lines = [line for line in printed if line.strip() and "video/s" not in line and "?video" not in line]  # no bars
        assert status == 2 and len(lines) == 1, lines
        assert lines[0].startswith("varec: ") and "Traceback" not in lines[0]
        return lines[0]

    return run


def load(root: Path, **settings) -> pd.DataFrame:
    return load_dataset(TrainConfig(data_dir=root, **settings), progress=False)


def add_row(root: Path, split: str, name: str, label: str) -> None:
    with (root / f"{split}.csv").open("a", encoding="utf-8") as file:
        file.write(f"{name},{label},\n")


# Files that cannot be used


def _truncated(path: Path, write_video) -> None:
    data = write_video(path, 20).read_bytes()
    path.write_bytes(data[: len(data) // 2])  # an MP4 has its index at the end


UNUSABLE = {
    "missing.avi": (lambda path, write_video: None, "no such file"),
    "zero.avi": (lambda path, write_video: path.touch(), "0 bytes"),
    "notes.txt": (lambda path, write_video: path.write_text("notes"), "not a video that can be decoded"),
    "renamed.mp4": (lambda path, write_video: path.write_text("no video\n" * 99), "not a video that can be decoded"),
    "truncated.mp4": (_truncated, "not a video that can be decoded"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_left_out_by_name_and_stops_a_strict_run(dataset, write_video, fails, capsys, name):
    make, words = UNUSABLE[name]
    make(dataset / "videos" / name, write_video)
    before = load(dataset)
    add_row(dataset, "train", name, "alpha")
    capsys.readouterr()
    assert load(dataset).equals(before)  # nothing lost, nothing in its place
    printed = capsys.readouterr().out
    assert "Left out 1 of 31" in printed and name in printed and words in printed
    with pytest.raises(DataError) as caught:
        load(dataset, strict=True)
    assert name in str(caught.value) and words in str(caught.value)
    for store in ("off", "raw"):
        options = ["--strict", *TINY, "--store", store, "--store_dir", dataset.parent / "store"]
        message = fails("train", "--data", dataset, *options)
        assert name in message and words in message


def test_data_check_lists_every_bad_file_and_exits_with_1(dataset, write_video, capsys):
    assert main(["data", "check", str(dataset)]) == 0
    assert "cannot be used" not in capsys.readouterr().out
    for name, (make, _) in UNUSABLE.items():
        make(dataset / "videos" / name, write_video)
        add_row(dataset, "test", name, "beta")
    assert main(["data", "check", str(dataset)]) == 1
    printed = capsys.readouterr().out
    for name, (_, words) in UNUSABLE.items():
        assert any(name in line and words in line for line in printed.splitlines()), name
    assert "5 of 35 videos cannot be used." in printed and "30 usable videos" in printed


def test_predict_names_a_bad_file_in_one_line(tmp_path, tiny_checkpoint, fails):
    (tmp_path / "renamed.mp4").write_text("no video\n" * 99)
    message = fails("predict", tmp_path / "renamed.mp4", "--checkpoint", tiny_checkpoint, "--precision", "fp32")
    assert "renamed.mp4" in message and "not a video" in message


def test_predict_lists_a_bad_file_and_answers_for_the_others(tmp_path, write_video, tiny_checkpoint, capsys):
    write_video(tmp_path / "a good.mkv", 9)
    (tmp_path / "bad.mp4").write_text("no video\n" * 99)
    arguments = ["predict", str(tmp_path), "--checkpoint", str(tiny_checkpoint), "--precision", "fp32", "--json"]
    assert main(arguments) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["video"].endswith("a good.mkv") and sorted(top["label"] for top in good["top"]) == CLASSES
    assert bad["video"].endswith("bad.mp4") and "not a video" in bad["error"] and "top" not in bad


# Unusual videos that must work


def assert_usable(path: Path, predictor: Predictor, frames: int) -> None:
    """The video is counted right and can be trained on and predicted."""
    table = pd.DataFrame([(str(path), "alpha", "g", "train")], columns=["path", "label", "group", "split"])
    good, bad = check_videos(table, progress=False)
    assert len(bad) == 0 and good["frames"].tolist() == [frames]
    clip_spec = ClipSpec(4, (32, 32), *IMAGENET, short_side=40)
    clips = TrainClips(VideoFiles(good, clip_spec), np.zeros(1), clip_spec, augment=True, seed=0)
    assert clips[1, 0].clips.shape == (4, 3, 32, 32)
    top = predictor.predict(path).top
    assert sorted(name for name, _ in top) == CLASSES
    assert sum(probability for _, probability in top) == pytest.approx(1, abs=1e-5)


def test_a_video_of_one_frame_is_looped(tmp_path, write_video, frame_numbers, predictor):
    path = write_video(tmp_path / "one.mkv", [200])
    assert_usable(path, predictor, frames=1)
    assert frame_numbers(read_frames(path, ClipSpec(4, (64, 64), *IMAGENET).indices(np.array([0, 1])))) == [200] * 4


def test_a_truncated_video_that_can_be_read_is_used_to_its_last_frame(tmp_path, write_video, frame_numbers, predictor):
    path = write_video(tmp_path / "cut.mkv", 50)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = probe(path).frames
    assert 5 < frames < 50
    assert frame_numbers(read_frames(path, [0, frames - 1])) == [0, frames - 1]
    assert_usable(path, predictor, frames)


@pytest.mark.parametrize("size", ["63x47", "47x63", "16x16", "2x2", "640x16"])
def test_odd_tiny_and_stretched_resolutions_work(tmp_path, ffmpeg, predictor, size):
    path = tmp_path / f"{size}.mkv"
    ffmpeg("-f", "lavfi", "-i", f"testsrc=s={size}:r=15:d=1", "-pix_fmt", "yuv444p", "-c:v", "ffv1", path)
    width, height = map(int, size.split("x"))
    assert (probe(path).height, probe(path).width) == (height, width)
    assert_usable(path, predictor, frames=15)


def test_a_portrait_video_with_rotation_metadata_comes_upright(tmp_path, ffmpeg, predictor):
    flat, path = tmp_path / "flat.mp4", tmp_path / "portrait.mp4"
    white_corner = "drawbox=0:0:16:16:white:fill"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x48:r=15:d=1", "-vf", white_corner, "-c:v", "mpeg4", "-q:v", 2, flat)
    ffmpeg("-display_rotation", 90, "-i", flat, "-c", "copy", path)  # counter-clockwise
    green = read_frames(path, [7])[0, 1].float()
    assert green.shape == (64, 48) and (probe(path).height, probe(path).width) == (64, 48)
    corners = {"top": (green[:8, :8], green[:8, -8:]), "bottom": (green[-8:, :8], green[-8:, -8:])}
    bright = {name: [corner.mean().item() > 127 for corner in pair] for name, pair in corners.items()}
    assert bright == {"top": [False, False], "bottom": [True, False]}  # the top left corner went down
    assert_usable(path, predictor, frames=15)


def test_a_variable_frame_rate_loses_no_frame(tmp_path, write_video, frame_numbers, ffmpeg, predictor):
    source, path = write_video(tmp_path / "even.mkv", 20), tmp_path / "variable.mkv"
    ffmpeg("-i", source, "-vf", r"select=lt(n\,6)+not(mod(n\,3))", "-fps_mode", "vfr", "-c:v", "ffv1", path)
    assert probe(path).uneven
    expected = [0, 1, 2, 3, 4, 5, 6, 9, 12, 15, 18]
    assert frame_numbers(read_frames(path, range(len(expected)))) == expected
    assert_usable(path, predictor, frames=len(expected))


def test_paths_with_spaces_and_non_ascii_characters_work(tmp_path, write_video, tiny_checkpoint, predictor, capsys):
    folder = tmp_path / "Meine Videos (neu)" / "体操 – été"
    path = write_video(folder / "ein großer Sprung #1 100%.mkv", 9)
    assert_usable(path, predictor, frames=9)
    arguments = ["predict", str(path), "--checkpoint", str(tiny_checkpoint), "--precision", "fp32", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)[0]["video"] == str(path)


# Lists and splits


def test_a_missing_column_is_an_error_with_file_and_columns(dataset, fails):
    text = (dataset / "val.csv").read_text().replace("video_name", "file", 1)
    (dataset / "val.csv").write_text(text)
    for message in (fails("train", "--data", dataset, *TINY), fails("data", "check", dataset)):
        assert "val.csv" in message and "video_name" in message and "file, label, group" in message


def test_a_label_that_train_does_not_have_is_an_error_with_an_example(dataset, fails):
    add_row(dataset, "test", "alpha/alpha_8.mkv", "delta")
    message = fails("train", "--data", dataset, *TINY)
    assert "train has no video of delta" in message and "test has (alpha_8.mkv)" in message


def test_an_empty_training_list_is_an_error(dataset, fails):
    (dataset / "train.csv").write_text("video_name,label\n")
    assert "the training list is empty" in fails("train", "--data", dataset, *TINY)
    (dataset / "train.csv").write_text("")
    assert "the training list is empty" in fails("train", "--data", dataset, *TINY)


@pytest.mark.parametrize("content", ["video_name,label,group\n", "", None])
def test_an_empty_validation_list_is_carved_out_of_train(dataset, content):
    (dataset / "val.csv").unlink()
    if content is not None:
        (dataset / "val.csv").write_text(content)
    table = load(dataset)
    assert table["split"].value_counts().to_dict() == {"train": 12, "val": 6, "test": 6}
    groups = [set(table[table["split"] == split]["group"]) for split in ("train", "val", "test")]
    assert not groups[0] & groups[1] and not groups[1] & groups[2]


@pytest.mark.parametrize("content", ["video_name,label,group\n", None])
def test_evaluating_an_empty_test_list_is_an_error(dataset, tiny_checkpoint, fails, content):
    (dataset / "test.csv").unlink()
    if content is not None:
        (dataset / "test.csv").write_text(content)
    message = fails("evaluate", tiny_checkpoint, "--data", dataset, "--num_workers", "0", "--precision", "fp32")
    assert "the test split has no video" in message and str(dataset) in message


def test_a_class_with_one_training_clip_works_with_a_note(dataset, capsys):
    rows = pd.read_csv(dataset / "train.csv")
    rows[(rows["label"] != "gamma") | ~rows["label"].duplicated()].to_csv(dataset / "train.csv", index=False)
    table = load(dataset)
    assert "one training video (gamma)" in capsys.readouterr().out
    train = table[table["split"] == "train"].reset_index(drop=True)
    assert classes_of(table) == CLASSES and (train["label"] == "gamma").sum() == 1
    clip_spec, labels = ClipSpec(4, (32, 32), *IMAGENET), train["label"].map(CLASSES.index).to_numpy()
    clips = TrainClips(VideoFiles(train, clip_spec), labels, clip_spec, augment=True, seed=0)
    assert [clips[1, row].labels for row in range(len(train))].count(2) == 1


# Settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num_frames", "0"], "num_frames is 0, but must be at least 1"),
        (["--frame_size", "8", "8"], "frame_size (0) is 8"),
        (["--lr", "0"], "lr is 0"),
        (["--experiment_name", "a/b"], "experiment_name is 'a/b'"),
        (["--model", "nope"], "There is no model 'nope'. Known: "),
        (["--model", "cnnlstm", "--backbone", "resnet1"], "no torchvision classifier 'resnet1'. Known: alexnet"),
        (["--model", "cnnlstm", "--backbone", "alexnet"], "backbone alexnet cannot work with frames of 32x32"),
        (["--weights", "gone.pth"], "gone.pth: no such weight file"),
        (["--plugin", "gone.py"], "gone.py: no such plugin file"),
    ],
)
def test_a_wrong_setting_is_an_error_before_anything_is_written(tmp_path, numbered_dataset, fails, arguments, words):
    common = ["--data", numbered_dataset, "--experiments_dir", tmp_path / "runs", "--num_workers", "0"]
    size = [] if "--frame_size" in arguments else ["--frame_size", "32", "32"]
    assert words in fails("train", *common, *size, *arguments)
    assert not (tmp_path / "runs").exists()


def test_settings_are_checked_for_library_users_too():
    with pytest.raises(ConfigError, match="num_frames is 0"):
        TrainConfig(num_frames=0)


# Checkpoints


def write_checkpoint(path: Path, about: object) -> Path:
    """A safetensors file with one small tensor and this description."""
    save_file({"x": torch.zeros(1)}, path, metadata={"varec": about if isinstance(about, str) else json.dumps(about)})
    return path


def description(checkpoint: Path) -> dict:
    with safe_open(checkpoint, framework="pt") as file:
        return json.loads(file.metadata()["varec"])


@pytest.mark.parametrize("length", [0, 4, 8, 100, 0.001, 0.5, -1])
def test_a_truncated_checkpoint_is_an_error_that_names_it(tmp_path, tiny_checkpoint, fails, length):
    data, path = tiny_checkpoint.read_bytes(), tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: damaged"):
        load_checkpoint(path)
    assert "cut.safetensors: damaged" in fails("predict", tmp_path / "x.mp4", "--checkpoint", path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no json", "its description is incomplete"),
        ("[]", "its description is incomplete"),
        ("{}", "its description is incomplete ('format')"),
        ({"format": 99}, "has format 99, this version reads format 2"),
        ({"clip_spec": {}}, "its description is incomplete"),
        ({"clip_spec": {"unknown": 1}}, "its description is incomplete"),
        ({"arguments": []}, "its description is incomplete"),
        ({"classes": 3}, "its description is incomplete"),
        ({"model": "other_model"}, "There is no model 'other_model'. Known: "),
        ({}, "its weights do not fit the model 'cnnlstm'"),
    ],
)
def test_a_checkpoint_of_other_code_is_an_error_that_says_so(tmp_path, tiny_checkpoint, change, words):
    about = change if isinstance(change, str) else description(tiny_checkpoint) | change
    with pytest.raises(VarecError) as caught:
        load_checkpoint(write_checkpoint(tmp_path / "other.safetensors", about))
    assert words in str(caught.value)


def test_a_weight_file_without_a_description_is_an_error_that_names_the_right_option(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors.*--weights"):
        load_checkpoint(tmp_path / "weights.safetensors")


def test_weights_for_another_number_of_classes_do_not_fit(tmp_path, tiny_checkpoint):
    with safe_open(tiny_checkpoint, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    about = description(tiny_checkpoint) | {"classes": ["a", "b"]}
    save_file(tensors, tmp_path / "two.safetensors", metadata={"varec": json.dumps(about)})
    with pytest.raises(CheckpointError, match=r"two\.safetensors.*\bhead"):
        load_checkpoint(tmp_path / "two.safetensors")


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_pickle_is_refused_and_never_executed(tmp_path, fails, name):
    trap = tmp_path / "executed"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "trap": Trap(trap)}, tmp_path / name)
    (tmp_path / "plain").write_bytes(pickle.dumps(Trap(trap)))
    for file in (tmp_path / name, tmp_path / "plain"):
        assert "not a safetensors file" in fails("predict", tmp_path / "x.mp4", "--checkpoint", file)
    assert not trap.exists()
    pickle.loads((tmp_path / "plain").read_bytes())
    assert trap.exists()  # the trap works


def test_a_checkpoint_that_is_not_there_is_an_error_that_says_where_they_come_from(tmp_path, fails):
    for missing in (tmp_path, tmp_path / "gone.safetensors"):  # an experiment folder without a checkpoint; a file
        message = fails("predict", tmp_path / "x.mp4", "--checkpoint", missing)
        assert str(missing) in message and "no such checkpoint" in message


def test_a_checkpoint_with_other_classes_than_the_dataset_is_an_error_with_both(dataset, tiny_checkpoint):
    for split in ("train", "val", "test"):
        rows = pd.read_csv(dataset / f"{split}.csv")
        rows.replace({"label": {"gamma": "delta"}}).to_csv(dataset / f"{split}.csv", index=False)
    assert "delta" in classes_of(load_manifest(dataset))
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors.*alpha, beta, gamma.*\bdelta"):
        evaluate_checkpoint(tiny_checkpoint, dataset, precision="fp32", progress=False)


# Places that cannot be written


def test_a_full_disk_leaves_the_former_checkpoint_intact(tmp_path, tiny_checkpoint):
    former = Path(shutil.copy(tiny_checkpoint, tmp_path / "best.safetensors"))
    code = """
import resource, sys
from pathlib import Path
from varec_lib.errors import CheckpointError
from varec_lib.models.checkpoint import load_checkpoint, save_checkpoint
model, about, _ = load_checkpoint(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # no file above 1 MB
try:
    save_checkpoint(Path(sys.argv[1]), model, about)
except CheckpointError as error:
    print(error)
"""
    pytest.importorskip("resource", reason="no file size limits on this system")
    done = subprocess.run([sys.executable, "-c", code, str(former)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "best.safetensors" in done.stdout and "disk full" in done.stdout
    assert former.read_bytes() == tiny_checkpoint.read_bytes()
    assert list(tmp_path.iterdir()) == [former]


@pytest.fixture
def read_only(tmp_path):
    """A folder, and a function that makes it read-only, even for root, until the test ends."""
    folder = tmp_path / "read_only"
    folder.mkdir()

    def chattr(flag: str) -> bool:
        program = shutil.which("chattr")
        return program is not None and subprocess.run([program, flag, folder], capture_output=True).returncode == 0

    def lock() -> None:
        folder.chmod(0o555)
        if not chattr("+i") and os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere, and chattr does not work here")

    yield folder, lock
    chattr("-i")
    folder.chmod(0o755)


def test_a_read_only_folder_leaves_the_former_checkpoint_intact(read_only, tiny_checkpoint):
    folder, lock = read_only
    former = Path(shutil.copy(tiny_checkpoint, folder / "best.safetensors"))
    model, about, _ = load_checkpoint(former)
    lock()
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*written"):
        save_checkpoint(former, model, about)
    assert former.read_bytes() == tiny_checkpoint.read_bytes() and list(folder.iterdir()) == [former]


def test_a_folder_below_a_file_is_an_error(tmp_path, numbered_dataset, tiny_checkpoint, fails):
    (tmp_path / "file").write_text("x")
    model, about, _ = load_checkpoint(tiny_checkpoint)
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*written"):
        save_checkpoint(tmp_path / "file" / "best.safetensors", model, about)
    message = fails(
        "train", "--data", numbered_dataset, "--experiments_dir", tmp_path / "file" / "runs",
        "--model", "cnnlstm", "--backbone", "squeezenet1_1", *TINY,
    )  # fmt: skip
    assert str(tmp_path / "file") in message
    train = ["train", "--data", numbered_dataset, *TINY, "--store", "raw"]
    for command in (train, ["data", "store", numbered_dataset]):
        message = fails(*command, "--store_dir", tmp_path / "file" / "store")
        assert str(tmp_path / "file") in message and "--store_dir" in message and "--store off" in message
