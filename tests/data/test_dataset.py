"""Datasets: the same clips whatever reads them, and the same pixels for evaluation and prediction."""

import pytest
import torch
from torch.utils.data import DataLoader

from varec_lib.config import TrainConfig
from varec_lib.data.dataset import EpochSampler, EvalClips, TrainClips, in_order, load_views, make_loader
from varec_lib.data.doctor import load_dataset
from varec_lib.data.manifest import classes_of
from varec_lib.data.transforms import IMAGENET, Preprocess
from varec_lib.evaluation.evaluate import predict_table
from varec_lib.models.checkpoint import load_checkpoint
from varec_lib.predictor.predict import Predictor

PLAIN = Preprocess(6, (64, 64), *IMAGENET)  # the videos' own size, so that frame numbers stay legible
ORDERS = ["forward", "reversed", "shuffled"]


@pytest.fixture(scope="module")
def table(numbered_dataset):
    return load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False)


@pytest.fixture(scope="module")
def train_rows(table):
    return table[table["split"] == "train"].reset_index(drop=True)


def clips(rows, *, augment: bool = True, seed: int = 0) -> TrainClips:
    return TrainClips(rows, ["alpha", "beta", "gamma"], PLAIN, augment=augment, flip=True, seed=seed)


def read(loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader)
    return torch.cat([clip for clip, _ in batches]), torch.cat([label for _, label in batches])


def epoch_of(rows, number: int, *, num_workers: int = 0, context: str | None = None, batch_size: int = 4):
    sampler = EpochSampler(len(rows), seed=0)
    sampler.epoch = number
    return read(
        DataLoader(clips(rows), batch_size, sampler=sampler, num_workers=num_workers, multiprocessing_context=context)
    )


def test_training_clips_have_the_stated_shape_type_and_label(train_rows):
    clip, label = clips(train_rows)[1, 0]
    assert clip.shape == (6, 3, 64, 64) and clip.dtype == torch.uint8
    assert [clips(train_rows)[1, row][1] for row in (0, 6, 12)] == [0, 1, 2] and label == 0


@pytest.mark.parametrize(("num_workers", "context"), [(2, None), (1, "spawn")])
def test_training_clips_do_not_depend_on_the_workers(train_rows, num_workers, context):
    rows = train_rows[::3].reset_index(drop=True)
    expected, expected_labels = epoch_of(rows, 1)
    found, labels = epoch_of(rows, 1, num_workers=num_workers, context=context)
    assert torch.equal(found, expected) and torch.equal(labels, expected_labels)


def test_training_clips_do_not_depend_on_batches_or_global_random_state(train_rows):
    torch.manual_seed(1)
    expected = epoch_of(train_rows, 1)[0]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(clips(train_rows)[1, 3][0], clips(train_rows)[1, 3][0])
    assert torch.equal(torch.get_rng_state(), before)  # nor do they disturb it
    assert torch.equal(epoch_of(train_rows, 1, batch_size=7)[0], expected)


def test_training_clips_change_with_epoch_seed_and_row(train_rows):
    same = clips(train_rows)[1, 3][0]
    assert not torch.equal(clips(train_rows)[2, 3][0], same)
    assert not torch.equal(clips(train_rows, seed=1)[1, 3][0], same)
    assert not torch.equal(clips(train_rows)[1, 4][0], same)


def test_workers_that_live_on_see_the_new_epoch(train_rows):
    sampler = EpochSampler(len(train_rows), seed=0)
    loader = make_loader(clips(train_rows), batch_size=6, num_workers=2, sampler=sampler)
    for epoch in (1, 2):
        sampler.epoch = epoch
        assert torch.equal(read(loader)[0], epoch_of(train_rows, epoch)[0])


def test_a_training_clip_without_augmentation_shows_its_own_frames_in_order(train_rows, frame_numbers):
    seen = set()
    for epoch in range(8):
        numbers = frame_numbers(clips(train_rows, augment=False)[epoch, 2][0])
        first = 30  # alpha_2 begins with number 30
        assert numbers == sorted(numbers) and set(numbers) <= set(range(first, first + train_rows["frames"][2]))
        seen.add(tuple(numbers))
    assert len(seen) > 1  # temporal jitter


def test_the_sampler_yields_every_row_once_in_an_order_of_its_epoch():
    def order(epoch: int, seed: int = 0) -> list[tuple[int, int]]:
        sampler = EpochSampler(20, seed)
        sampler.epoch = epoch
        assert len(sampler) == 20
        return list(sampler)

    assert sorted(order(3)) == [(3, row) for row in range(20)]
    assert order(3) == order(3)
    rows = [[row for _, row in keys] for keys in (order(3), order(4), order(3, seed=1))]
    assert rows[0] != rows[1] and rows[0] != rows[2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_clips_are_what_load_views_reads(table, order, views, num_workers):
    rows = table[table["split"] == "test"].reset_index(drop=True)
    loader = make_loader(EvalClips(rows, PLAIN, views=views, order=order), batch_size=4, num_workers=num_workers)
    found, numbers = read(loader)
    assert numbers.tolist() == list(range(len(rows))) and found.shape == (6, views, 6, 3, 64, 64)
    for row, path, frames in zip(range(len(rows)), rows["path"], rows["frames"], strict=True):
        assert torch.equal(found[row], load_views(path, frames, PLAIN, views=views, order=order))


def test_orders_are_forward_reversed_and_one_fixed_shuffle(tmp_path, write_video, frame_numbers):
    path = write_video(tmp_path / "video.mkv", 48)
    shown = {order: frame_numbers(load_views(path, 48, PLAIN, order=order)[0]) for order in ORDERS}
    assert shown["forward"] == [4, 12, 20, 28, 36, 44]
    assert shown["reversed"] == shown["forward"][::-1]
    assert sorted(shown["shuffled"]) == shown["forward"]
    assert shown["shuffled"] not in (shown["forward"], shown["reversed"])
    again = in_order([*range(6)], "shuffled")
    assert [shown["forward"][i] for i in again] == shown["shuffled"]  # the same for every video


def test_every_view_is_ordered_by_itself(tmp_path, write_video, frame_numbers):
    path = write_video(tmp_path / "video.mkv", 60)
    views = [frame_numbers(view) for view in load_views(path, 60, PLAIN, views=3, order="reversed")]
    assert [view[::-1] for view in views] == [PLAIN.indices(60, view=view, views=3) for view in range(3)]


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
@pytest.mark.parametrize("views", [1, 3])
def test_prediction_feeds_the_network_what_evaluation_feeds_it(table, tiny_checkpoint, sampling, views):
    model, about = load_checkpoint(tiny_checkpoint)
    about = type(about)(**{**vars(about), "preprocess": Preprocess(4, (32, 32), *IMAGENET, sampling=sampling)})
    rows = table[table["split"] == "test"].reset_index(drop=True)
    fed: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].clone()))
    predictions = predict_table(
        model, rows, about.classes, about.preprocess, views=views, batch_size=4, precision="fp32", progress=False
    )
    in_evaluation = torch.cat(fed)
    fed.clear()
    predictor = Predictor(model, about, views=views, precision="fp32")
    tops = [predictor.predict(path) for path in rows["path"]]
    in_prediction = torch.cat(fed)
    assert in_evaluation.shape == (6 * views, 4, 3, 32, 32)
    assert torch.equal(in_prediction, in_evaluation)
    for row, prediction in enumerate(tops):
        expected = dict(zip(classes_of(table), predictions.probabilities[row], strict=True))
        assert dict(prediction.top) == pytest.approx(expected, abs=1e-5)
