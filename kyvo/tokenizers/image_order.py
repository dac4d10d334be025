"""Orders in which the codes of an image are written.

h, w: rows and columns of the grid of codes; N = h * w.
"""

from functools import lru_cache
from typing import Literal

import numpy as np

ImageOrder = Literal["raster", "center-out", "spiral"]


@lru_cache
def order(name: ImageOrder, h: int, w: int) -> np.ndarray:
    """Permutation int64 [N]: ``codes[order]`` are raster codes in the order of writing.

    ``center-out`` is the order of the official code: from the raster index N/2 - w/2 alternately one to the left and
    one to the right along the raster, so it is centred in rows and still runs along them. ``spiral`` winds out from
    the middle cell in two dimensions.
    """
    makers = {"raster": _raster, "center-out": _center_out, "spiral": _spiral}
    if name not in makers:
        raise ValueError(f"no image order is called {name!r}; there are {', '.join(makers)}")
    permutation = np.array(makers[name](h, w), dtype=np.int64)
    permutation.setflags(write=False)
    return permutation


@lru_cache
def inverse(name: ImageOrder, h: int, w: int) -> np.ndarray:
    """Permutation int64 [N] that undoes ``order``: ``codes[order][inverse]`` equals ``codes``."""
    permutation = np.argsort(order(name, h, w))
    permutation.setflags(write=False)
    return permutation


def _raster(h: int, w: int) -> list[int]:
    return list(range(h * w))


def _center_out(h: int, w: int) -> list[int]:
    center = h * w // 2 - w // 2
    return sorted(range(h * w), key=lambda index: (abs(index - center), index > center))


def _spiral(h: int, w: int) -> list[int]:
    row, column = (h - 1) // 2, w // 2
    visited: list[int] = []
    directions = ((0, -1), (1, 0), (0, 1), (-1, 0))
    turn = 0
    while len(visited) < h * w:
        down, right = directions[turn % 4]
        # Sides of a square spiral have lengths 1, 1, 2, 2, 3, 3, ...
        for _ in range(turn // 2 + 1):
            if 0 <= row < h and 0 <= column < w:
                visited.append(row * w + column)
            row, column = row + down, column + right
        turn += 1
    return visited
