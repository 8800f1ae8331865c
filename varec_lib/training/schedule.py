"""The learning rate over time: linear warm-up, then either a cosine to zero or a drop whenever validation stalls."""

import math

from torch.optim import Optimizer

PLATEAU_PATIENCE, PLATEAU_FACTOR = 3, 0.1


class LearningRate:
    """Sets the learning rate of every parameter group before each optimiser step.

    `step()` follows each optimiser step, `epoch_end(val_loss)` each epoch. With `plateau` the rate falls to a tenth
    when the validation loss has not improved for more than 3 epochs; with `cosine` it reaches zero after
    `total_steps`. Warm-up rises linearly over `warmup_steps` (arXiv 1706.02677).
    """

    def __init__(self, optimizer: Optimizer, kind: str, *, warmup_steps: int, total_steps: int) -> None:
        self.optimizer, self.kind = optimizer, kind
        self.warmup_steps, self.total_steps = min(warmup_steps, max(total_steps - 1, 0)), total_steps
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.steps_done, self.stage_scale = 0, 1.0
        self.forget_plateau()
        self._apply()

    def enter_stage(self, scale: float, *, new: bool) -> None:
        """Multiplies all rates by `scale`; in a new stage, losses on clips of another size say nothing of a plateau."""
        self.stage_scale = scale
        if new:
            self.forget_plateau()
        self._apply()

    def forget_plateau(self) -> None:
        self.plateau_scale, self.best_loss, self.bad_epochs = 1.0, math.inf, 0

    def scale(self) -> float:
        """Share of the highest learning rate that the next step uses, from 0 to 1."""
        if self.steps_done < self.warmup_steps:
            return (self.steps_done + 1) / (self.warmup_steps + 1)
        if self.kind == "plateau":
            return self.plateau_scale
        progress = (self.steps_done - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def step(self) -> None:
        self.steps_done += 1
        self._apply()

    def epoch_end(self, val_loss: float) -> None:
        if val_loss < self.best_loss * (1 - 1e-4):
            self.best_loss, self.bad_epochs = val_loss, 0
        else:
            self.bad_epochs += 1
        if self.kind == "plateau" and self.bad_epochs > PLATEAU_PATIENCE:
            self.plateau_scale, self.bad_epochs = self.plateau_scale * PLATEAU_FACTOR, 0
            self._apply()

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs to go on; the highest rates come from its configuration."""
        return {name: getattr(self, name) for name in ("steps_done", "plateau_scale", "best_loss", "bad_epochs")}

    def load_state_dict(self, state: dict[str, float]) -> None:
        vars(self).update(state)
        self._apply()

    def _apply(self) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.stage_scale * self.scale()
