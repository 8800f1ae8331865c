"""Does a model look at time? The table on predictions made by hand, and the orders on real files."""

import numpy as np
import pytest

from varec_lib.evaluation.temporal import time_orders, time_table

TWINS = {"b": "c", "c": "b"}


def answers(predictions, labels: str, answered: str):
    return predictions([np.eye(3)["abc".index(answer)].tolist() for answer in answered], list(labels))


def test_time_table_on_answers_made_by_hand(predictions):
    orders = {"forward": answers(predictions, "aabbcc", "aabbcb"), "reversed": answers(predictions, "aabbcc", "aaccba")}
    table = time_table(orders, TWINS)
    assert list(table.index) == ["forward", "reversed"]
    assert table.loc["forward"].to_dict() == pytest.approx(
        {"all classes": 5 / 6, "time-paired classes": 3 / 4, "answers twin": 1 / 4}
    )
    assert table.loc["reversed"].to_dict() == pytest.approx(
        {"all classes": 2 / 6, "time-paired classes": 0, "answers twin": 3 / 4}
    )


def test_without_twins_there_is_one_column(predictions):
    table = time_table({"forward": answers(predictions, "abc", "aba")})
    assert list(table.columns) == ["all classes"]
    assert table.loc["forward", "all classes"] == pytest.approx(2 / 3)


def test_time_orders_play_the_same_videos_differently(tiny_checkpoint, numbered_dataset):
    orders = time_orders(tiny_checkpoint, numbered_dataset, precision="fp32", progress=False)
    assert list(orders) == ["forward", "reversed", "shuffled"]
    forward, backwards, shuffled = (orders[name] for name in orders)
    assert forward.table["path"].tolist() == backwards.table["path"].tolist() == shuffled.table["path"].tolist()
    for one, other in ((forward, backwards), (forward, shuffled), (backwards, shuffled)):
        assert not np.allclose(one.probabilities, other.probabilities, atol=1e-7)
