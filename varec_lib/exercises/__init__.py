"""The exercises of the course: `check("2.3", answer)` says whether an answer is right, and gives a hint where not.

Numbers are compared; functions are tried on inputs that the student has not seen, most of them against the library.
"""

import math
from typing import Any

from varec_lib.errors import ConfigError
from varec_lib.exercises import chapters_1_to_3, chapters_4_to_7  # noqa: F401  they register their tests
from varec_lib.exercises.registry import FUNCTIONS, NUMBERS


def check(number: str, answer: Any = None) -> bool:
    """Prints whether `answer`, a number or a function, is right for the exercise, and returns it.

    An exercise that was not begun (`None`) is "open". A function that raises is not right either, and its error is
    named. Raises `ConfigError` for a number that no exercise has.
    """
    if number not in NUMBERS and number not in FUNCTIONS:
        raise ConfigError(f"There is no exercise {number!r} to check. Known: {', '.join(exercises())}.")
    if answer is None:
        print(f"{number}  open")
        return False
    wrong, hint = _number(number, answer) if number in NUMBERS else _function(number, answer)
    print(f"{number}  ✓ right" if wrong is None else f"{number}  ✗ not yet: {wrong}\n     Hint: {hint}")
    return wrong is None


def exercises() -> list[str]:
    """The numbers of all exercises that can be checked."""
    return sorted([*NUMBERS, *FUNCTIONS])


def _number(number: str, answer: Any) -> tuple[str | None, str]:
    expected, hint = NUMBERS[number]
    try:
        answer = float(answer)
    except (TypeError, ValueError):
        return f"a number is asked for, this is a {type(answer).__name__}.", hint
    close = math.isclose(answer, expected, rel_tol=5e-3)
    return None if close else f"{answer:g} is too {'large' if answer > expected else 'small'}.", hint


def _function(number: str, answer: Any) -> tuple[str | None, str]:
    test, hint = FUNCTIONS[number]
    try:
        return test(answer), hint
    except Exception as error:  # whatever a student's code raises
        return f"{type(error).__name__}: {error}", hint
