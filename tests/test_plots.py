"""Every picture: what is on it, and that it can be saved."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from varec_lib import plots
from varec_lib.evaluation import figures

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "train_loss": [2.0, 1.5, 1.2, 1.0],
        "val_loss": [2.1, 1.6, 1.4, 1.5],
        "train_top1": [0.2, 0.4, 0.6, 0.7],
        "val_top1": [0.1, 0.5, 0.5, 0.4],
    }
)
SCORES = pd.DataFrame({"recall": [0.9, 0.1, 0.5]}, index=["run", "walk", "jump"])
TIME = pd.DataFrame({"all classes": [0.9, 0.5]}, index=["normal", "reversed"])
CLIPS = [torch.full((frames, 3, 8, 12), value, dtype=torch.uint8) for frames, value in ((4, 0), (3, 200))]
COMPARED = pd.DataFrame(
    {
        "top1": [0.7, 0.9], "low": [0.6, 0.8], "high": [0.8, 0.95], "difference": [np.nan, 0.2],
        "difference_low": [np.nan, 0.1], "difference_high": [np.nan, 0.3], "mcnemar_p": [np.nan, 1e-5],
    },
    index=["average", "lstm"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def ticks(labels) -> list[str]:
    return [label.get_text() for label in labels]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.film_strips(CLIPS, ["walk", "run"]),
        lambda: plots.training_curves(HISTORY),
        lambda: plots.confusion_matrix(np.eye(3, dtype=int), ["a", "b", "c"]),
        lambda: plots.class_scores(SCORES),
        lambda: plots.time_orders({"cnnlstm": TIME}, "all classes", chance=0.5),
        lambda: plots.sampled_frames(30, {"uniform": [1, 10, 20]}),
        lambda: figures.reliability(pd.DataFrame({"confidence": [0.5, 0.9], "accuracy": [0.4, 1.0]})),
        lambda: figures.compared(COMPARED),
        lambda: figures.coverage(pd.DataFrame({"coverage": [0.5, 1.0], "accuracy": [1.0, 0.9]}), sure_above=(0.5, 1.0)),
    ],
    ids=[
        "film_strips",
        "training_curves",
        "confusion_matrix",
        "class_scores",
        "time_orders",
        "sampled",
        "reliability",
        "compared",
        "coverage",
    ],
)
def test_a_figure_comes_back_and_is_saved_as_png(draw, tmp_path):
    figure = draw()
    assert isinstance(figure, Figure)
    path = plots.save(figure, tmp_path / "new" / "folder" / "plot.png")
    picture = imread(path)  # (H, W, RGBA), 0..1
    assert min(picture.shape[:2]) > 50
    assert picture[..., :3].std() > 0.01  # something is drawn
    assert not plt.fignum_exists(figure.number)


def test_film_strips_have_a_row_per_clip_and_a_place_per_frame():
    figure = plots.film_strips(CLIPS, ["walk", "run"])
    assert [axis.get_ylabel() for axis in figure.axes] == ["walk", "run"]
    for axis, clip in zip(figure.axes, CLIPS, strict=True):
        (image,) = axis.images
        width = image.get_array().shape[1]
        assert len(clip) * 12 <= width < (len(clip) + 1) * 12  # frames with narrow gaps


def test_training_curves_mark_the_best_epoch():
    loss, top1 = plots.training_curves(HISTORY).axes
    assert (loss.get_xlabel(), loss.get_ylabel(), top1.get_ylabel()) == ("epoch", "cross-entropy", "top-1")
    for axis, name in ((loss, "loss"), (top1, "top1")):
        drawn = [line.get_ydata().tolist() for line in axis.lines[:2]]
        assert drawn == [HISTORY[f"train_{name}"].tolist(), HISTORY[f"val_{name}"].tolist()]
    assert list(top1.lines[2].get_xdata()) == [3, 3]  # as good as epoch 2, at a lower loss
    assert any("epoch 3" in text for text in ticks(top1.get_legend().get_texts()))


def test_confusion_matrix_shows_shares_of_the_true_class():
    counts = np.array([[3, 1, 0], [0, 5, 0], [0, 0, 0]])
    axis = plots.confusion_matrix(counts, ["a", "b", "c"], title="test").axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("predicted", "true", "test")
    assert ticks(axis.get_xticklabels()) == ticks(axis.get_yticklabels()) == ["a", "b", "c"]
    assert ticks(axis.texts) == ["75", "25", "", "", "100", "", "", "", ""]


def test_confusion_matrix_of_many_classes_names_all_and_writes_no_numbers():
    names = [f"class {number}" for number in range(101)]
    axis = plots.confusion_matrix(np.eye(101, dtype=int), names).axes[0]
    assert sorted(ticks(axis.get_yticklabels())) == sorted(names)
    assert not axis.texts


def test_classes_mistaken_for_one_another_are_neighbours_in_a_large_matrix():
    counts, names = 10 * np.eye(30, dtype=int), [f"class {number}" for number in range(30)]
    counts[2, 27] = counts[27, 2] = counts[11, 19] = 9
    axis = plots.confusion_matrix(counts, names).axes[0]
    shown = ticks(axis.get_yticklabels())
    assert sorted(shown) == sorted(names) and ticks(axis.get_xticklabels()) == shown
    for one, other in (("class 2", "class 27"), ("class 11", "class 19")):
        assert abs(shown.index(one) - shown.index(other)) == 1
    cells = axis.collections[0].get_array().reshape(30, 30)
    assert cells[shown.index("class 11"), shown.index("class 19")] == pytest.approx(100 * 9 / 19)


@pytest.mark.parametrize("classes", [3, 40])
def test_report_card_has_a_bar_and_a_row_per_order_and_not_too_many_classes(classes):
    names = [f"class {number:02d}" for number in range(classes)]
    recall = dict.fromkeys(names, 1.0)
    card = {
        "normal": {"top1": 1.0, "per_class": recall},
        "half_speed": {"top1": 0.4, "per_class": recall | {names[-1]: 0.0}},
    }
    bars, cells = figures.report_card(card).axes
    assert [bar.get_width() for bar in bars.patches] == [1.0, 0.4]
    assert ticks(bars.get_yticklabels()) == ["normal", "half speed"]
    shown = ticks(cells.get_xticklabels())
    assert len(shown) == min(classes, 20) and shown[-1] == names[-1]


def test_class_scores_go_from_low_to_high():
    (axis,) = plots.class_scores(SCORES).axes
    assert ticks(axis.get_yticklabels()) == ["walk", "jump", "run"]
    assert [bar.get_width() for bar in axis.patches] == [0.1, 0.5, 0.9]


def test_time_orders_have_a_bar_per_model_and_order():
    (axis,) = plots.time_orders({"cnnlstm": TIME, "r3d18": TIME / 2}, "all classes", chance=0.125).axes
    assert ticks(axis.get_xticklabels()) == ["cnnlstm", "r3d18"]
    assert [[bar.get_height() for bar in bars] for bars in axis.containers] == [[0.9, 0.45], [0.5, 0.25]]
    assert set(ticks(axis.get_legend().get_texts())) == {"normal", "reversed", "chance"}
    assert axis.get_ylabel() == "top-1, all classes"


def test_sampled_frames_are_dots_on_a_line_each():
    (axis,) = plots.sampled_frames(30, {"uniform": [1, 10, 20], "dense": [5, 7]}).axes
    assert ticks(axis.get_yticklabels()) == ["dense", "uniform"]
    dots = [line.get_xdata().tolist() for line in axis.lines if line.get_marker() == "o"]
    assert dots == [[5, 7], [1, 10, 20]]


LADDER = pd.DataFrame(
    {
        "top1": [0.5, float("nan"), 0.9], "low": [0.4, float("nan"), 0.8], "high": [0.7, float("nan"), 1.0],
        "seconds": [300, float("nan"), 120], "note": ["", "not measured: no network", ""],
    },
    index=["scratch", "absent", "video"],
)  # fmt: skip


def test_ladder_has_a_bar_per_rung_with_its_interval_and_says_what_was_not_measured():
    (axis,) = plots.ladder(LADDER).axes
    assert ticks(axis.get_yticklabels()) == ["scratch", "absent", "video"]
    assert list(axis.get_yticks()) == [2, 1, 0]  # the first rung on top
    bars, whiskers = axis.containers[1], axis.containers[0]
    assert [bar.get_width() for bar in bars] == [0.5, 0, 0.9]
    ends = [segment[:, 0].tolist() for segment in whiskers.lines[2][0].get_segments()]
    assert ends[0] == pytest.approx([0.4, 0.7]) and ends[2] == pytest.approx([0.8, 1.0])
    assert [text.get_text() for text in axis.texts] == ["0.50   300 s", "not measured: no network", "0.90   120 s"]
    (axis,) = plots.ladder(LADDER.assign(on=["CPU, fp32", float("nan"), "CPU, fp32"])).axes
    assert axis.get_xlabel().endswith("(CPU, fp32)")


def test_compared_has_a_point_per_model_and_says_how_probable_chance_is():
    left, right = figures.compared(COMPARED).axes
    assert ticks(left.get_yticklabels()) == ["average", "lstm"]
    assert left.lines[0].get_xdata().tolist() == [0.7, 0.9]
    assert [text.get_text() for text in right.texts] == ["the first", "p < 0.001"]
