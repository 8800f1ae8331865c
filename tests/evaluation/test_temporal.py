"""Does a model look at time? The card on predictions made by hand, and the orders of frames on real files."""

import numpy as np
import pytest
import torch
from torch import nn

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.evaluation.apply import evaluate_checkpoint, predict_orders, split_table
from varec_lib.evaluation.temporal import (
    ORDERS,
    SHUFFLES,
    frame_orders,
    in_words,
    temporal_report,
    time_orders,
    time_table,
    twins_of,
)
from varec_lib.models.checkpoint import Checkpoint, LoadedModel, load_checkpoint
from varec_lib.models.frame_average import FrameEncoder
from varec_lib.models.registry import build_model, register_model

TWINS = {"b": "c", "c": "b"}
CLASSES = ["pick_up", "put_down", "run"]
QUIET = {"precision": "fp32", "progress": False}


def answers(predictions, labels: str, answered: str):
    return predictions([np.eye(3)["abc".index(answer)].tolist() for answer in answered], list(labels))


def test_frames_of_every_order():
    orders = frame_orders(8)
    assert list(orders) == list(ORDERS)
    assert {name: found[0] for name, found in orders.items() if name != "shuffled"} == {
        "normal": [0, 1, 2, 3, 4, 5, 6, 7],
        "reversed": [7, 6, 5, 4, 3, 2, 1, 0],
        "frozen": [3] * 8,
        "single_frame": [7] * 8,
        "ends_kept": [0, 6, 5, 4, 3, 2, 1, 7],
        "ends_swapped": [7, 1, 2, 3, 4, 5, 6, 0],
        "half_speed": [2, 2, 3, 3, 4, 4, 5, 5],
        "double_speed": [0, 2, 4, 6, 7, 7, 7, 7],
    }
    assert len(orders["shuffled"]) == SHUFFLES
    for shuffled in orders["shuffled"]:
        assert sorted(shuffled) == orders["normal"][0] and shuffled not in (orders["normal"][0], orders["reversed"][0])
    assert frame_orders(8) == orders  # the same for every video and in every process


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 16])
def test_orders_fit_clips_of_any_length(frames):
    for name, found in frame_orders(frames).items():
        for order in found:
            assert len(order) == frames and set(order) <= set(range(frames)), name


def test_time_table_on_answers_made_by_hand(predictions):
    orders = {
        "normal": [answers(predictions, "aabbcc", "aabbcb")],
        "reversed": [answers(predictions, "aabbcc", "aaccba")],
        "shuffled": [answers(predictions, "aabbcc", "aabbcc"), answers(predictions, "aabbcc", "aabbaa")],
    }
    table = time_table(orders, TWINS)
    assert list(table.index) == ["normal", "reversed", "shuffled"]
    columns = ["all classes", "time-paired classes", "answers twin"]
    assert table.loc["normal", columns].tolist() == pytest.approx([5 / 6, 3 / 4, 1 / 4])
    assert table.loc["reversed", columns].tolist() == pytest.approx([2 / 6, 0, 3 / 4])
    assert table.loc["shuffled", columns].tolist() == pytest.approx([5 / 6, 3 / 4, 0])  # means of two permutations


def test_without_twins_there_is_one_column(predictions):
    table = time_table({"normal": [answers(predictions, "abc", "aba")]})
    assert list(table.columns) == ["all classes"]
    assert table.loc["normal", "all classes"] == pytest.approx(2 / 3)


def test_twins_are_classes_of_which_both_are_there():
    assert twins_of(CLASSES) == {"pick_up": "put_down", "put_down": "pick_up"}
    assert twins_of(["sit_down", "run"]) == {}


def test_the_report_on_answers_made_by_hand(predictions):
    normal = answers(predictions, "aabb", "aabc")
    shuffled = [answers(predictions, "aabb", "aabb"), answers(predictions, "aabb", "babb")]
    report = temporal_report({"normal": [normal], "shuffled": shuffled})
    assert report["normal"] == {"top1": 0.75, "changed": 0, "per_class": {"a": 1, "b": 0.5}}
    assert report["shuffled"] == {"top1": 0.875, "changed": 0.375, "per_class": {"a": 0.75, "b": 1}}


def card(predictions, **changed: str) -> dict:
    """All orders of clips of `bbbccc`, twins, all answered rightly but in the orders that say otherwise."""
    said = {name: changed.get(name, "bbbccc") for name in ORDERS}
    found = {name: [answers(predictions, "bbbccc", answered)] for name, answered in said.items()}
    for orders in found.values():
        orders[0].classes[:] = ["run", "pick_up", "put_down"]
        orders[0].table["label"] = orders[0].table["label"].map({"b": "pick_up", "c": "put_down"})
    return found


