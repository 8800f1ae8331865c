"""One optimiser step: however the clips are cut into pieces, the weights become the same."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.data.dataset import TrainBatch, TrainClips, balancing_weights
from varec_lib.errors import TrainingError
from varec_lib.models.registry import build_model, register_model
from varec_lib.training.loop import train
from varec_lib.training.schedule import LearningRate
from varec_lib.training.step import Inputs, NonFinite, OptimiserStep, average_of, make_optimizer

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.73 GiB of which 9.12 MiB is "
    "free. Including non-PyTorch memory, this process has 15.71 GiB memory in use."
)


class Plain(nn.Module):
    """No batch norm, no dropout: the gradient does not depend on how clips are put together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 3)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.out(self.conv(clips.flatten(0, 1)).relu().mean(dim=(2, 3)).unflatten(0, clips.shape[:2]).mean(1))


def clips(count: int, seed: int = 0) -> TrainBatch:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 2, 3, 16, 16), generator=generator, dtype=torch.uint8)
    rows = torch.arange(count)
    return TrainBatch(pixels, rows % 3, rows, rows)


def cut(batch: TrainBatch, sizes: list[int]) -> list[TrainBatch]:
    return [TrainBatch(*parts) for parts in zip(*(part.split(sizes) for part in batch), strict=True)]


def as_floats(batch: TrainBatch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.clips / 255, batch.labels


@pytest.fixture
def make_step(accelerator: Accelerator):
    """`make(model=Plain(), ...)`: an `OptimiserStep` with SGD (the weights show the gradient), always the same."""

    def make(kind: type[nn.Module] = Plain, *, clip_grad: float = 0.0, label_smoothing: float = 0.0) -> OptimiserStep:
        torch.manual_seed(0)
        model = kind()
        network, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
        return OptimiserStep(accelerator, network, optimizer, as_floats, label_smoothing, clip_grad)

    return make


def weights(step: OptimiserStep) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in step.network.parameters()])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("sizes", [[8], [2, 2, 2, 2], [3, 3, 2], [7, 1], [1] * 8])
@pytest.mark.parametrize("pieces", [1, 2, 3, 8])
def test_weights_are_those_of_one_large_batch(make_step, sizes, pieces, label_smoothing):
    whole, cut_up = (make_step(label_smoothing=label_smoothing) for _ in range(2))
    before = weights(whole)
    scores = whole.network(as_floats(clips(8))[0])
    expected = F.cross_entropy(scores, clips(8).labels, label_smoothing=label_smoothing)
    cut_up.pieces = pieces
    loss, right = whole([clips(8)], 8)
    other_loss, other_right = cut_up(cut(clips(8), sizes), 8)
    assert (loss, other_loss) == (pytest.approx(8 * expected.item()), pytest.approx(loss))
    assert right == other_right == (scores.argmax(1) == clips(8).labels).sum()
    torch.testing.assert_close(weights(cut_up), weights(whole), rtol=1e-5, atol=1e-7)
    assert (weights(whole) - before).norm() > 0.01


