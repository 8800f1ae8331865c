"""The numbers of an evaluation against numbers made by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, log_loss, recall_score, top_k_accuracy_score

from varec_lib.errors import DataError
from varec_lib.evaluation.intervals import share_interval
from varec_lib.evaluation.metrics import (
    ENOUGH,
    NEVER_SURE,
    Predictions,
    most_confused,
    per_class,
    report,
    selective,
    sure_above,
    top1_interval,
)

#            a    b    c    true
FIVE = [
    ([0.7, 0.2, 0.1], "a"),
    ([0.2, 0.5, 0.3], "a"),  # second choice is c: third is right
    ([0.3, 0.6, 0.1], "b"),
    ([0.1, 0.6, 0.3], "c"),  # second choice is right
    ([0.2, 0.1, 0.7], "c"),
]


@pytest.fixture
def five(predictions):
    return predictions([row for row, _ in FIVE], [label for _, label in FIVE])


def test_top_k(five):
    assert five.top_k(1) == pytest.approx(3 / 5)
    assert five.top_k(2) == pytest.approx(4 / 5)
    assert five.top_k(3) == 1.0


def test_top_k_beyond_the_number_of_classes_uses_all(five):
    assert five.top_k(5) == five.top_k(3) == 1.0


@pytest.mark.parametrize("classes", [3, 8])
def test_of_equally_probable_classes_the_first_is_meant(predictions, classes):
    labels = list("abcdefgh"[:classes])
    tied = predictions([[1 / classes] * classes] * classes, labels)
    assert tied.predicted.tolist() == [0] * classes
    for k in range(1, classes + 1):
        assert tied.top_k(k) == pytest.approx(k / classes)


def test_top_1_agrees_with_the_predicted_class_among_many_ties(predictions):
    rng = np.random.default_rng(0)
    probabilities = rng.integers(1, 4, size=(500, 8)).astype(float)
    many = predictions(probabilities.tolist(), [str(x) for x in rng.choice(list("abcdefgh"), 500)])
    assert many.top_k(1) == (many.predicted == many.targets).mean()


def test_confusion_has_true_classes_in_rows(five):
    assert five.confusion().tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_confusion_keeps_classes_that_do_not_occur(predictions):
    only_a = predictions([[0.9, 0.05, 0.05]], ["a"])
    assert only_a.confusion().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_most_confused_lists_the_mistakes_made_most_often(five, predictions):
    assert most_confused(five).values.tolist() == [["a", "b", 1, 0.5], ["c", "b", 1, 0.5]]
    assert len(most_confused(five, 1)) == 1
    assert most_confused(five.only(["b"])).empty
    table = most_confused(predictions([[0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]], list("aaac")))
    assert table.values.tolist() == [["a", "b", 2, 2 / 3], ["c", "b", 1, 1], ["a", "c", 1, 1 / 3]]


def test_loss_is_the_mean_negative_log_of_the_true_class(five):
    expected = -np.log([0.7, 0.2, 0.6, 0.3, 0.7]).mean()
    assert five.loss() == pytest.approx(expected)


def test_impossible_class_does_not_make_the_loss_infinite(predictions):
    assert 20 < predictions([[0.0, 1.0]], ["a"]).loss() < 40


def test_per_class_numbers(five):
    table = per_class(five)
    assert table.loc["a"].tolist()[:4] == pytest.approx([1 / 1, 1 / 2, 2 / 3, 2])
    assert table.loc["b"].tolist()[:4] == pytest.approx([1 / 3, 1 / 1, 1 / 2, 1])
    assert table.loc["c"].tolist()[:4] == pytest.approx([1 / 1, 1 / 2, 2 / 3, 2])
    assert list(table.columns) == ["precision", "recall", "f1", "videos", "recall_low", "recall_high"]
    assert table.loc["b"].tolist()[4:] == [0, 1]  # of one group
    assert table.loc["a"].tolist()[4:] == pytest.approx(share_interval([1, 0], [1, 1]))


def test_class_that_is_neither_there_nor_predicted_counts_zero(predictions):
    table = per_class(predictions([[0.9, 0.05, 0.05]], ["a"]))
    assert table.loc["c"].tolist() == [0, 0, 0, 0, 0, 1]


def test_only_keeps_videos_and_all_answers(five):
    part = five.only(["a", "c"])
    assert part.table["label"].tolist() == ["a", "a", "c", "c"]
    assert part.confusion().tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]


def test_as_table_has_a_row_per_video(five):
    table = five.as_table()
    assert table["predicted"].tolist() == ["a", "b", "b", "b", "c"]
    assert table["correct"].tolist() == [True, False, True, False, True]
    assert table["probability"].tolist() == [0.7, 0.5, 0.6, 0.6, 0.7]


def hits_and_groups(predictions, hits: list[bool], groups: list[str]):
    return predictions([[0.9, 0.1] if hit else [0.1, 0.9] for hit in hits], ["a"] * len(hits), groups)


def test_interval_contains_the_estimate_and_repeats_itself(predictions):
    hits = [number % 4 != 0 for number in range(100)]
    sample = hits_and_groups(predictions, hits, [str(number) for number in range(100)])
    low, high = top1_interval(sample)
    assert low < sample.top_k(1) == 0.75 < high
    assert 0.1 < high - low < 0.25  # the normal approximation gives 0.17
    assert (low, high) == top1_interval(sample)


def test_interval_is_wider_where_clips_of_a_group_agree(predictions):
    hits = [number // 10 % 2 == 0 for number in range(100)]  # ten right, ten wrong, ten right, ...
    agreeing = top1_interval(hits_and_groups(predictions, hits, [str(number // 10) for number in range(100)]))
    single = top1_interval(hits_and_groups(predictions, hits, [str(number) for number in range(100)]))
    assert agreeing[1] - agreeing[0] > 2 * (single[1] - single[0])


def test_interval_of_perfect_answers_is_no_point_and_that_of_a_single_group_says_nothing(predictions):
    low, high = top1_interval(hits_and_groups(predictions, [True] * 40, [str(number // 4) for number in range(40)]))
    assert 0.6 < low < 0.95 and high == 1
    assert top1_interval(hits_and_groups(predictions, [True, False], ["g", "g"])) == (0, 1)


def test_report_is_complete_plain_json(five):
    results = json.loads(json.dumps(report(five), allow_nan=False))
    assert results.keys() == {
        "num_videos", "views", "crops", "top1", "top5", "top5_counts_classes", "clip_top1", "clip_top5", "top1_ci95",
        "accepted", "per_class", "confusion", "classes",
    }  # fmt: skip
    assert (results["num_videos"], results["views"], results["classes"]) == (5, 1, ["a", "b", "c"])
    assert (results["top1"], results["top5"], results["top5_counts_classes"]) == (pytest.approx(0.6), 1.0, 3)
    assert results["top1_ci95"] == list(top1_interval(five))
    assert results["per_class"]["b"]["precision"] == pytest.approx(1 / 3)
    assert results["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_top_5_of_eight_classes_counts_five(predictions):
    results = report(predictions([[0.3, 0.2, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05]] * 2, ["e", "f"]))
    assert (results["top1"], results["top5"], results["top5_counts_classes"]) == (0, 0.5, 5)


def with_top(predictions, videos: list[tuple[float, bool]]):
    """Videos of class a: the top probability of each, and whether it is that of a."""
    return predictions([[top, 1 - top] if right else [1 - top, top] for top, right in videos], ["a"] * len(videos))


LADDER = [  # top probability, right; share that is right from here up
    (0.95, True),  # 1/1
    (0.90, True),  # 2/2
    (0.80, False),  # 2/3
    (0.75, True),  # 3/4
    (0.70, True),  # 4/5
    (0.60, False),  # 4/6
]


@pytest.mark.parametrize(
    ("accuracy", "threshold"), [(1.0, 0.9), (0.9, 0.9), (0.81, 0.9), (0.8, 0.7), (0.75, 0.7), (0.66, 0.6), (0.0, 0.6)]
)
def test_sure_above_is_the_smallest_top_probability_from_which_enough_are_right(predictions, accuracy, threshold):
    """Where the share falls below what is asked and rises again, as 4/5 does after 2/3, the lower one counts."""
    shuffled = [LADDER[row] for row in (3, 0, 5, 2, 4, 1)] * 10
    assert sure_above(with_top(predictions, shuffled), accuracy) == threshold


def test_nine_of_ten_are_enough_by_default(predictions):
    for right, total in ((9, 10), (27, 30), (63, 70), (81, 90)):  # shares that could be a hair below 0.9
        videos = [(0.6 + number / 1000, number >= total - right) for number in range(total)]
        assert sure_above(with_top(predictions, videos)) == pytest.approx(0.6)
    assert sure_above(with_top(predictions, [(0.9, True)] * 40 + [(0.8, False)] * 5)) == 0.9


@pytest.mark.parametrize(
    ("tied", "threshold"),
    [
        ([True, True, False], 0.9),  # 4 of 5 down to 0.7: none of the three, though two of them alone would do
        ([False, True, True], 0.9),
        ([True, True, True], 0.7),
    ],
)
def test_equal_top_probabilities_are_taken_together(predictions, tied, threshold):
    videos = [(0.9, True), (0.9, True), *((0.7, right) for right in tied)] * 10
    assert sure_above(with_top(predictions, videos)) == threshold
    assert sure_above(with_top(predictions, [(0.8, True), (0.8, False)] * 10)) == NEVER_SURE


def test_right_on_everything_is_sure_from_the_least_that_was_seen(predictions):
    assert sure_above(with_top(predictions, [(0.9, True), (0.55, True), (0.7, True)] * 4)) == 0.55


def test_few_videos_make_nobody_sure(predictions):
    assert sure_above(with_top(predictions, [(0.7, True)] * (ENOUGH - 1))) == NEVER_SURE
    assert sure_above(with_top(predictions, [(0.7, True)] * ENOUGH)) == 0.7


def test_a_model_at_chance_is_never_sure_of_its_lucky_answers(predictions):
    """One in eight is right, and these happen to be the most probable."""
    assert sure_above(with_top(predictions, [(0.53, True), *[(0.52, False)] * 7] * 4)) == NEVER_SURE


@pytest.mark.parametrize(("right", "threshold"), [(12, NEVER_SURE), (60, 0.9)])
def test_sure_answers_must_be_told_apart_from_all_the_others(predictions, right, threshold):
    """12 of 12 right is no better than 0.86, as far as 12 videos can tell; 60 of 60 is."""
    assert sure_above(with_top(predictions, [(0.9, True)] * right + [(0.8, False)] * (right // 6))) == threshold


def test_what_tells_too_little_moves_the_line_up_and_not_only_away(predictions):
    """The plain rule of chapter 6 is never stricter than this one."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        confidence, right = rng.uniform(0.2, 1, 80).round(2), rng.random(80) < 0.8
        plain = [c for c in confidence if (confidence >= c).sum() >= 10 and right[confidence >= c].mean() >= 0.9]
        found = sure_above(with_top(predictions, list(zip(confidence.tolist(), right.tolist(), strict=True))))
        assert found >= min(plain, default=1.0)


