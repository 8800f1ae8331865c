"""Diagrams of chapter 1: what a video file holds, and how a split leaks."""

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from varec_lib.diagrams.board import FAINT, arrow, board, frame, say
from varec_lib.plots import ACCENT, GOOD, MUTED


def key_frames() -> Figure:
    """What a compressed video stores: whole key frames, changes in between; and what frame 8 needs decoded."""
    figure, axis = board(9.0, 1.9)
    count, every, wanted = 12, 5, 8
    step, start = 0.68, 1.05
    first = wanted // every * every
    for number in range(count):
        x, key, needed = start + number * step, number % every == 0, first <= number <= wanted
        colour = ACCENT if needed else MUTED
        frame(axis, x, 1.0, 0.46, colour, linewidth=2.0 if needed else 1.0)
        say(axis, x, 1.0, "key" if key else "Δ", 9 if key else 11, color=colour, weight="bold" if needed else "normal")
        say(axis, x, 0.62, str(number), 8, color=colour)
        axis.add_patch(Rectangle((x - 0.16, 0.16), 0.32, 0.34 if key else 0.06, facecolor=colour))
        if not key:
            arrow(axis, (x - step + 0.12, 1.26), (x - 0.12, 1.26), colour, bend=-0.5)
    say(axis, 0.72, 1.0, "frame", ha="right")
    say(axis, 0.72, 0.32, "bytes", ha="right")
    say(
        axis,
        start + (first + wanted) / 2 * step,
        1.68,
        f"to show frame {wanted}, decode {first} to {wanted}",
        color=ACCENT,
    )
    return figure


def splits() -> Figure:
    """The same videos split at random and by group; crosses mark test videos with a sibling in training."""
    figure, axis = board(8.0, 1.95)
    groups, takes = 6, 4
    at_random = {2, 5, 11, 12, 19, 22}
    by_group = set(range(takes * (groups - 1), takes * groups))
    for y, name, test in ((1.15, "at random", at_random), (0.5, "by group", by_group)):
        say(axis, 1.1, y, name, ha="right")
        for video in range(groups * takes):
            group = video // takes
            x = 1.4 + video * 0.235 + group * 0.2
            leaks = video in test and not set(range(group * takes, (group + 1) * takes)) <= test
            frame(axis, x, y, 0.2, GOOD if video in test else ACCENT, facecolor=GOOD if video in test else FAINT)
            if leaks:
                say(axis, x, y, "×", 13, color="white", weight="bold")
    for group in range(groups):
        middle = 1.4 + (group * takes + (takes - 1) / 2) * 0.235 + group * 0.2
        say(axis, middle, 1.5, f"person {group + 1}", 8)
    frame(axis, 1.5, 0.12, 0.16, ACCENT)
    say(axis, 1.65, 0.12, "train", 8, ha="left")
    frame(axis, 2.5, 0.12, 0.16, GOOD, facecolor=GOOD)
    say(axis, 2.65, 0.12, "test", 8, ha="left")
    frame(axis, 3.5, 0.12, 0.16, GOOD, facecolor=GOOD)
    say(axis, 3.5, 0.12, "×", 10, color="white", weight="bold")
    say(axis, 3.65, 0.12, "test, and the same person is in train: a leak", 8, ha="left")
    return figure
