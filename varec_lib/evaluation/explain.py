"""Where and when did a model look? Grad-CAM through time, and a map of what a network makes of videos (notebook 05)."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from varec_lib.data.dataset import EvalClips, Frames, VideoFiles, make_loader
from varec_lib.errors import ConfigError, DataError
from varec_lib.evaluation.apply import clips_at_a_time, workers_named
from varec_lib.models.checkpoint import LoadedModel

LEAST_SIDE, LEAST_STEPS = 7, 4  # rows, columns and steps in time of the map that is looked at by default
FEW = 10  # videos too few for t-SNE
NEIGHBOURS = 10  # of a video that shall stay so: about as many as a class of a small test split has


def grad_cam(
    model: LoadedModel, clip: torch.Tensor, label: str | None = None, *, layer: str | None = None, average: bool = False
) -> np.ndarray:
    """What in a uint8 clip `(T, C, H, W)` speaks for a class, by default the model's answer: heat `(T, H, W)`, 0 to 1.

    The output of a layer is multiplied by the gradient of the class score with respect to it, added up over channels,
    and cut off below zero (HiResCAM, Draelos and Carin 2020, arXiv 2011.08891). With `average`, gradients are averaged
    over the layer's map first, as in Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391). Before a global average the
    two are the same. In the finer maps that small frames need, Grad-CAM mixes places whose gradients differ: on
    stick-actions the frames that it points at are hardly those whose covering changes the answer.

    One scale holds for the whole clip, so the heat says which frames count, too. Where nothing speaks for the class it
    is zero everywhere. `layer` is the name of a module, by default that of `map_layer`. Computes in fp32, and leaves
    the network in evaluation mode and without gradients. Raises `ConfigError` for a class or a layer that the model
    does not have, or a layer whose output is not one map; `DataError` where scores are not numbers.
    """
    if label is not None and label not in model.classes:
        raise ConfigError(f"The model knows no class {label!r}. Known: {', '.join(model.classes)}.")
    layer = layer or map_layer(model, clip)
    if layer not in dict(model.network.named_modules()):
        raise ConfigError(f"The network has no layer {layer!r}; map_layer, for one, chose {map_layer(model, clip)!r}.")
    outputs = []

    def cut(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor | None:
        outputs.append(output)
        if _map_size(output, clip) is None:
            return None
        outputs[-1] = output.detach().requires_grad_()  # the graph begins here, so parameters get no gradients
        return outputs[-1].clone()  # what follows may work in place

    fp32 = torch.autocast(model.device.type, enabled=False)  # around the gradients as well
    with _hooked({model.network.get_submodule(layer): cut}), torch.enable_grad(), fp32:
        scores = _scores(model, clip)
        if len(outputs) != 1 or _map_size(outputs[0], clip) is None:
            raise ConfigError(f"The layer {layer!r} does not give one map of the clip. Name a whole block of layers.")
        target = scores.argmax() if label is None else model.classes.index(label)
        (slopes,) = torch.autograd.grad(scores[target], outputs)
    if average:
        slopes = slopes.mean(dim=tuple(range(2, slopes.dim())), keepdim=True)
    heat = (slopes * outputs[0].detach()).sum(dim=1).relu()  # (1, t, h, w), or (T, h, w) of frames by themselves
    heat = heat.reshape(1, 1, -1, *heat.shape[-2:])
    heat = F.interpolate(heat, (len(clip), *clip.shape[-2:]), mode="trilinear")[0, 0]
    return (heat / heat.max()).cpu().numpy() if heat.any() else heat.cpu().numpy()


def map_layer(model: LoadedModel, clip: torch.Tensor) -> str:
    """The deepest block that maps this clip to at least 7x7 places and 4 steps in time, or to as many as there are.

    Deeper ones know more, but cannot say where and when: of 8 frames of 32x32, R3D-18's last map has 1x2x2 places and
    ResNet-18's 1x1. Of a transformer, the only map may be its patches. Raises `ConfigError` where there is no map.
    """
    sizes: dict[str, list] = {}  # of the outputs of each module, in the order in which they finish

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            sizes.setdefault(name, []).append(_map_size(output, clip))

        return hook

    with _hooked({module: note(name) for name, module in model.network.named_modules()}), torch.no_grad():
        _scores(model, clip)
    maps = {name: found[0] for name, found in sizes.items() if len(found) == 1 and found[0]}

    def search(parent: str, side: int, steps: int) -> str | None:
        # Inside a block that shrinks the map there are larger ones, but of branches: those only if there is no other.
        inside = [name for name in reversed(sizes) if name and name.rpartition(".")[0] == parent]
        for name in inside:
            if name in maps and min(maps[name][1:]) >= side and maps[name][0] >= steps:
                return name
            if name not in maps and (found := search(name, side, steps)):
                return found
        return next((found for name in inside if name in maps and (found := search(name, side, steps))), None)

    for side, steps in itertools.product(range(LEAST_SIDE, 0, -1), (LEAST_STEPS, 2, 1)):
        if found := search("", side, steps):
            return found
    raise ConfigError(f"{model.checkpoint.model} has no layer with a map of the picture, so it cannot say where.")


def clip_embeddings(
    model: LoadedModel, table: pd.DataFrame, *, source: Frames | None = None, batch_size: int = 32, num_workers: int = 0
) -> np.ndarray:
    """What the network's last linear layer is given for one clip of each row of a checked table: float32 `(N, F)`.

    `source` gives the frames, by default decoded from the files. Raises `ConfigError` for a network without a linear
    layer, `DataError` without rows, `VideoError`.
    """
    layers = [module for module in model.network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError(f"{model.checkpoint.model} has no linear layer whose input could be taken.")
    if not len(table):
        raise DataError("There is no video to embed: the split is empty.")
    clips_of = EvalClips(source or VideoFiles(table, model.clip_spec), model.clip_spec)
    size = clips_at_a_time(model.clip_spec, batch_size)
    model.network.eval()
    given, found = [], []
    handle = layers[-1].register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].float().cpu()))
    try:
        with workers_named():
            for clips, _ in make_loader(clips_of, batch_size=size, num_workers=num_workers):
                given.clear()
                model.logits(clips)
                found.append(given[-1].reshape(len(clips), -1, given[-1].shape[-1]).mean(dim=1))
    finally:
        handle.remove()
    return torch.cat(found).numpy()


def flat_map(embeddings: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Places in the plane `(N, 2)` such that neighbours among embeddings `(N, F)` stay neighbours (t-SNE).

    Distances between clusters mean little. Of fewer than 10 videos it is the plane of most variance (PCA).
    """
    centred = embeddings - embeddings.mean(axis=0)
    if len(centred) < FEW or not centred.any():
        axes, lengths, _ = np.linalg.svd(centred, full_matrices=False)
        flat = (axes * lengths)[:, :2]
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    from sklearn.manifold import TSNE  # here: it is a fifth of the start of a process

    return TSNE(perplexity=min(NEIGHBOURS, (len(centred) - 1) / 3), random_state=seed).fit_transform(centred)


