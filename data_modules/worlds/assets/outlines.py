"""Outlines in a plane: smooth curves through points, and exact signed distances to polygons.

Shapes: M corners or sides, P points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Corner = tuple[float, float]


def curve(corners: Sequence[Corner], steps: int = 3, closed: bool = False) -> list[Corner]:
    """A smooth (Catmull-Rom) line through corners, as a polygon with `steps` sides between two of them."""
    count = len(corners)
    points: list[Corner] = []
    for k in range(count if closed else count - 1):
        around = [corners[(k + d) % count] if closed else corners[min(max(k + d, 0), count - 1)] for d in (-1, 0, 1, 2)]
        points += [_catmull_rom(around, step / steps) for step in range(steps)]
    return points if closed else [*points, corners[-1]]


def _catmull_rom(around: Sequence[Corner], t: float) -> Corner:
    weights = (
        -0.5 * t + t * t - 0.5 * t**3,
        1 - 2.5 * t * t + 1.5 * t**3,
        0.5 * t + 2 * t * t - 1.5 * t**3,
        -0.5 * t * t + 0.5 * t**3,
    )
    return (
        sum(w * corner[0] for w, corner in zip(weights, around, strict=True)),
        sum(w * corner[1] for w, corner in zip(weights, around, strict=True)),
    )


def arc(center: Corner, radius: float, start: float, end: float, sides: int = 8) -> list[Corner]:
    """Corners along an arc, angles in degrees."""
    angles = [math.radians(start + (end - start) * k / sides) for k in range(sides + 1)]
    return [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]


def signed_distance(corners: Sequence[Corner], closed: bool = True) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Exact distances to a polygon, negative inside, as a function of the points' two coordinates [P].

    Args:
        corners: Corners in order, either way round.
        closed: False for the right half of a figure that is symmetric about the second axis: the side from the last
            corner back to the first is no edge then, and points must have a first coordinate >= 0.
    """
    a = np.array(corners, dtype=np.float64)
    b = np.roll(a, -1, axis=0)
    if not closed:
        a, b = a[:-1], b[:-1]
    kept = np.abs(b - a).sum(1) > 0
    a, b = a[kept], b[kept]
    side = b - a
    # One column of numbers for every side, so that all sides are handled by one call each.
    ax, ay, sx, sy = (v.astype(np.float32)[:, None] for v in (*a.T, *side.T))
    tx, ty = ((v / (side * side).sum(1)).astype(np.float32)[:, None] for v in side.T)
    rises = side[:, 1] != 0
    low, high = (f(a[rises, 1], b[rises, 1]).astype(np.float32)[:, None] for f in (np.minimum, np.maximum))
    slope = (side[rises, 0] / side[rises, 1]).astype(np.float32)[:, None]
    foot = (a[rises, 0] - side[rises, 0] / side[rises, 1] * a[rises, 1]).astype(np.float32)[:, None]

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = x - ax, y - ay
        t = np.minimum(np.maximum(dx * tx + dy * ty, 0), 1)
        dx -= t * sx
        dy -= t * sy
        nearest = np.sqrt((dx * dx + dy * dy).min(0))
        crossed = (low <= y) & (y < high) & (x < foot + slope * y)
        inside = np.logical_xor.reduce(crossed, axis=0)
        return np.where(inside, -nearest, nearest)

    return distance
