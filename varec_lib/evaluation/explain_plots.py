"""Pictures of where and when a model looked, and of how it sees videos beside one another (notebook 05)."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure

from varec_lib.plots import ACCENT, MUTED, STYLE


def heat_over_time(
    clips: list[torch.Tensor], heats: list[np.ndarray], titles: list[str], *, size: float = 1.1
) -> Figure:
    """Film strips of uint8 clips `(T, C, H, W)` under their heat `(T, H, W)`, and below each frame its share of it.

    Frames are grey and heat is orange, so that both stay readable in print. `size` is a frame's width in inches. The
    dotted line is what each frame would have if all counted alike.
    """
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
