"""Simple solids, each with its exact distance unless it says otherwise.

Shapes: P points, float32 [3, P].
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from data_modules.worlds.assets.outlines import Corner, signed_distance
from data_modules.worlds.assets.solid import Solid, Vector

_AXES = {"x": 0, "y": 1, "z": 2}


def _column(v: Sequence[float]) -> np.ndarray:
    return np.array(v, dtype=np.float32)[:, None]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _length(p: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ip,ip->p", p, p))


def _cornered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance to what lies inside two surfaces that meet at right angles, given the distances to both."""
    outside, across = np.maximum(first, 0), np.maximum(second, 0)
    return np.sqrt(outside * outside + across * across) + np.minimum(np.maximum(first, second), 0)


def sphere(center: Vector, radius: float) -> Solid:
    """A ball."""
    c = _column(center)
    return Solid(lambda p: _length(p - c) - radius, lambda n: _dot(n, center) + radius * math.hypot(*n))


def ellipsoid(center: Vector, radii: Vector) -> Solid:
    """An ellipsoid; the distance is a lower bound, too small by up to the ratio of its radii."""
    c, inverse, least = _column(center), _column([1 / r for r in radii]), min(radii)
    return Solid(
        lambda p: (_length((p - c) * inverse) - 1) * least,
        lambda n: _dot(n, center) + math.hypot(*(a * r for a, r in zip(n, radii, strict=True))),
    )


def box(center: Vector, half: Vector, rounding: float = 0.0) -> Solid:
    """A box with half extents `half` along the axes, its edges rounded."""
    c, core = _column(center), _column([h - rounding for h in half])

    def distance(p: np.ndarray) -> np.ndarray:
        q = np.abs(p - c)
        q -= core
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0)
        np.maximum(q, 0, out=q)
        return _length(q) + inside - rounding

    def reach(n: Vector) -> float:
        flat = sum(abs(a) * (h - rounding) for a, h in zip(n, half, strict=True))
        return _dot(n, center) + flat + rounding * math.hypot(*n)

    return Solid(distance, reach)


def capsule(start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Solid:
    """Two balls and what lies between them; with two radii the distance is a lower bound."""
    growth = 0.0 if end_radius is None else end_radius - radius
    axis = [b - a for a, b in zip(start, end, strict=True)]
    squared = _dot(axis, axis)
    a, e = _column(start), _column(axis)
    along = (e[:, 0] / squared).astype(np.float32)
    shrink = 1 / math.sqrt(1 + growth * growth / squared)

    def distance(p: np.ndarray) -> np.ndarray:
        q = p - a
        t = np.minimum(np.maximum(along[0] * q[0] + along[1] * q[1] + along[2] * q[2], 0), 1)
        q -= e * t
        return (_length(q) - radius - growth * t) * shrink

    def reach(n: Vector) -> float:
        size = math.hypot(*n)
        return max(_dot(n, start) + radius * size, _dot(n, end) + (radius + growth) * size)

    return Solid(distance, reach)


def tube(corners: Sequence[Vector], radius: float) -> Solid:
    """A round wire bent through corners."""
    sides = []
    for start, end in itertools.pairwise(corners):
        axis = [b - a for a, b in zip(start, end, strict=True)]
        squared = _dot(axis, axis)
        sides.append((_column(start), _column(axis), [v / squared for v in axis]))

    def distance(p: np.ndarray) -> np.ndarray:
        squares = []
        for a, e, along in sides:
            q = p - a
            t = np.minimum(np.maximum(along[0] * q[0] + along[1] * q[1] + along[2] * q[2], 0), 1)
            q -= e * t
            squares.append(np.einsum("ip,ip->p", q, q))
        return np.sqrt(functools.reduce(np.minimum, squares)) - radius

    return Solid(distance, lambda n: max(_dot(n, c) for c in corners) + radius * math.hypot(*n))


def cylinder(center: Vector, radius: float, half: float, rounding: float = 0.0, axis: str = "z") -> Solid:
    """A cylinder of half length `half` along an axis, its rims rounded."""
    k = _AXES[axis]
    i, j = (k + 1) % 3, (k + 2) % 3
    x, y, z = center[i], center[j], center[k]

    def distance(p: np.ndarray) -> np.ndarray:
        a, b = p[i] - x, p[j] - y
        around = np.sqrt(a * a + b * b) - (radius - rounding)
        return _cornered(around, np.abs(p[k] - z) - (half - rounding)) - rounding

    def reach(n: Vector) -> float:
        flat = (radius - rounding) * math.hypot(n[i], n[j]) + (half - rounding) * abs(n[k])
        return _dot(n, center) + flat + rounding * math.hypot(*n)

    return Solid(distance, reach)


def torus(center: Vector, ring: float, radius: float, axis: str = "z") -> Solid:
    """A tyre: a tube of `radius` along a circle of radius `ring` about an axis."""
    k = _AXES[axis]
    i, j = (k + 1) % 3, (k + 2) % 3
    x, y, z = center[i], center[j], center[k]

    def distance(p: np.ndarray) -> np.ndarray:
        a, b, c = p[i] - x, p[j] - y, p[k] - z
        around = np.sqrt(a * a + b * b) - ring
        return np.sqrt(around * around + c * c) - radius

    return Solid(distance, lambda n: _dot(n, center) + ring * math.hypot(n[i], n[j]) + radius * math.hypot(*n))


def revolve(profile: Sequence[Corner], rounding: float = 0.0) -> Solid:
    """What a profile of (radius, height) corners sweeps when it turns about z; it should start and end on the axis."""
    outline = signed_distance(profile, closed=False)

    def distance(p: np.ndarray) -> np.ndarray:
        return outline(np.sqrt(p[0] * p[0] + p[1] * p[1]), p[2]) - rounding

    def reach(n: Vector) -> float:
        across = math.hypot(n[0], n[1])
        return max(across * r + n[2] * z for r, z in profile) + rounding * math.hypot(*n)

    return Solid(distance, reach)


def cone(base: Vector, radius: float, height: float, top: float = 0.0) -> Solid:
    """An upright cone on `base`, cut off at a radius of `top`."""
    return revolve([(0, 0), (radius, 0), (top, height), (0, height)]).moved(*base)


def extrude(outline: Sequence[Corner], half: float, rounding: float = 0.0, axis: str = "y") -> Solid:
    """A polygon, thick by `half` to either side along an axis, all its edges rounded outwards by `rounding`.

    The corners hold the two other coordinates in the order x, y, z: (x, z) for axis "y".
    """
    k = _AXES[axis]
    i, j = (row for row in range(3) if row != k)
    flat = signed_distance(outline)

    def distance(p: np.ndarray) -> np.ndarray:
        return _cornered(flat(p[i], p[j]), np.abs(p[k]) - (half - rounding)) - rounding

    def reach(n: Vector) -> float:
        return max(n[i] * a + n[j] * b for a, b in outline) + abs(n[k]) * (half - rounding) + rounding * math.hypot(*n)

    return Solid(distance, reach)
