"""What lists and facts tell of a dataset: each kind of finding on a table that has it, and none on one that has not."""

import numpy as np
import pandas as pd
import pytest

from varec_lib.config import TrainConfig
from varec_lib.data import ucf101
from varec_lib.data.check import load_dataset
from varec_lib.data.findings import (
    KINDS,
    Finding,
    clashes,
    cut_short,
    in_one_line,
    quick_findings,
    training_siblings,
    verdict,
)  # fmt: skip
from varec_lib.data.video import NO_FILE

NONE = pd.DataFrame(columns=["path", "label", "group", "split", "problem"])


def rows(*pairs: tuple[str, str, str], paths: list[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame(pairs, columns=["label", "group", "split"])
    return table.assign(path=paths or [f"/videos/{row}.mkv" for row in range(len(table))])


def kinds(table: pd.DataFrame) -> list[str]:
    return [finding.kind for finding in found(table)]


def found(table: pd.DataFrame, bad: pd.DataFrame = NONE) -> list[Finding]:
    """What is found, but that these small tables lack validation and test videos."""
    return [one for one in quick_findings(table, bad) if one.kind not in ("no_val", "untested")]


def checked(**facts: object) -> pd.DataFrame:
    """Two videos, of which the second has these facts."""
    usual = {"lost": 0, "promised_s": 2.0, "uneven": False, "interlaced": False, "codec": "h264",
             "times": np.arange(31) / 15}  # fmt: skip
    table = rows(("a", "1", "train"), ("a", "2", "train"))
    return table.assign(**{name: [value, facts.get(name, value)] for name, value in usual.items()})


def test_a_dataset_in_order_has_no_findings(numbered_dataset):
    table = load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False)
    assert set(kinds(table)) == {"codec"}  # FFV1
    assert kinds(checked()) == []


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        ("damaged", {"lost": 3}, "3"),
        ("truncated", {"promised_s": 13.1}, "2.0 of 13.1"),
        ("uneven", {"uneven": True, "times": np.array([0, 0.1, 0.9, 1.0])}, "0.100 to 0.800"),
        ("interlaced", {"interlaced": True}, "h264"),
        ("codec", {"codec": "ffv1"}, "ffv1"),
    ],
)
def test_facts_of_a_file_become_findings_about_it(kind, facts, words):
    (finding,) = found(checked(**{"promised_s": 1.0} | facts) if kind == "uneven" else checked(**facts))
    assert (finding.kind, finding.video_name, finding.split) == (kind, "/videos/1.mkv", "train")
    assert words in finding.detail


def test_headers_are_not_exact():
    assert not cut_short(9.2, 10.0) and cut_short(8.9, 10.0) and not cut_short(91, 100) and not cut_short(5, 0)


def test_unusable_videos_are_errors_with_their_reason():
    said = [NO_FILE, "the file is empty (0 bytes). Copy it again."]
    bad = rows(("a", "1", "train"), ("a", "2", "test"))
    bad["problem"] = [f"{path}: {one}" for path, one in zip(bad["path"], said, strict=True)]
    missing, empty = found(rows(("a", "3", "train"), ("a", "4", "train")), bad)
    assert (missing.kind, missing.severity, missing.split) == ("missing", "error", "train")
    assert "/videos" in missing.detail
    assert (empty.kind, empty.severity, empty.detail) == ("unreadable", "error", "the file is empty (0 bytes)")


def test_videos_twice_or_under_two_labels_or_in_two_splits_are_said():
    table = rows(*[("a", "1", "train")] * 3, *[("b", "2", "train")] * 3)
    paths = ["/v/x.mkv", "/v/y.mkv", "/v/z.mkv", "/v/x.mkv", "/v/p.mkv", "/v/q.mkv"]
    (finding,) = found(table.assign(path=paths))
    assert (finding.kind, finding.video_name) == ("two_labels", "/v/x.mkv") and "a, b" in finding.detail
    table.loc[3, "label"] = "a"
    assert kinds(table.assign(path=paths)) == ["duplicate"]
    table.loc[3, "split"] = "test"
    assert "leak" in kinds(table.assign(path=paths))


