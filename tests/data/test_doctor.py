"""The doctor on real clips: a copy of them damaged in every way, of which everything is found, and nothing else."""

import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from varec_lib.cli import main
from varec_lib.data.doctor import CARVED, cleaned, diagnose
from varec_lib.data.duplicates import _agreement, near_copies
from varec_lib.data.looks import Look, looks_of
from varec_lib.data.manifest import load_manifest
from varec_lib.data.shortcuts import shortcuts
from varec_lib.errors import DataError

CLASSES = ("Archery", "Lunges", "JumpingJack")


def clip(name: str) -> str:
    """The file of `Archery_g08_c01`."""
    return f"v_{name}.avi"


@pytest.fixture(scope="module")
def some_clips(tmp_path_factory, ucf5):
    """Three classes of the real clips, linked."""
    root = tmp_path_factory.mktemp("clips") / "set"
    (root / "videos").mkdir(parents=True)
    for split in ("train", "val", "test"):
        rows = pd.read_csv(ucf5 / f"{split}.csv")
        rows = rows[rows["label"].isin(CLASSES)].groupby("label").head(12 if split == "train" else 4)
        rows.to_csv(root / f"{split}.csv", index=False)
        for name in rows["video_name"]:
            os.symlink((ucf5 / "videos" / name).resolve(), root / "videos" / name)
    return root


