"""The diagrams of the course are whole: nothing is cut off at an edge, and no two words lie on one another."""

import matplotlib.pyplot as plt
import pytest

from varec_lib.diagrams import families, files, networks

SHAPES = {
    "clip": (3, 16, 112, 112), "stem": (64, 16, 56, 56), "layer1": (64, 16, 56, 56),
    "layer2": (128, 8, 28, 28), "layer3": (256, 4, 14, 14), "layer4": (512, 2, 7, 7),
}  # fmt: skip
DIAGRAMS = {
    "key frames": files.key_frames, "splits": files.splits, "merged time": networks.merged_time,
    "LSTM": networks.lstm_cell, "frame models": networks.frame_models, "kernels": networks.kernels,
    "volumes": lambda: networks.volumes(SHAPES), "small volumes": lambda: networks.volumes({"clip": (3, 4, 32, 32)}),
    "families": families.families,
}  # fmt: skip


@pytest.mark.parametrize("name", DIAGRAMS)
def test_all_words_are_on_the_page_and_apart(name):
    figure = DIAGRAMS[name]()
    figure.canvas.draw()
    words = [text for axis in figure.axes for text in axis.texts if text.get_text()]
    assert words
    places = [text.get_window_extent() for text in words]
    for text, place in zip(words, places, strict=True):
        assert figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= place.y0 and place.y1 <= figure.bbox.y1, text.get_text()
    apart = [(a, b) for i, a in enumerate(places) for b in places[:i] if a.overlaps(b)]
    assert not apart
    plt.close(figure)
