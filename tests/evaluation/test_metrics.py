"""The numbers of an evaluation against numbers made by hand."""

import json

import numpy as np
import pytest

from varec_lib.evaluation.metrics import per_class, report, top1_interval

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


def test_loss_is_the_mean_negative_log_of_the_true_class(five):
    expected = -np.log([0.7, 0.2, 0.6, 0.3, 0.7]).mean()
    assert five.loss() == pytest.approx(expected)


def test_impossible_class_does_not_make_the_loss_infinite(predictions):
    assert 20 < predictions([[0.0, 1.0]], ["a"]).loss() < 40


def test_per_class_numbers(five):
    table = per_class(five)
    assert table.loc["a"].tolist() == pytest.approx([1 / 1, 1 / 2, 2 / 3, 2])
    assert table.loc["b"].tolist() == pytest.approx([1 / 3, 1 / 1, 1 / 2, 1])
    assert table.loc["c"].tolist() == pytest.approx([1 / 1, 1 / 2, 2 / 3, 2])
    assert list(table.columns) == ["precision", "recall", "f1", "videos"]


def test_class_that_is_neither_there_nor_predicted_counts_zero(predictions):
    table = per_class(predictions([[0.9, 0.05, 0.05]], ["a"]))
    assert table.loc["c"].tolist() == [0, 0, 0, 0]


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
    assert (low, high) != top1_interval(sample, seed=1)


def test_interval_is_wider_where_clips_of_a_group_agree(predictions):
    hits = [number // 10 % 2 == 0 for number in range(100)]  # ten right, ten wrong, ten right, ...
    agreeing = top1_interval(hits_and_groups(predictions, hits, [str(number // 10) for number in range(100)]))
    single = top1_interval(hits_and_groups(predictions, hits, [str(number) for number in range(100)]))
    assert agreeing[1] - agreeing[0] > 2 * (single[1] - single[0])


def test_interval_of_a_single_group_or_of_perfect_answers_is_a_point(predictions):
    assert top1_interval(hits_and_groups(predictions, [True, False], ["g", "g"])) == (0.5, 0.5)
    assert top1_interval(hits_and_groups(predictions, [True, True], ["g", "h"])) == (1.0, 1.0)


def test_report_is_complete_plain_json(five):
    results = json.loads(json.dumps(report(five), allow_nan=False))
    assert results.keys() == {
        "num_videos", "views", "top1", "top5", "top5_counts_classes", "top1_ci95", "per_class", "confusion", "classes",
    }  # fmt: skip
    assert (results["num_videos"], results["views"], results["classes"]) == (5, 1, ["a", "b", "c"])
    assert (results["top1"], results["top5"], results["top5_counts_classes"]) == (pytest.approx(0.6), 1.0, 3)
    assert results["top1_ci95"] == list(top1_interval(five))
    assert results["per_class"]["b"]["precision"] == pytest.approx(1 / 3)
    assert results["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_top_5_of_eight_classes_counts_five(predictions):
    results = report(predictions([[0.3, 0.2, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05]] * 2, ["e", "f"]))
    assert (results["top1"], results["top5"], results["top5_counts_classes"]) == (0, 0.5, 5)
