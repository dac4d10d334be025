"""What all surfaces share: products of vectors, and where rays pass through a box.

Shapes: P rays or points; vectors are float32 [3, P], distances float32 [P].
"""

from __future__ import annotations

import numpy as np

INFINITY = np.float32(np.inf)
"""The distance of what a ray does not meet."""


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of [3, P] with [3, P] or [3, 1] vectors, [P]."""
    return np.einsum("ip,ip->p", a, b)


def unit(a: np.ndarray) -> np.ndarray:
    """Vectors [3, P] scaled to length one."""
    return a / np.sqrt(np.maximum(dot(a, a), 1e-20))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of [3, P] vectors."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def away_from_zero(a: np.ndarray) -> np.ndarray:
    """The same numbers, fit to divide by."""
    return np.where(np.abs(a) < 1e-7, np.float32(1e-7), a)


def box_span(origin: np.ndarray, direction: np.ndarray, half: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances where rays enter and leave the axis-aligned box around zero; enter > leave where they miss.

    Args:
        origin: Starts [3, P].
        direction: Directions [3, P].
        half: Half extent of a cube, or of a box along each axis, [3, 1] or [3, P].
    """
    inverse = 1 / away_from_zero(direction)
    middle, reach = -origin * inverse, half * np.abs(inverse)
    enter, leave = middle - reach, middle + reach
    first = np.maximum(np.maximum(enter[0], enter[1]), enter[2])
    return np.maximum(first, 1e-4), np.minimum(np.minimum(leave[0], leave[1]), leave[2])
