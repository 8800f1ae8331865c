"""Coarse to fine: most epochs on small clips, the last ones on clips of the configured size (notebook 03).

A quarter of the pixels costs a quarter of the multiplications, and what a network must learn first (who moves, and
which way) is still there. After *A Multigrid Method for Efficiently Training Video Models* (Wu et al., arXiv
1912.00998) and progressive resizing (DAWNBench).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError

# Share of the epochs, and of the configured height and width, of the stages before the last, which is whole.
LEVELS = ((0.65, 1 / 2), (0.2, 1 / math.sqrt(2)))
SMALLEST = 32  # pixels; below, too little is left of a person


@dataclass(frozen=True)
class Stage:
    """Epochs on clips of one size; `frame_size` is (height, width)."""

    number: int  # from 1
    first_epoch: int
    num_frames: int
    frame_size: tuple[int, int]
    batches: int = 1  # of the configured size that make one of this stage

    @property
    def lr_scale(self) -> float:
        """What the learning rate is multiplied with."""
        return math.sqrt(self.batches)

    def __str__(self) -> str:
        return "x".join(map(str, (self.num_frames, *self.frame_size)))


def stages_of(config: TrainConfig) -> list[Stage]:
    """The stages of a training: one without `config.multigrid`, up to three with it; the last has the configured size.

    With `config.multigrid_batches`, batches grow until they hold as many pixels as those of the last stage, and the
    learning rate with their square root, which is the usual rule for Adam (arXiv 2205.10287).
    """
    stages: list[Stage] = []
    done, ends = 0.0, 0
    for share, scale in LEVELS if config.multigrid else ():
        done += share
        size = _scaled(config.frame_size, scale)
        end = min(round(done * config.epochs), config.epochs - 1)  # the last stage has an epoch at least
        if end > ends and size != config.frame_size:
            batches = math.prod(config.frame_size) // math.prod(size) if config.multigrid_batches else 1
            if not stages or stages[-1].frame_size != size:
                stages.append(Stage(len(stages) + 1, ends + 1, config.num_frames, size, batches))
            ends = end
    return [*stages, Stage(len(stages) + 1, ends + 1, config.num_frames, config.frame_size)]


def plan(config: TrainConfig, saved: dict[str, Any] | None) -> list[Stage]:
    """The stages of a run: those it began with where it goes on, so that more epochs make its last stage longer."""
    begun = saved and saved.get("stages")  # absent in the state of a run that an older version began
    return [Stage(**stage) for stage in begun] if begun else stages_of(config)


def _scaled(frame_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width as multiples of 8 pixels, the shorter one not below `SMALLEST`."""
    scale = max(scale, SMALLEST / min(frame_size))
    height, width = (min(8 * round(pixels * scale / 8), pixels) for pixels in frame_size)
    return height, width


def check_sizes(model: nn.Module, config: TrainConfig) -> None:
    """Raises `ConfigError` if the model cannot work with the clips of a stage."""
    for stage in stages_of(config)[:-1]:
        clip = torch.zeros(1, stage.num_frames, 3, *stage.frame_size, device=next(model.parameters()).device)
        try:
            with torch.inference_mode():
                model.eval()(clip)
        except (RuntimeError, AssertionError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ConfigError(
                f"model {config.model} takes no clips of {stage}, with which --multigrid begins: {said}"
            ) from error


def stage_at(stages: list[Stage], epoch: int) -> Stage:
    """The stage of an epoch; epochs beyond the plan belong to the last one."""
    return [stage for stage in stages if stage.first_epoch <= epoch][-1]


class RunningStatistics:
    """Batch norm's running mean and variance: those of small clips are not those of large ones."""

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self.momenta = {norm: norm.momentum for norm in norms if norm.momentum}

    def renew(self, steps: int) -> None:
        """To be called before each step of a stage, with the number of its steps so far.

        The statistics are the mean of all batches of the stage, until there are as many as momentum remembers.
        """
        for norm, momentum in self.momenta.items():
            norm.momentum = max(momentum, 1 / (steps + 1))