@pytest.fixture(scope="module")
def sick(tmp_path_factory, some_clips, ffmpeg):
    """A copy of them damaged in every way, and what has to be found: pairs of kind and file."""
    root = tmp_path_factory.mktemp("sick") / "set"
    shutil.copytree(some_clips, root)
    videos, expected = root / "videos", set()

    def spoil(kind: str, name: str, *arguments: object, ending: str = "mp4") -> None:
        target, made = videos / clip(name), videos.parent / f"made.{ending}"
        ffmpeg("-i", target, *arguments, made)
        os.replace(made, target)
        expected.add((kind, clip(name)))

    def write(kind: str, name: str, content: bytes) -> None:
        (videos / clip(name)).unlink()
        (videos / clip(name)).write_bytes(content)
        expected.add((kind, clip(name)))

    def content(name: str) -> bytes:
        return (videos / clip(name)).read_bytes()

    (videos / clip("Archery_g08_c01")).unlink()
    expected.add(("missing", clip("Archery_g08_c01")))
    write("unreadable", "Archery_g08_c02", b"")
    write("unreadable", "Archery_g09_c01", b"no video" * 100)
    half = content("Archery_g11_c01")
    write("truncated", "Archery_g11_c01", half[: len(half) // 2])
    hole = bytearray(content("Archery_g12_c01"))
    hole[len(hole) // 2 :][:6000] = hole[len(hole) // 2 : len(hole) // 2 + 6000] = bytes(6000)
    write("damaged", "Archery_g12_c01", bytes(hole))
    spoil("short", "Archery_g13_c01", "-t", "0.4", ending="avi")
    late = "setpts='if(lt(N,20),N/25,20/25+(N-20)/8)/TB'"
    spoil("uneven", "Archery_g13_c02", "-vf", late, "-fps_mode", "vfr")
    halves = ("-vf", "scale=768:576,setsar=1,interlace", "-flags", "+ildct+ilme", "-c:v", "mpeg2video")
    spoil("interlaced", "Archery_g09_c02", *halves, ending="mpg")
    spoil("non_square", "Archery_g10_c01", "-vf", "setsar=16/11")
    hlg = "log-level=error:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"
    spoil("hdr", "Archery_g10_c02", "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-x265-params", hlg)
    spoil("turned", "Archery_g11_c02", "-vf", "null")
    turned = videos / clip("Archery_g11_c02")
    ffmpeg("-display_rotation", "90", "-i", turned, "-c", "copy", root / "turned.mp4")
    os.replace(root / "turned.mp4", turned)
    spoil("codec", "Archery_g12_c02", "-c:v", "ffv1", ending="mkv")
    write("two_labels", "JumpingJack_g09_c01", content("Lunges_g09_c01"))
    write("leak", "Lunges_g08_c01", content("Lunges_g01_c01"))
    write("duplicate", "Lunges_g12_c01", content("Lunges_g12_c02"))
    write("near_duplicate", "Lunges_g10_c01", content("Lunges_g02_c01"))
    spoil("near_duplicate", "Lunges_g10_c01", "-vf", "scale=240:180", "-c:v", "libx264")
    write("near_duplicate", "Lunges_g11_c01", content("Lunges_g02_c02"))
    spoil("near_duplicate", "Lunges_g11_c01", "-ss", "1", "-vf", "hflip", "-c:v", "libx264")
    rows = pd.read_csv(root / "train.csv")
    rows.loc[rows["video_name"] == clip("Lunges_g13_c01"), "label"] = "lunges"
    twice = rows[rows["video_name"] == clip("Lunges_g09_c02")]
    sibling = pd.DataFrame([(clip("Archery_g01_c03"), "Archery")], columns=["video_name", "label"])
    shutil.copy((videos / clip("JumpingJack_g12_c01")).resolve(), videos / clip("Archery_g01_c03"))
    spoil("shared_group", "Archery_g01_c03", "-vf", "vflip", "-c:v", "libx264")
    expected |= {
        ("duplicate", clip("Lunges_g09_c02")),
        ("rare", ""),
        ("spelling", ""),
        ("imbalance", ""),
        ("untested", ""),
    }
    pd.concat([rows, twice, sibling]).to_csv(root / "train.csv", index=False)
    return root, {(kind, "" if kind == "shared_group" else name) for kind, name in expected}


@pytest.fixture(scope="module")
def out(sick, tmp_path_factory):
    """What the command prints and writes of it."""
    return tmp_path_factory.mktemp("out") / "findings"


def findings(out) -> pd.DataFrame:
    return pd.read_csv(out / "findings.csv", keep_default_na=False)


def test_everything_that_is_wrong_is_found_and_nothing_else(sick, out, capsys):
    root, expected = sick
    assert main(["data", "check", str(root), "--out", str(out), "--fix"]) == 1
    printed = capsys.readouterr().out
    table = findings(out)
    assert list(table) == ["severity", "kind", "video_name", "split", "detail"]
    found = set(zip(table["kind"], table["video_name"], strict=True))
    pairs = {("near_duplicate", clip("Lunges_g02_c01")), ("near_duplicate", clip("Lunges_g02_c02"))}
    either = {("near_duplicate", clip(f"Lunges_g{group}_c01")) for group in (10, 11)}
    others = {"named_group", "shortcut", "uneven"}  # the clips themselves have these
    assert {one for one in expected if one[0] != "near_duplicate"} <= found
    assert all(one in found or other in found for one, other in zip(sorted(pairs), sorted(either), strict=True))
    for kind, name in found - expected - pairs - either:
        twin = {"two_labels": "Lunges_g09_c01", "leak": "Lunges_g01_c01", "duplicate": "Lunges_g12_c02"}.get(kind)
        assert kind in others or name == clip(twin or ""), (kind, name)
    errors = (table["severity"] == "error").sum()
    assert re.search(rf"\b{errors} errors\b", printed) and "findings.html" in printed


def test_the_cleaned_lists_are_a_dataset_without_errors(sick, out, capsys):
    root, _ = sick
    before = sorted((path.name, path.stat().st_size) for path in (root / "videos").iterdir() if path.exists())
    assert main(["data", "check", str(root), "--out", str(out), "--fix"]) == 2  # it would replace these lists
    assert "--overwrite" in capsys.readouterr().err
    assert main(["data", "check", str(out)]) == 0
    assert "0 errors" in capsys.readouterr().out
    clean = load_manifest(out)
    names = {os.path.basename(path): split for path, split in zip(clean["path"], clean["split"], strict=True)}
    assert set(clean["label"]) == set(CLASSES) and clean["path"].is_unique
    assert clip("Lunges_g13_c01") in names  # in the spelling of the others
    assert names[clip("Lunges_g01_c01")] == names[clip("Lunges_g02_c01")] == names[clip("Lunges_g02_c02")] == "test"
    gone = ("Archery_g08_c01", "Archery_g09_c01", "Lunges_g08_c01", "Lunges_g10_c01", "Lunges_g11_c01",
            "Lunges_g09_c01", "JumpingJack_g09_c01")  # fmt: skip
    assert not {clip(name) for name in gone} & set(names)
    assert before == sorted((path.name, path.stat().st_size) for path in (root / "videos").iterdir() if path.exists())


def test_the_page_needs_nothing_else_and_shows_pictures(out):
    page = (out / "findings.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|(?:src|href)=\"(?!data:image/jpeg|#)", page)
    assert page.count("data:image/jpeg;base64,") > 10
    assert all(f'id="{kind}"' in page for kind in set(findings(out)["kind"]))


def test_names_of_files_cannot_break_the_page(tmp_path, write_video, capsys):
    root = tmp_path / "set"
    for number, name in enumerate(["a&b.mkv", "<b>bold.mkv", "c.mkv", "d.mkv"]):
        write_video(root / "videos" / name, 8 + number)
    for split, names in (("train", ["a&b.mkv", "<b>bold.mkv"]), ("val", ["c.mkv"]), ("test", ["d.mkv", "<i>no.mkv"])):
        (root / f"{split}.csv").write_text("video_name,label\n" + "".join(f'"{name}","<u>"\n' for name in names))
    assert main(["data", "check", str(root), "--out", str(tmp_path / "out")]) == 1
    page = (tmp_path / "out" / "findings.html").read_text()
    assert "<b>bold" not in page and "&lt;b&gt;bold.mkv" in page and "<u>" not in page and "<i>no" not in page


def test_real_clips_have_no_copies_but_one(ucf5):
    """The first clip of a film of a violinist is the beginning of the second, frame by frame."""
    looks = looks_of(load_manifest(ucf5), progress=False)
    pairs = [sorted(map(os.path.basename, pair)) for pair in near_copies(looks)]
    assert pairs == [["v_PlayingViolin_g02_c01.avi", "v_PlayingViolin_g02_c02.avi"]]


def look(path) -> Look:
    return looks_of(pd.DataFrame({"path": [str(path)]}), progress=False)[str(path)]


def test_looks_are_remembered_until_the_file_changes(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "a.mkv", 20)

    first = look(path)
    assert first.series().shape == (13, 16, 16) and not first.sound
    monkeypatch.setattr("varec_lib.data.looks.look_at", lambda *_: pytest.fail("looked at again"))
    assert look(path) == first
    monkeypatch.undo()
    write_video(path, 30)
    second = look(path)
    assert second.digest != first.digest and len(second.series()) == 20


def test_sound_is_seen(tmp_path, ffmpeg):
    tone = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1", "-f", "lavfi", "-i", "sine=d=1", "-shortest")
    ffmpeg(*tone, tmp_path / "a.mp4")
    seen = look(tmp_path / "a.mp4")
    assert seen.sound and not (seen.hdr or seen.turned or seen.non_square)


def test_folders_of_pictures_are_compared_too(tmp_path, write_video, ffmpeg):
    for number in (0, 1):
        (tmp_path / f"clip_{number}").mkdir()
        ffmpeg("-i", write_video(tmp_path / "a.mkv", 20), tmp_path / f"clip_{number}" / "img_%05d.png")
    first, second = look(tmp_path / "clip_0"), look(tmp_path / "clip_1")
    assert first == second and len(first.series()) == 17  # 20 pictures at 12 a second
    (tmp_path / "clip_1" / "img_00020.png").unlink()
    assert look(tmp_path / "clip_1").digest != first.digest


def told(**columns: list) -> list[str]:
    """What tells the label of 60 videos of two classes, of two a group."""
    table = pd.DataFrame({"label": ["a", "b"] * 30, "group": [f"g{number // 2}" for number in range(60)], "fps": 25.0,
                          "height": 240, "width": 320, "codec": "h264"})  # fmt: skip
    table["times"] = [np.array([0.0, 2.0])] * 60
    return [what for what, _, _ in shortcuts(table.assign(**columns), columns.pop("sound", [True] * 60))]


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        ("size", {"width": [320, 640] * 30}),
        ("frame rate", {"fps": [25, 30] * 30}),
        ("length", {"times": [np.array([0, 2.0]), np.array([0, 4.0])] * 30}),
        ("codec", {"codec": ["h264", "mpeg4"] * 30}),
    ],
)
def test_what_alone_tells_the_label_is_named(what, columns):
    assert told(**columns) == [what]


def test_sound_that_tells_the_label_is_named():
    table = pd.DataFrame({"label": ["a", "b"] * 30, "group": range(60), "fps": 25.0, "height": 1, "width": 1,
                          "codec": "x", "times": [np.array([0.0, 2.0])] * 60})  # fmt: skip
    ((what, right, chance),) = shortcuts(table, [True, False] * 30)
    assert (what, right, chance) == ("sound", 1, 0.5)


def test_chance_is_no_shortcut():
    rng = np.random.default_rng(0)
    assert told() == []
    assert told(width=rng.integers(100, 999, 60), fps=rng.choice([24, 25, 30], 60)) == []
    assert told(width=[number for number in range(30) for _ in range(2)]) == []  # tells the group, not the label


@pytest.mark.parametrize("words", [["--fix"], ["--fix", "--out", "."]])
def test_cleaned_lists_do_not_replace_those_of_the_dataset(numbered_dataset, words, capsys, monkeypatch):
    monkeypatch.chdir(numbered_dataset)
    assert main(["data", "check", ".", *words]) == 2
    assert "--out" in capsys.readouterr().err


def small_set(root, write_video, ffmpeg, **splits: str) -> None:
    """A dataset of lists that are given as `name,label` lines, and the videos a, a copy, and a re-encoded one."""
    (root / "videos").mkdir(parents=True)
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x72:r=15:d=4", "-c:v", "libx264", root / "videos" / "a.mp4")
    shutil.copy(root / "videos" / "a.mp4", root / "videos" / "copy.mp4")
    ffmpeg("-i", root / "videos" / "a.mp4", "-vf", "scale=64:48", "-c:v", "mpeg4", root / "videos" / "again.avi")
    for number in range(6):
        frames = np.random.default_rng(number).integers(0, 255, 12)
        write_video(root / "videos" / f"{number}.mkv", frames.tolist())
    for split, lines in splits.items():
        (root / f"{split}.csv").write_text("video_name,label\n" + lines)


def test_all_copies_of_a_test_video_leave_training(tmp_path, write_video, ffmpeg):
    train = "copy.mp4,x\nagain.avi,x\n0.mkv,x\n1.mkv,y\n2.mkv,y\n"
    small_set(tmp_path / "set", write_video, ffmpeg, train=train, val="3.mkv,x\n4.mkv,y\n", test="a.mp4,x\n5.mkv,y\n")
    found = diagnose(tmp_path / "set", progress=False)
    assert {"leak", "near_duplicate"} <= {finding.kind for finding in found.findings}
    kept = {os.path.basename(path) for path in cleaned(found)["path"]}
    assert kept == {"a.mp4", *(f"{number}.mkv" for number in range(6))}


def test_copies_with_different_labels_stay_and_are_said(tmp_path, write_video, ffmpeg, capsys):
    train = "again.avi,y\n0.mkv,x\n1.mkv,y\n2.mkv,y\n"
    small_set(tmp_path / "set", write_video, ffmpeg, train=train, val="3.mkv,x\n4.mkv,y\n", test="a.mp4,x\n5.mkv,y\n")
    main(["data", "check", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--fix"])
    assert "stay, for you to decide: 1." in capsys.readouterr().out
    assert {"a.mp4", "again.avi"} <= {os.path.basename(path) for path in load_manifest(tmp_path / "out")["path"]}


def test_cleaned_lists_without_training_videos_are_not_recommended(tmp_path, write_video, ffmpeg, capsys):
    lines = "0.mkv,x\n1.mkv,y\n2.mkv,y\n3.mkv,x\n"
    small_set(tmp_path / "set", write_video, ffmpeg, train=lines, val="4.mkv,x\n5.mkv,y\n", test=lines)
    assert main(["data", "check", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--fix"]) == 1
    printed = capsys.readouterr().out
    assert "no training video" in printed and "varec train" not in printed


def test_validation_carved_from_train_is_named_so_and_stays_in_the_training_list(tmp_path, write_video, ffmpeg, capsys):
    listed = [f"{number}.mkv" for number in range(6)]
    lines = "".join(f"{name},{'xy'[number % 2]}\n" for number, name in enumerate(listed)) + "gone.mkv,x\n"
    small_set(tmp_path / "set", write_video, ffmpeg, train=lines, test="a.mp4,x\nagain.avi,y\n")
    out = tmp_path / "out"
    assert main(["data", "check", str(tmp_path / "set"), "--out", str(out), "--fix"]) == 1
    assert CARVED in capsys.readouterr().out and CARVED in (out / "findings.html").read_text()
    splits = findings(out).query("kind == 'codec'").set_index("video_name")["split"].to_dict()  # FFV1
    carved = {os.path.basename(path) for path in load_manifest(tmp_path / "set", split="val")["path"]}
    assert set(splits.values()) == {"train", CARVED}
    assert splits == {name: CARVED if name in carved else "train" for name in listed}
    assert not (out / "val.csv").exists()
    assert {os.path.basename(path) for path in pd.read_csv(out / "train.csv")["video_name"]} == set(listed)


def test_a_listed_validation_split_is_kept_and_named_as_ever(tmp_path, write_video, ffmpeg):
    train = "0.mkv,x\n1.mkv,y\n2.mkv,y\n"
    small_set(tmp_path / "set", write_video, ffmpeg, train=train, val="3.mkv,x\n4.mkv,y\n", test="5.mkv,y\n")
    main(["data", "check", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--fix"])
    assert set(findings(tmp_path / "out").query("kind == 'codec'")["split"]) == {"train", "val", "test"}
    assert len(pd.read_csv(tmp_path / "out" / "val.csv")) == 2


def test_labels_that_lists_spell_differently_are_diagnosed_and_mended(tmp_path, write_video, ffmpeg):
    small_set(tmp_path / "set", write_video, ffmpeg, train="0.mkv,Body squat\n1.mkv,y\n2.mkv,y\n",
              val="3.mkv,Body squat\n4.mkv,y\n", test="5.mkv,body_squat\n")  # fmt: skip
    with pytest.raises(DataError, match="Body squat"):
        load_manifest(tmp_path / "set")
    found = diagnose(tmp_path / "set", progress=False)
    assert {"untrained", "spelling"} <= {finding.kind for finding in found.findings}
    assert set(cleaned(found)["label"]) == {"Body squat", "y"}


def test_copies_of_a_video_that_is_cut_into_clips_are_found(tmp_path, write_video, ffmpeg):
    small_set(tmp_path / "set", write_video, ffmpeg)
    head, rest = "video_name,label,start,end\n", "0.mkv,x,0,0.7\n1.mkv,y,0,0.7\n"
    (tmp_path / "set" / "val.csv").write_text(head + rest)
    (tmp_path / "set" / "train.csv").write_text(f"{head}{rest}a.mp4,x,0,2\na.mp4,y,2,3\n")
    for name, kind in (("copy.mp4", "leak"), ("again.avi", "near_duplicate")):
        (tmp_path / "set" / "test.csv").write_text(f"{head}{name},x,0,1.9\n{name},y,2.1,3\n")
        assert kind in {finding.kind for finding in diagnose(tmp_path / "set", progress=False).findings}
    (tmp_path / "set" / "test.csv").write_text(f"{head}a.mp4,x,1,1.9\n")
    kept = cleaned(diagnose(tmp_path / "set", progress=False))
    assert kept[kept["path"].str.endswith("a.mp4")]["start"].tolist() == [2, 1]  # the clip that overlaps is gone


def test_a_video_and_its_symmetric_copy_are_one_pair(tmp_path, ffmpeg):
    for name in ("a.mp4", "b.mp4"):
        drawn = "color=gray:s=96x72:r=15:d=3,drawbox=x=40:y='10+10*t':w=16:h=16:color=white:t=fill"
        ffmpeg("-f", "lavfi", "-i", drawn, "-c:v", "libx264", "-crf", 18 if name == "a.mp4" else 30, tmp_path / name)
    looks = looks_of(pd.DataFrame({"path": [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]}), progress=False)
    assert len(list(near_copies(looks, progress=False))) <= 1


def test_all_shifts_at_once_are_each_shift_by_itself():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 4, 4)), rng.normal(size=(33, 4, 4))
    first[5:30] += second[3:28]
    one, other, best = first.reshape(40, -1), second.reshape(33, -1), (-1.0, 0.0)
    for shift in range(20 - 33, 40 - 20 + 1):
        start, end = max(0, shift), min(40, 33 + shift)
        a, b = one[start:end], other[start - shift : end - shift]
        means = a.mean(axis=0), b.mean(axis=0)
        motion = np.corrcoef((a - means[0]).ravel(), (b - means[1]).ravel())[0, 1]
        place = np.vdot(*means) / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
        best = max(best, (motion, place))
    assert _agreement(first, second) == pytest.approx(best)


def test_segments_of_one_file_are_no_duplicates(tmp_path, write_video):
    write_video(tmp_path / "videos" / "long.mkv", 150)
    for split, lines in (("train", "long.mkv,a,0,3\nlong.mkv,b,3,6\n"), ("val", "long.mkv,a,6,8\nlong.mkv,b,8,10\n")):
        (tmp_path / f"{split}.csv").write_text(f"video_name,label,start,end\n{lines}")
    kinds = {finding.kind for finding in diagnose(tmp_path, progress=False).findings}
    assert "shared_group" in kinds and not kinds & {"two_labels", "leak", "duplicate", "near_duplicate"}