def clips(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """Clips of one video: label, split, and from when to when in seconds."""
    table = pd.DataFrame(rows, columns=["label", "split", "start", "end"])
    return table.assign(path="/v/film.mkv", group="film")


def test_clips_of_one_video_that_overlap_across_splits_are_a_leak():
    apart = clips(("a", "train", 0, 3), ("b", "train", 2, 4), ("a", "test", 4, 6), ("b", "test", 4, 6.5))
    assert "leak" not in kinds(apart) and "two_labels" not in kinds(apart)
    both = clips(("a", "train", 0, 9), ("a", "train", 1, 2), ("a", "test", 5, 6))
    (leak,) = [finding for finding in found(both) if finding.kind == "leak"]
    assert leak.split == "train, test" and "0 to 9 s" in leak.detail and "5 to 6 s" in leak.detail
    assert "two_labels" in kinds(clips(("a", "train", 0, 3), ("b", "train", 0, 3)))


def test_a_clip_that_ends_long_after_its_video_is_warned_about():
    table = checked().assign(start=0.0, end=[2.5, 400.0])
    (finding,) = found(table)
    assert (finding.kind, finding.video_name) == ("segment", "/videos/1.mkv") and "400" in finding.detail


def test_classes_without_training_or_test_videos_and_missing_validation_are_said():
    table = rows(("a", "1", "train"), ("a", "2", "train"), ("b", "3", "test"))
    by_kind = {finding.kind: finding.detail for finding in quick_findings(table, NONE)}
    assert by_kind["untrained"] == "b" and by_kind["untested"] == "a" and "no_val" in by_kind


def test_files_of_one_name_are_told_apart():
    table = rows(("a", "1", "train"), ("a", "2", "test"), paths=["/v/kitchen/1.mkv", "/v/garden/1.mkv"])
    (finding,) = clashes(table, pd.Series([0, 0]))
    assert finding.video_name == "/v/kitchen/1.mkv" and "garden/1.mkv" in finding.detail


def test_groups_that_names_told_are_said():
    films = [f"/videos/{film}_run_f_nm_np1_ba_goo_{part}.avi" for film in ("A", "B") for part in (0, 1)]
    table = rows(*(("run", film, split) for film, split in zip("AABB", ("train", "train", "val", "val"), strict=True)))
    (note,) = found(table.assign(path=films))
    assert note.kind == "named_group" and "4 videos" in note.detail and "HMDB51" in note.detail
    assert "HMDB51" in in_one_line([note])
    assert kinds(table.assign(path=films, group="mine", split="train")) == []


def test_groups_in_more_than_one_split_are_warned_about():
    leaking = rows(("a", "anna", "train"), ("a", "bert", "train"), ("a", "anna", "test"), ("a", "cleo", "test"))
    (warning,) = found(leaking)
    assert warning.kind == "shared_group" and "anna" in warning.detail and "50%" in warning.detail
    assert kinds(leaking[leaking["split"] != "test"]) == []


def test_a_random_split_of_ucf101_tests_siblings_of_what_it_trained_on(ucf_splits):
    official = pd.concat([ucf101.read_list(ucf_splits, 1, kind, {}, print) for kind in ("train", "test")])
    test = official[official["split"] == "test"]
    assert len(official) == 13320 and len(test) == 3783
    assert training_siblings(official) == 0
    shuffled = np.random.default_rng(0).permutation(len(official)) < len(official) / 4
    assert training_siblings(official.assign(split=np.where(shuffled, "test", "train"))) >= 0.99


def test_labels_that_differ_in_spelling_alone_are_named():
    labels = ["run", "run", "Run", "sit down", "sit_down", "caf\u00e9", "cafe\u0301"]
    named = [
        f.detail
        for f in found(rows(*((label, f"g{n}", "train") for n, label in enumerate(labels))))
        if f.kind == "spelling"
    ]
    assert len(named) == 3 and "'run', 'Run'" in named and "'sit down', 'sit_down'" in named


def test_classes_of_one_training_video_or_of_very_different_size_are_warned_about():
    few = rows(("a", "1", "train"), ("a", "2", "train"), ("b", "3", "train"), ("b", "4", "test"))
    (warning,) = found(few)
    assert (warning.kind, warning.detail) == ("rare", "b")
    many = rows(*[("a", str(n), "train") for n in range(12)], ("b", "x", "train"), ("b", "y", "train"))
    (warning,) = found(many)
    assert warning.kind == "imbalance" and "12" in warning.detail and "2" in warning.detail


def test_the_verdict_has_a_line_for_each_kind_and_the_worst_first():
    bad = rows(("a", "1", "train")).assign(
        problem="/videos/0.mkv: no such file. Check the name in the CSV, or the folder."
    )
    lines = verdict(found(checked(codec="ffv1", lost=1), bad))
    assert [line.split()[:2] for line in lines] == [["error", "1"], ["warning", "1"], ["note", "1"]]
    assert "1.mkv" in lines[1]


def test_a_training_says_errors_and_warnings_in_one_line():
    line = in_one_line(found(checked(codec="ffv1", lost=1)))
    assert "\n" not in line and "damaged" in line and "ffv1" not in line
    assert not in_one_line(found(checked(codec="ffv1")))


def test_every_kind_says_what_it_is_and_what_to_do():
    assert all(severity in ("error", "warning", "note") and what and advice[-1] in ".?"
               for severity, what, advice in KINDS.values())  # fmt: skip
