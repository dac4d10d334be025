from itertools import pairwise

import numpy as np
import pytest

from kyvo.tokenizers.image_order import inverse, order

NAMES = ("raster", "center-out", "spiral")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("h", "w"), [(16, 16), (8, 8), (3, 3), (1, 1), (1, 5), (5, 1), (4, 10), (10, 16), (7, 2)])
def test_permutations_and_inverses(name, h, w):
    permutation = order(name, h, w)
    assert permutation.dtype == np.int64
    assert sorted(permutation) == list(range(h * w))
    codes = np.arange(h * w) * 7
    np.testing.assert_array_equal(codes[permutation][inverse(name, h, w)], codes)


def official(codes):
    """The official reordering, written anew: alternate left and right of the centre along the raster."""
    n = len(codes)
    center = n // 2 - int(n**0.5) // 2
    out, left, right = [codes[center]], center - 1, center + 1
    while left >= 0 or right < n:
        if left >= 0:
            out.append(codes[left])
            left -= 1
        if right < n:
            out.append(codes[right])
            right += 1
    return out


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 16, 32])
def test_center_out_is_the_official_order(side):
    assert order("center-out", side, side).tolist() == official(list(range(side * side)))


def test_center_out_of_the_paper():
    permutation = order("center-out", 16, 16).tolist()
    assert permutation[:6] == [120, 119, 121, 118, 122, 117]
    assert permutation[236:242] == [238, 1, 239, 0, 240, 241]
    assert permutation[242:] == list(range(242, 256))


def test_spiral_winds_out():
    assert order("spiral", 3, 3).tolist() == [4, 3, 6, 7, 8, 5, 2, 1, 0]
    assert order("spiral", 2, 4).tolist() == [2, 1, 5, 6, 7, 3, 0, 4]
    cells = [divmod(index, 16) for index in order("spiral", 16, 16)[:49].tolist()]
    rings = [max(abs(row - 7), abs(column - 8)) for row, column in cells]
    assert rings == sorted(rings)
    steps = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(cells)]
    assert set(steps) == {1}


def test_unknown_orders_and_shared_arrays():
    with pytest.raises(ValueError, match="no image order is called 'zigzag'; there are raster, center-out, spiral"):
        order("zigzag", 4, 4)
    with pytest.raises(ValueError, match="read-only"):
        order("raster", 4, 4)[0] = 1
