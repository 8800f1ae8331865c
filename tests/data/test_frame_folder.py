"""Folders of numbered pictures are videos: read in order, at their rate, to the same tensors as a video file."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from varec_lib.cli import main
from varec_lib.config import TrainConfig
from varec_lib.data import facts
from varec_lib.data.check import check_videos
from varec_lib.data.class_folders import read_folders, videos_below
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.data.frame_folder import FRAME_RATE, files_of, numbered_pictures, state_of
from varec_lib.data.manifest import load_manifest, video_keys
from varec_lib.data.store import FrameStore
from varec_lib.data.video import open_video, probe, read_frames
from varec_lib.errors import DataError, VideoError
from varec_lib.evaluation.apply import evaluate_checkpoint
from varec_lib.predictor.predict import Predictor, find_videos
from varec_lib.training.loop import train

SIZE = (48, 64)


def drawn(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture (H, W, 3) whose grey is its number, with noise that no lossy format keeps."""
    noise = np.random.default_rng(number).integers(0, 8, (*size, 3))
    return (noise + 8 * number).astype(np.uint8)


def write_frames(folder: Path, numbers: range | list[int], name: str = "{:05d}.png", **how) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(drawn(number)).save(folder / name.format(number), **how)
    return folder


def greys(clip: torch.Tensor) -> list[int]:
    """The numbers that pictures show."""
    return (clip.float().mean(dim=(1, 2, 3)) // 8).int().tolist()


@pytest.mark.parametrize("name", ["{:05d}.png", "img_{}.jpg", "v1-{:02d}.WEBP", "Frame {}.JPEG", "{}.bmp"])
def test_pictures_come_in_the_order_of_their_numbers_at_the_ordinary_rate(tmp_path, name):
    folder = write_frames(tmp_path / "clip", [1, 2, 3, 10, 11, 20], name)  # with gaps
    (folder / "._00001.png").touch()
    (folder / ".DS_Store").touch()
    (folder / "notes.txt").touch()
    info = probe(folder)
    assert (info.frames, info.fps, info.height, info.width, info.lost) == (6, FRAME_RATE, *SIZE, 0)
    assert info.times.tolist() == pytest.approx([number / 12 for number in range(7)])
    assert greys(read_frames(folder, range(6))) == [1, 2, 3, 10, 11, 20]
    assert greys(read_frames(str(folder), [5, 0, 5])) == [20, 1, 20]


def test_lossless_pictures_come_as_they_are(tmp_path):
    folder = write_frames(tmp_path / "clip", range(4))
    expected = torch.from_numpy(np.stack([drawn(number) for number in range(4)])).permute(0, 3, 1, 2)
    assert torch.equal(read_frames(folder, range(4)), expected)


def test_pictures_of_other_sizes_are_scaled_to_the_first(tmp_path):
    folder = write_frames(tmp_path / "clip", range(2))
    Image.fromarray(drawn(2, (96, 200))).save(folder / "00002.png")
    Image.fromarray(drawn(3, (20, 20))).save(folder / "00003.png")
    clip = read_frames(folder, range(4))
    assert clip.shape == (4, 3, *SIZE) and greys(clip) == [0, 1, 2, 3]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no picture"])
def test_a_damaged_picture_is_counted_and_reading_goes_on(tmp_path, ending, harm):
    folder = write_frames(tmp_path / "clip", range(5), f"{{}}.{ending}")
    (folder / f"2.{ending}").write_bytes(harm((folder / f"2.{ending}").read_bytes()))
    info = probe(folder)
    assert (info.frames, info.lost) == (4, 1)
    assert greys(read_frames(folder, range(4))) == [0, 1, 3, 4]


def test_pictures_are_turned_as_their_exif_data_say(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    folder = write_frames(tmp_path / "clip", range(2), "{}.png", exif=exif)
    clip = read_frames(folder, [0])
    assert torch.equal(clip[0], torch.from_numpy(np.rot90(drawn(0), -1).copy()).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pictures_of_other_kinds_become_rgb(tmp_path, mode):
    (tmp_path / "clip").mkdir()
    Image.new("RGB", (64, 48), (255, 255, 255)).convert(mode).save(
        tmp_path / "clip" / ("1.jpg" if mode == "CMYK" else "1.png")
    )
    assert read_frames(tmp_path / "clip", [0]).float().mean() > 250


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ([], "numbered"), (["cover.jpg", "notes.txt"], "numbered"), (["img_1.jpg", "flow_x_1.jpg"], "series"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_video_says_why_in_one_sentence(tmp_path, names, word):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(VideoError, match=f"^{tmp_path}: .*{word}"):
        probe(tmp_path)


def test_numbers_count_and_not_their_digits():
    assert numbered_pictures(["a10.png", "a9.PNG", "a009.jpg", "b.png"]) == ["a009.jpg", "a9.PNG", "a10.png"]


def identity(folder) -> str:
    (key,) = facts.identities([str(folder)], [0.0]).values()
    return key


def test_what_changes_in_a_folder_is_noticed(tmp_path):
    folder = write_frames(tmp_path / "clip", range(3))
    keys = [identity(folder)]
    assert identity(folder) == keys[0]
    (folder / "00001.png").rename(folder / "00007.png")
    keys.append(identity(folder))
    size, changed = (folder / "00002.png").stat(), 10**18
    Image.fromarray(drawn(9)).save(folder / "00002.png")
    os.utime(folder / "00002.png", ns=(size.st_atime_ns, size.st_mtime_ns + changed))
    keys.append(identity(folder))
    write_frames(folder, [8])
    keys.append(identity(folder))
    assert len(set(keys)) == 4
    assert state_of(str(folder), 12) == state_of(str(folder)) != state_of(str(folder), 30)
    assert not facts.identities([str(tmp_path / "gone")], [0.0])


def test_facts_are_those_at_the_rate_of_the_list(tmp_path):
    folder = write_frames(tmp_path / "clip", range(6))
    table = pd.DataFrame(
        {"path": [str(folder)], "label": "a", "group": "g", "split": "train", "start": 0.3, "end": 9.0}
    )
    for rate, fps, usable in ((0.0, 12, 1), (30.0, 30, 0), (6.0, 6, 1)):  # at 30 a second it ends before 0.3 s
        good, bad = check_videos(table.assign(rate=rate), progress=False)
        assert (len(good), len(bad)) == (usable, 1 - usable)
        assert good["fps"].tolist() == [fps] * usable


def test_the_files_of_a_video(tmp_path):
    folder = write_frames(tmp_path / "clip", [2, 10], "{}.png")
    assert files_of(str(folder)) == [str(folder / "2.png"), str(folder / "10.png")]
    assert files_of(str(folder / "2.png")) == [str(folder / "2.png")]
    with pytest.raises(VideoError, match="numbered"):
        files_of(str(tmp_path))


# A dataset of pictures, and the same as video files


@pytest.fixture(scope="module")
def both(tmp_path_factory, ffmpeg) -> tuple[Path, Path]:
    """Two datasets that show the same: folders of PNG, and lossless videos of them at 12 frames a second."""
    pictures, films = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("films")
    for number, split in enumerate(("train",) * 4 + ("val", "val", "test", "test")):
        name, label = f"{'ab'[number % 2]}/{number}", "ab"[number % 2]
        folder = write_frames(pictures / "videos" / name, range(number, number + 16 + number))
        (films / "videos" / label).mkdir(parents=True, exist_ok=True)
        ffmpeg("-framerate", 12, "-start_number", number, "-i", folder / "%05d.png", "-c:v", "ffv1", "-pix_fmt",
               "gbrp", films / "videos" / f"{name}.mkv")  # fmt: skip
        for root, ending in ((pictures, ""), (films, ".mkv")):
            with (root / f"{split}.csv").open("a") as file:
                file.write(("" if file.tell() else "video_name,label\n") + f"{name}{ending},{label}\n")
    return pictures, films


@pytest.mark.parametrize("fps", [0, 5])
def test_pictures_give_the_tensors_of_the_video(both, tmp_path, fps):
    clips = ClipSpec(4, (32, 32), *IMAGENET, fps=fps)
    read = []
    for root in both:
        table = load_manifest(root)
        good, bad = check_videos(table, progress=False)
        assert len(good) == 8 and not len(bad)
        store = FrameStore(root, tmp_path / root.name, clips.short_side, fps)
        stored = store.frames_of(store.update(table, progress=False, num_workers=0)[0])
        for source in (VideoFiles(good, clips), stored):
            read.append([load_views(source, row, clips, views=2) for row in range(8)])
            read[-1] += [torch.from_numpy(source.times(row)) for row in range(8)]
    for other in read[1:]:
        assert all(torch.equal(one, same) for one, same in zip(read[0], other, strict=True))


def test_training_evaluation_and_prediction_are_those_of_the_video(both, tmp_path):
    found = []
    for root in both:
        config = TrainConfig(
            data_dir=root, model="frame_average", backbone="squeezenet1_1", num_frames=4, frame_size=(32, 32), epochs=1,
            batch_size=2, num_workers=0, store_dir=tmp_path / "store", experiments_dir=tmp_path / root.name,
            precision="fp32",
        )  # fmt: skip
        experiment = train(config, progress=False)
        tested = evaluate_checkpoint(experiment.folder, root, progress=False).as_table()
        predictor = Predictor.load(experiment.folder)
        videos = find_videos([root / "videos"])
        assert [video.stem for video in videos] == ["0", "2", "4", "6", "1", "3", "5", "7"]
        answers = [predictor.predict(video) for video in videos] + [predictor.predict_along(videos[0])]
        found.append((tested["predicted"].tolist(), [answer.top for answer in answers]))
    assert found[0] == found[1]


def test_a_folder_of_pictures_is_one_video_to_the_command(both, tiny_checkpoint, capsys):
    folder = both[0] / "videos" / "a" / "0"
    assert main(["predict", str(folder), "--checkpoint", str(tiny_checkpoint)]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}\n")


def test_a_bare_name_is_found_in_its_class_folder(both, tmp_path):
    (tmp_path / "videos").symlink_to(both[0] / "videos")
    (tmp_path / "test.csv").write_text("Video Name,Label\n0,a\n1,b\n")
    good, _ = check_videos(load_manifest(tmp_path, split="test"), progress=False)
    assert good["frames"].tolist() == [16, 17]


def test_folders_of_pictures_become_a_dataset(both, tmp_path):
    table = read_folders(both[0] / "videos")
    assert len(table) == 8 and set(table["path"]) == {f"{'ab'[n % 2]}/{n}" for n in range(8)}
    mixed = write_frames(tmp_path / "mixed", range(2))
    (mixed / "one.mp4").touch()  # a video with pictures of it beside it
    write_frames(tmp_path / "cover", [1])
    assert videos_below(tmp_path) == [mixed / "one.mp4"]


def test_videos_are_known_again_in_another_folder(both, tmp_path):
    table = load_manifest(both[0])
    keys = video_keys(table)
    assert len(set(keys.tolist())) == 8
    path = Path(table["path"][0])
    copy = tmp_path / path.name
    copy.mkdir()
    for file in path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert video_keys(pd.DataFrame({"path": [str(copy)]}))[0] == keys[0]


# The column fps


def test_a_list_may_say_how_many_pictures_a_second_there_are(both, tmp_path):
    (tmp_path / "videos").symlink_to(both[0] / "videos")
    (tmp_path / "videos2").symlink_to(both[1] / "videos")
    film = tmp_path / "videos2" / "a" / "0.mkv"
    (tmp_path / "train.csv").write_text(f"video_name,label,fps\na/0,a,48\nb/1,b,\n{film},a,48\n")
    (tmp_path / "val.csv").write_text("video_name,label\na/2,a\n")
    table = load_manifest(tmp_path)
    clips = ClipSpec(4, (32, 32), *IMAGENET, fps=6)
    good, _ = check_videos(table, progress=False)
    store = FrameStore(tmp_path, tmp_path / "store", clips.short_side, clips.fps)
    stored = store.update(table, progress=False, num_workers=0)[0]
    assert store.is_complete(table) and not store.is_complete(table.drop(columns="rate"))
    for source in (VideoFiles(good, clips), VideoFiles(stored, clips), store.frames_of(stored)):
        assert [source.times(row)[-1] for row in range(4)] == pytest.approx([16 / 48, 17 / 12, 16 / 12, 18 / 12])
        assert np.array_equal(source.frames, store.frames_of(stored).frames)


@pytest.mark.parametrize("fps", ["-1", "many", "inf"])
def test_a_rate_that_is_none_is_an_error_with_file_and_row(tmp_path, fps):
    (tmp_path / "test.csv").write_text(f"video_name,label,fps\na,a,12\nb,a,{fps}\n")
    with pytest.raises(DataError, match=rf"test\.csv, row 3\b.*{fps}"):
        load_manifest(tmp_path, split="test")


def test_all_pictures_damaged(tmp_path):
    (tmp_path / "1.png").touch()
    with pytest.raises(VideoError, match="damaged"), open_video(tmp_path) as video:
        next(iter(video))