def test_gradients_do_not_pile_up_from_step_to_step(make_step):
    step, other = make_step(), make_step()
    step([clips(4)], 4)
    step([clips(4, seed=1)], 4)
    other([clips(4)], 4)
    assert all(parameter.grad is None for parameter in step.network.parameters())
    other.pieces = 2
    other([clips(4, seed=1)], 4)
    torch.testing.assert_close(weights(step), weights(other), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("pieces", [1, 2])
def test_clip_grad_bounds_the_norm(make_step, pieces):
    free, bounded, loose = make_step(), make_step(clip_grad=0.01), make_step(clip_grad=1000.0)
    before = weights(free)
    for step in (free, bounded, loose):
        step.pieces = pieces
        step([clips(8)], 8)
    moves = [weights(step) - before for step in (free, bounded, loose)]  # learning rate 1: the gradient itself
    assert moves[0].norm() > 0.1
    assert moves[1].norm() == pytest.approx(0.01, rel=1e-3)
    assert F.cosine_similarity(moves[0], moves[1], dim=0) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(moves[2], moves[0])


class LimitedForward(Plain):
    """Has memory for `limit` clips in the forward pass."""

    limit, kind, text = 3, torch.OutOfMemoryError, OUT_OF_MEMORY

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if len(clips) > self.limit:
            raise self.kind(self.text)
        return super().forward(clips)


class LimitedBackward(Plain):
    """Has memory for 2 clips in the backward pass."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        scores = super().forward(clips)
        if self.training and len(clips) > 2:
            scores.register_hook(self.fail)
        return scores

    @staticmethod
    def fail(_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


@pytest.mark.parametrize("sizes", [[8], [5, 3], [3, 5], [2, 2, 4]])
@pytest.mark.parametrize("kind", [LimitedForward, LimitedBackward])
def test_out_of_memory_halves_the_pieces_and_gives_the_same_weights(make_step, capsys, kind, sizes):
    whole, limited = make_step(), make_step(kind)
    loss, right = whole([clips(8)], 8)
    other_loss, other_right = limited(cut(clips(8), sizes), 8)
    assert (other_loss, other_right) == (pytest.approx(loss), right)
    torch.testing.assert_close(weights(limited), weights(whole), rtol=1e-5, atol=1e-7)
    sentences = capsys.readouterr().out.splitlines()
    limit = 3 if kind is LimitedForward else 2
    assert math.ceil(max(sizes) / limited.pieces) <= limit < math.ceil(2 * max(sizes) / limited.pieces)
    assert limited.pieces == 2 ** len(sentences)
    size = math.ceil(max(sizes) / limited.pieces)
    assert re.search(rf"memory.*\b{size}\b.*\b{limited.pieces}\b", sentences[-1])
    limited(cut(clips(8), sizes), 8)
    assert capsys.readouterr().out == ""  # it stays so


@pytest.mark.parametrize(
    "text",
    [
        OUT_OF_MEMORY,
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1 GB, max allowed: 9.07 GB).",
    ],
)
def test_every_device_s_message_is_understood(make_step, text):
    step = make_step(type("Limited", (LimitedForward,), {"text": text, "kind": RuntimeError}))
    step([clips(8)], 8)
    assert step.pieces == 4


def test_not_enough_memory_for_one_clip(make_step):
    step = make_step(type("Limited", (LimitedForward,), {"limit": 0}))
    before = weights(step)
    with pytest.raises(TrainingError, match=r"memory.*\b1\b.*--batch_size") as raised:
        step([clips(4)], 4)
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert torch.equal(weights(step), before)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, IndexError])
def test_other_errors_pass_through(make_step, kind):
    step = make_step(type("Limited", (LimitedForward,), {"kind": kind, "text": "mat1 and mat2 shapes do not match"}))
    with pytest.raises(kind, match="mat1 and mat2"):
        step([clips(8)], 8)
    assert step.pieces == 1


@register_model("hungry")
class Hungry(Plain):
    """Has memory for two clips when training."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if self.training and len(clips) > 2:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return super().forward(clips)


@register_model("content")
def content(num_classes: int) -> nn.Module:
    return Plain()


@pytest.mark.usefixtures("without_pictures")
def test_training_goes_on_when_memory_runs_out(tiny_config, history_of, weights_of, capsys):
    whole = train(tiny_config(model="content"), progress=False)
    capsys.readouterr()
    limited = train(tiny_config(model="hungry"), progress=False)
    assert len(re.findall(r"memory.*\b2\b.*\b2\b", capsys.readouterr().out)) == 1
    for name, column in history_of(whole).items():
        assert history_of(limited)[name].tolist() == pytest.approx(column.tolist(), rel=1e-4), name
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(weights_of(limited)[name], tensor, rtol=1e-3, atol=1e-5)


class Poisoned(Plain):
    """NaN for the clip whose first pixel is 255."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return super().forward(clips).masked_fill(clips[:, 0, 0, 0, :1] == 1, math.nan)


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_loss_that_is_no_number_changes_no_weights(make_step, pieces):
    step, batch = make_step(Poisoned), clips(8)
    batch.clips[:, 0, 0, 0, 0] = torch.arange(8)
    step.pieces = pieces
    step([batch], 8)
    before = weights(step)
    batch.clips[5, 0, 0, 0, 0] = 255
    with pytest.raises(NonFinite, match=r"loss.*\bnan\b") as raised:
        step(cut(batch, [4, 4]), 8)
    assert raised.value.rows == ([5] if pieces == 4 else [4, 5, 6, 7])
    assert torch.equal(weights(step), before)


def test_infinite_loss_is_noticed_too(make_step):
    step = make_step()
    step.network.out.weight.data.fill_(math.inf)
    with pytest.raises(NonFinite):
        step([clips(8)], 8)


@pytest.mark.parametrize("name", ["cnnlstm", "frame_average", "r3d18", "tiny"])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_trained_parameter_is_in_one_group_and_only_weights_decay(name, frozen):
    model = build_model(name, 3, backbone="mobilenet_v3_small", frame_size=(32, 32), num_frames=4)
    model.backbone.requires_grad_(not frozen)
    decayed, kept = make_optimizer(model, lr=0.3, weight_decay=0.05).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in (decayed, kept)] == [(0.3, 0.05), (0.3, 0.0)]
    grouped = [id(parameter) for group in (decayed, kept) for parameter in group["params"]]
    trained = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    assert sorted(grouped) == sorted(trained)
    norms = (nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)
    spared = {id(p) for module in model.modules() if isinstance(module, norms) for p in module.parameters()}
    spared |= {number for number, name in trained.items() if "bias" in name}
    assert {id(parameter) for parameter in kept["params"]} == spared & set(trained)
    assert decayed["params"]


@pytest.mark.parametrize("name", ["cnnlstm", "frame_average", "r3d18"])
def test_the_backbone_may_have_a_rate_of_its_own(name):
    model = build_model(name, 3, backbone="mobilenet_v3_small")
    optimizer = make_optimizer(model, lr=0.3, weight_decay=0.05, backbone_lr=0.01)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert found == {
        id(p): (0.01 if name.startswith("backbone.") else 0.3, 0.05 if p.dim() > 1 else 0.0)
        for name, p in model.named_parameters()
    }
    schedule = LearningRate(optimizer, "cosine", warmup_steps=1, total_steps=10)
    assert {group["lr"] for group in optimizer.param_groups} == {0.15, 0.005}  # both are warmed up
    schedule.step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.3, 0.01}


@pytest.mark.usefixtures("without_pictures")
def test_weight_decay_spares_biases(tiny_config, weights_of):
    found = [weights_of(train(tiny_config(model="constant", weight_decay=w, lr=0.1), progress=False))
             for w in (0.0, 5.0)]  # fmt: skip
    assert torch.equal(found[0]["scores"], found[1]["scores"])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_average_follows_its_recursion(decay):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average, expected = average_of(model, decay), {}
    for count in range(6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))  # moves the statistics of batch norm
        average.update_parameters(model)
        for name, tensor in model.state_dict().items():
            if count == 0 or not tensor.is_floating_point():
                expected[name] = tensor.clone()
            else:
                share = min(decay, (1 + count) / (10 + count))
                expected[name] = share * expected[name] + (1 - share) * tensor
        for name, tensor in average.module.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    assert average.module[1].num_batches_tracked == 6


@pytest.mark.usefixtures("without_pictures")
def test_the_average_is_what_is_validated_saved_and_tested(tiny_config, weights_of, history_of, each_step):
    """The weights of every step are noted, and the average is made of them by hand."""
    seen: list[dict[str, torch.Tensor]] = []

    def note(trainer):
        seen.append({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})

    with each_step(after=note):
        averaged = train(tiny_config(ema=0.8), progress=False)
    best = averaged.results["best_epoch"]
    expected = copy.deepcopy(seen[0])
    for count, current in enumerate(seen[1 : 5 * best], start=1):
        share = min(0.8, (1 + count) / (10 + count))
        for name, tensor in current.items():
            floating = tensor.is_floating_point()
            expected[name] = share * expected[name] + (1 - share) * tensor if floating else tensor
    for name, tensor in weights_of(averaged).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights_of(averaged)["head.1.weight"], seen[5 * best - 1]["head.1.weight"])
    plain = train(tiny_config(), progress=False)
    assert history_of(plain)["train_loss"].tolist() == history_of(averaged)["train_loss"].tolist()
    assert history_of(plain)["val_loss"].tolist() != history_of(averaged)["val_loss"].tolist()


CLIP_SPEC = ClipSpec(2, (16, 16), (0.0,) * 3, (1.0,) * 3)


def inputs(**settings: object) -> Inputs:
    return Inputs(TrainConfig(**{"augment": False, "num_frames": 2, "frame_size": (16, 16)} | settings), CLIP_SPEC, 3)


def flat_clips() -> TrainBatch:
    """Six clips, each of one grey of its own: 10, 50, 90, ..."""
    greys = torch.arange(10, 250, 40, dtype=torch.uint8)
    rows = torch.arange(6)
    return TrainBatch(greys.view(6, 1, 1, 1, 1).expand(6, 2, 3, 16, 16).contiguous(), rows % 3, rows, rows)


def test_without_options_labels_stay_numbers_and_pixels_are_scaled():
    pixels, targets = inputs()(flat_clips())
    assert torch.equal(targets, flat_clips().labels)
    torch.testing.assert_close(pixels, flat_clips().clips / 255)
    assert type(pixels) is torch.Tensor


def test_mixup_blends_neighbours_and_their_labels_alike():
    torch.manual_seed(1)
    batch = flat_clips()
    pixels, targets = inputs(mixup=0.8)(batch)
    assert type(pixels) is torch.Tensor
    assert targets.shape == (6, 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    whole, other = batch.clips[:, 0, 0, 0, 0] / 255, batch.clips[:, 0, 0, 0, 0].roll(1) / 255
    greys = pixels[:, 0, 0, 0, 0]
    torch.testing.assert_close(pixels, greys.view(6, 1, 1, 1, 1).expand_as(pixels))  # all pixels and frames alike
    share = ((greys - other) / (whole - other)).mean()
    assert 0.01 < share < 0.99
    torch.testing.assert_close(greys, share * whole + (1 - share) * other)
    one_hot = F.one_hot(batch.labels, 3).float()
    torch.testing.assert_close(targets, share * one_hot + (1 - share) * one_hot.roll(1, 0))


def test_cutmix_pastes_one_box_into_all_frames():
    batch = flat_clips()
    torch.manual_seed(2)
    pixels, targets = inputs(cutmix=1.0)(batch)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    own = batch.clips / 255
    pasted = (pixels - own).abs() > 1e-4
    assert torch.equal(pasted, pasted[:1, :1, :1].expand_as(pasted))  # the same box in all clips, frames and colours
    torch.testing.assert_close(pixels[pasted], own.roll(1, 0)[pasted])
    box = pasted[0, 0, 0]
    height, width = box.any(dim=1).sum(), box.any(dim=0).sum()
    assert 0 < box.sum() == height * width < 256
    one_hot = F.one_hot(batch.labels, 3).float()
    share = 1 - box.sum() / 256
    torch.testing.assert_close(targets, share * one_hot + (1 - share) * one_hot.roll(1, 0))


def test_both_mixers_take_turns():
    torch.manual_seed(0)
    kinds = set()
    for _ in range(20):
        pixels, _ = inputs(mixup=0.8, cutmix=1.0)(flat_clips())
        kinds.add(bool((pixels == pixels[:, :, :, :1, :1]).all()))
    assert kinds == {True, False}


@pytest.mark.parametrize("others", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "label_smoothing": 0.1}])
def test_step_takes_mixed_targets(make_step, others):
    step = make_step(label_smoothing=others.pop("label_smoothing", 0.0))
    step.inputs = inputs(**others)
    for pieces in (1, 2, 6):
        step.pieces = pieces
        loss, right = step([flat_clips()], 6)
        assert math.isfinite(loss)
        assert 0 <= right <= 6


def test_label_smoothing_is_that_of_the_sum(make_step):
    step = make_step(label_smoothing=0.1)
    with torch.no_grad():
        logs = step.network(as_floats(clips(8))[0]).log_softmax(dim=1)
    targets = 0.9 * F.one_hot(clips(8).labels, 3) + 0.1 / 3
    loss, _ = step([clips(8)], 8)
    assert loss == pytest.approx(-(targets * logs).sum().item(), rel=1e-5)


def test_colours_follow_the_seeds_of_the_clips_not_their_places():
    batch, colours = clips(6), inputs(augment=True)
    everything, _ = colours(batch)
    before = torch.get_rng_state()
    turned, _ = colours(TrainBatch(*(part.flip(0) for part in batch)))
    assert torch.equal(turned, everything.flip(0))
    assert torch.equal(torch.get_rng_state(), before)
    other, _ = colours(batch._replace(seeds=batch.seeds + 1))
    assert not torch.equal(other[0], everything[0])


def test_balanced_weights_even_out_the_classes():
    labels = torch.tensor([0] * 8 + [1] * 2 + [2]).numpy()
    found = balancing_weights(labels)
    assert [found[labels == label].sum() for label in range(3)] == pytest.approx([1, 1, 1])


@pytest.mark.usefixtures("without_pictures")
def test_balanced_training_sees_rare_classes_as_often(tiny_config, numbered_dataset, tmp_path, monkeypatch):
    import shutil

    import pandas as pd

    data = shutil.copytree(numbered_dataset, tmp_path / "data")
    rows = pd.read_csv(data / "train.csv")
    rare = rows[(rows["label"] == "alpha") | ~rows["video_name"].str.contains("_[1-5]")]  # 6 of alpha, 1 of the others
    rare.to_csv(data / "train.csv", index=False)
    seen: list[int] = []
    original = TrainClips.__getitem__

    def note(self, key):
        item = original(self, key)
        seen.append(item.labels)
        return item

    monkeypatch.setattr(TrainClips, "__getitem__", note)
    train(tiny_config(data_dir=data, balanced=True, epochs=20, patience=0), progress=False)
    assert len(seen) == 20 * 8
    counts = [seen.count(label) / len(seen) for label in range(3)]
    assert all(0.2 < share < 0.47 for share in counts), counts
