"""How clips look, and how far they are from those of a training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.errors import CheckpointError
from varec_lib.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from varec_lib.models.novelty import ENOUGH, STATISTICS, Novelty, appearance, fit
from varec_lib.models.registry import build_model, register_model


@register_model("without_any_layer")
class WithoutAnyLayer(nn.Module):
    """A plugin without backbone, features or linear layer, whose scores are not numbers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.full((num_classes,), math.nan))
        self.calls = 0

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.scores.expand(len(clips), -1)


def clips(count: int, *, seed: int = 0, noise: int = 20, shape: tuple[int, ...] = (4, 3, 32, 32)) -> torch.Tensor:
    """Grey pictures of some brightness, with noise."""
    generator = torch.Generator().manual_seed(seed)
    grey = torch.randint(60, 180, (count, 1, 1, 1, 1), generator=generator)
    spread = torch.randint(-noise, noise + 1, (count, *shape), generator=generator)
    return (grey + spread).clamp(0, 255).byte()


@pytest.fixture(scope="module")
def novelty() -> Novelty:
    return fit(appearance(clips(200)).numpy(), appearance(clips(100, seed=1)).numpy())


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (1, 3, 32, 32), (2, 3, 224, 171), (3, 3, 20, 24)])
@pytest.mark.parametrize("value", [0, 255, None], ids=["black", "white", "noise"])
def test_every_clip_has_finite_statistics(shape, value):
    shown = clips(2, noise=60, shape=shape) if value is None else torch.full((2, *shape), value, dtype=torch.uint8)
    found = appearance(shown)
    assert found.shape == (2, STATISTICS) and found.isfinite().all()


def test_a_clip_looks_alike_whatever_it_is_batched_with():
    shown = clips(5, noise=60)
    torch.testing.assert_close(appearance(shown)[3:4], appearance(shown[3:4]))


def test_statistics_are_those_of_a_picture_made_by_hand():
    """Left half black, right half white, then the other way round: all of the picture changes."""
    frame = torch.zeros(3, 32, 32, dtype=torch.uint8)
    frame[:, :, 16:] = 255
    found = appearance(torch.stack([frame, 255 - frame])[None])[0]
    still, moving = found[:4], found[4:8]
    torch.testing.assert_close(still, torch.full((4,), 1 / 255).log())  # one of 31 columns has an edge
    torch.testing.assert_close(moving, torch.full((4,), 1 + 1 / 255).log())
    torch.testing.assert_close(found[24:27], torch.full((3,), 0.5))
    torch.testing.assert_close(found[30:], torch.full((4,), 1 / 255).log())  # without any colour


def test_new_clips_of_its_kind_are_accepted_and_others_are_not(novelty):
    assert (novelty.distances(clips(400, seed=2)) <= novelty.unlike_above).float().mean() > 0.9
    still = clips(50, seed=3)[:, :1].expand(-1, 4, -1, -1, -1)
    flat = torch.full((1, 4, 3, 32, 32), 120, dtype=torch.uint8)
    red = clips(50, seed=4)
    red[:, :, 1:] //= 4
    for other in (still, flat, red, clips(50, seed=5, noise=2)):
        assert (novelty.distances(other) > novelty.unlike_above).all()


def test_distances_of_training_clips_are_about_one(novelty):
    assert novelty.distances(clips(200)).square().mean().sqrt() == pytest.approx(0.9, abs=0.15)


def test_the_line_leaves_out_one_validation_video_in_twenty_and_a_single_odd_one_does_not_move_it_far(novelty):
    assert 0.01 < (novelty.distances(clips(100, seed=1)) > novelty.unlike_above).float().mean() < 0.1
    flat = torch.full((1, 4, 3, 32, 32), 120, dtype=torch.uint8)
    train, val = (appearance(clips(count, seed=seed)).numpy() for count, seed in ((200, 0), (30, 1)))
    usual, moved = fit(train, val), fit(train, np.concatenate([val[:29], appearance(flat).numpy()]))
    assert usual.unlike_above < moved.unlike_above < moved.distances(flat).item() / 2


def test_too_few_videos_have_no_line():
    train, val = appearance(clips(40)).numpy(), appearance(clips(ENOUGH, seed=1)).numpy()
    assert fit(train, val) and fit(train[:2], val)
    assert fit(train, val[: ENOUGH - 1]) is None
    assert fit(train[:1], val) is None


def test_videos_that_are_all_the_same_can_be_fitted():
    same = np.repeat(appearance(clips(1)).numpy(), 40, axis=0)
    novelty = fit(same, same)
    assert novelty.distances(clips(1)).item() <= novelty.unlike_above + 1e-3
    assert novelty.distances(clips(1, seed=1)).item() > 10


@pytest.fixture
def saved(tmp_path, novelty):
    """A checkpoint of the plugin's model, and what it was made from."""
    model = build_model("without_any_layer", 3)
    about = Checkpoint("without_any_layer", {}, ["a", "b", "c"], ClipSpec(4, (32, 32), *IMAGENET), novelty=novelty)
    save_checkpoint(tmp_path / "plugin.safetensors", model, about)
    return tmp_path / "plugin.safetensors", model, about


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_gives_the_same_distances_without_asking_its_network(saved, novelty, precision):
    loaded = load_checkpoint(saved[0])._replace(precision=precision)
    found = loaded.distances(clips(6, seed=7).unflatten(0, (3, 2)))
    expected = novelty.distances(clips(6, seed=7)).unflatten(0, (3, 2)).mean(dim=1)
    assert torch.equal(found, expected) and loaded.unlike_above == novelty.unlike_above
    assert loaded.network.calls == 0
    assert list(loaded.network.state_dict()) == ["scores"]


def test_it_is_small(saved):
    path, model, about = saved
    without = path.with_name("without.safetensors")
    save_checkpoint(without, model, replace(about, novelty=None))
    assert path.stat().st_size - without.stat().st_size < 50_000


def test_a_checkpoint_without_it_is_read_and_not_measured(tiny_checkpoint):
    loaded = load_checkpoint(tiny_checkpoint)
    assert loaded.unlike_above is None and loaded.distances(clips(2)[:, None]) is None


def test_a_damaged_description_is_refused(saved, tmp_path, monkeypatch):
    _, model, about = saved
    for change in ({"mean": [1.0]}, {"whitening": "x"}, {"unlike_above": None}):
        values = json.loads(json.dumps(about.novelty.to_dict())) | change
        monkeypatch.setattr(Novelty, "to_dict", lambda _, values=values: values)
        save_checkpoint(tmp_path / "damaged.safetensors", model, about)
        with pytest.raises(CheckpointError, match="description is incomplete"):
            load_checkpoint(tmp_path / "damaged.safetensors")
