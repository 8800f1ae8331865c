"""Predictions that are made by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from varec_lib.evaluation.metrics import Predictions


@pytest.fixture
def predictions() -> Callable[..., Predictions]:
    """`make(probabilities, labels, groups=None)`: videos of the classes a, b, c, ...; a group each by default."""

    def make(probabilities: list[list[float]], labels: list[str], groups: list[str] | None = None) -> Predictions:
        names = [f"{number}.avi" for number in range(len(labels))]
        table = pd.DataFrame({"path": names, "label": labels, "group": groups or names})
        return Predictions(table, list("abcdefgh"[: len(probabilities[0])]), np.array(probabilities, float), 1)

    return make
