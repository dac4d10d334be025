import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyvo.tokenizers.numbers import Numbers, linear_labels, objectron_release, shared, unified

GRIDS = {"paper": shared(), "release": shared(0.005), "objectron": objectron_release(), "unified": unified()}


def test_published_number_tokens():
    paper, release = GRIDS["paper"].labels, GRIDS["release"].labels
    assert (len(paper), paper[0], paper[59:62], paper[-1]) == (121, "-3.00", ("-0.05", "0.00", "0.05"), "3.00")
    assert (len(release), release[0], release[-1]) == (1201, "-3.000", "3.000")
    assert release[600] == "0.000"
    assert len(shared(0.5).labels) == 13
    np.testing.assert_array_equal(GRIDS["paper"].values, [float(label) for label in paper])


def test_objectron_pool_has_each_string_once():
    labels = GRIDS["objectron"].labels
    assert len(labels) == 103
    assert (labels[0], labels[20], labels[-1]) == ("-0.20", "0.00", "17.50")
    assert labels[20:24] == ("0.00", "0.01", "0.02", "0.03")
    assert list(GRIDS["objectron"].values) == sorted(GRIDS["objectron"].values)
    # 0.07 is in the pool for positions, but depth goes in steps of 0.05.
    assert labels[GRIDS["objectron"].encode(0.07, "camera_x")] == "0.07"
    assert labels[GRIDS["objectron"].encode(0.07, "depth")] == "0.05"
    assert labels[GRIDS["objectron"].encode(4.2, "depth")] == "5.00"
    with pytest.warns(UserWarning, match="camera_y outside -0.2 to 0.1"):
        assert labels[GRIDS["objectron"].encode(0.35, "camera_y", "warn")] == "0.10"


@pytest.mark.parametrize("numbers", GRIDS.values(), ids=GRIDS)
def test_families_tile_and_labels_differ(numbers):
    assert len(set(numbers.labels)) == len(numbers.labels)
    indices = [index for start, stop in numbers.families for index in range(start, stop)]
    assert indices == list(range(len(numbers.labels)))
    for start, stop in numbers.families:
        assert (np.diff(numbers.values[start:stop]) > 0).all()


@pytest.mark.parametrize("numbers", GRIDS.values(), ids=GRIDS)
def test_survives_json(numbers):
    again = Numbers.from_dict(json.loads(json.dumps(numbers.to_dict())))
    assert again == numbers
    assert list(again.values) == list(numbers.values)


@pytest.mark.parametrize("numbers", GRIDS.values(), ids=GRIDS)
def test_every_token_encodes_to_itself(numbers):
    for quantity in set(numbers.quantities) - {"*"}:
        grid = numbers.grid(quantity)
        assert [numbers.encode(value, quantity) for value in grid.values] == list(grid.indices)


@given(st.floats(-3, 3))
def test_nearest_matches_brute_force(value):
    index = GRIDS["paper"].encode(value, "x")
    assert abs(GRIDS["paper"].decode(index) - value) <= np.abs(GRIDS["paper"].values - value).min() + 1e-12


@given(st.floats(-20, 20), st.sampled_from(["paper", "unified"]))
def test_angles_go_around_the_circle(value, name):
    numbers = GRIDS[name]
    grid = numbers.grid("yaw")
    gaps = [abs(math.remainder(other - value, math.tau)) for other in grid.values]
    found = numbers.decode(numbers.encode(value, "yaw"))
    assert abs(math.remainder(found - value, math.tau)) <= min(gaps) + 1e-9


def test_yaw_beyond_the_paper_grid_is_clipped_and_beyond_half_a_turn_wraps():
    paper, ours = GRIDS["paper"], GRIDS["unified"]
    assert [paper.decode(paper.encode(yaw, "yaw")) for yaw in (3.1, -3.1, 3.2, 2 * math.pi)] == [3.0, -3.0, -3.0, 0.0]
    assert ours.decode(ours.encode(3.13, "yaw")) == -3.1416


@pytest.mark.parametrize("value", [3.2, -9.0, math.inf, math.nan])
def test_out_of_range(value):
    with pytest.raises(ValueError, match=r"x = .* is outside the number grid \(-3 to 3\)"):
        GRIDS["paper"].encode(value, "x")


def test_clip_warns_and_takes_the_outermost():
    with pytest.warns(UserWarning, match="values of x outside -3 to 3 are clipped"):
        assert GRIDS["paper"].encode(7.0, "x", "warn") == 120
    with pytest.raises(ValueError, match="outside"):
        GRIDS["paper"].encode(math.nan, "x", "warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Within half a step of the end is not out of range: such a number rounds to the end.
        assert GRIDS["paper"].encode(3.02, "x", "warn") == 120


def test_unified_error_bounds():
    ours = GRIDS["unified"]
    for quantity, bound in (("depth", 0.013), ("width", 0.022)):
        values = np.array(ours.grid(quantity).values)
        assert ((values[1:] - values[:-1]) / (values[1:] + values[:-1])).max() < bound
    assert len(ours.grid("yaw").values) == 72
    with pytest.raises(ValueError, match="no number grid for 'mass', only for x, y"):
        ours.encode(1.0, "mass")


def test_linear_labels():
    assert linear_labels("-0.1", "0.1", "0.1") == ("-0.10", "0.00", "0.10")
    assert linear_labels("0", "0.01", "0.005") == ("0.000", "0.005", "0.010")
    with pytest.raises(ValueError, match="not a whole number of steps"):
        linear_labels("0", "1", "0.3")
