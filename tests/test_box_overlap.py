"""Overlap of boxes against reference numbers, closed forms, its own symmetries and counted points."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyvo.metrics.box_overlap import Boxes, iou3d, iou3d_matrix, nearest_rotations, oracle_iou3d_matrix


def rotation(seed):
    """A random rotation."""
    found = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return found * np.linalg.det(found)


def random_boxes(seed, count, spread=0.5):
    dice = np.random.default_rng(seed)
    turns = [rotation(seed * 1000 + number) for number in range(count)]
    return Boxes.of(dice.uniform(-spread, spread, (count, 3)), dice.uniform(0.2, 1.5, (count, 3)), turns)


def box(center, dimensions, turn=None):
    return Boxes.of([center], [dimensions], [np.eye(3) if turn is None else turn])


def moved(boxes, turn, shift):
    return Boxes(boxes.centers @ turn.T + shift, boxes.dimensions, turn @ boxes.rotations)


def test_reference_numbers(golden):
    cases = json.loads((golden / "iou3d_cases.json").read_text())
    first, second = (
        Boxes.of(*([case[side][name] for case in cases] for name in ("center", "dimensions_whl", "R")))
        for side in ("A", "B")
    )
    first, second = (Boxes(b.centers, b.dimensions, nearest_rotations(b.rotations)) for b in (first, second))
    expected = [case["iou"] for case in cases]
    np.testing.assert_allclose(iou3d(first, second), expected, atol=1e-6)
    np.testing.assert_allclose(iou3d(second, first), expected, atol=1e-6)
    analytic = np.array([case["analytic"] is not None for case in cases])
    np.testing.assert_allclose(iou3d(first, second)[analytic], np.array(expected)[analytic], atol=1e-12)


sizes = st.floats(0.05, 3.0)
places = st.floats(-2.0, 2.0)
triples = st.tuples(places, places, places)
dimensions = st.tuples(sizes, sizes, sizes)
seeds = st.integers(0, 10_000)


def aligned_overlap(centers, sizes_xyz):
    """Overlap of two boxes along the axes, as everyone writes it."""
    lower, upper = (np.array(centers) + sign * np.array(sizes_xyz) / 2 for sign in (-1, 1))
    shared = np.prod(np.clip(upper.min(0) - lower.max(0), 0, None))
    return shared / (np.prod(sizes_xyz, axis=1).sum() - shared)


@given(triples, triples, dimensions, dimensions)
@settings(max_examples=100, deadline=None)
def test_boxes_along_the_axes_have_a_closed_form(place, other, size, extent):
    # Width lies along z and length along x.
    expected = aligned_overlap([place, other], [size[::-1], extent[::-1]])
    first, second = box(place, size), box(other, extent)
    assert iou3d(first, second)[0] == pytest.approx(expected, abs=1e-11)
    assert oracle_iou3d_matrix(first.centers, first.dimensions, second)[0, 0] == pytest.approx(expected, abs=1e-11)


@given(seeds, triples, dimensions)
@settings(max_examples=60, deadline=None)
def test_parts_of_a_box_that_share_its_rotation(seed, shift, size):
    # Faces that lie in one plane are the hard case; rounding decides on which side of it they come.
    turn = rotation(seed)
    whole = box(shift, size, turn)
    half = box(np.array(shift) + turn @ [size[2] / 4, 0, 0], (size[0], size[1], size[2] / 2), turn)
    assert iou3d(whole, half)[0] == pytest.approx(0.5, abs=1e-9)
    assert iou3d(half, whole)[0] == pytest.approx(0.5, abs=1e-9)
    assert iou3d(whole, whole)[0] == pytest.approx(1.0, abs=1e-9)
    beside = box(np.array(shift) + turn @ [size[2], 0, 0], size, turn)
    assert iou3d(whole, beside)[0] == pytest.approx(0.0, abs=1e-9)
    assert oracle_iou3d_matrix(half.centers, half.dimensions, whole)[0, 0] == pytest.approx(0.5, abs=1e-9)


@given(seeds, triples)
@settings(max_examples=40, deadline=None)
def test_sides_may_be_swapped_and_both_moved(seed, shift):
    first, second = random_boxes(seed, 8), random_boxes(seed + 1, 8)
    overlaps = iou3d(first, second)
    assert (overlaps >= 0).all()
    assert (overlaps <= 1).all()
    np.testing.assert_allclose(overlaps, iou3d(second, first), atol=1e-10)
    turn, far = rotation(seed + 2), 100 * np.array(shift)
    np.testing.assert_allclose(overlaps, iou3d(moved(first, turn, far), moved(second, turn, far)), atol=1e-9)


def test_counted_points():
    first, second = random_boxes(5, 12, 0.3), random_boxes(6, 12, 0.3)
    points = np.random.default_rng(7).uniform(-1.7, 1.7, (60_000, 3))

    def inside(boxes, number):
        own = (points - boxes.centers[number]) @ boxes.rotations[number]
        return (np.abs(own) <= boxes.halves[number]).all(-1)

    for number, overlap in enumerate(iou3d(first, second)):
        one, two = inside(first, number), inside(second, number)
        assert overlap == pytest.approx((one & two).sum() / (one | two).sum(), abs=0.04)


def test_a_turned_cube():
    # A unit square turned by 45 degrees shares a regular octagon with the one that is not: area 2 * sqrt(2) - 2.
    turn = np.array([[0.5**0.5, -(0.5**0.5), 0], [0.5**0.5, 0.5**0.5, 0], [0, 0, 1]])
    octagon = 2 * 2**0.5 - 2
    assert iou3d(box([0, 0, 0], [1, 1, 1]), box([0, 0, 0], [1, 1, 1], turn))[0] == pytest.approx(
        octagon / (2 - octagon), abs=1e-12
    )


@pytest.mark.parametrize(
    "bad", [{"size": [1, 0, 1]}, {"size": [1, -1, 1]}, {"size": [1, np.nan, 1]}, {"place": np.nan}]
)
def test_boxes_without_a_volume_or_a_place_overlap_nothing(bad):
    odd = box([bad.get("place", 0.0)] * 3, bad.get("size", [1, 1, 1]))
    good = box([0, 0, 0], [1, 1, 1])
    assert iou3d(odd, good).tolist() == iou3d(good, odd).tolist() == iou3d(odd, odd).tolist() == [0.0]
    assert oracle_iou3d_matrix(odd.centers, odd.dimensions, good).tolist() == [[0.0]]


def test_matrix_and_nothing_at_all():
    first, second, nothing = random_boxes(1, 3), random_boxes(2, 4), Boxes.of([], [], [])
    full = iou3d_matrix(first, second)
    assert full.shape == (3, 4)
    assert full[2, 1] == pytest.approx(iou3d(first[2:], second[1:2])[0], abs=1e-15)
    compared = np.eye(3, 4, dtype=bool)
    np.testing.assert_array_equal(iou3d_matrix(first, second, compared), np.where(compared, full, 0))
    assert iou3d_matrix(first, nothing).shape == (3, 0)
    assert oracle_iou3d_matrix(nothing.centers, nothing.dimensions, second).shape == (0, 4)
    assert iou3d(nothing, nothing).shape == (0,)
    with pytest.raises(ValueError, match="in pairs, got 3 and 4"):
        iou3d(first, second)


def test_rounded_axes_become_orthogonal():
    turn = rotation(3)
    found = nearest_rotations([turn.round(3), turn * [1, 1, -1], np.full((3, 3), -1.0), np.full((3, 3), np.nan)])
    np.testing.assert_allclose(found[0], turn, atol=2e-3)
    np.testing.assert_allclose(found[0] @ found[0].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(found[1], turn, atol=1e-14)
    assert np.isnan(found[2:]).all()
    assert nearest_rotations([]).shape == (0, 3, 3)
