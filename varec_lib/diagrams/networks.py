"""Diagrams of chapters 2 and 3: frame models, the LSTM, kernels, and a clip on its way through a 3D network."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from varec_lib.diagrams.board import FAINT, INK, arrow, board, box, frame, say
from varec_lib.plots import ACCENT, BAD, GOOD, MUTED


def merged_time() -> Figure:
    """How an image network reads a batch of clips: time joins the batch, and is taken apart again afterwards."""
    figure, axis = board(9.0, 1.9)
    batch, frames, features = 2, 4, 512
    total = batch * frames
    for clip in range(batch):
        for number in range(frames):
            colour = (ACCENT, GOOD)[clip % 2]
            frame(axis, 0.45 + number * 0.3, 1.3 - clip * 0.5, 0.26, colour)
            frame(axis, 2.95 + (clip * frames + number) * 0.13, 1.3 - (clip * frames + number) * 0.075, 0.26, colour)
            row, column = clip, number
            axis.add_patch(Rectangle((7.55 + column * 0.3, 1.17 - row * 0.5), 0.08, 0.28, facecolor=colour))
            axis.add_patch(Rectangle((5.95, 1.42 - (clip * frames + number) * 0.12), 0.5, 0.08, facecolor=colour))
    arrow(axis, (1.75, 1.05), (2.55, 1.05))
    say(axis, 2.15, 1.25, "flatten(0, 1)", 8)
    box(axis, 4.95, 1.05, 0.85, 0.5, "image\nnetwork")
    arrow(axis, (4.2, 1.05), (4.5, 1.05))
    arrow(axis, (5.4, 1.05), (5.85, 1.05))
    arrow(axis, (6.55, 1.05), (7.45, 1.05))
    say(axis, 7.0, 1.25, "unflatten", 8)
    shapes = {0.9: f"({batch}, {frames}, 3, H, W)", 3.4: f"({total}, 3, H, W)", 6.2: f"({total}, {features})"}
    for x, shape in (shapes | {8.05: f"({batch}, {frames}, {features})"}).items():
        say(axis, x, 0.2, shape, family="monospace")
    return figure


def lstm_cell() -> Figure:
    """One step of an LSTM: the memory runs along the top, gates between 0 and 1 decide what happens to it."""
    figure, axis = board(7.6, 3.1)
    axis.add_patch(
        FancyBboxPatch(
            (1.2, 0.55), 5.1, 2.2, boxstyle="round,pad=0,rounding_size=0.15", facecolor=FAINT, edgecolor=MUTED
        )
    )
    memory, gates = 2.4, 1.2
    arrow(axis, (0.6, memory), (7.0, memory), ACCENT)
    say(axis, 0.35, memory, "$c_{t-1}$", 12)
    say(axis, 7.25, memory, "$c_t$", 12)
    say(axis, 0.35, 0.8, "$h_{t-1}$", 12)
    say(axis, 1.6, 0.2, "$x_t$", 12)
    axis.plot([0.6, 5.1], [0.8, 0.8], color=INK, linewidth=1)
    axis.plot([1.6, 1.6], [0.32, 0.8], color=INK, linewidth=1)
    names = {
        2.1: ("σ", "forget  $f$", BAD),
        3.1: ("σ", "input  $i$", GOOD),
        4.1: ("tanh", "candidate  $g$", GOOD),
        5.1: ("σ", "output  $o$", ACCENT),
    }
    for x, (function, name, colour) in names.items():
        arrow(axis, (x, 0.8), (x, gates - 0.16), INK)
        box(axis, x, gates, 0.52, 0.32, function, colour)
        say(axis, x, 0.66, name, 8)
    circles = {(2.1, memory): "×", (3.6, memory): "+", (3.6, 1.85): "×", (5.6, 1.85): "×"}
    arrow(axis, (2.1, gates + 0.16), (2.1, memory - 0.13), BAD)
    arrow(axis, (3.1, gates + 0.16), (3.5, 1.76), GOOD)
    arrow(axis, (4.1, gates + 0.16), (3.7, 1.76), GOOD)
    arrow(axis, (3.6, 1.98), (3.6, memory - 0.13), GOOD)
    arrow(axis, (5.1, gates + 0.16), (5.5, 1.76), ACCENT)
    axis.plot([5.6, 5.6], [memory, 2.25], color=ACCENT, linewidth=1)
    say(axis, 5.6, 2.14, "tanh", 8)
    axis.plot([5.6, 5.6], [2.05, 1.96], color=ACCENT, linewidth=1)
    axis.plot([5.72, 6.05, 6.05], [1.85, 1.85, 0.8], color=INK, linewidth=1)
    arrow(axis, (6.05, 0.8), (7.0, 0.8))
    say(axis, 7.25, 0.8, "$h_t$", 12)
    for (x, y), sign in circles.items():
        axis.add_patch(plt.Circle((x, y), 0.12, facecolor="white", edgecolor=INK, zorder=3))
        say(axis, x, y, sign, 11, zorder=4)
    return figure


def frame_models() -> Figure:
    """The models of chapter 2: the mean of the frames' features, and an LSTM that reads them in turn."""
    figure, axis = board(9.0, 3.0)
    frames = 4
    for left, name in ((0.3, "frame average"), (4.8, "CNN+LSTM")):
        places = [left + 0.4 + number * 0.95 for number in range(frames)]
        middle = sum(places) / frames
        for number, x in enumerate(places):
            frame(axis, x, 0.45, 0.42)
            say(axis, x, 0.45, f"$x_{number + 1}$", 10)
            arrow(axis, (x, 0.67), (x, 0.87))
            box(axis, x, 1.05, 0.82, 0.34, "ResNet-18", MUTED)
            if name == "CNN+LSTM":
                arrow(axis, (x, 1.23), (x, 1.48))
                box(axis, x, 1.68, 0.6, 0.38, "LSTM", ACCENT)
                if number:
                    arrow(axis, (x - 0.65, 1.68), (x - 0.31, 1.68), ACCENT)
            else:
                arrow(axis, (x, 1.23), (middle + (x - middle) * 0.35, 1.48))
        last = places[-1] if name == "CNN+LSTM" else middle
        if name == "frame average":
            box(axis, middle, 1.68, 1.9, 0.38, "mean over time", GOOD)
        arrow(axis, (last, 1.88), (last, 2.1))
        box(axis, last, 2.28, 0.7, 0.34, "linear", ACCENT)
        arrow(axis, (last, 2.46), (last, 2.64))
        say(axis, last, 2.76, "scores (K)")
        say(axis, left + 0.05, 2.76, name, weight="bold", ha="left")
    say(axis, 4.5, 0.1, "the same network, with the same weights, looks at every frame", 8, style="italic")
    return figure


