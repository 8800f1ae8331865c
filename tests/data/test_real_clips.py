"""Where the five classes of UCF-101 are found that the course compares models on."""

from pathlib import Path

import pytest

from varec_lib.data import real_clips
from varec_lib.data.manifest import load_manifest
from varec_lib.data.real_clips import REAL_CLASSES
from varec_lib.errors import DataError


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """`make(classes)`: UCF-101 as it comes (class folders, official lists), two clips of groups 1, 22, 23 and 25."""
    monkeypatch.setattr(real_clips, "PROJECT_ROOT", tmp_path / "project")
    monkeypatch.delenv("VAREC_UCF5", raising=False)

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


def test_no_real_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(real_clips, "PROJECT_ROOT", tmp_path)
    monkeypatch.delenv("VAREC_UCF5", raising=False)
    assert real_clips.real_clips() is None
    monkeypatch.setenv("VAREC_UCF5", str(tmp_path / "absent"))
    assert real_clips.real_clips() is None


def test_of_all_of_ucf101_five_classes_are_listed_with_late_groups_for_validation(listed, monkeypatch):
    root = listed([*REAL_CLASSES, "Typing", "YoYo"])
    monkeypatch.setenv("VAREC_UCF5", str(root))
    folder = real_clips.real_clips()
    assert folder == real_clips.PROJECT_ROOT / "data" / "ucf5"
    table = load_manifest(folder)
    assert set(table["label"]) == set(REAL_CLASSES)
    groups = table.groupby("split")["group"].agg(lambda names: sorted({name[-3:] for name in names}))
    assert groups.to_dict() == {"train": ["g22"], "val": ["g23", "g25"], "test": ["g01"]}
    assert all(Path(path).is_file() for path in table["path"])
    assert table["split"].value_counts().to_dict() == {"val": 20, "train": 10, "test": 10}


def test_a_folder_of_the_five_classes_is_used_as_it_is(listed, monkeypatch):
    root = listed(REAL_CLASSES)
    monkeypatch.setenv("VAREC_UCF5", str(root))
    assert real_clips.real_clips() == root
    monkeypatch.delenv("VAREC_UCF5")
    (real_clips.PROJECT_ROOT / "data").mkdir(parents=True)
    root.rename(real_clips.PROJECT_ROOT / "data" / "ucf101")
    assert real_clips.real_clips() == real_clips.PROJECT_ROOT / "data" / "ucf101"


def test_a_folder_without_these_classes_is_refused(listed, monkeypatch):
    monkeypatch.setenv("VAREC_UCF5", str(listed([*REAL_CLASSES[1:], "YoYo"])))
    with pytest.raises(DataError, match="has no videos of Archery"):
        real_clips.real_clips()
