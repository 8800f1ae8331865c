"""Can two models be told apart by the videos they were tested on? `varec compare`"""

import statistics
import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from varec_lib.errors import DataError
from varec_lib.evaluation.apply import clips_at_a_time
from varec_lib.evaluation.intervals import difference_interval, mcnemar
from varec_lib.evaluation.metrics import Predictions, top1_interval
from varec_lib.models.checkpoint import LoadedModel

SURE = 0.05


class Pair(NamedTuple):
    """By how much more often a second model is right than a first, with its 95 % interval, and McNemar's p."""

    difference: float
    low: float
    high: float
    p: float
    differing: int  # groups in which one of the two is ahead

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out zero and McNemar's test over groups agrees."""
        return (self.low > 0 or self.high < 0) and self.p < SURE


def aligned(named: dict[str, Predictions]) -> dict[str, Predictions]:
    """The same predictions with their videos, and the groups of these, as the first ones have them.

    Videos are known again by label, name, folder and segment, so that a dataset may have moved. Raises `DataError`
    that says what differs where classes or videos are not the same.
    """
    (first, reference), *others = named.items()
    keys, found = _keys(reference.table), {first: reference}
    for name, other in others:
        if differ := sorted(set(reference.classes) ^ set(other.classes)):
            raise DataError(
                f"{first} and {name} know other classes: {len(differ)} are only in one (such as {differ[0]})."
            )
        own = _keys(other.table)
        for one, another, only in ((first, name, keys.difference(own)), (name, first, own.difference(keys))):
            if len(only):
                raise DataError(
                    f"{first} and {name} were tested on other videos: {len(only)} of {one} (such as {only[0][1]}) are "
                    f"not among those of {another}. Train and test both on the same lists."
                )
        rows = own.get_indexer(keys)
        found[name] = Predictions(reference.table, other.classes, other.logits[rows], other.crops)
    return found


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    names = ["/".join(Path(path).parts[-2:]) for path in table["path"]]
    key = pd.DataFrame({"label": table["label"].to_numpy(), "name": names})
    for column, missing in (("start", 0.0), ("end", np.inf)):
        key[column] = table[column].to_numpy(float) if column in table else missing
    return pd.MultiIndex.from_frame(key.assign(number=key.groupby([*key]).cumcount()))


def pair(first: Predictions, second: Predictions) -> Pair:
    """Compares two models on the same videos in the same order, by groups."""
    right = [made.predicted == made.targets for made in (first, second)]
    table = pd.DataFrame({"lost": right[0] & ~right[1], "won": right[1] & ~right[0], "videos": 1})
    lost, won, videos = table.groupby(first.table["group"].to_numpy()).sum().to_numpy(int).T
    low, high = difference_interval(won, lost, videos)
    return Pair(float((won - lost).sum() / videos.sum()), low, high, mcnemar(won, lost), int((won != lost).sum()))


def comparison(named: dict[str, Predictions]) -> pd.DataFrame:
    """A row per model: top-1 with its interval and, of all but the first, how they differ from that one (`Pair`)."""
    (first, reference), *_ = named.items()
    rows = {}
    for name, made in named.items():
        low, high = top1_interval(made)
        rows[name] = {"clips": made.logits.shape[1], "top1": made.top_k(1), "low": low, "high": high}
        if name != first:
            told = pair(reference, made)
            rows[name] |= {"difference": told.difference, "difference_low": told.low, "difference_high": told.high}
            rows[name]["mcnemar_p"] = told.p
    return pd.DataFrame.from_dict(rows, orient="index")


def verdicts(named: dict[str, Predictions]) -> list[str]:
    """A sentence for every two models that says whether they can be told apart."""
    said = []
    for (first, one), (second, other) in combinations(named.items(), 2):
        told = pair(one, other)
        if told.difference < 0:
            first, second, told = second, first, pair(other, one)
        p = "p < 0.001" if told.p < 0.001 else f"p = {told.p:.3f}"
        by = f"by {told.difference:.3f} ({told.low:.3f} to {told.high:.3f}), {p}"
        few = f": {told.differing} groups in which they differ are too few to say so" if told.differing < 6 else ""
        if told.told_apart:
            said.append(f"{second} is right more often than {first}: {by}.")
        elif told.difference == 0:
            said.append(f"{first} and {second} cannot be told apart: they are right equally often, {by}.")
        else:
            said.append(f"{first} and {second} cannot be told apart: {second} is ahead {by}{few}.")
    return said


def cost(model: LoadedModel, precision: str = "auto") -> dict[str, float | None]:
    """Parameters, GFLOPs of one clip, and clips per second through the network here; `model` is still on the CPU."""
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    return {"parameters": parameters, "gflops": gflops(model), "clips_per_second": _speed(model.on_device(precision))}


def gflops(model: LoadedModel) -> float | None:
    """Billions of floating-point operations for one clip by PyTorch's counter, a multiplication and an addition two.

    None of a network that looks at values, because nothing is computed. `model` is on the CPU.
    """
    shape = (1, model.clip_spec.num_frames, 3, *model.clip_spec.frame_size)
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            # Without oneDNN, because its LSTM is one operation that the counter does not know.
            with torch.backends.mkldnn.flags(enabled=False), FakeTensorMode(allow_non_fake_inputs=True):
                model.network(torch.empty(shape))
    except RuntimeError:
        return None
    return counter.get_total_flops() / 1e9


def _speed(model: LoadedModel) -> float:
    """Clips per second of batches in memory, the median of three after one that does not count."""
    spec, clips = model.clip_spec, clips_at_a_time(model.clip_spec, 8)
    batch = torch.randint(0, 256, (clips, 1, spec.num_frames, 3, *spec.frame_size), dtype=torch.uint8)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        model.logits(batch)
        seconds.append(time.perf_counter() - start)
    return clips / statistics.median(seconds[1:])
