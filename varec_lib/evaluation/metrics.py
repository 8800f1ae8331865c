"""Numbers that say how good predictions are, with how sure we can be of them (notebook 05)."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from scipy.special import softmax

from varec_lib.errors import DataError
from varec_lib.evaluation.intervals import share_interval, wilson_interval
from varec_lib.files import replacing

NEVER_SURE = 1.0  # the threshold of a model to be trusted with nothing: only a probability rounded to 1 reaches it
COLUMNS = ("path", "label", "group", "start", "end")  # of a predicted video; the last two where it is a segment
ENOUGH = 10  # videos that an answer must rest on to count as sure


@dataclass(frozen=True)
class Predictions:
    """Class scores `(N, V, K)` of N videos, each in V clips: views along it, of each view `crops` after one another.

    `table` has `path, label, group`. `unlike` `(N,)` says which videos are unlike anything the model was trained on;
    None where nobody measured that.
    """

    table: pd.DataFrame
    classes: list[str]
    logits: np.ndarray
    crops: int = 1
    unlike: np.ndarray | None = None

    @classmethod
    def gathered(
        cls, table: pd.DataFrame, classes: list[str], parts: list[tuple[np.ndarray, ...]], crops: int = 1
    ) -> "Predictions":
        """From batches that cover the rows of `table` in any order, each once.

        A batch is row numbers, scores and, where that was measured, `unlike`.
        """
        rows, *found = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(rows)
        logits, *unlike = (array[order] for array in found)
        kept = table[[name for name in COLUMNS if name in table]].reset_index(drop=True)
        return cls(kept, classes, logits, crops, *unlike)

    def save(self, file: Path) -> None:
        """Writes everything to one `.npz` file, in one step."""
        unlike = {} if self.unlike is None else {"unlike": self.unlike}
        columns = {f"table_{name}": self.table[name].to_numpy() for name in self.table}
        columns |= {name: column.astype(str) for name, column in columns.items() if column.dtype == object}
        arrays = {"logits": self.logits.astype(np.float32), "classes": self.classes, "crops": self.crops}
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays, **columns, **unlike)

    @classmethod
    def load(cls, file: Path | str) -> "Predictions":
        """What `save` wrote; raises `DataError` for any other file."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                columns = {name.removeprefix("table_"): stored[name] for name in stored if name.startswith("table_")}
                table, unlike = pd.DataFrame(columns), stored["unlike"] if "unlike" in stored else None
                return cls(table, stored["classes"].tolist(), stored["logits"], int(stored["crops"]), unlike)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
            raise DataError(f"{file}: holds no predictions of `varec evaluate` ({error}).") from error

    @property
    def views(self) -> int:
        """Clips along each video, without crops."""
        return self.logits.shape[1] // self.crops

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax averaged over the clips of each video `(N, K)`: what the answer for a video is."""
        return averaged(self.logits)

    @property
    def targets(self) -> np.ndarray:
        """True class numbers `(N,)`."""
        return pd.Categorical(self.table["label"], categories=self.classes).codes.astype(int)

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class numbers `(N,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def answers(self) -> np.ndarray:
        """Most probable class names `(N,)`."""
        return np.array(self.classes)[self.predicted]

    def top_k(self, k: int) -> float:
        """Share of videos whose true class is among the k most probable; k is capped at the number of classes."""
        return _among_first(self.probabilities, self.targets, k)

    def clip_top_k(self, k: int) -> float:
        """As `top_k`, with every clip by itself: what papers call clip accuracy, as against video accuracy."""
        clips = self.logits.transpose(1, 0, 2)
        return float(np.mean([_among_first(scores, self.targets, k) for scores in clips]))

    def loss(self, temperature: float = 1.0) -> float:
        """Mean negative log-likelihood of the true classes, with scores divided by a temperature."""
        shares = self.probabilities if temperature == 1 else averaged(self.logits, temperature)
        return float(-np.log(shares[np.arange(len(self.table)), self.targets] + 1e-12).mean())

    def confusion(self) -> np.ndarray:
        """Counts `(K, K)`: rows are true classes, columns predicted ones."""
        from sklearn.metrics import confusion_matrix  # here: it is a fifth of the start of a process

        return confusion_matrix(self.targets, self.predicted, labels=range(len(self.classes)))

    def only(self, labels: list[str]) -> "Predictions":
        """The videos of these classes; the network could still answer any class."""
        keep = self.table["label"].isin(labels).to_numpy()
        unlike = None if self.unlike is None else self.unlike[keep]
        return replace(self, table=self.table[keep].reset_index(drop=True), logits=self.logits[keep], unlike=unlike)

    def as_table(self) -> pd.DataFrame:
        """One row per video: path, label, group, its segment if it is one, predicted class and its probability."""
        return self.table.assign(
            predicted=self.answers, probability=self.probabilities.max(axis=1), correct=self.predicted == self.targets
        )


def top1_interval(predictions: Predictions) -> tuple[float, float]:
    """95 % interval of top-1 that counts with clips of a group resembling each other (`share_interval`)."""
    return _interval(predictions.predicted == predictions.targets, predictions.table["group"])


def _interval(right: np.ndarray, groups: pd.Series) -> tuple[float, float]:
    by_group = pd.Series(right).groupby(groups.to_numpy())
    return share_interval(by_group.sum().to_numpy(int), by_group.size().to_numpy())


def per_class(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1 and number of videos of every class, and from where to where recall is likely (95 %)."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        predictions.targets, predictions.predicted, labels=range(len(predictions.classes)), zero_division=0.0
    )
    names = ["precision", "recall", "f1", "videos"]
    right, groups = predictions.predicted == predictions.targets, predictions.table["group"]
    own = [predictions.targets == number for number in range(len(predictions.classes))]
    intervals = pd.DataFrame(
        [_interval(right[rows], groups[rows]) for rows in own], columns=["recall_low", "recall_high"]
    )
    return pd.DataFrame(dict(zip(names, columns, strict=True))).join(intervals).set_axis(predictions.classes)


def averaged(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of scores `(N, V, K)` divided by a temperature, averaged over the clips of each video `(N, K)`."""
    parts = np.array_split(logits, len(logits) // 512 + 1)  # the softmax of all at once is as large as the scores
    return np.concatenate([softmax(part / temperature, axis=2).mean(axis=1) for part in parts])


def _among_first(scores: np.ndarray, targets: np.ndarray, k: int) -> float:
    """Share of rows `(N, K)` whose target is among the k highest; of equals the first comes first, as for argmax."""
    targets = targets[:, None]
    true = np.take_along_axis(scores, targets, axis=1)
    before = np.arange(scores.shape[1]) < targets
    return float((((scores > true) | ((scores == true) & before)).sum(axis=1) < k).mean())


def most_confused(predictions: Predictions, count: int = 10) -> pd.DataFrame:
    """The mistakes made most often: `true, predicted, videos`, and `share` of the videos of the true class."""
    counts = predictions.confusion()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = [(shares[pair], counts[pair], pair) for pair in zip(*np.nonzero(counts), strict=True) if pair[0] != pair[1]]
    wrong.sort(key=lambda mistake: (-mistake[1], -mistake[0], mistake[2]))
    names = predictions.classes
    rows = [(names[true], names[said], int(videos), float(share)) for share, videos, (true, said) in wrong[:count]]
    return pd.DataFrame(rows, columns=["true", "predicted", "videos", "share"])


def sure_above(predictions: Predictions, accuracy: float = 0.9) -> float:
    """The top probability from which on an answer may count as sure, fitted on validation videos (notebook 06).

    It is the smallest top probability t seen among the videos such that, of all with t or more, at least the share
    `accuracy` is right; equal ones are taken together. A model that is right on everything still gets one: the least
    that it showed. These videos must be `ENOUGH` or more, and say something: unless the model is that good anyway, the
    95 % interval of their accuracy (Wilson's) must lie above the model's accuracy on all videos. Else it is
    `NEVER_SURE`. Softmax response after Geifman and El-Yaniv, Selective Classification for Deep Neural Networks (2017,
    arXiv 1705.08500), but without the bound on the true risk that they add: the threshold is chosen for looking good
    on just these videos, and promises nothing for videos of another kind. It holds for the number of views of
    `predictions`; averages over more clips have other probabilities.
    """
    confidence, right = predictions.probabilities.max(axis=1), predictions.predicted == predictions.targets
    levels, place = np.unique(confidence, return_inverse=True)  # ascending
    videos, correct = np.bincount(place)[::-1].cumsum(), np.bincount(place, weights=right)[::-1].cumsum()
    own = right.mean() if len(right) else 0.0
    tells = wilson_interval(correct, videos)[0] > own if own < accuracy else np.full(len(videos), True)
    enough = levels[((correct / videos >= accuracy) & (videos >= ENOUGH) & tells)[::-1]]
    return float(enough[0]) if len(enough) else NEVER_SURE


def sure_answers(predictions: Predictions, threshold: float) -> tuple[int, int]:
    """How many of the answers that reach a threshold are right, and how many reach it."""
    sure = predictions.probabilities.max(axis=1) >= threshold
    return int((predictions.predicted == predictions.targets)[sure].sum()), int(sure.sum())


def selective(predictions: Predictions, threshold: float) -> dict[str, float | None]:
    """The share of videos whose top probability reaches `threshold`, and the accuracy among them (None without any)."""
    right, sure = sure_answers(predictions, threshold)
    accuracy = right / sure if sure else None
    return {"sure_above": threshold, "coverage": sure / len(predictions.table), "accuracy": accuracy}


def report(predictions: Predictions, threshold: float | None = None) -> dict[str, Any]:
    """The `test` part of `results.json`; with a threshold from `sure_above`, also what it does to these videos.

    `top1` and `top5` are those of videos, with probabilities averaged over all clips of each; `clip_top1` and
    `clip_top5` count every clip by itself.
    `accepted` is the share of videos that are not unlike the model's training, None where nobody measured that.
    """
    k = min(5, len(predictions.classes))
    answered = {} if threshold is None else {"selective": selective(predictions, threshold)}
    unlike = predictions.unlike
    return {
        "num_videos": len(predictions.table),
        "views": predictions.views,
        "crops": predictions.crops,
        "top1": predictions.top_k(1),
        "top5": predictions.top_k(k),
        "top5_counts_classes": k,
        "clip_top1": predictions.clip_top_k(1),
        "clip_top5": predictions.clip_top_k(k),
        "top1_ci95": list(top1_interval(predictions)),
        "accepted": None if unlike is None else 1 - float(unlike.mean()),
        "per_class": per_class(predictions).to_dict(orient="index"),
        "confusion": predictions.confusion().tolist(),
        "classes": predictions.classes,
    } | answered
