"""Pictures of heat, of embeddings and of certainty: what is on them, and that they can be saved."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread

from varec_lib import plots
from varec_lib.evaluation.figures import embedding_map, heat_over_time, top_probabilities
from varec_lib.evaluation.metrics import Predictions


def test_each_frame_shows_its_share_of_the_heat(tmp_path):
    clips = [torch.full((frames, 3, 8, 12), 128, dtype=torch.uint8) for frames in (4, 3)]
    heats = [np.zeros((4, 8, 12), np.float32), np.zeros((3, 8, 12), np.float32)]  # of the second nothing is hot
    heats[0][1, 2:4], heats[0][3, 2:5] = 1, 0.5
    figure = heat_over_time(clips, heats, ["walk", "run"])
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["0%", "57%", "0%", "43%", "walk"], ["0%", "0%", "0%", "run"]]
    picture = imread(plots.save(figure, tmp_path / "heat.png"))[..., :3]
    orange = (picture[..., 0] - picture[..., 2]) > 0.2
    assert 0 < orange.mean() < 0.1


def test_long_clips_are_thinned_out_and_no_heat_is_lost():
    clip, heat = torch.zeros(64, 3, 8, 8, dtype=torch.uint8), np.zeros((64, 8, 8), np.float32)
    heat[8:12], heat[63] = 0.5, 1  # the third of 16 parts, and a quarter of the last
    (axis,) = heat_over_time([clip], [heat], ["walk"]).axes
    shares = [text.get_text() for text in axis.texts]
    assert shares == ["0%", "0%", "67%", *["0%"] * 12, "33%", "walk"]


def test_top_probabilities_of_right_and_wrong_answers_and_of_unknown_classes():
    table = pd.DataFrame({"path": list("123"), "label": list("aab"), "group": list("123")})
    known = Predictions(table, ["a", "b"], np.array([[[4, 0]], [[1, 0]], [[2, 0]]], np.float32))
    unknown = Predictions(table.assign(label="c"), ["a", "b"], known.logits / 10)
    (axis,) = top_probabilities(known, unknown, sure_above=0.9).axes
    lines = {line.get_label(): line.get_xydata() for line in axis.lines}
    assert list(lines) == ["known class, right (2)", "known class, wrong (1)", "unknown class (3)", "sure above"]
    assert lines["unknown class (3)"][:, 0].max() == pytest.approx(unknown.probabilities.max())
    never = top_probabilities(known.only(["a"]), unknown, sure_above=1.0).axes[0]
    assert [line.get_label() for line in never.lines] == ["known class, right (2)", "unknown class (3)"]


@pytest.mark.parametrize(("count", "legends"), [(3, True), (24, True), (101, False)])
def test_every_class_is_told_apart_by_colour_and_marker(count, legends, tmp_path):
    names = [f"class {number:03d}" for number in range(count)] * 2
    xy = np.random.default_rng(0).normal(size=(len(names), 2))
    figure = embedding_map(xy, names, ["one group"] * len(names))
    left, right = figure.axes
    assert len(left.collections) == count and len(right.collections) == 1
    looks = {(*part.get_facecolor()[0], part.get_paths()[0].vertices.tobytes()) for part in left.collections}
    assert len(looks) == min(count, 80)
    assert (left.get_legend() is not None) is legends
    plots.save(figure, tmp_path / "map.png")
