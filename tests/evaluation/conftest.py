"""Predictions that are made by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from varec_lib.evaluation.metrics import Predictions


@pytest.fixture
def predictions() -> Callable[..., Predictions]:
    """`make(probabilities, labels, groups=None)`: videos of the classes a, b, c, ...; a group each by default.

    Probabilities are those of one clip a video, `(N, K)`, or of several, `(N, V, K)`.
    """

    def make(probabilities: list[list[float]], labels: list[str], groups: list[str] | None = None) -> Predictions:
        names = [f"{number}.avi" for number in range(len(labels))]
        table = pd.DataFrame({"path": names, "label": labels, "group": groups or names})
        shares = np.array(probabilities, float)
        with np.errstate(divide="ignore"):
            logits = np.log(shares if shares.ndim == 3 else shares[:, None])
        made = Predictions(table, list("abcdefgh"[: shares.shape[-1]]), logits)
        if shares.ndim == 2:
            made.__dict__["probabilities"] = shares  # to the last digit, which decides between equals
        return made

    return make
