"""Numbers that say how good predictions are, with how sure we can be of them (notebook 05)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support


@dataclass(frozen=True)
class Predictions:
    """Class probabilities `(N, K)` of N videos, averaged over `views` clips each; `table` has `path, label, group`."""

    table: pd.DataFrame
    classes: list[str]
    probabilities: np.ndarray
    views: int

    @classmethod
    def gathered(
        cls, table: pd.DataFrame, classes: list[str], parts: list[tuple[np.ndarray, np.ndarray]], views: int
    ) -> "Predictions":
        """From batches of row numbers and probabilities that cover the rows of `table` in any order, each once."""
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        probabilities = np.concatenate([values for _, values in parts])[order]
        return cls(table[["path", "label", "group"]].reset_index(drop=True), classes, probabilities, views)

    @property
    def targets(self) -> np.ndarray:
        """True class numbers `(N,)`."""
        return pd.Categorical(self.table["label"], categories=self.classes).codes.astype(int)

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class numbers `(N,)`."""
        return self.probabilities.argmax(axis=1)

    def top_k(self, k: int) -> float:
        """Share of videos whose true class is among the k most probable; k is capped at the number of classes."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]  # between equals the first, as argmax
        return float((best == self.targets[:, None]).any(axis=1).mean())

    def loss(self) -> float:
        """Mean negative log-likelihood of the true classes."""
        return float(-np.log(self.probabilities[np.arange(len(self.table)), self.targets] + 1e-12).mean())

    def confusion(self) -> np.ndarray:
        """Counts `(K, K)`: rows are true classes, columns predicted ones."""
        return confusion_matrix(self.targets, self.predicted, labels=range(len(self.classes)))

    def only(self, labels: list[str]) -> "Predictions":
        """The videos of these classes; the network could still answer any class."""
        keep = self.table["label"].isin(labels).to_numpy()
        return Predictions(self.table[keep].reset_index(drop=True), self.classes, self.probabilities[keep], self.views)

    def as_table(self) -> pd.DataFrame:
        """One row per video: path, label, group, predicted class and its probability."""
        return self.table[["path", "label", "group"]].assign(
            predicted=[self.classes[i] for i in self.predicted],
            probability=self.probabilities.max(axis=1),
            correct=self.predicted == self.targets,
        )


def top1_interval(predictions: Predictions, *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of top-1, drawing whole groups with replacement.

    Clips of one group resemble each other, so drawing single videos would promise too much.
    """
    hits = pd.Series(predictions.predicted == predictions.targets).groupby(predictions.table["group"].to_numpy())
    correct, counts = hits.sum().to_numpy(float), hits.size().to_numpy(float)
    picks = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    shares = correct[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def per_class(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1 and number of videos of every class."""
    columns = precision_recall_fscore_support(
        predictions.targets, predictions.predicted, labels=range(len(predictions.classes)), zero_division=0.0
    )
    names = ["precision", "recall", "f1", "videos"]
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=predictions.classes)


def report(predictions: Predictions) -> dict[str, Any]:
    """The `test` part of `results.json`."""
    k = min(5, len(predictions.classes))
    return {
        "num_videos": len(predictions.table),
        "views": predictions.views,
        "top1": predictions.top_k(1),
        "top5": predictions.top_k(k),
        "top5_counts_classes": k,
        "top1_ci95": list(top1_interval(predictions)),
        "per_class": per_class(predictions).to_dict(orient="index"),
        "confusion": predictions.confusion().tolist(),
        "classes": predictions.classes,
    }
