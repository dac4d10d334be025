"""Shapes that a model wrote, as the assets they overlap most with, and the Jaccard index of their scenes."""

import numpy as np
import pytest
import torch

from kyvo.metrics.jaccard import SceneJaccard
from kyvo.metrics.shape_assignment import UNKNOWN, ShapeAssignment, ShapeJaccard, named_scene, named_schema
from kyvo.scene import SCHEMAS, Scene, SceneObject
from kyvo.slat import Slat

SCHEMA = SCHEMAS["objaworld-shapes"].with_shape_length(2)


def bar(*cells):
    """Voxels along z at x = y = 0 of a grid of 4^3."""
    return Slat(torch.tensor([[0, 0, z] for z in cells]), torch.zeros(len(cells), 8), resolution=4)


REFERENCES = {"low": bar(0, 1), "high": bar(2, 3), "long": bar(0, 1, 2)}
# What the codes stand for, and the name that this has.
SHAPES = {
    (0, 0): bar(0, 1),
    (0, 1): bar(0, 1, 2),
    (1, 0): bar(3),
    (1, 1): Slat(torch.tensor([[3, 3, 3]]), torch.zeros(1, 8), 4),
}


class Decoder:
    """Looks codes up, and counts."""

    def __init__(self):
        self.asked = []

    def __call__(self, codes):
        assert codes.dtype == torch.int64
        self.asked.append(len(codes))
        return [SHAPES[tuple(row)] for row in codes.tolist()]


def thing(shape, x=0.0, y=0.0):
    return SceneObject({"shape": shape, "location": (x, y, 0.0, 0.0)})


def test_overlaps_are_voxels_of_both_over_those_of_either():
    decoder = Decoder()
    assignment = ShapeAssignment(REFERENCES, decoder, batch_size=2)
    found = assignment.overlaps([(0, 0), (0, 1), (0, 0), (1, 0), (1, 1)])
    expected = {(0, 0): [1, 0, 2 / 3], (0, 1): [2 / 3, 1 / 4, 1], (1, 0): [0, 1 / 2, 0], (1, 1): [0, 0, 0]}
    assert list(found) == list(expected)
    for codes, overlap in found.items():
        assert overlap.tolist() == pytest.approx(expected[codes])
    assert [assignment.name(overlap) for overlap in found.values()] == ["low", "long", "high", UNKNOWN]
    assert decoder.asked == [2, 2]
    # Each shape is decoded once, however often it comes.
    assignment.overlaps([(0, 1), (0, 1)])
    assert decoder.asked == [2, 2]


def test_of_equal_overlaps_the_first_reference_is_taken():
    assignment = ShapeAssignment({"b": bar(0), "a": bar(1)}, Decoder())
    assert assignment.name(assignment.overlaps([(0, 0)])[0, 0]) == "b"


def test_a_schema_and_a_scene_with_names_in_the_place_of_codes():
    schema = named_schema(SCHEMA, ("low", "high"))
    assert (schema.shape, schema.name, schema.markers) == (None, SCHEMA.name, SCHEMA.markers)
    assert schema["shape"].values == ("low", "high")
    scene = Scene((thing((0, 0)), thing((0, 1), x=1.0)))
    named = named_scene(scene, "shape", ("low", "high"))
    assert [item["shape"] for item in named] == ["low", "high"]
    assert [item["location"] for item in named] == [item["location"] for item in scene]
    with pytest.raises(ValueError, match="shorter"):
        named_scene(scene, "shape", ("low",))


def test_scenes_are_scored_by_the_names_of_their_shapes():
    predictions = [
        Scene((thing((0, 0)), thing((0, 1), x=2.0))),
        Scene((thing((1, 1), y=1.0), thing((1, 0), x=2.0, y=0.4))),
    ]
    targets = [Scene((thing("low", x=0.6), thing("low", x=2.0))), Scene((thing("low", y=1.0), thing("high", x=2.0)))]
    metric = ShapeJaccard(SCHEMA, ShapeAssignment(REFERENCES, Decoder()))
    metric.update(predictions, targets, [0, 1])
    found = {name: float(value) for name, value in metric.compute().items()}
    # What it comes to by hand with the names written out.
    words = SceneJaccard(named_schema(SCHEMA, tuple(REFERENCES)))
    named = [
        named_scene(scene, "shape", names)
        for scene, names in zip(predictions, (("low", "long"), (UNKNOWN, "high")), strict=True)
    ]
    words.update(named, targets, [0, 1])
    for name, value in words.compute().items():
        assert found[name] == pytest.approx(float(value), nan_ok=True), name
    # At 0.5 the first scene has one match too few, for 0.6 is too far; at all thresholds the second matches `high`.
    assert found["jaccard_tau0_50"] == pytest.approx((0 + 1 / 4) / 2)
    assert found["jaccard_tau1_50"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert found["shape_accuracy"] == 0.5
    assert found["shape_iou"] == pytest.approx((1 + 2 / 3 + 0 + 1 / 2) / 4)
    # Sides of the cube between middles of voxels; `low` against `low`, (0, 1) against `low`, the corner and 3 against 2
    # and 3: a voxel too many is a voxel away from one of three.
    corner = (np.sqrt(2 * 0.75**2 + 0.5**2) + (np.sqrt(2 * 0.75**2 + 0.75**2) + np.sqrt(2 * 0.75**2 + 0.5**2)) / 2) / 2
    assert found["shape_chamfer"] == pytest.approx((0 + 0.25 / 3 / 2 + corner + 0.25 / 2 / 2) / 4)
    assert metric.assigned_names(predictions[1]) == [UNKNOWN, "high"]
    assert metric.assigned_names(Scene()) == []


def test_empty_scenes():
    metric = ShapeJaccard(SCHEMA, ShapeAssignment(REFERENCES, Decoder()))
    metric.update([Scene()], [Scene((thing("low"),))])
    found = metric.compute()
    assert found["jaccard"] == 0
    assert found["shape_iou"].isnan()
    assert found["shape_chamfer"].isnan()
    assert found["shape_unknown_rate"].isnan()


def test_bad_input_is_named():
    assignment = ShapeAssignment(REFERENCES, Decoder())
    with pytest.raises(ValueError, match="'cube' is none of the reference shapes low, high, long"):
        ShapeJaccard(SCHEMA, assignment).update([Scene()], [Scene((thing("cube"),))])
    with pytest.raises(ValueError, match="2 predictions, 1 targets"):
        ShapeJaccard(SCHEMA, assignment).update([Scene(), Scene()], [Scene()])
    with pytest.raises(ValueError, match="schema 'clevr' has no attribute with shape codes"):
        ShapeJaccard(SCHEMAS["clevr"], assignment)
    with pytest.raises(ValueError, match="of one resolution, got no reference"):
        ShapeAssignment({}, Decoder())
    with pytest.raises(ValueError, match=r"of one resolution, got \[4, 64\]"):
        ShapeAssignment({"a": bar(0), "b": Slat(torch.tensor([[0, 0, 0]]), torch.zeros(1, 8))}, Decoder())
    with pytest.raises(ValueError, match=r"decode to 64\^3 voxels, references have 4\^3"):
        ShapeAssignment(REFERENCES, lambda codes: [Slat(torch.tensor([[0, 0, 0]]), torch.zeros(1, 8))]).overlaps([(0,)])
