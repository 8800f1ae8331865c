"""Does a model look at time? The same videos played backwards and in shuffled order (notebooks 02 and 03)."""

from pathlib import Path

import pandas as pd

from varec_lib.evaluation.evaluate import evaluate_checkpoint
from varec_lib.evaluation.metrics import Predictions


def time_orders(checkpoint: Path | str, data_dir: Path | str, **options: object) -> dict[str, Predictions]:
    """Predictions for a split played forward, reversed and shuffled; options as in `evaluate_checkpoint`."""
    orders = ("forward", "reversed", "shuffled")
    return {order: evaluate_checkpoint(checkpoint, data_dir, order=order, **options) for order in orders}


def time_table(orders: dict[str, Predictions], twins: dict[str, str] | None = None) -> pd.DataFrame:
    """Top-1 per order of frames over all classes and, given `twins`, over the classes that differ in time only.

    `twins` maps a class to the one it becomes when played backwards; "answers twin" is the share of those videos
    that the model calls by the twin's name.
    """
    rows = {}
    for order, predictions in orders.items():
        rows[order] = {"all classes": predictions.top_k(1)}
        if twins:
            paired = predictions.only(list(twins))
            answers = [paired.classes[i] for i in paired.predicted]
            twin = paired.table["label"].map(twins)
            rows[order] |= {"time-paired classes": paired.top_k(1), "answers twin": float((twin == answers).mean())}
    return pd.DataFrame(rows).T
