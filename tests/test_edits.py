"""Edit metrics against edits made and left undone by hand, and the known score of copying the input."""

import math

import pytest
import torch

from kyvo.metrics.edits import Edit, EditMetrics, Relation
from kyvo.scene import Scene, SceneObject


def cube(x=0.0, color="red"):
    values = {"size": "large", "color": color, "material": "metal", "shape": "cube", "location": (x, 0.0, 0.7)}
    return SceneObject(values)


SOURCE = Scene((cube(0.0), cube(1.0), cube(2.0)))
TARGETS = {
    "appearance": Scene((cube(0.0, "blue"), cube(1.0), cube(2.0))),
    "insert": Scene((*SOURCE.objects, cube(-1.0))),
    "remove": Scene(SOURCE.objects[1:]),
    "move": Scene((cube(-0.5), cube(1.0), cube(2.0))),
}


def scores(prediction, kind, **options):
    metric = EditMetrics("clevr", list(TARGETS))
    metric.update([prediction], [SOURCE], [TARGETS[kind]], [kind], **options)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_target_is_a_success_and_a_copy_is_none(kind):
    right = scores(TARGETS[kind], kind)
    assert (right["jaccard"], right["edit_success"], right["preservation"]) == (1, 1, 1)
    copied = scores(SOURCE, kind)
    assert copied["jaccard"] == copied["copy_jaccard"] == right["copy_jaccard"] < 1
    assert (copied["edit_success"], copied["preservation"]) == (0, 1)


def test_a_removed_object_must_be_gone_and_the_others_must_stay():
    everything_gone = scores(Scene(), "remove")
    assert (everything_gone["edit_success"], everything_gone["preservation"]) == (1, 0)
    both = scores(Scene((*TARGETS["move"].objects, cube(0.0))), "move")
    assert (both["edit_success"], both["preservation"]) == (0, 1)


def test_a_near_miss_counts_at_some_thresholds():
    near = Scene((cube(-0.5 + 0.12), *TARGETS["move"].objects[1:]))
    result = scores(near, "move")
    assert result["edit_success"] == pytest.approx(0.6)
    assert result["jaccard"] == pytest.approx(0.6 * 1 + 0.4 * 2 / 4)


def test_copying_scores_what_arithmetic_says():
    # With n objects: (n - 1) / (n + 1) for a change or a move, (n - 1) / n for removing, n / (n + 1) for inserting.
    expected = {"appearance": 2 / 4, "move": 2 / 4, "remove": 2 / 3, "insert": 3 / 4}
    for kind, value in expected.items():
        assert scores(SOURCE, kind)["copy_jaccard"] == pytest.approx(value)


def test_kinds_are_kept_apart_and_malformed_objects_cost():
    result = scores(TARGETS["move"], "move", malformed=[2])
    assert result["jaccard_move"] == result["jaccard"] == pytest.approx(3 / 5)
    assert result["edit_success_move"] == 1
    assert math.isnan(result["jaccard_insert"])


def test_objects_of_equal_values_are_told_apart_by_number():
    twins = Scene((cube(), cube()))
    assert Edit.between(twins, Scene((cube(),))) == Edit(new=(), kept=(0,), gone=(1,))
    assert Edit.between(Scene((cube(),)), twins) == Edit(new=(1,), kept=(0,), gone=())


LEFT = Relation(("left",), (0.0, 0.0))


def test_a_moved_object_need_not_stand_where_the_target_has_it():
    # Far from the target, but to the left of where it stood; then to the right of it.
    for x, satisfied in ((-1.7, 1), (0.6, 0)):
        result = scores(Scene((cube(x), cube(1.0), cube(2.0))), "move", relations=[LEFT])
        assert (result["relation_satisfied"], result["relation_satisfied_move"]) == (satisfied, satisfied)
        assert result["edit_success"] == 0


def test_only_an_object_that_looks_as_asked_and_is_no_other_satisfies():
    blue = Scene((cube(-1.7, "blue"), cube(1.0), cube(2.0)))
    assert scores(blue, "move", relations=[LEFT])["relation_satisfied"] == 0
    # The cube at 1.0 lies to the left of 1.5, but it is one that was to stay.
    assert scores(SOURCE, "insert", relations=[Relation(("left",), (1.5, 0.0))])["relation_satisfied"] == 0
    assert math.isnan(scores(SOURCE, "remove", relations=[None])["relation_satisfied"])


def test_relations_come_from_the_record():
    source = {"objects": [{"3d_coords": [1.0, 2.0, 0.7]}]}

    def record(**edit):
        return {"type": "insert", "edit": {"op": "insert", "directions": ["left"], "anchor": 0} | edit}

    assert Relation.of(record(), source) == Relation(("left",), (1.0, 2.0))
    assert Relation.of(record(op="remove"), source) is None
    assert Relation.of({"type": "move"}, source) is None
    for wrong in ({"anchor": 1}, {"anchor": None}, {"directions": ["up"]}):
        with pytest.raises(ValueError, match="expected an anchor below 1"):
            Relation.of(record(**wrong), source)


def test_batches_add_up():
    rows = [(SOURCE, SOURCE, target, kind) for kind, target in TARGETS.items()]
    whole, parts = EditMetrics(kinds=list(TARGETS)), EditMetrics(kinds=list(TARGETS))
    whole.update(*zip(*rows, strict=True))
    for row in rows:
        parts.update(*([entry] for entry in row))
    torch.testing.assert_close(whole.compute(), parts.compute(), equal_nan=True)


def test_wrong_rows_are_named():
    metric = EditMetrics(kinds=["move"])
    with pytest.raises(ValueError, match=r"\[1, 0, 1, 1, 1, 1\]"):
        metric.update([SOURCE], [], [SOURCE], ["move"])
    with pytest.raises(ValueError, match=r"\['turn'\]"):
        metric.update([SOURCE], [SOURCE], [SOURCE], ["turn"])