def test_words_for_a_model_that_follows_motion(predictions):
    said = in_words(card(predictions, reversed="cccbbb", ends_kept="cccbbb", ends_swapped="bbbccc", shuffled="bcbcbc"))
    assert "100% of reversed clips of the paired classes" in said[0] and "it looks at the order" in said[0]
    assert "67%" in said[1] and "follows the motion" in said[2]


def test_words_for_a_model_that_follows_the_ends(predictions):
    said = in_words(card(predictions, reversed="cccbbb", ends_swapped="cccbbb"))
    assert "the poses at the ends" in said[2] and "motion" not in said[2]


def test_words_for_a_model_that_is_blind_to_time(predictions):
    said = in_words(card(predictions))
    assert "0% of reversed" in said[0] and "hardly looks" in said[0] and "neither" in said[2]
    assert "needs" not in said[1]


def test_words_for_a_model_that_needs_motion_but_not_its_direction(predictions):
    """As I3D with five classes of UCF-101."""
    said = in_words(card(predictions, frozen="bbbbbb", single_frame="bbbbbb"))
    assert "hardly looks at the order" in said[0] and "one frame throughout 50%" in said[1]
    assert "needs things to move" in said[1]


# On real files


def test_orders_play_the_same_videos_differently(tiny_checkpoint, numbered_dataset):
    """And each is what the network says of the clip with its frames in that order."""
    model = load_checkpoint(tiny_checkpoint)._replace(precision="fp32")
    orders = time_orders(tiny_checkpoint, numbered_dataset, list(ORDERS), views=2, **QUIET)
    assert list(orders) == list(ORDERS) and [len(found) for found in orders.values()] == [1, 1, 3, 1, 1, 1, 1, 1, 1]
    assert len({tuple(found.table["path"]) for some in orders.values() for found in some}) == 1
    seen = torch.stack([torch.from_numpy(found.logits) for some in orders.values() for found in some])
    assert len(seen.unique(dim=0)) > 8
    plain = evaluate_checkpoint(tiny_checkpoint, numbered_dataset, views=2, **QUIET)
    np.testing.assert_allclose(orders["normal"][0].logits, plain.logits, rtol=1e-4, atol=1e-5)
    backwards = frame_orders(model.clip_spec.num_frames)["reversed"]
    table = split_table(numbered_dataset, "test", progress=False)
    alone = predict_orders(model, table, backwards, views=2, progress=False)[0]  # through the whole network
    np.testing.assert_allclose(orders["reversed"][0].logits, alone.logits, rtol=1e-4, atol=1e-5)


def test_a_frame_average_cannot_tell_orders_of_the_same_frames_apart(numbered_dataset):
    arguments = {"backbone": "squeezenet1_1", "frame_size": (32, 32)}
    network = build_model("frame_average", 3, num_frames=4, **arguments).eval()
    spec = ClipSpec(4, (32, 32), *IMAGENET)
    model = LoadedModel(network, Checkpoint("frame_average", arguments, ["alpha", "beta", "gamma"], spec), "fp32")
    table, orders = split_table(numbered_dataset, "test", progress=False), frame_orders(4)
    same = [orders["normal"][0], orders["reversed"][0], *orders["shuffled"], orders["ends_kept"][0]]
    found = predict_orders(model, table, same, progress=False)
    for other in found[1:]:
        np.testing.assert_allclose(other.logits, found[0].logits, rtol=1e-5, atol=1e-6)
        assert other.predicted.tolist() == found[0].predicted.tolist()


@register_model("middle_frame")
class MiddleFrame(nn.Module):
    """A model of one's own: frames are encoded one by one, but it has no parts to be asked for."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = FrameEncoder("squeezenet1_1", (32, 32))
        self.head = nn.Linear(self.backbone.num_features, num_classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone.encode_clips(clips)[:, 1])


@pytest.mark.parametrize("name", ["cnnlstm", "middle_frame"])
def test_orders_are_those_of_frames_whether_or_not_a_model_encodes_them_once(name):
    network = build_model(name, 3, backbone="squeezenet1_1", frame_size=(32, 32))
    spec = ClipSpec(4, (32, 32), *IMAGENET)
    model = LoadedModel(network.eval(), Checkpoint("any", {}, ["alpha", "beta", "gamma"], spec), "fp32")
    clips = torch.randint(0, 256, (2, 1, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    orders = [None, [3, 2, 1, 0], [2, 2, 2, 2]]
    for order, found in zip(orders, model.logits_in_orders(clips, orders), strict=True):
        played = clips if order is None else clips[:, :, order]
        torch.testing.assert_close(found, model.logits(played), rtol=1e-4, atol=1e-5)
