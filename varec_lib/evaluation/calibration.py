"""Does "90 % sure" mean that nine in ten such answers are right, and does it say "none of these"? (notebook 05)"""

from dataclasses import replace

import numpy as np
import pandas as pd

from varec_lib.errors import DataError
from varec_lib.evaluation.metrics import Predictions

BINS = 10
DRAWS = 1000  # imagined test sets of a perfectly calibrated model


def _bins(count: int, bins: int) -> list[np.ndarray]:
    """Places of the videos sorted by confidence, in bins of equally many."""
    return [part for part in np.array_split(np.arange(count), bins) if len(part)]


def reliability(predictions: Predictions, bins: int = BINS) -> pd.DataFrame:
    """Mean confidence, accuracy and number of the videos of each bin, from the least sure to the most sure.

    Bins hold equally many videos, because most answers of a trained network lie in the uppermost of equally wide ones.
    """
    confidence = predictions.probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    right = (predictions.predicted == predictions.targets)[order]
    rows = [(confidence[order][part].mean(), right[part].mean(), len(part)) for part in _bins(len(right), bins)]
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "videos"])


def calibration_error(predictions: Predictions, bins: int = BINS) -> tuple[float, float]:
    """Expected calibration error (ECE), and what a perfectly calibrated model would be measured to have.

    ECE is the mean distance between confidence and accuracy over the bins of `reliability`, weighted by their videos
    (Guo et al. 2017, arXiv 1706.04599). With few videos a bin it is above zero even where every probability is right:
    the second number is the mean over imagined tests in which each answer is right with the probability it claims.
    """
    table = reliability(predictions, bins)
    error = float((table["videos"] * (table["confidence"] - table["accuracy"]).abs()).sum() / table["videos"].sum())
    confidence = np.sort(predictions.probabilities.max(axis=1))
    rng, off = np.random.default_rng(0), 0.0
    for part in _bins(len(confidence), bins):
        right = rng.random((DRAWS, len(part)), np.float32) < confidence[part]
        off += len(part) * np.abs(right.mean(axis=1) - confidence[part].mean()).mean()
    return error, float(off / len(confidence))


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The same answers, less sure (above 1) or surer (below 1): scores of each clip divided by the temperature."""
    return replace(predictions, logits=predictions.logits / np.float32(temperature))


def fit_temperature(val: Predictions) -> float:
    """The temperature that makes the true classes of validation videos most probable (Guo et al. 2017).

    Between 0.05 and 20: where every answer is right, none would be sure enough. Raises `DataError` without videos.
    """
    if not len(val.table):
        raise DataError("There is no validation video to fit a temperature on.")
    lowest, highest, steps = np.log(0.05), np.log(20), 13
    while highest - lowest > 0.02:  # a grid, then a finer one around its best place
        tried = np.linspace(lowest, highest, steps)
        best = int(np.argmin([val.loss(float(np.exp(place))) for place in tried]))
        lowest, highest = tried[max(best - 1, 0)], tried[min(best + 1, steps - 1)]
    return float(np.exp(tried[best]))


def accuracy_by_coverage(predictions: Predictions) -> pd.DataFrame:
    """Top-1 among the most certain answers, for every share of videos that are answered (`coverage, accuracy`).

    Equally certain videos are answered together.
    """
    confidence = predictions.probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (predictions.predicted == predictions.targets)[order]
    answered = np.arange(1, len(order) + 1)
    table = pd.DataFrame({"coverage": answered / len(order), "accuracy": right.cumsum() / answered})
    last_of_equals = np.append(np.diff(confidence[order]) != 0, True)
    return table[last_of_equals].reset_index(drop=True)


def none_of_these(known: Predictions, unknown: Predictions) -> dict[str, float]:
    """How well the top probability tells videos of the classes that a model knows from videos of other classes.

    `auroc` is how often a video of a known class gets a higher one than a video of an unknown class: 0.5 by chance,
    1.0 where they are told apart. `accepted` is the share of unknown videos above the threshold that 95 % of the known
    ones reach (Hendrycks and Gimpel 2017, arXiv 1610.02136, call it FPR95). Raises `DataError` without videos.
    """
    from sklearn.metrics import roc_auc_score  # here: it is a fifth of the start of a process

    tops = [predictions.probabilities.max(axis=1) for predictions in (known, unknown)]
    if not all(map(len, tops)):
        raise DataError("To tell known classes from unknown ones there must be videos of both.")
    threshold = np.quantile(tops[0], 0.05, method="lower")
    is_known = np.repeat([1, 0], [len(top) for top in tops])
    return {
        "videos": len(tops[1]),
        "auroc": float(roc_auc_score(is_known, np.concatenate(tops))),
        "accepted": float((tops[1] >= threshold).mean()),
    }
