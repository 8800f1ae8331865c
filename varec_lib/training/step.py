"""One optimiser step: forward, backward and update over as many clips as memory takes at a time (notebook 04)."""

import gc
import math
import os
from collections.abc import Callable
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import AveragedModel
from torchvision import tv_tensors
from torchvision.transforms import v2

from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import ClipSpec, apply_each, random_colours
from varec_lib.data.dataset import TrainBatch
from varec_lib.errors import TrainingError


def make_optimizer(model: nn.Module, lr: float, weight_decay: float, backbone_lr: float = 0.0) -> torch.optim.AdamW:
    """AdamW with decay on weights only: biases and norms, which have one dimension, go without it.

    `backbone_lr` is the rate of `model.backbone` where that shall differ from `lr`.
    """
    backbone = set(model.backbone.parameters()) if backbone_lr else set()
    groups = [
        {"params": [], "lr": rate, "weight_decay": decay} for rate in (lr, backbone_lr) for decay in (weight_decay, 0.0)
    ]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        groups[2 * (parameter in backbone) + (parameter.dim() <= 1)]["params"].append(parameter)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=fused)


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and batch-norm statistics (`update_parameters` per step).

    The first steps decay faster, (1 + n) / (10 + n), so that short trainings do not drag their random start along.
    """

    def mean(average: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        if not average.is_floating_point():  # batch norm's counter
            return current
        return torch.lerp(average, current, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return AveragedModel(model, avg_fn=mean, use_buffers=True)


class NonFinite(TrainingError):
    """A loss or its gradient is infinite or not a number; `rows` are the training rows whose clips gave it."""

    def __init__(self, what: str, rows: list[int]) -> None:
        super().__init__(what)
        self.rows = rows

    def batch_among(self, batches: list[TrainBatch]) -> int:
        """Which of the batches has the first of these rows, from 1."""
        return next(number for number, batch in enumerate(batches, 1) if self.rows[0] in batch.rows)

    def videos(self, paths: list[str]) -> str:
        """File names of the first videos, and how many more there are."""
        names = ", ".join(os.path.basename(paths[row]) for row in self.rows[:4])
        return names + (f" and {len(self.rows) - 4} more" if len(self.rows) > 4 else "")


class Inputs:
    """Turns a batch of uint8 clips into what the network trains on, on the device: colours, mixing, normalisation."""

    def __init__(self, config: TrainConfig, clip_spec: ClipSpec, num_classes: int) -> None:
        self.clip_spec = clip_spec
        self.colours = random_colours(flip=config.flip) if config.augment else None
        mixers = [
            kind(alpha=alpha, num_classes=num_classes)
            for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
            if alpha
        ]
        self.mix = v2.RandomChoice(mixers) if mixers else None

    def __call__(self, batch: TrainBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised clips `(B, T, C, H, W)`, and class numbers `(B,)` or, where clips are mixed, shares `(B, K)`."""
        clips, targets = batch.clips, batch.labels
        if self.colours is not None:
            clips = apply_each(self.colours, clips, batch.seeds.tolist())
        clips = self.clip_spec.normalise(clips)
        if self.mix is not None:
            clips, targets = self.mix(tv_tensors.Video(clips), targets)
            clips = clips.as_subclass(torch.Tensor)
        return clips, targets


class OptimiserStep:
    """Takes a step on a list of batches, with the gradient of their mean loss over all processes.

    However the clips are cut into pieces, the gradient is that of one large batch (but for batch norm, which sees a
    piece at a time). When memory runs out the step is repeated with pieces half as large, and they stay so.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        inputs: Callable[[TrainBatch], tuple[torch.Tensor, torch.Tensor]],
        label_smoothing: float,
        clip_grad: float,
    ) -> None:
        self.accelerator, self.network, self.optimizer, self.inputs = accelerator, network, optimizer, inputs
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction="sum")
        self.clip_grad = clip_grad
        self.pieces = 1  # into which each batch is cut

    def __call__(self, batches: list[TrainBatch], total: int) -> tuple[float, int]:
        """Updates the weights; returns the summed loss and the number of right answers of this process's clips.

        `total` is the number of clips over all processes. Raises `NonFinite` with the weights as they were,
        `TrainingError` if not even single clips fit into memory.
        """
        while True:
            try:
                return self._step(batches, total)
            except RuntimeError as error:
                largest = max(len(batch.labels) for batch in batches)
                if not should_reduce_batch_size(error):
                    raise
                if self.accelerator.num_processes > 1 or self.pieces >= largest:
                    raise TrainingError(
                        "Out of memory with "
                        f"{math.ceil(largest / self.pieces)} clips at a time. Lower --batch_size: with --resume, "
                        "--accumulate rises with it. Or lower --num_frames or --frame_size."
                    ) from error
                self.pieces *= 2
                size = math.ceil(largest / self.pieces)
                print(
                    f"Out of memory: continuing with {size} clips at a time and {self.pieces} times the accumulation."
                )
            self.optimizer.zero_grad()  # outside `except`: the traceback would keep the activations alive
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _step(self, batches: list[TrainBatch], total: int) -> tuple[float, int]:
        pieces = [piece for batch in batches for piece in self._cut(batch)]
        loss_sum, correct = 0.0, 0
        for number, piece in enumerate(pieces, start=1):
            last = number == len(pieces)
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                clips, targets = self.inputs(piece)
                scores = self.network(clips)
                loss = self.criterion(scores, targets)
                if not math.isfinite(value := loss.item()):
                    raise NonFinite(f"The loss became {value}", piece.rows.tolist())
                # Processes average their gradients; dividing by the total makes it the mean over all clips.
                self.accelerator.backward(loss * (self.accelerator.num_processes / total))
            loss_sum += value
            correct += int((scores.argmax(dim=1) == piece.labels).sum())
        if self.clip_grad:
            norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.clip_grad)
        else:
            norm = get_total_norm(p.grad for p in self.network.parameters() if p.grad is not None)
        if not math.isfinite(norm) and self.accelerator.scaler is None:  # the scaler leaves such steps out by itself
            raise NonFinite(f"The gradient became {float(norm)}", [row for b in batches for row in b.rows.tolist()])
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss_sum, correct

    def _cut(self, batch: TrainBatch) -> list[TrainBatch]:
        device = self.accelerator.device
        parts = [part.to(device, non_blocking=True).tensor_split(self.pieces) for part in batch]
        return [TrainBatch(*piece) for piece in zip(*parts, strict=True) if len(piece[0])]
