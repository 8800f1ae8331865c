"""Folders are walked without what is hidden, through links, and to an end."""

from pathlib import Path

from varec_lib.data.folders import places_by_name, walk
from varec_lib.data.manifest import load_manifest


def test_links_in_circles_are_walked_once_and_hidden_files_not(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a/one.avi", "a/b/two.avi", "elsewhere/three.avi", "a/._one.avi", "a/.DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "four.avi").touch()
    for number in range(3):  # every way through them would be 3 to the power of 40
        (tmp_path / "a" / "b" / f"loop{number}").symlink_to(tmp_path)
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    found = [Path(place) / name for place, _, files in walk(tmp_path / "a") for name in files]
    assert sorted(path.name for path in found) == ["one.avi", "three.avi", "two.avi"]


def test_a_link_that_leads_nowhere_is_passed_over(tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert [*walk(tmp_path)] == [(str(tmp_path), [], ["gone"])]
    assert [*walk(tmp_path / "gone")] == []


def test_pictures_are_found_by_their_folder(tmp_path):
    for name in ("x/7/00001.jpg", "y/8/00001.jpg", "y/00001.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    places = {name: [Path(folder).name for folder in folders] for name, folders in places_by_name(tmp_path).items()}
    assert places == {"x": [tmp_path.name], "y": [tmp_path.name], "7": ["x"], "8": ["y"], "00001.avi": ["y"]}


def test_a_hidden_copy_makes_no_name_ambiguous(tmp_path):
    for name in ("x/one.avi", ".trash/one.avi", "x/._two.avi", "y/two.avi"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "train.csv").write_text("video_name,label\none.avi,a\ntwo.avi,a\n")
    found = [Path(path).parent.name for path in load_manifest(tmp_path)["path"]]
    assert sorted(found) == ["x", "y"]
