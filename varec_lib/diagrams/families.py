"""The diagram that ends chapter 3: five more ways of letting frames meet."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from varec_lib.diagrams.board import arrow, board, box, frame, say
from varec_lib.plots import ACCENT, BAD, GOOD, MUTED


def _early_fusion(axis: Axes, x: float) -> None:
    for number in range(4):
        arrow(axis, (x - 0.6 + 0.4 * number, 0.72), (x - 0.15 + 0.1 * number, 1.02))
    box(axis, x, 1.22, 0.9, 0.36, "2D", ACCENT)
    arrow(axis, (x, 1.42), (x, 1.85))


def _two_streams(axis: Axes, x: float) -> None:
    arrow(axis, (x - 0.6, 0.72), (x - 0.42, 1.0))
    for number in range(3):
        arrow(axis, (x - 0.52 + 0.4 * number, 0.66), (x - 0.28 + 0.4 * number, 0.66), BAD, bend=-0.4)
        arrow(axis, (x - 0.4 + 0.4 * number, 0.74), (x + 0.26 + 0.1 * number, 1.0), BAD)
    box(axis, x - 0.42, 1.2, 0.62, 0.36, "2D", ACCENT)
    box(axis, x + 0.42, 1.2, 0.62, 0.36, "flow", BAD)
    arrow(axis, (x - 0.42, 1.4), (x - 0.08, 1.85))
    arrow(axis, (x + 0.42, 1.4), (x + 0.08, 1.85))


def _shift(axis: Axes, x: float) -> None:
    for number in range(4):
        here = x - 0.6 + 0.4 * number
        arrow(axis, (here, 0.72), (here, 0.92))
        box(axis, here, 1.07, 0.3, 0.28, "2D", ACCENT)
        box(axis, here, 1.6, 0.3, 0.28, "2D", ACCENT)
        arrow(axis, (here, 1.22), (here, 1.45))
        if number < 3:
            arrow(axis, (here + 0.05, 1.22), (here + 0.34, 1.45), GOOD)
            arrow(axis, (here + 0.35, 1.22), (here + 0.06, 1.45), GOOD)
    arrow(axis, (x, 1.75), (x, 1.92))


def _slow_fast(axis: Axes, x: float) -> None:
    arrow(axis, (x - 0.6, 0.72), (x - 0.45, 1.0))
    for number in range(4):
        arrow(axis, (x - 0.6 + 0.4 * number, 0.72), (x + 0.3 + 0.08 * number, 1.0), GOOD)
    box(axis, x - 0.42, 1.22, 0.72, 0.44, "slow,\nwide", ACCENT)
    box(axis, x + 0.42, 1.22, 0.52, 0.44, "fast", GOOD)
    arrow(axis, (x + 0.15, 1.22), (x - 0.05, 1.22), GOOD)
    arrow(axis, (x - 0.42, 1.46), (x - 0.08, 1.85))
    arrow(axis, (x + 0.42, 1.46), (x + 0.08, 1.85))


def _tubelets(axis: Axes, x: float) -> None:
    for number in range(8):
        here = x - 0.63 + 0.18 * number
        axis.add_patch(Rectangle((here - 0.06, 0.86), 0.12, 0.16, facecolor=GOOD, alpha=0.7))
        arrow(axis, (here, 1.04), (here, 1.17))
    box(axis, x, 1.36, 1.45, 0.34, "attention", ACCENT)
    arrow(axis, (x, 1.55), (x, 1.85))


def families() -> Figure:
    """Five more ways of letting frames meet: where the field went beside and after this chapter's networks."""
    panels = {
        "early fusion": _early_fusion, "two streams": _two_streams, "temporal shift": _shift,
        "SlowFast": _slow_fast, "transformer": _tubelets,
    }  # fmt: skip
    figure, axis = board(9.4, 2.35)
    for place, (name, draw) in enumerate(panels.items()):
        x = 0.95 + 1.87 * place
        for number in range(4):
            frame(axis, x - 0.6 + 0.4 * number, 0.54, 0.3)
            if name == "transformer":  # cut into patches
                axis.plot([x - 0.75 + 0.4 * number, x - 0.45 + 0.4 * number], [0.54, 0.54], color=MUTED, linewidth=0.8)
                axis.plot([x - 0.6 + 0.4 * number] * 2, [0.39, 0.69], color=MUTED, linewidth=0.8)
        draw(axis, x)
        say(axis, x, 2.05, "scores")
        say(axis, x, 0.18, name, weight="bold")
    return figure
