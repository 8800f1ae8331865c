"""Pictures of evaluations: certainty, the report card, comparisons, where and when a model looked (notebook 05)."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from varec_lib.evaluation.metrics import Predictions
from varec_lib.plots import ACCENT, BAD, GOOD, MUTED, STYLE

if TYPE_CHECKING:
    import torch


def heat_over_time(
    clips: "list[torch.Tensor]", heats: list[np.ndarray], titles: list[str], *, size: float = 1.1, most: int = 16
) -> Figure:
    """Film strips of uint8 clips `(T, C, H, W)` under their heat `(T, H, W)`, and below each frame its share of it.

    Frames are grey and heat is orange, so that both stay readable in print. `size` is a frame's width in inches. The
    dotted line is what each frame would have if all counted alike. Of clips with more than `most` frames a frame stands
    for several: it is the middle one of them, under their mean heat.
    """
    clips, heats = zip(*(_thinned(clip, heat, most) for clip, heat in zip(clips, heats, strict=True)), strict=True)
    longest, ratio = max(len(clip) for clip in clips), clips[0].shape[-2] / clips[0].shape[-1]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(clips), 1, figsize=(size * longest + 1.3, size * (ratio + 0.62) * len(clips)), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for axis, clip, heat, title in zip(axes[:, 0], clips, heats, titles, strict=True):
            shares = heat.sum(axis=(1, 2)) / max(heat.sum(), 1e-12)
            floor, scale = ratio + 0.4, 0.34 / max(shares.max(), 1 / len(shares))  # y points down
            axis.bar(range(len(shares)), -scale * shares, bottom=floor, color=ACCENT, width=0.97)
            axis.plot([-0.5, len(shares) - 0.5], [floor - scale / len(shares)] * 2, "k:", linewidth=0.8)
            for t, (frame, warm) in enumerate(zip(clip.permute(0, 2, 3, 1).numpy(), heat, strict=True)):
                place = (t - 0.485, t + 0.485, ratio, 0)
                axis.imshow(frame.mean(axis=2), cmap="gray", vmin=-60, vmax=255, extent=place)
                axis.imshow(np.full_like(warm, 0.7), cmap="Oranges", vmin=0, vmax=1, extent=place, alpha=0.85 * warm)
                axis.text(t, floor + 0.03, f"{shares[t]:.0%}", ha="center", va="top", size=8)
            axis.set(xlim=(-0.5, longest - 0.5), ylim=(floor + 0.2, 0), xticks=[], yticks=[], aspect="equal")
            axis.text(-0.56, ratio / 2, title, ha="right", va="center")
            axis.spines[:].set_visible(False)
        return figure


def _thinned(clip: "torch.Tensor", heat: np.ndarray, most: int) -> "tuple[torch.Tensor, np.ndarray]":
    parts = np.array_split(np.arange(len(clip)), min(most, len(clip)))
    return clip[[part[len(part) // 2] for part in parts]], np.stack([heat[part].mean(axis=0) for part in parts])


def embedding_map(xy: np.ndarray, classes: list[str], groups: list[str]) -> Figure:
    """Videos as points `(N, 2)`, once by class and once by group: what lies together is alike to the network.

    Where there are more names than colours, markers tell them apart; above 24 names there is no legend.
    """
    palette, markers = sns.color_palette("colorblind", 8), "osD^vPX*<>"
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
        for axis, names, title in zip(axes, (classes, groups), ("class", "group"), strict=True):
            known = sorted(set(names))
            for number, name in enumerate(known):
                chosen = xy[np.array(names) == name]
                marker = markers[number // len(palette) % len(markers)]
                axis.scatter(*chosen.T, s=26, color=palette[number % len(palette)], marker=marker, label=name,
                             edgecolor="white", linewidth=0.4)  # fmt: skip
            axis.set(title=f"by {title}", xticks=[], yticks=[])
            axis.set_aspect("equal", adjustable="datalim")
            axis.spines[:].set(visible=True, color=MUTED)
            if len(known) <= 24:
                axis.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.01), handletextpad=0.1)
        return figure


def reliability(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Accuracy against confidence, a point for each bin of `varec_lib.evaluation.calibration.reliability`."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.2, 3.8), layout="constrained")
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", label="perfectly calibrated")
        axis.plot(table["confidence"], table["accuracy"], color=ACCENT, marker="o", label="this model")
        for row in table.itertuples():
            axis.plot([row.confidence] * 2, [row.confidence, row.accuracy], color=BAD, linewidth=1, alpha=0.6)
        axis.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="confidence", ylabel="share that is right", title=title)
        axis.legend(frameon=False, loc="upper left")
        return figure


def coverage(table: pd.DataFrame, *, sure_above: tuple[float, float] | None = None) -> Figure:
    """Accuracy of the most certain answers against their share; marks the (coverage, accuracy) of a threshold."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
        axis.step(table["coverage"], table["accuracy"], where="post", color=ACCENT)
        if sure_above:
            axis.plot(*sure_above, color=GOOD, marker="D", linestyle="", label="answers that count as sure")
            axis.legend(frameon=False, loc="lower left")
        axis.set(xlim=(0, 1.03), xlabel="share of videos that are answered", ylabel="share of these that is right")
        axis.set_ylim(min(0.5, table["accuracy"].min() - 0.05), 1.03)
        axis.grid(alpha=0.25)
        return figure


