"""Average precision of ranked objects, counted by hand."""

import math

import numpy as np
import pytest
import torch

from kyvo.metrics.slot_precision import SlotPrecision, average_precision
from kyvo.scene import Scene, SceneObject


def ball(x=0.0, z=0.0, color="red"):
    words = {"size": "large", "color": color, "material": "metal", "shape": "sphere"}
    return SceneObject(words | {"location": (x, 0.0, z)})


def scores(predictions, targets, confidences):
    metric = SlotPrecision("clevr")
    metric.update([Scene(tuple(one)) for one in predictions], [Scene(tuple(one)) for one in targets], confidences)
    return {name: value.item() for name, value in metric.compute().items()}


def test_distances_are_three_dimensional_and_strict():
    result = scores([[ball(0.3, 0.4)]], [[ball()]], [[0.9]])
    assert result == {"ap_inf": 1, "ap_1": 1, "ap_0_5": 0, "ap_0_25": 0, "ap_0_125": 0}


def test_an_object_is_detected_once_and_by_the_surest():
    # Both are nearest to the same ball; the surer one is farther, which at 0.25 leaves the ball to the other.
    result = scores([[ball(0.1), ball(0.3)]], [[ball()]], [[0.2, 0.9]])
    assert (result["ap_inf"], result["ap_0_5"]) == (1, 1)
    assert result["ap_0_25"] == result["ap_0_125"] == 0.5


def test_there_is_no_second_best():
    # The second prediction is nearest to the first ball, which is taken: the second ball, 0.6 off, doesn't count.
    assert scores([[ball(0.0), ball(0.4)]], [[ball(0.0), ball(1.0)]], [[0.9, 0.8]])["ap_1"] == 0.5


def test_ranks_are_over_all_scenes():
    # Right, wrong colour, right of three: precision 1 to a recall of 1/3, then 2/3.
    predictions = [[ball(), ball(color="blue")], [ball(1.0)]]
    result = scores(predictions, [[ball()], [ball(1.0), ball(3.0)]], [[0.9, 0.8], [0.7]])
    assert result["ap_inf"] == pytest.approx(1 / 3 + 2 / 3 / 3)


def test_equal_confidences_are_one_point():
    for order in (1, -1):
        predictions = [ball(), ball(color="blue")][::order]
        assert scores([predictions], [[ball()]], [[0.5, 0.5]])["ap_inf"] == 0.5


def test_precision_is_the_highest_from_there_on():
    # By hand: precisions 0, 1/2, 2/3, 2/4 at recalls 0, 1/2, 1, 1.
    assert average_precision(np.arange(4)[::-1] / 4, np.array([0.0, 1, 1, 0]), 2) == pytest.approx(2 / 3)


def test_without_objects():
    assert math.isnan(scores([[ball()]], [[]], [[0.5]])["ap_inf"])
    assert scores([[]], [[ball()]], [[]])["ap_inf"] == 0
    assert math.isnan(SlotPrecision("objectron").compute()["ap_1"].item())


def test_batches_add_up():
    dice = np.random.default_rng(0)
    rows = []
    for _ in range(6):
        sides = [Scene(tuple(ball(x) for x in dice.integers(0, 8, 3) / 8)) for _ in range(2)]
        rows.append((*sides, dice.random(3).tolist()))
    whole, parts = SlotPrecision(), SlotPrecision()
    whole.update(*zip(*rows, strict=True))
    for row in reversed(rows):
        parts.update(*([one] for one in row))
    torch.testing.assert_close(whole.compute(), parts.compute())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([Scene()], [Scene()], []), "0 lists of confidences"),
        (([Scene((ball(),))], [Scene()], [[]]), "each of 1 objects"),
        (([Scene((ball(),))], [Scene()], [[math.nan]]), "nan"),
    ],
)
def test_wrong_rows_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        SlotPrecision().update(*rows)
    with pytest.raises(ValueError, match="positive"):
        SlotPrecision(distances=[0.0])