@pytest.mark.parametrize(
    "videos", [[(0.9, False)], [(0.9, False), (0.8, False), (0.7, False)], [(0.9, False), (0.8, True)], []]
)
def test_nothing_right_enough_is_never_sure(predictions, videos):
    made = with_top(predictions, [*videos, (0.6, False)]) if videos else with_top(predictions, [(0.6, True)]).only([])
    assert sure_above(made) == NEVER_SURE == 1.0


def test_threshold_of_single_precision_is_reached_by_the_video_that_set_it_also_after_json(predictions):
    made = with_top(predictions, [(0.9, True), (0.7, True)] * 5)
    single = replace(made, logits=made.logits.astype(np.float32))
    threshold = json.loads(json.dumps(sure_above(single)))
    assert isinstance(threshold, float)
    assert threshold == float(single.probabilities.max(axis=1).min()) == pytest.approx(0.7, abs=1e-6)
    assert threshold == float(np.float32(threshold)) != 0.7
    assert selective(single, threshold)["coverage"] == 1.0
    assert float(single.probabilities.max(axis=1).min()) >= threshold


@pytest.mark.parametrize(
    ("threshold", "coverage", "accuracy"),
    [(0.9, 2 / 6, 1.0), (0.7, 5 / 6, 4 / 5), (0.71, 4 / 6, 3 / 4), (0.0, 1.0, 4 / 6), (NEVER_SURE, 0.0, None)],
)
def test_selective_counts_the_videos_from_the_threshold_up(predictions, threshold, coverage, accuracy):
    found = selective(with_top(predictions, LADDER), threshold)
    accuracy = accuracy if accuracy is None else pytest.approx(accuracy)
    assert found == {"sure_above": threshold, "coverage": pytest.approx(coverage), "accuracy": accuracy}


