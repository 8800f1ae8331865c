"""Every picture of the course, one function each, returning a matplotlib `Figure`."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    import torch

ACCENT, MUTED, GOOD, BAD = "#2f6db3", "#9aa5b1", "#2e8b57", "#c0392b"
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "axes.titlesize": 11}


def save(figure: Figure, path: Path | str) -> Path:
    """Writes a figure as PNG (making its folder), closes it, and returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path


def show(figure: Figure, alt: str, path: Path | str | None = None) -> None:
    """Displays a figure in the notebook, with a sentence for those who cannot see it, and saves it where one says so.

    `alt` becomes the alternative text of the picture in every HTML version of the notebook.
    """
    from IPython.display import display  # here: only notebooks show anything

    if path is not None:
        save(figure, path)
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)  # which would show it again at the end of the cell


def film_strips(clips: "list[torch.Tensor]", titles: list[str], *, frame_width: float = 1.0) -> Figure:
    """One row of frames per uint8 clip `(T, C, H, W)`, the title to its left; time runs to the right."""
    longest = max(len(clip) for clip in clips)
    height, width = clips[0].shape[-2:]
    size = (frame_width * longest + 1.3, frame_width * height / width * len(clips) * 1.06)
    figure, axes = plt.subplots(len(clips), 1, figsize=size, squeeze=False, layout="constrained")
    for axis, clip, title in zip(axes[:, 0], clips, titles, strict=True):
        frames = clip.permute(0, 2, 3, 1).numpy()  # (T, H, W, C)
        gap = np.full((frames.shape[1], max(width // 32, 1), 3), 255, np.uint8)
        axis.imshow(np.concatenate([part for frame in frames for part in (frame, gap)][:-1], axis=1))
        axis.set_ylabel(title, rotation=0, ha="right", va="center")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """Loss and top-1 of training and validation over the epochs; the best validation epoch is marked."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        for axis, name, label in ((left, "loss", "cross-entropy"), (right, "top1", "top-1")):
            axis.plot(history["epoch"], history[f"train_{name}"], color=MUTED, marker=".", label="training clips")
            axis.plot(history["epoch"], history[f"val_{name}"], color=ACCENT, marker=".", label="validation videos")
            axis.set(xlabel="epoch", ylabel=label)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(alpha=0.25)
        right.set_ylim(0, 1.03)
        best = history.sort_values(["val_top1", "val_loss"], ascending=[False, True]).iloc[0]
        right.axvline(best["epoch"], color=GOOD, linestyle=":", label=f"best: epoch {best['epoch']:.0f}")
        left.legend(frameon=False)
        right.legend(loc="lower right", framealpha=1, edgecolor="none")
        return figure


def confusion_matrix(counts: np.ndarray, classes: list[str], *, title: str = "") -> Figure:
    """Row-normalised confusion matrix `(K, K)`: true classes down, predicted ones across, shares in per cent.

    More than 20 classes are put in an order in which those that are mistaken for one another are neighbours.
    """
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= 20
    if not few:
        order = _by_confusion(shares)
        shares, classes = shares[np.ix_(order, order)], [classes[i] for i in order]
    side = max(4.2, 0.62 * len(classes)) if few else min(0.16 * len(classes), 18)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(side + 1.0, side), layout="constrained")
        numbers = np.where(shares > 0, np.vectorize("{:.0f}".format)(shares), "") if few else False
        sns.heatmap(
            shares, annot=numbers, fmt="", cmap="Blues", vmin=0, vmax=100, square=True, linewidths=0.5 if few else 0,
            xticklabels=classes, yticklabels=classes, cbar_kws={"label": "% of the true class", "shrink": 0.8}, ax=axis,
        )  # fmt: skip
        axis.set(xlabel="predicted", ylabel="true", title=title)
        axis.tick_params(axis="x", rotation=45 if few else 90, labelsize=10 if few else 6)
        axis.tick_params(axis="y", rotation=0, labelsize=10 if few else 6)
        if few:
            plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
        return figure


def _by_confusion(shares: np.ndarray) -> np.ndarray:
    """Places of classes such that those often mistaken for one another lie side by side (average linkage)."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    apart = 1 - np.clip(shares + shares.T, 0, 100) / 100
    np.fill_diagonal(apart, 0)
    apart = squareform(apart, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(apart, "average"), apart))


def class_scores(table: pd.DataFrame) -> Figure:
    """Recall of every class with its interval, lowest first; `table` is that of `evaluation.metrics.per_class`."""
    ordered = table.sort_values("recall")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, max(2.0, 0.34 * len(table))), layout="constrained")
        ends = {name: ordered.get(f"recall_{name}", ordered["recall"]) for name in ("low", "high")}
        errors = np.abs(np.stack([end - ordered["recall"] for end in ends.values()]))
        axis.barh(ordered.index, ordered["recall"], color=ACCENT, xerr=errors, error_kw={"capsize": 3, "elinewidth": 1})
        for row, (recall, high) in enumerate(zip(ordered["recall"], ends["high"], strict=True)):
            axis.text(high + 0.02, row, f"{recall:.2f}", va="center")
        axis.set(xlim=(0, 1.12), xlabel="recall (share of the class's videos that were recognised)")
        return figure


