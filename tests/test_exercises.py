"""`check` accepts the answers of the solutions, refuses likely mistakes, and gives nothing away."""

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varec_lib.course import NOTEBOOKS
from varec_lib.errors import ConfigError
from varec_lib.exercises import check, exercises
from varec_lib.exercises.registry import NUMBERS

CHAPTERS = range(1, 8)


def solutions(chapter):
    """The answers of a chapter's solutions, from the cell that checks them."""
    notebook = nbformat.read(NOTEBOOKS / "solutions" / f"{chapter:02d}_solutions.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and "answers = {" in cell.source]
    names = {"torch": torch, "np": np, "F": F, "nn": nn}
    exec(compile(cell.source, f"solutions {chapter}", "exec"), names)
    return names["answers"]


def last_step(x, gru):
    """Forgets to carry the state on."""
    return torch.stack([gru(row[None, None])[0][0, 0] for row in x])


def piece_means(network, clips, labels, size):
    """The mean of the pieces' means."""
    pieces = list(zip(clips.split(size), labels.split(size), strict=True))
    for piece, answer in pieces:
        (F.cross_entropy(network(piece), answer) / len(pieces)).backward()


MISTAKES = {
    "1.2": [lambda clip, generator: clip.flip(0), lambda clip, generator: clip, lambda clip, generator: clip.flip(1),
            lambda clip, generator: clip.flip(0) if torch.rand(()) < 0.5 else clip],
    "1.3": [lambda times, count: [int((i + 0.5) * (len(times) - 1) / count) for i in range(count)],
            lambda times, count: [int(i * (len(times) - 1) / count) for i in range(count)]],
    "1.4": [lambda groups, share, seed: np.random.default_rng(seed).random(len(groups)) < share,
            lambda groups, share, seed: np.isin(groups, np.unique(groups)[:5]),
            lambda groups, share, seed: np.zeros(len(groups), bool)],
    "2.3": [last_step, lambda x, gru: gru(x[None])[0]],
    "2.4": [lambda clips: clips.flip(1), lambda clips: clips, lambda clips: clips[:, [*range(1, clips.shape[1]), 0]]],
    "3.2": [torch.eye(3) - 1 / 3, torch.eye(3).flip(1), torch.zeros(3, 3), torch.zeros(2, 3)],
    "3.3": [lambda layers: sum(kernel for kernel, _ in layers), lambda layers: 1 + sum(k - 1 for k, _ in layers)],
    "3.4": [lambda features, share: features.roll(1, dims=1), lambda features, share: features,
            lambda features, share: features.zero_()],
    "4.2": [lambda step, warmup, total: step / total, lambda step, warmup, total: min((step + 1) / (warmup + 1), 1)],
    "4.3": [piece_means, lambda network, clips, labels, size: None],
    "4.4": [lambda batch, before, rate: rate * batch / before, lambda batch, before, rate: rate],
    "5.2": [lambda targets, predicted, classes: np.mean(targets == predicted)],
    "5.3": [lambda confidence, right, bins: abs(confidence.mean() - right.mean())],
    "5.4": [lambda first, second: 1.0, lambda first, second: abs(first.mean() - second.mean())],
    "6.2": [lambda shares, classes, line: classes[shares.argmax()], lambda shares, classes, line: "not sure",
            lambda shares, classes, line: classes[shares.argmax()] if shares.max() > line else "not sure"],
    "6.3": [lambda pieces, size: b"".join(part for _, part in sorted(pieces)),
            lambda pieces, size: b"".join(part for _, part in pieces)],
    "6.4": [lambda duration, seconds: [(i * seconds / 2, i * seconds / 2 + seconds) for i in range(int(duration))],
            lambda duration, seconds: [(0, duration)]],
    "7.2": [lambda first, second: np.mean(first == second)],
    "7.3": [
        lambda sessions: [(np.arange(6), np.array([6]))] * 3,
        lambda sessions: [],
        lambda sessions: [(np.flatnonzero(sessions != "monday"), np.flatnonzero(sessions == "monday"))] * 3,
    ],
    "7.4": [lambda stream, share: stream, lambda stream, share: stream.mean(axis=0)],
}  # fmt: skip


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_solutions_of_a_chapter_are_right(chapter, capsys):
    answers = solutions(chapter)
    capsys.readouterr()
    for number, answer in answers.items():
        assert check(number, answer)
        assert capsys.readouterr().out.startswith(f"{number}  ✓")


def test_every_exercise_has_a_solution_and_a_mistake_that_is_refused():
    solved = [number for chapter in CHAPTERS for number in solutions(chapter)]
    assert sorted(solved) == exercises() == sorted([*NUMBERS, *MISTAKES])


@pytest.mark.parametrize("number", MISTAKES)
def test_a_likely_mistake_gets_what_is_wrong_and_a_hint(number, capsys):
    for mistake in MISTAKES[number]:
        assert not check(number, mistake)
        said = capsys.readouterr().out
        assert said.startswith(f"{number}  ✗") and "Hint: " in said and "Error:" not in said


@pytest.mark.parametrize("number", NUMBERS)
def test_a_wrong_number_is_too_large_or_too_small_and_the_right_one_not_shown(number, capsys):
    right = NUMBERS[number][0]
    assert check(number, str(right)) and check(number, right * 1.001)
    capsys.readouterr()
    for wrong, word in ((right * 3, "large"), (right / 3, "small")):
        assert not check(number, wrong)
        said = capsys.readouterr().out
        assert word in said and f"{right:g}" not in said.split("Hint")[0].replace(f"{wrong:g}", "")


def test_what_was_not_begun_is_open_and_what_raises_says_so(capsys):
    assert not check("1.2") and capsys.readouterr().out == "1.2  open\n"
    assert not check("1.2", lambda clip: clip) and "TypeError" in capsys.readouterr().out
    assert not check("1.1", torch.eye(3)) and "number" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"1\.1"):
        check("9.9", 1)