@pytest.mark.parametrize("threshold", [0.65, NEVER_SURE])
def test_report_with_a_threshold_adds_what_it_does(five, threshold):
    results = json.loads(json.dumps(report(five, threshold), allow_nan=False))
    assert results.pop("selective") == selective(five, threshold)
    assert results == report(five)


# Clips and videos


def test_probabilities_of_a_video_are_averaged_over_its_clips(predictions):
    made = predictions([[[0.9, 0.1], [0.3, 0.7]], [[0.4, 0.6], [0.4, 0.6]]], ["a", "a"])
    assert made.probabilities == pytest.approx(np.array([[0.6, 0.4], [0.4, 0.6]]))
    assert made.top_k(1) == 0.5


def test_clip_accuracy_counts_every_clip_by_itself(predictions):
    made = predictions([[[0.9, 0.1], [0.3, 0.7], [0.8, 0.2]], [[0.4, 0.6], [0.4, 0.6], [0.2, 0.8]]], ["a", "b"])
    assert (made.top_k(1), made.clip_top_k(1)) == (1.0, 5 / 6)
    results = report(made)
    assert (results["top1"], results["clip_top1"], results["clip_top5"]) == (1.0, 5 / 6, 1.0)
    assert (results["views"], results["crops"]) == (3, 1)
    assert (replace(made, crops=3).views, report(replace(made, crops=3))["crops"]) == (1, 3)


