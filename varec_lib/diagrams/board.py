"""What all diagrams are drawn with: a page measured in inches, so that text fits where it is put."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from varec_lib.plots import ACCENT, MUTED

INK = "#2b333b"
FAINT = "#e8edf2"


def board(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty page, measured in inches."""
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    return figure, axis


def say(axis: Axes, x: float, y: float, text: str, size: float = 9, **how: object) -> None:
    """Writes a text with its middle at (x, y)."""
    axis.text(x, y, text, fontsize=size, **({"ha": "center", "va": "center", "color": INK} | how))


def box(axis: Axes, x: float, y: float, width: float, height: float, text: str = "", colour: str = ACCENT) -> None:
    """A rounded box with its middle at (x, y), tinted with its colour."""
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.06"
    axis.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor=colour, alpha=0.16, edgecolor="none")
    )
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor="none", edgecolor=colour))
    say(axis, x, y, text)


def frame(axis: Axes, x: float, y: float, side: float, colour: str = MUTED, **how: object) -> None:
    """A frame of a video, a square with its middle at (x, y)."""
    how = {"facecolor": FAINT, "edgecolor": colour, "linewidth": 1.0} | how
    axis.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, **how))


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, bend: float = 0) -> None:
    """An arrow from start to end; `bend` curves it, to the left of its way where negative."""
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.0}
    axis.add_patch(FancyArrowPatch(start, end, color=colour, connectionstyle=f"arc3,rad={bend}", **style))
