"""Does a model look at time? The same clips with their frames in other orders (notebooks 02, 03 and 05)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from varec_lib.data.stick_actions import REVERSED
from varec_lib.evaluation.apply import Protocol, open_split, predict_orders, views_of, workers_named
from varec_lib.evaluation.metrics import Predictions

SHUFFLES = 3  # permutations, the same for every video, whose accuracies are averaged
ORDERS = {  # what is shown instead of a clip
    "normal": "the clip itself",
    "reversed": "played backwards",
    "shuffled": f"in random order, mean of {SHUFFLES}",
    "frozen": "the middle frame throughout",
    "single_frame": "the last frame throughout",
    "ends_kept": "first and last frame in place, those between backwards",
    "ends_swapped": "first and last frame swapped, those between forward",
    "half_speed": "the middle half, each frame twice",
    "double_speed": "every second frame, then the last one held",
}
Orders = dict[str, list[Predictions]]  # by order of frames; several where several permutations are tried


def frame_orders(num_frames: int) -> dict[str, list[list[int]]]:
    """Of each of `ORDERS` the frame numbers that a clip of T frames shows, `(T,)`; several of "shuffled"."""
    forward, last = [*range(num_frames)], num_frames - 1
    inside, rng = forward[1:-1], np.random.default_rng(0)
    quarter = (num_frames - (num_frames + 1) // 2) // 2
    return {
        "normal": [forward],
        "reversed": [forward[::-1]],
        "shuffled": [rng.permutation(num_frames).tolist() for _ in range(SHUFFLES)],
        "frozen": [[last // 2] * num_frames],
        "single_frame": [[last] * num_frames],
        "ends_kept": [[0, *inside[::-1], last][:num_frames]],
        "ends_swapped": [[last, *inside, 0][:num_frames]],
        "half_speed": [[quarter + i // 2 for i in forward]],
        "double_speed": [[min(2 * i, last) for i in forward]],
    }


def time_orders(
    checkpoint: Path | str,
    data_dir: Path | str,
    orders: Sequence[str] = ("normal", "reversed", "shuffled"),
    *,
    protocol: Protocol = "own",
    views: int | None = None,
    crops: int = 1,
    batch_size: int = 32,
    num_workers: int = 0,
    progress: bool = True,
    **opened: Any,
) -> Orders:
    """Predictions for a split with its frames in each of `ORDERS`; options as in `evaluate_checkpoint`.

    Videos are read and decoded once, and frame features computed once, for all orders.
    """
    model, table = open_split(checkpoint, data_dir, protocol=protocol, progress=progress, **opened)
    how = {"crops": crops, "batch_size": batch_size, "num_workers": num_workers, "progress": progress}
    how["views"] = views_of(model, protocol, views)
    chosen = {name: frame_orders(model.clip_spec.num_frames)[name] for name in orders}
    with workers_named():
        found = iter(predict_orders(model, table, [order for some in chosen.values() for order in some], **how))
    return {name: [next(found) for _ in some] for name, some in chosen.items()}


def twins_of(classes: list[str]) -> dict[str, str]:
    """Of these classes those that become one another when a video is played backwards, as far as the course knows."""
    return {name: twin for name, twin in REVERSED.items() if {name, twin} <= set(classes)}


def time_table(orders: Orders, twins: dict[str, str] | None = None) -> pd.DataFrame:
    """Top-1 per order of frames over all classes and, given `twins`, over the classes that differ in time only.

    `twins` maps a class to the one it becomes when played backwards; "answers twin" is the share of those videos
    that the model calls by the twin's name.
    """
    rows = {}
    for order, found in orders.items():
        rows[order] = {"all classes": _mean(one.top_k(1) for one in found)}
        if twins:
            paired = [one.only(list(twins)) for one in found]
            rows[order]["time-paired classes"] = _mean(one.top_k(1) for one in paired)
            twin = paired[0].table["label"].map(twins).to_numpy()
            rows[order]["answers twin"] = _mean((one.answers == twin).mean() for one in paired)
    return pd.DataFrame(rows).T


def temporal_report(orders: Orders) -> dict[str, dict[str, Any]]:
    """The `temporal` part of `results.json`: for each order top-1, per-class recall and the share of `changed` answers.

    `orders` has "normal", against whose answers the others are held. Numbers of several permutations are averaged.
    """
    normal, report = orders["normal"][0], {}
    for order, found in orders.items():
        recalls = [pd.Series(one.predicted == one.targets).groupby(one.table["label"]).mean() for one in found]
        report[order] = {
            "top1": _mean(one.top_k(1) for one in found),
            "changed": _mean((one.predicted != normal.predicted).mean() for one in found),
            "per_class": pd.concat(recalls, axis=1).mean(axis=1).to_dict(),
        }
    return report


def in_words(orders: Orders) -> list[str]:
    """What the temporal report card says of a model, a sentence each; `orders` are all of `ORDERS`.

    Where some of the classes are twins, which differ in time only, it looks at these.
    """
    twins = twins_of(sorted(set(orders["normal"][0].table["label"])))
    where = " of the paired classes" if twins else ""
    if twins:
        orders = {name: [one.only(list(twins)) for one in found] for name, found in orders.items()}
    card = temporal_report(orders)
    right = {name: part["top1"] for name, part in card.items()}
    changed = card["reversed"]["changed"]
    looks = "looks" if changed >= 0.5 else "looks a little" if changed >= 0.1 else "hardly looks"
    said = [f"It changes its answer on {changed:.0%} of reversed clips{where}: it {looks} at the order of time."]
    said.append(
        f"Of clips{where} it names {right['normal']:.0%} rightly, of shuffled ones {right['shuffled']:.0%}, "
        f"of one frame throughout {right['frozen']:.0%}, of their last frame alone {right['single_frame']:.0%}."
    )
    if changed < 0.1 and right["normal"] - right["frozen"] >= 0.15:
        said[-1] += " So it needs things to move, whichever way they do."
    kept, swapped = card["ends_kept"]["changed"], card["ends_swapped"]["changed"]
    if max(kept, swapped) < 0.1:
        follows = "it follows neither the poses at the ends nor the motion between them"
    elif abs(kept - swapped) < 0.2:
        follows = "it follows both the poses at the ends and the motion between them"
    else:
        follows = f"it follows {'the motion between the ends' if kept > swapped else 'the poses at the ends'}"
    said.append(
        f"With the inside reversed and the ends kept it changes {kept:.0%} of its answers, with the ends swapped and "
        f"the inside forward {swapped:.0%}: {follows}."
    )
    return said


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))