@contextmanager
def _hooked(hooks: dict[nn.Module, Callable]) -> Iterator[None]:
    """Calls these after the forward passes of these modules, and leaves none of them behind."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scores(model: LoadedModel, clip: torch.Tensor) -> torch.Tensor:
    """Class scores `(K,)`. Raises `DataError` if they are not numbers."""
    network, device = model.network.eval(), model.device
    cudnn = not any(isinstance(module, nn.RNNBase) for module in network.modules())  # it has gradients in training only
    with torch.backends.cudnn.flags(enabled=cudnn):
        scores = network(model.clip_spec.normalise(clip[None].to(device)))[0]
    if not scores.isfinite().all():
        raise DataError(
            "The model's scores for this clip are not numbers: its training must have diverged. Lower --lr."
        )
    return scores


def _map_size(output: Any, clip: torch.Tensor) -> tuple[int, int, int] | None:
    """Steps, rows and columns of an output that is a map: `(1, C, t, h, w)`, `(T, C, h, w)` or `(1, C, h, w)`."""
    if not isinstance(output, torch.Tensor) or output.dim() not in (4, 5):
        return None
    frames, (height, width), (rows, columns) = len(clip), clip.shape[-2:], output.shape[-2:]
    # Else it has its channels last, as in Swin.
    alike = rows <= height and columns <= width and abs(rows * width / height - columns) <= 1
    known = len(output) == 1 if output.dim() == 5 else len(output) in (1, frames)
    return (output.shape[2] if output.dim() == 5 else len(output), rows, columns) if alike and known else None