def _solid(axis: Axes, x: float, y: float, height: float, depth: float, colour: str) -> float:
    """A block of video in oblique view, standing on y: `height` for space, `depth` to the right for time."""
    lean = 0.32 * height
    front = [(x, y), (x + lean, y + lean * 0.6), (x + lean, y + lean * 0.6 + height), (x, y + height)]
    top = [
        (x, y + height),
        (x + lean, y + lean * 0.6 + height),
        (x + lean + depth, y + lean * 0.6 + height),
        (x + depth, y + height),
    ]
    side = [(x, y), (x + depth, y), (x + depth, y + height), (x, y + height)]
    for corners, alpha in ((side, 0.30), (top, 0.18), (front, 0.10)):
        axis.add_patch(Polygon(corners, closed=True, facecolor=colour, alpha=alpha, edgecolor="none"))
        axis.add_patch(Polygon(corners, closed=True, facecolor="none", edgecolor=colour, linewidth=0.9))
    return lean + depth


def volumes(shapes: dict[str, tuple[int, int, int, int]]) -> Figure:
    """A clip on its way through a 3D network: a block per stage, `shapes` being (channels, frames, height, width)."""
    tallest = max(shape[2] for shape in shapes.values())
    longest = max(shape[1] for shape in shapes.values())
    blocks = [
        (name, shape, max(1.5 * shape[2] / tallest, 0.12), max(1.1 * shape[1] / longest, 0.05))
        for name, shape in shapes.items()
    ]
    width = sum(max(0.32 * height + depth, 1.0) + 0.3 for _, _, height, depth in blocks) + 0.3
    figure, axis = board(width, 2.75)
    x = 0.3
    for name, (channels, frames, high, wide), height, depth in blocks:
        room = max(0.32 * height + depth, 1.0)
        _solid(axis, x + (room - 0.32 * height - depth) / 2, 0.75, height, depth, MUTED if name == "clip" else ACCENT)
        say(axis, x + room / 2, 0.5, name, weight="bold")
        say(axis, x + room / 2, 0.3, f"{channels} channels", 8)
        say(axis, x + room / 2, 0.12, f"{frames} x {high} x {wide}", 8)
        x += room + 0.3
    return figure


def _kernel(axis: Axes, x: float, marks: dict[int, int], title: str) -> None:
    """Five frames one behind the other, and on some of them the square of so many pixels that a kernel covers."""
    y, cell = 0.55, 0.1
    for number in reversed(range(5)):
        left, low = x + number * 0.24, y + number * 0.14
        axis.add_patch(Rectangle((left, low), 9 * cell, 7 * cell, facecolor="white", alpha=0.5, edgecolor="none"))
        axis.add_patch(Rectangle((left, low), 9 * cell, 7 * cell, facecolor="none", edgecolor=MUTED, linewidth=0.9))
        if side := marks.get(number, 0) * cell:
            corner = (left + 4.5 * cell - side / 2, low + 3.5 * cell - side / 2)
            axis.add_patch(Rectangle(corner, side, side, facecolor=ACCENT, edgecolor="white", linewidth=0.6, zorder=3))
    say(axis, x + 0.9, 0.28, title)


def kernels() -> Figure:
    """What one output value looks at: a 2D kernel, a 3D kernel, and the two steps of a (2+1)D one."""
    figure, axis = board(9.2, 2.0)
    _kernel(axis, 0.2, {2: 3}, "2D: 3x3, one frame\n9 weights")
    _kernel(axis, 2.45, {1: 3, 2: 3, 3: 3}, "3D: 3x3x3, three frames\n27 weights")
    _kernel(axis, 4.7, {2: 3}, "(2+1)D, first in space\n9 weights")
    say(axis, 6.83, 0.85, "then")
    _kernel(axis, 7.1, {1: 1, 2: 1, 3: 1}, "and then in time\n3 weights")
    return figure
