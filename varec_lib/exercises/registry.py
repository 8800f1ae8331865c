"""What is known of every exercise: the number that answers it, or a test of the function that does, and a hint."""

from collections.abc import Callable
from typing import Any

NUMBERS = {  # the answer, and a hint
    "1.1": (4.0, "A movement there and back needs more than two pictures; count those of a second."),
    "2.1": (4 * 512 * (512 + 512 + 2), "Four gates, each with a matrix for the input, one for the state, two biases."),
    "2.2": (0.625, "Two classes can be known; within each of three pairs the model guesses."),
    "3.1": (8 * 32 * 32 * 64 * 64 * 27, "One output value costs kernel volume times input channels. Count the values."),
    "4.1": (16, "Weight, gradient, and AdamW's two averages; each in 32 bits."),
    "5.1": (0.7, "The rule of three: with n successes out of n, the error may still be 3 / n."),
    "6.1": (9, "The first window starts at 0 s, the last one at 8 s."),
    "7.1": (0.157, "1.96 times the root of p (1 - p) / n."),
}
Test = Callable[[Any], str | None]  # what is wrong with an answer, None where nothing is
FUNCTIONS: dict[str, tuple[Test, str]] = {}


def exercise(number: str, hint: str) -> Callable[[Test], Test]:
    """Makes a function the test of an exercise."""

    def remember(test: Test) -> Test:
        FUNCTIONS[number] = (test, hint)
        return test

    return remember
