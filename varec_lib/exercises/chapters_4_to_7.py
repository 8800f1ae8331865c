"""Tests of the exercises on training, evaluation, the predictor and one's own actions."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from varec_lib.evaluation.calibration import calibration_error
from varec_lib.evaluation.intervals import mcnemar
from varec_lib.evaluation.metrics import Predictions
from varec_lib.exercises.registry import exercise
from varec_lib.training.schedule import LearningRate


@exercise("4.2", "(step + 1) / (warmup + 1) while it rises; then half of 1 + cos(pi * progress).")
def _warmup_cosine(function: Any) -> str | None:
    warmup, total = 10, 100
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = LearningRate(optimizer, "cosine", warmup_steps=warmup, total_steps=total)
    for step in range(total):
        if abs(function(step, warmup, total) - schedule.scale()) > 1e-6:
            return f"step {step} of {total} (warm-up {warmup}): {function(step, warmup, total):.3f} does not fit."
        schedule.step()
    return None


@exercise("4.3", "Divide the sum of each piece's losses by the number of all clips, and let .grad add them up.")
def _accumulated(function: Any) -> str | None:
    torch.manual_seed(2)
    network, x, y = nn.Linear(6, 4), torch.randn(10, 6), torch.randint(4, (10,))
    nn.functional.cross_entropy(network(x), y).backward()
    right = network.weight.grad.clone()
    for size in (10, 5, 4, 3):
        network.zero_grad()
        function(network, x, y, size)
        if network.weight.grad is None:
            return "there is no gradient afterwards: call backward on each piece."
        if not torch.allclose(network.weight.grad, right, atol=1e-6):
            return f"ten clips in pieces of {size} give another gradient than all at once."
    return None


@exercise("4.4", "AdamW: the square root of the ratio of the two batch sizes.")
def _rate_of_batch(function: Any) -> str | None:
    for batch, before, rate in ((64, 16, 5e-4), (16, 16, 1e-3), (8, 32, 4e-4)):
        if not math.isclose(function(batch, before, rate), rate * math.sqrt(batch / before), rel_tol=1e-6):
            return f"{function(batch, before, rate):g} for a batch of {batch} where {before} clips had {rate:g}."
    return None


@exercise("5.2", "F1 of a class is 2 TP / (2 TP + FP + FN), 0 where that is 0 / 0; then the plain mean over classes.")
def _macro_f1(function: Any) -> str | None:
    from sklearn.metrics import f1_score

    draw = np.random.default_rng(5)
    for classes in (2, 4, 7):
        targets, predicted = draw.integers(classes, size=30), draw.integers(max(classes - 1, 1), size=30)
        right = f1_score(targets, predicted, labels=range(classes), average="macro", zero_division=0)
        if not math.isclose(function(targets, predicted, classes), right, abs_tol=1e-9):
            return (
                f"with {classes} classes, one of which is never predicted, {function(targets, predicted, classes):.3f}."
            )
    return None


@exercise("5.3", "Sort by confidence, cut into bins of equal size; weigh |accuracy - mean confidence| by a bin's size.")
def _calibration(function: Any) -> str | None:
    draw = np.random.default_rng(8)
    logits = draw.normal(size=(200, 5)) * 2
    targets = np.where(draw.random(200) < 0.6, logits.argmax(axis=1), draw.integers(5, size=200))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame({"label": [str(target) for target in targets]})
    predictions = Predictions(table, list("01234"), logits[:, None])
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == targets
    found = function(confidence, right, 10)
    return None if abs(found - calibration_error(predictions, 10)[0]) < 1e-6 else f"{found:.3f} does not fit."


@exercise("5.4", "Only videos that one model has right and the other wrong count; half of them should fall to each.")
def _sign_test(function: Any) -> str | None:
    draw = np.random.default_rng(4)
    for share in (0.5, 0.8):
        first, second = draw.random(60) < 0.7, draw.random(60) < share
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        right = mcnemar(first, second)
        if not math.isclose(function(first, second), right, rel_tol=1e-6):
            found = function(first, second)
            return f"{only_first} videos only the first has right, {only_second} only the second: {found:.3f}."
    return None


@exercise("6.2", "Compare the largest probability with the line; the place of the largest names the class.")
def _say(function: Any) -> str | None:
    classes = ["jump", "run", "walk"]
    for shares, line, right in (
        ([0.2, 0.7, 0.1], 0.6, "run"),
        ([0.4, 0.3, 0.3], 0.6, "not sure"),
        ([0.1, 0.3, 0.6], 0.6, "walk"),
    ):
        if (said := function(torch.tensor(shares, dtype=torch.float64), classes, line)) != right:
            return f"probabilities {shares} with the line at {line}: {said!r}."
    return None


@exercise("6.3", "Sort the pieces by their place; each must begin where the one before it ended.")
def _assemble(function: Any) -> str | None:
    whole = bytes(range(200))
    pieces = [(120, whole[120:]), (0, whole[:50]), (50, whole[50:120])]
    if function(pieces, len(whole)) != whole:
        return "three pieces in another order do not become the file."
    for bad, what in (
        (pieces[:2], "a missing piece"),
        ([*pieces, (10, b"no")], "an overlapping one"),
        ([(0, whole + b"!")], "one byte too many"),
    ):
        try:
            function(bad, len(whole))
        except ValueError:
            continue
        return f"{what} must raise a ValueError."
    return None


@exercise("6.4", "Windows start every half window; one more ends exactly where the video ends, if none does.")
def _windows(function: Any) -> str | None:
    for duration, seconds in ((10.0, 2.0), (7.3, 2.0), (1.5, 2.0), (9.0, 4.0)):
        found = [(float(start), float(end)) for start, end in function(duration, seconds)]
        starts = (
            [step * seconds / 2 for step in range(int((duration - seconds) / (seconds / 2) + 1e-9) + 1)]
            if duration > seconds
            else [0.0]
        )
        right = [(start, min(start + seconds, duration)) for start in starts]
        right += [(duration - seconds, duration)] if right[-1][1] < duration - 1e-9 else []
        if len(found) != len(right) or not np.allclose(found, right):
            return f"{duration} s in windows of {seconds} s: {found[-2:]} are the last two."
    return None


@exercise("7.2", "(observed - expected) / (1 - expected); expected: both draw from their own frequencies.")
def _kappa(function: Any) -> str | None:
    from sklearn.metrics import cohen_kappa_score

    draw = np.random.default_rng(6)
    for noise in (0.0, 0.3, 1.0):
        first = draw.choice(["jump", "punch", "nothing"], size=40)
        second = np.where(draw.random(40) < noise, draw.choice(["jump", "punch", "nothing"], size=40), first)
        if not math.isclose(function(first, second), cohen_kappa_score(first, second), abs_tol=1e-9):
            return f"two labellers who agree on {np.mean(first == second):.0%}: {function(first, second):.3f}."
    return None


@exercise("7.3", "For each of the sessions: test where it is this one, train where it is not.")
def _one_session_out(function: Any) -> str | None:
    sessions = np.array(["monday", "tuesday", "monday", "friday", "tuesday", "friday", "friday"])
    folds = [(np.asarray(train), np.asarray(test)) for train, test in function(sessions)]
    if len(folds) != 3:
        return f"three sessions make three folds, these are {len(folds)}."
    for train, test in folds:
        if sorted([*train, *test]) != list(range(len(sessions))):
            return "each video must be in training or in test, once (give the numbers of their rows)."
        if len(set(sessions[test])) != 1 or set(sessions[test]) & set(sessions[train]):
            return "a fold tests exactly one session, and trains on the others."
    if {sessions[test][0] for _, test in folds} != set(sessions):
        return "each session is to be tested once."
    return None


@exercise("7.4", "said = share * new + (1 - share) * said, from one moment to the next.")
def _smoothed(function: Any) -> str | None:
    stream = np.random.default_rng(7).dirichlet(np.ones(3), size=12)
    right, found = stream[0], np.asarray(function(stream, 0.3))
    if found.shape != stream.shape:
        return f"one answer per moment, {stream.shape}, is asked for; these are {found.shape}."
    for moment in range(1, len(stream)):
        right = 0.3 * stream[moment] + 0.7 * right
        if not np.allclose(found[moment], right):
            return f"moment {moment} does not fit."
    return None if np.allclose(found[0], stream[0]) else "the first answer has nothing to be averaged with."