def time_orders(tables: dict[str, pd.DataFrame], column: str, *, chance: float | None = None) -> Figure:
    """Bars of one column of `time_table` per model, grouped by the order in which frames were played."""
    rows = [
        {"model": model, "order": order, "value": value}
        for model, table in tables.items()
        for order, value in table[column].items()
    ]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
        palette = [ACCENT, BAD, MUTED][: len({row["order"] for row in rows})]
        sns.barplot(pd.DataFrame(rows), x="model", y="value", hue="order", palette=palette, ax=axis)
        for container in axis.containers:
            axis.bar_label(container, fmt="{:.2f}", padding=2)
        if chance is not None:
            axis.axhline(chance, color="black", linewidth=0.8, linestyle=":", label="chance")
        axis.set(ylim=(0, 1.12), xlabel="", ylabel=f"top-1, {column}")
        axis.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.14))
        return figure


def ladder(table: pd.DataFrame) -> Figure:
    """Test top-1 with its interval, a bar per row in the order given; rows without a number say why in `note`.

    `table` is indexed by what was done and has the columns `top1, low, high, seconds, note`, and may have `on`: the
    kind of processor that took these seconds.
    """
    measured = table["top1"].notna()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 0.55 * len(table) + 0.9), layout="constrained")
        rows = np.arange(len(table))[::-1]
        errors = np.stack([table["top1"] - table["low"], table["high"] - table["top1"]])
        axis.barh(rows, table["top1"].fillna(0), xerr=np.nan_to_num(errors), color=ACCENT, height=0.6,
                  error_kw={"ecolor": "black", "elinewidth": 1, "capsize": 3})  # fmt: skip
        for row, (_, line), known in zip(rows, table.iterrows(), measured, strict=True):
            text = f"{line['top1']:.2f}   {line['seconds']:.0f} s" if known else line["note"]
            place = {"x": line["high"] + 0.02} if known else {"x": 0.01, "color": "#5b6570", "style": "italic"}
            axis.text(y=row, s=text, va="center", **place)
        axis.set_yticks(rows, table.index)
        on = f" ({'; '.join(dict.fromkeys(table.loc[measured, 'on']))})" if "on" in table else ""
        axis.set(xlim=(0, 1.25), xlabel=f"test top-1, with its 95 % interval; seconds from command to result{on}")
        axis.set_xticks(np.arange(0, 1.01, 0.2))
        return figure


def sampled_frames(frames: int, rows: dict[str, list[int]]) -> Figure:
    """A time line per row: which of a video's `frames` frames each way of sampling takes."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 0.42 * len(rows) + 0.8), layout="constrained")
        for y, indices in enumerate(reversed(rows.values())):
            axis.plot([0, frames - 1], [y, y], color=MUTED, linewidth=1)
            axis.plot(indices, [y] * len(indices), "o", color=ACCENT, markersize=6)
        axis.set_yticks(range(len(rows)), list(reversed(rows)))
        axis.set(xlabel="frame of the video", ylim=(-0.6, len(rows) - 0.4))
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        return figure


def stacked_seconds(table: pd.DataFrame) -> Figure:
    """Where time goes: one horizontal bar per row, a segment per column, in seconds; the total at its end."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 0.5 * len(table) + 1.2), layout="constrained")
        table.iloc[::-1].plot.barh(stacked=True, color=[ACCENT, BAD, GOOD, MUTED], ax=axis, width=0.7)
        for y, total in enumerate(table.iloc[::-1].sum(axis=1)):
            axis.annotate(f"{total:.2f} s", (total, y), xytext=(4, 0), textcoords="offset points", va="center")
        axis.set(xlabel="seconds per step", ylabel="", xlim=(0, 1.14 * table.sum(axis=1).max()))
        axis.legend(
            frameon=False, ncols=len(table.columns), loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / len(table))
        )
        return figure


def speeds(clips_per_second: dict[str, float]) -> Figure:
    """Clips per second as horizontal bars on a logarithmic axis, in the order given."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 0.42 * len(clips_per_second) + 0.8), layout="constrained")
        names, values = list(clips_per_second)[::-1], list(clips_per_second.values())[::-1]
        bars = axis.barh(names, values, color=ACCENT, height=0.65)
        axis.bar_label(bars, [f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in values], padding=4)
        axis.set(xscale="log", xlabel="clips per second (logarithmic)", xlim=(0.5 * min(values), 4 * max(values)))
        return figure


def learning_rates(rates: dict[str, list[float]], steps_per_epoch: int) -> Figure:
    """Learning rate over epochs, a line per schedule; `rates` has one value per optimiser step."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
        for (name, values), colour in zip(rates.items(), (ACCENT, BAD, GOOD, MUTED), strict=False):
            axis.plot(np.arange(len(values)) / steps_per_epoch, values, label=name, color=colour)
        axis.set(xlabel="epoch", ylabel="learning rate")
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
        return figure


def swept(values: pd.Series, top1: pd.Series, models: pd.Series, measure: str) -> Figure:
    """Top-1 of the trained models of a sweep against a parameter's values: numbers to scale, words in their order."""
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    order = values.sort_values(kind="stable").index if numbers else values.astype(str).sort_values(kind="stable").index
    x = values[order] if numbers else values[order].astype(str)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
        several = models.nunique() > 1
        sns.scatterplot(
            x=x, y=top1[order], hue=models[order], style=models[order], s=45, alpha=0.8, ax=axis, legend=several
        )
        axis.set(xlabel=values.name, ylabel=measure)
        if numbers and values.min() > 0 and values.max() > 20 * values.min():
            axis.set_xscale("log")
        elif not numbers:
            axis.tick_params(axis="x", rotation=30 if values.nunique() > 4 else 0)
        axis.grid(alpha=0.25)
        if several:
            axis.legend(frameon=False)
    return figure
