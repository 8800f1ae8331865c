"""Reliability, calibration error, temperature and coverage against values made by hand and by simulation."""

import numpy as np
import pandas as pd
import pytest

from varec_lib.errors import DataError
from varec_lib.evaluation.calibration import (
    accuracy_by_coverage,
    calibration_error,
    fit_temperature,
    none_of_these,
    reliability,
    with_temperature,
)
from varec_lib.evaluation.metrics import Predictions


def with_top(predictions, videos):
    """Videos of class a: the top probability of each, and whether it is that of a."""
    return predictions([[top, 1 - top] if right else [1 - top, top] for top, right in videos], ["a"] * len(videos))


def drawn(count: int, temperature: float, seed: int = 0) -> Predictions:
    """Videos whose labels follow the softmax of their scores, which then are multiplied by the temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 1, 4)) * 2
    shares = np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum(axis=1, keepdims=True)
    labels = [rng.choice(list("abcd"), p=row) for row in shares]
    table = pd.DataFrame({"path": range(count), "label": labels, "group": range(count)})
    return Predictions(table, list("abcd"), (logits * temperature).astype(np.float32))


def test_reliability_by_hand(predictions):
    table = reliability(with_top(predictions, [(0.9, True), (0.6, True), (0.8, True), (0.7, False)]), bins=2)
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.85])
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["videos"].tolist() == [2, 2]
    assert calibration_error(with_top(predictions, [(0.9, True), (0.6, True), (0.8, True), (0.7, False)]), bins=2)[
        0
    ] == pytest.approx(0.15)


def test_fewer_videos_than_bins(predictions):
    made = with_top(predictions, [(0.9, True), (0.6, False)])
    assert reliability(made)["videos"].tolist() == [1, 1]
    assert calibration_error(made)[0] == pytest.approx((0.1 + 0.6) / 2)
    assert reliability(made.only([])).empty


def test_a_calibrated_model_has_the_error_that_few_videos_bring():
    """And the error is not below it by more than chance."""
    for count in (60, 2000):
        pairs = np.array([calibration_error(drawn(count, 1.0, seed)) for seed in range(40)])
        assert pairs[:, 0].mean() == pytest.approx(pairs[:, 1].mean(), rel=0.12)
    assert calibration_error(drawn(60, 1.0))[1] > 3 * calibration_error(drawn(2000, 1.0))[1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    val = drawn(4000, temperature)
    found = fit_temperature(val)
    assert found == pytest.approx(temperature, rel=0.08)
    better = with_temperature(drawn(4000, temperature, seed=1), found)
    assert better.predicted.tolist() == drawn(4000, temperature, seed=1).predicted.tolist()
    assert calibration_error(better)[0] < 0.03


def test_a_temperature_needs_videos_and_stays_finite(predictions):
    right = with_top(predictions, [(0.9, True)] * 5)
    assert fit_temperature(right) == pytest.approx(0.05)
    with pytest.raises(DataError, match="validation"):
        fit_temperature(right.only([]))


def test_the_scores_of_several_clips_are_scaled_each_by_itself(predictions):
    made = predictions([[[0.9, 0.1], [0.2, 0.8]]], ["a"])
    halved = np.sqrt([[0.9, 0.1], [0.2, 0.8]])
    expected = (halved / halved.sum(axis=1, keepdims=True)).mean(axis=0)
    assert with_temperature(made, 2).probabilities[0] == pytest.approx(expected)


def test_accuracy_by_coverage_by_hand(predictions):
    made = with_top(predictions, [(0.6, False), (0.9, True), (0.7, True), (0.7, False), (0.8, True)])
    table = accuracy_by_coverage(made)
    assert table["coverage"].tolist() == pytest.approx([0.2, 0.4, 0.8, 1.0])  # the two of 0.7 together
    assert table["accuracy"].tolist() == pytest.approx([1, 1, 0.75, 0.6])


def test_known_and_unknown_classes_are_told_apart_by_hand(predictions):
    known = predictions([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["a", "b", "b"])
    unknown = predictions([[0.85, 0.15], [0.55, 0.45]], ["c", "d"])
    found = none_of_these(known, unknown)
    assert found == {"videos": 2, "auroc": pytest.approx(4 / 6), "accepted": 0.5}  # 0.6 is the threshold
    assert none_of_these(known, known)["auroc"] == 0.5
    assert none_of_these(known, known)["accepted"] == 1.0
    for pair in ((known, unknown.only([])), (known.only([]), unknown)):
        with pytest.raises(DataError):
            none_of_these(*pair)
