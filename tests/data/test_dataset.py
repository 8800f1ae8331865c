"""Datasets: the same clips whatever reads them, and the same pixels for evaluation and prediction."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from varec_lib.config import TrainConfig
from varec_lib.data.check import load_dataset
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import (
    EpochBatches,
    EvalClips,
    TrainBatch,
    TrainClips,
    VideoFiles,
    balancing_weights,
    load_views,
    make_loader,
    worker_trouble,
)
from varec_lib.data.manifest import classes_of
from varec_lib.data.store import FrameStore
from varec_lib.data.video import probe
from varec_lib.errors import ConfigError
from varec_lib.evaluation.apply import predict_table
from varec_lib.models.checkpoint import LoadedModel, load_checkpoint
from varec_lib.predictor.predict import Predictor

PLAIN = ClipSpec(6, (64, 64), *IMAGENET)  # the videos' own size, so that frame numbers stay legible


@pytest.fixture(scope="module")
def table(numbered_dataset):
    return load_dataset(TrainConfig(data_dir=numbered_dataset), progress=False)


@pytest.fixture(scope="module")
def train_rows(table):
    return table[table["split"] == "train"].reset_index(drop=True)


def clips(rows, *, augment: bool = True, seed: int = 0, fixed_views: int = 0) -> TrainClips:
    labels = rows["label"].map(["alpha", "beta", "gamma"].index).to_numpy()
    return TrainClips(VideoFiles(rows, PLAIN), labels, PLAIN, augment=augment, seed=seed, fixed_views=fixed_views)


def files_of(path, clip_spec: ClipSpec = PLAIN) -> VideoFiles:
    return VideoFiles(pd.DataFrame([{"path": str(path), **vars(probe(path))}]), clip_spec)


def read(loader: DataLoader) -> tuple[torch.Tensor, ...]:
    """The batches of an epoch, put together."""
    return tuple(map(torch.cat, zip(*loader, strict=True)))


def epoch_of(rows, number: int, *, num_workers: int = 0, context: str | None = None, batch_size: int = 4) -> TrainBatch:
    batches = EpochBatches(len(rows), batch_size, seed=0)
    batches.epoch = number
    loader = DataLoader(clips(rows), batch_sampler=batches, num_workers=num_workers, multiprocessing_context=context)
    return TrainBatch(*read(loader))


def assert_equal(found: TrainBatch, expected: TrainBatch) -> None:
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_training_clips_have_the_stated_shape_type_label_and_row(train_rows):
    item = clips(train_rows)[1, 0]
    assert item.clips.shape == (6, 3, 64, 64) and item.clips.dtype == torch.uint8
    assert [clips(train_rows)[1, row].labels for row in (0, 6, 12)] == [0, 1, 2]
    assert [clips(train_rows)[1, row].rows for row in (0, 6, 12)] == [0, 6, 12]


def test_a_batch_has_a_clip_a_label_a_row_and_a_seed_for_each_video(train_rows):
    batch = next(iter(make_loader(clips(train_rows), num_workers=0, batches=EpochBatches(18, 5, seed=0))))
    assert isinstance(batch, TrainBatch) and batch.clips.shape == (5, 6, 3, 64, 64)
    assert batch.labels.shape == batch.rows.shape == batch.seeds.shape == (5,)
    assert batch.labels.tolist() == [row // 6 for row in batch.rows.tolist()]
    assert len(set(batch.seeds.tolist())) == 5 and all(0 <= seed < 2**32 for seed in batch.seeds.tolist())


@pytest.mark.parametrize(("num_workers", "context"), [(2, None), pytest.param(1, "spawn", marks=pytest.mark.slow)])
def test_training_clips_do_not_depend_on_the_workers(train_rows, num_workers, context):
    rows = train_rows[::3].reset_index(drop=True)
    assert_equal(epoch_of(rows, 1, num_workers=num_workers, context=context), epoch_of(rows, 1))


def test_training_clips_do_not_depend_on_batches_or_global_random_state(train_rows):
    torch.manual_seed(1)
    expected = epoch_of(train_rows, 1)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(clips(train_rows)[1, 3].clips, clips(train_rows)[1, 3].clips)
    assert torch.equal(torch.get_rng_state(), before)  # nor do they disturb it
    assert_equal(epoch_of(train_rows, 1, batch_size=7), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_does_not_draw_from_the_global_random_state(train_rows, num_workers):
    """Else what a model drops out would depend on the number of workers."""
    before = torch.get_rng_state()
    read(make_loader(clips(train_rows), num_workers=num_workers, batches=EpochBatches(18, 6, seed=0)))
    read(make_loader(EvalClips(VideoFiles(train_rows, PLAIN), PLAIN), num_workers=num_workers, batch_size=6))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_clips_change_with_epoch_seed_and_row(train_rows):
    same = clips(train_rows)[1, 3]
    for other in (clips(train_rows)[2, 3], clips(train_rows, seed=1)[1, 3], clips(train_rows)[1, 4]):
        assert not torch.equal(other.clips, same.clips) and other.seeds != same.seeds


@pytest.mark.parametrize("augment", [True, False])
def test_fixed_views_repeat_in_turn(train_rows, augment):
    views = [clips(train_rows, augment=augment, fixed_views=3)[epoch, 2] for epoch in range(7)]
    for epoch in (3, 4, 5, 6):
        assert torch.equal(views[epoch].clips, views[epoch - 3].clips) and views[epoch].seeds == views[epoch - 3].seeds
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert not torch.equal(views[one].clips, views[other].clips) and views[one].seeds != views[other].seeds
    for epoch in range(3):  # they are what the first epochs show without
        assert torch.equal(views[epoch].clips, clips(train_rows, augment=augment)[epoch, 2].clips)


def test_workers_that_live_on_see_the_new_epoch(train_rows):
    batches = EpochBatches(len(train_rows), 6, seed=0)
    loader = make_loader(clips(train_rows), num_workers=2, batches=batches)
    for epoch in (1, 2):
        batches.epoch = epoch
        assert_equal(TrainBatch(*read(loader)), epoch_of(train_rows, epoch))


def test_an_epoch_that_is_continued_shows_the_clips_that_were_left(train_rows):
    batches = EpochBatches(len(train_rows), 4, seed=0)
    batches.epoch, batches.start = 1, 3
    rest = TrainBatch(*read(make_loader(clips(train_rows), num_workers=2, batches=batches)))
    assert_equal(rest, TrainBatch(*(part[12:] for part in epoch_of(train_rows, 1))))


def test_a_training_clip_without_augmentation_shows_its_own_frames_in_order(train_rows, frame_numbers):
    seen = set()
    for epoch in range(8):
        numbers = frame_numbers(clips(train_rows, augment=False)[epoch, 2].clips)
        first = 30  # alpha_2 begins with number 30
        assert numbers == sorted(numbers) and set(numbers) <= set(range(first, first + train_rows["frames"][2]))
        seen.add(tuple(numbers))
    assert len(seen) > 1  # temporal jitter


def test_a_training_clip_of_a_thinned_video_shows_kept_frames_alone(tmp_path, write_video, frame_numbers):
    clip_spec = ClipSpec(6, (64, 64), *IMAGENET, fps=10)
    source = files_of(write_video(tmp_path / "fast.mkv", 120, fps=30), clip_spec)
    assert source.frames.tolist() == [40]
    train = TrainClips(source, np.zeros(1), clip_spec, augment=False, seed=0)
    shown = {number for epoch in range(80) for number in frame_numbers(train[epoch, 0].clips)}
    assert shown == set(range(0, 120, 3))
    assert frame_numbers(load_views(source, 0, clip_spec)[0]) == [3 * i for i in clip_spec.indices(np.arange(41) / 10)]


# Batches of an epoch


def drawn(rows: int, batch_size: int, *, epoch: int = 0, start: int = 0, seed: int = 0, **how) -> list[list[int]]:
    """The rows of every batch."""
    batches = EpochBatches(rows, batch_size, seed, **how)
    batches.epoch, batches.start = epoch, start
    keys = list(batches)
    assert len(keys) == len(batches) and all(number == epoch for batch in keys for number, _ in batch)
    return [[row for _, row in batch] for batch in keys]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own():
    assert sorted(flat(drawn(20, 6, epoch=3))) == [*range(20)]
    assert [len(batch) for batch in drawn(20, 6)] == [6, 6, 6, 2]
    assert drawn(20, 6, epoch=3) == drawn(20, 6, epoch=3)
    assert drawn(20, 6, epoch=3) != drawn(20, 6, epoch=4)
    assert drawn(20, 6, epoch=3) != drawn(20, 6, epoch=3, seed=1)


def test_the_order_does_not_depend_on_the_batch_size():
    assert flat(drawn(20, 6)) == flat(drawn(20, 20)) == flat(drawn(20, 1))


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("weights", [None, "some"])
def test_processes_share_each_batch_of_one_larger_process(processes, weights):
    for rows in range(processes, 70, 3):
        for batch_size in (1, 2, 5):
            how = {"epoch": 2, "weights": np.arange(1, rows + 1) if weights else None}
            shares = [drawn(rows, batch_size, rank=rank, processes=processes, **how) for rank in range(processes)]
            together = [flat(parts) for parts in zip(*shares, strict=True)]  # as many steps in every process
            single = drawn(rows, batch_size * processes, **how)
            assert together == single[: len(together)], (rows, batch_size)
            assert len(single) - len(together) in (0, 1)
            for parts in zip(*shares, strict=True):
                sizes = [len(part) for part in parts]
                assert max(sizes) - min(sizes) <= 1 and 1 <= min(sizes) and max(sizes) <= batch_size
            if weights is None:
                assert len(set(flat(together))) == len(flat(together))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_last_batch_that_batch_norm_could_not_take_is_left_out(processes):
    whole = 4 * processes
    for rest in range(whole):
        sizes = [len(batch) for batch in drawn(3 * whole + rest, 4, rank=processes - 1, processes=processes)]
        assert len(sizes) == 3 + (rest >= 2 * processes), rest
        assert min(sizes) >= 2


def test_batches_of_one_are_never_left_out():
    assert [len(batch) for batch in drawn(7, 1)] == [1] * 7
    assert len(drawn(7, 1, rank=1, processes=2)) == 3 and len(drawn(8, 1, rank=1, processes=2)) == 4


def test_the_only_batch_is_never_left_out():
    assert drawn(1, 4) == [[0]]
    assert [len(batch) for batch in drawn(3, 4, rank=0, processes=2)] == [2]


def test_a_dropped_row_comes_in_another_epoch():
    missing = [set(range(9)) - set(flat(drawn(9, 4, epoch=epoch))) for epoch in range(40)]
    assert all(len(rows) == 1 for rows in missing) and len(set.union(*missing)) > 5


@pytest.mark.parametrize("how", [{}, {"rank": 1, "processes": 2}, {"weights": np.arange(1, 31)}])
def test_start_skips_the_first_batches(how):
    every = drawn(30, 4, **how)
    for start in range(len(every) + 1):
        assert drawn(30, 4, start=start, **how) == every[start:]


def test_fewer_rows_than_processes_are_an_error():
    with pytest.raises(ConfigError, match=r"\b3 .*\b4 processes"):
        EpochBatches(3, 8, 0, rank=0, processes=4)
    assert [drawn(4, 8, rank=rank, processes=4) for rank in range(4)] == [[[row]] for row in flat(drawn(4, 8))]


def test_balancing_weights_give_every_class_the_same_share():
    labels = np.array([0] * 70 + [1] * 7 + [3] * 23)
    weights = balancing_weights(labels)
    assert weights.shape == (100,) and (weights > 0).all()
    assert [weights[labels == label].sum() for label in (0, 1, 3)] == pytest.approx([1, 1, 1])


def test_weighted_epochs_draw_the_classes_equally_often():
    labels = np.array([0] * 90 + [1] * 10)
    weights = balancing_weights(labels)
    epochs = [flat(drawn(100, 10, epoch=epoch, weights=weights)) for epoch in range(30)]
    assert all(len(epoch) == 100 for epoch in epochs) and epochs[0] != epochs[1]
    counts = Counter(labels[row] for epoch in epochs for row in epoch)
    assert 0.45 < counts[0] / 3000 < 0.55  # 0.9 without weights
    often = Counter(row for epoch in epochs for row in epoch)
    assert set(often) == set(range(100))  # no video is left out for good
    assert np.mean([often[row] for row in range(90, 100)]) == pytest.approx(150, rel=0.1)


def test_equal_classes_need_no_weights_but_may_have_them():
    weights = balancing_weights(np.repeat([0, 1], 10))
    assert len(set(weights)) == 1 and len(flat(drawn(20, 5, weights=weights))) == 20


# Evaluation and prediction


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_clips_are_what_load_views_reads(table, crops, views, num_workers):
    rows = table[table["split"] == "test"].reset_index(drop=True)
    files = VideoFiles(rows, PLAIN)
    loader = make_loader(EvalClips(files, PLAIN, views=views, crops=crops), batch_size=4, num_workers=num_workers)
    found, numbers = read(loader)
    assert numbers.tolist() == list(range(len(rows))) and found.shape == (6, views * crops, 6, 3, 64, 64)
    for row in range(len(rows)):
        assert torch.equal(found[row], load_views(files, row, PLAIN, views=views, crops=crops))


def test_the_crops_of_a_view_come_one_after_another(tmp_path, write_video):
    files = files_of(write_video(tmp_path / "video.mkv", 60))
    spec = replace(PLAIN, frame_size=(64, 32))  # of square pictures: crops from left to right
    both = load_views(files, 0, spec, views=2, crops=3).unflatten(0, (2, 3))
    for view in range(2):
        indices = spec.indices(files.times(0), view=view, views=2)
        assert torch.equal(both[view], spec.crops(files.read(0, indices), 3))
    assert torch.equal(both[:, 1], load_views(files, 0, spec, views=2))  # the middle one is the usual crop
    assert not torch.equal(both[:, 0], both[:, 2])


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("stored", [False, True])
def test_prediction_feeds_the_network_what_evaluation_feeds_it(
    tmp_path, numbered_dataset, table, tiny_checkpoint, sampling, views, stored
):
    network, checkpoint, _ = load_checkpoint(tiny_checkpoint)
    clip_spec = ClipSpec(4, (32, 32), *IMAGENET, sampling=sampling, short_side=45, fps=11)
    model = LoadedModel(network, replace(checkpoint, clip_spec=clip_spec), "fp32")
    rows = table[table["split"] == "test"].reset_index(drop=True)
    source = None  # the files themselves
    if stored:
        store = FrameStore(numbered_dataset, tmp_path, 45, 11)
        store.update(rows, progress=False, num_workers=0)
        source = store.frames_of(rows)
    fed: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].clone()))
    predictions = predict_table(model, rows, source=source, views=views, batch_size=4, progress=False)
    in_evaluation = torch.cat(fed)
    fed.clear()
    predictor = Predictor(model, views)
    tops = [predictor.predict(path) for path in rows["path"]]
    in_prediction = torch.cat(fed)
    assert in_evaluation.shape == (6 * views, 4, 3, 32, 32)
    assert torch.equal(in_prediction, in_evaluation)
    for row, prediction in enumerate(tops):
        expected = dict(zip(classes_of(table), predictions.probabilities[row], strict=True))
        assert dict(prediction.top) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)", "ulimit"),
        ("received 0 items of ancdata", "ulimit"),
        ("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)", "/dev/shm"),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "--num_workers"),
    ],
)
def test_errors_of_workers_become_advice(said, advice):
    assert advice in worker_trouble(RuntimeError(said))
    assert worker_trouble(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""
