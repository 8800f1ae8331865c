"""The learning rate over time."""

import math

import pytest
import torch

from varec_lib.training.schedule import LearningRate


def optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


def rates(schedule: LearningRate, steps: int) -> list[float]:
    """The learning rate that each of the next steps uses."""
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


@pytest.mark.parametrize("kind", ["plateau", "cosine"])
def test_warm_up_is_linear(kind):
    found = rates(LearningRate(optimizer(1.0), kind, warmup_steps=4, total_steps=100), 5)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_falls_to_zero_at_the_end():
    schedule = LearningRate(optimizer(0.5), "cosine", warmup_steps=10, total_steps=110)
    found = rates(schedule, 110)
    assert max(found) == found[10] == 0.5
    assert found[60] == pytest.approx(0.25)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert 0 < found[-1] < 0.5 * 0.001
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    schedule.step()
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)  # it does not rise again


def test_plateau_drops_to_a_tenth_after_four_bad_epochs():
    schedule = LearningRate(optimizer(1.0), "plateau", warmup_steps=0, total_steps=100)
    after = []
    for loss in (1.0, 1.0, 1.1, 0.99999, 1.0, 1.0, 1.0, 1.0, 1.0):  # 0.99999 is not better enough
        schedule.epoch_end(loss)
        after.append(schedule.optimizer.param_groups[0]["lr"])
    assert after == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_a_better_epoch_starts_the_count_again():
    schedule = LearningRate(optimizer(1.0), "plateau", warmup_steps=0, total_steps=100)
    for loss in (1.0, 1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9):
        schedule.epoch_end(loss)
    assert schedule.optimizer.param_groups[0]["lr"] == 1.0
    schedule.epoch_end(math.nan)
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_cosine_pays_no_attention_to_validation():
    schedule = LearningRate(optimizer(1.0), "cosine", warmup_steps=0, total_steps=100)
    for _ in range(10):
        schedule.epoch_end(1.0)
    assert schedule.optimizer.param_groups[0]["lr"] == 1.0


def test_every_parameter_group_keeps_its_share():
    schedule = LearningRate(optimizer(1.0, 0.1), "cosine", warmup_steps=1, total_steps=11)
    for _ in range(7):
        first, second = (group["lr"] for group in schedule.optimizer.param_groups)
        assert second == pytest.approx(first / 10)
        schedule.step()


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_warm_up_longer_than_training_still_reaches_the_highest_rate(total_steps):
    schedule = LearningRate(optimizer(1.0), "cosine", warmup_steps=50, total_steps=total_steps)
    assert rates(schedule, total_steps)[-1] == 1.0