def test_of_one_clip_a_video_both_accuracies_are_the_same(five):
    assert five.clip_top_k(1) == five.top_k(1)


@pytest.mark.parametrize("unlike", [None, np.array([True, False])])
@pytest.mark.parametrize("segments", [False, True])
def test_what_is_saved_is_what_is_loaded(predictions, tmp_path, unlike, segments):
    made = predictions([[[0.9, 0.1], [0.3, 0.7]], [[0.4, 0.6], [0.4, 0.6]]], ["a", "b"], ["g1", "g2"])
    table = made.table.assign(start=[0.0, 1.5], end=[1.5, np.inf]) if segments else made.table
    made = replace(made, table=table, crops=2, unlike=unlike)
    made.save(tmp_path / "new" / "test.npz")
    loaded = Predictions.load(tmp_path / "new" / "test.npz")
    pd.testing.assert_frame_equal(loaded.table, made.table)
    assert (loaded.classes, loaded.crops, loaded.logits.dtype) == (made.classes, 2, np.float32)
    np.testing.assert_allclose(loaded.probabilities, made.probabilities, rtol=1e-6)
    assert unlike is loaded.unlike is None or loaded.unlike.tolist() == unlike.tolist()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["test.npz"]


@pytest.mark.parametrize("content", [b"", b"PK not a zip", "array"])
def test_other_files_hold_no_predictions(tmp_path, content):
    file = tmp_path / "test.npz"
    np.savez(file, logits=np.zeros((1, 1, 2))) if content == "array" else file.write_bytes(content)
    with pytest.raises(DataError, match=r"test\.npz.*predictions"):
        Predictions.load(file)
    with pytest.raises(DataError, match=r"absent\.npz"):
        Predictions.load(tmp_path / "absent.npz")


def test_metrics_agree_with_scikit_learn(predictions):
    """On random answers with absent classes, ties and fewer classes than five."""
    rng = np.random.default_rng(0)
    for classes in (2, 3, 8):
        for _ in range(20):
            names = list("abcdefgh"[:classes])
            labels = rng.choice(names[: max(classes - 1, 1)], 40).tolist()  # the last class never occurs
            drawn = rng.integers(1, 5, size=(40, classes))
            made = predictions((drawn / drawn.sum(axis=1, keepdims=True)).tolist(), labels)
            scores = made.probabilities - 1e-9 * np.arange(classes)  # the first of equals
            for k in range(1, classes) if classes > 2 else ():
                theirs = top_k_accuracy_score(made.targets, scores, k=k, labels=range(classes))
                assert made.top_k(k) == pytest.approx(theirs, abs=1e-12)
            assert made.top_k(5) == (1.0 if classes <= 5 else made.top_k(5))
            assert made.top_k(1) == pytest.approx(accuracy_score(made.targets, made.predicted), abs=1e-12)
            recall = recall_score(made.targets, made.predicted, labels=range(classes), average=None, zero_division=0)
            assert per_class(made)["recall"].to_numpy() == pytest.approx(recall, abs=1e-12)
            whole = np.clip(made.probabilities, 1e-12, None)
            assert made.loss() == pytest.approx(log_loss(made.targets, whole, labels=range(classes)), abs=1e-9)
