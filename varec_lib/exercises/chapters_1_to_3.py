"""Tests of the exercises on clips, sampling, frame models and 3D networks."""

from typing import Any

import numpy as np
import torch
from torch import nn

from varec_lib.data.sampling import uniform_indices
from varec_lib.exercises.registry import exercise


@exercise("1.2", "torch.rand((), generator=generator) draws a number; clip.flip(0) turns the frames around.")
def _reverse_augmentation(function: Any) -> str | None:
    clip = torch.arange(5).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    orders = [function(clip, torch.Generator().manual_seed(seed))[:, 0, 0, 0].tolist() for seed in range(200)]
    if any(order not in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]) for order in orders):
        return "a clip must come out as it was or backwards, and nothing else."
    if orders != [function(clip, torch.Generator().manual_seed(seed))[:, 0, 0, 0].tolist() for seed in range(200)]:
        return "the same generator must give the same clip."
    share = np.mean([order[0] == 4 for order in orders])
    return None if 0.35 < share < 0.65 else f"{share:.0%} of 200 clips came out backwards; half of them should."


@exercise("1.3", "The moment in the middle of segment i is (i + 0.5) * times[-1] / count; which frame is shown then?")
def _uniform_in_time(function: Any) -> str | None:
    draw = np.random.default_rng(3)
    for gaps in ([1 / 15] * 40, draw.uniform(0.02, 0.4, 50), [1 / 60] * 60 + [0.1] * 90):
        times = np.concatenate([[0], np.cumsum(gaps)])
        found, right = list(function(times, 8)), uniform_indices(times, 8)
        if found != right:
            even = "even" if len(set(gaps)) == 1 else "uneven"
            return f"for {len(gaps)} frames at {even} times the frames {found[:4]} ... do not fit."
    return None


@exercise("1.4", "Draw some of np.unique(groups) with np.random.default_rng(seed), then ask np.isin(groups, drawn).")
def _split_by_group(function: Any) -> str | None:
    groups = np.repeat([f"person {number}" for number in range(20)], 6)
    test = np.asarray(function(groups, 0.25, 0))
    if test.shape != groups.shape or test.dtype != bool:
        return "return one True or False per video, as an array of bool."
    if set(groups[test]) & set(groups[~test]):
        return f"{len(set(groups[test]) & set(groups[~test]))} groups are on both sides."
    if not 0.15 <= test.mean() <= 0.35:
        return f"{test.mean():.0%} of the videos are in the test; a quarter was asked for."
    same = (np.asarray(function(groups, 0.25, 1)) == test).all()
    return "another seed should give another split." if same else None


@exercise("2.3", "Reset gate r, update gate z, candidate n = tanh(W_in x + b_in + r * (W_hn h + b_hn)).")
def _gru_by_hand(function: Any) -> str | None:
    torch.manual_seed(1)
    gru, x = nn.GRU(6, 5, batch_first=True), torch.randn(7, 6)
    with torch.no_grad():
        found, right = function(x, gru), gru(x[None])[0][0]
    if found.shape != right.shape:
        return f"the states have the shape {tuple(found.shape)}, and should have {tuple(right.shape)}."
    first = torch.allclose(found[0], right[0], atol=1e-5)
    if not torch.allclose(found, right, atol=1e-5):
        return "the first state agrees with nn.GRU, later ones do not." if first else "nn.GRU has other states."
    return None


@exercise("2.4", "Index the time axis: clips[:, order] with order = [last, 1, 2, ..., 0].")
def _ends_swapped(function: Any) -> str | None:
    for frames in (2, 5, 8):
        clips = torch.arange(2 * frames).view(2, frames, 1, 1, 1).expand(2, frames, 3, 2, 2)
        before = clips.clone()
        order = [frames - 1, *range(1, frames - 1), 0]
        if not torch.equal(function(clips), before[:, order]):
            return f"clips of {frames} frames come out in another order than {order}."
    return None


@exercise("3.2", "Its ones lie where the bar is: further to the left in each frame. Then subtract the mean.")
def _kernel_to_the_left(kernel: Any) -> str | None:
    kernel = torch.as_tensor(kernel, dtype=torch.float)
    if kernel.shape != (3, 3):
        return f"a kernel (t, w) of shape (3, 3) is asked for, this one has {tuple(kernel.shape)}."
    if abs(kernel.sum()) > 1e-5:
        return "a constant picture must give 0: the weights must add up to it."

    def strongest(step: int) -> float:
        bar = torch.zeros(1, 1, 5, 15)
        bar[0, 0, range(5), [7 + step * t for t in range(5)]] = 1
        return float(nn.functional.conv2d(bar, kernel[None, None]).max())

    left, right, still = strongest(-1), strongest(1), strongest(0)
    return None if left > 1.5 * max(right, still, 0.1) else f"left {left:.1f}, right {right:.1f}, still {still:.1f}."


@exercise("3.3", "Keep two numbers: the field so far, and how many input frames lie between two outputs.")
def _receptive_field(function: Any) -> str | None:
    for layers in ([(3, 1)], [(3, 1), (3, 1)], [(3, 2), (3, 1), (5, 1)], [(3, 1), (3, 2), (3, 2), (1, 1)]):
        total = 64
        x = torch.zeros(1, 1, total, requires_grad=True)
        out = x
        for kernel, stride in layers:
            out = nn.functional.conv1d(out, torch.ones(1, 1, kernel), stride=stride)
        out[0, 0, 0].backward()
        if (found := function(layers)) != (right := int((x.grad != 0).sum())):
            return f"for the layers (kernel, stride) {layers} {found} is too {'large' if found > right else 'small'}."
    return None


@exercise("3.4", "shifted[:, :-1, :fold] = features[:, 1:, :fold], the same the other way, and zeros at the ends.")
def _temporal_shift(function: Any) -> str | None:
    features, fold = torch.arange(1.0, 2 * 5 * 16 + 1).view(2, 5, 16), 2
    before, found = features.clone(), function(features, 8)
    if not torch.equal(features, before):
        return "the features that were given have changed: work on a copy."
    if not torch.equal(found[:, :, 2 * fold :], before[:, :, 2 * fold :]):
        return "the last three quarters of the channels must stay where they are."
    if not torch.equal(found[:, :-1, :fold], before[:, 1:, :fold]):
        return "the first eighth must come from the next frame."
    if not torch.equal(found[:, 1:, fold : 2 * fold], before[:, :-1, fold : 2 * fold]):
        return "the second eighth must come from the frame before."
    ends = [found[:, -1, :fold], found[:, 0, fold : 2 * fold]]
    return "there is nothing beyond the ends: zeros." if any(end.any() for end in ends) else None