def top_probabilities(known: Predictions, unknown: Predictions, *, sure_above: float | None = None) -> Figure:
    """How many videos have at least a certain top probability: right and wrong answers, and videos of other classes."""
    tops, right = known.probabilities.max(axis=1), known.predicted == known.targets
    parts = [
        (tops[right], ACCENT, "-", "known class, right"),
        (tops[~right], MUTED, "--", "known class, wrong"),
        (unknown.probabilities.max(axis=1), BAD, "-.", "unknown class"),
    ]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
        for values, colour, line, name in parts:
            if len(values):
                sns.ecdfplot(
                    values, complementary=True, ax=axis, color=colour, linestyle=line, label=f"{name} ({len(values)})"
                )
        if sure_above is not None and sure_above < 1:
            axis.axvline(sure_above, color="black", linewidth=0.8, linestyle=":", label="sure above")
        axis.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="top probability", ylabel="share of videos at least as sure")
        axis.legend(frameon=False, loc="lower left")
        return figure


def report_card(temporal: dict[str, dict], *, most: int = 20) -> Figure:
    """The temporal report card, as `temporal_report` gives it: top-1 of every order of frames, and per-class recall.

    Of more than `most` classes it shows those whose recall changes most.
    """
    recalls = pd.DataFrame({order: part["per_class"] for order, part in temporal.items()}).T  # (orders, classes)
    if len(recalls.columns) > most:
        spread = (recalls.max() - recalls.min()).sort_values(ascending=False, kind="stable")
        recalls = recalls[[name for name in recalls if name in spread.index[:most]]]
    rows = np.arange(len(recalls))
    top1 = [part["top1"] for part in temporal.values()]
    with plt.rc_context(STYLE):
        width = 0.62 * len(recalls.columns) + 1.2
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(3.4 + width, 4.2), width_ratios=[3.0, width], layout="constrained"
        )
        left.barh(rows + 0.5, top1, color=[ACCENT, *[MUTED] * (len(rows) - 1)], height=0.7)
        for row, value in enumerate(top1):
            left.text(value + 0.02, row + 0.5, f"{value:.2f}", va="center")
        left.set(xlim=(0, 1.2), ylim=(len(rows), 0), xlabel="top-1", xticks=[0, 0.5, 1])
        left.set_yticks(rows + 0.5, [order.replace("_", " ") for order in recalls.index])
        sns.heatmap(
            recalls, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, linewidths=0.5, cbar=False, ax=right,
            annot_kws={"size": 8}, yticklabels=False,
        )  # fmt: skip
        right.set(xlabel="recall of each class", ylabel="")
        right.tick_params(axis="x", rotation=45)
        plt.setp(right.get_xticklabels(), ha="right", rotation_mode="anchor")
        return figure


def compared(table: pd.DataFrame) -> Figure:
    """Top-1 of models, and how much more often each is right than the first, with 95 % intervals.

    `table` is that of `varec_lib.evaluation.compare.comparison`, a row per model.
    """
    rows = np.arange(len(table))[::-1]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9, 0.5 * len(table) + 1.1), sharey=True, layout="constrained"
        )
        for axis, value, low, high in (
            (left, "top1", "low", "high"), (right, "difference", "difference_low", "difference_high")
        ):  # fmt: skip
            errors = np.stack([table[value] - table[low], table[high] - table[value]])
            axis.errorbar(table[value], rows, xerr=errors, fmt="o", color=ACCENT, capsize=4)
            axis.grid(axis="x", alpha=0.25)
        for row, p in zip(rows, table["mcnemar_p"], strict=True):
            shown = "the first" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            right.annotate(shown, (1.02, row), xycoords=("axes fraction", "data"), va="center", color="#5b6570")
        right.axvline(0, color="black", linewidth=0.8, linestyle=":")
        left.set_yticks(rows, table.index)
        left.set(xlabel="test top-1", ylim=(-0.6, len(table) - 0.4))
        right.set(xlabel="how much more often right than the first")
        return figure
