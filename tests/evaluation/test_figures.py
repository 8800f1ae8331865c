"""Pictures of heat and of embeddings: what is on them, and that they can be saved."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from varec_lib import plots
from varec_lib.evaluation.figures import embedding_map, heat_over_time


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
