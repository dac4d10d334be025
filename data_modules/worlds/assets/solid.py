"""Solids: what a signed distance, colours and an extent make together, and how solids are moved and joined.

Shapes: P points; points and colours float32 [3, P], distances float32 [P].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.textures import Paint, plain

Vector = tuple[float, float, float]
Distance = Callable[[np.ndarray], np.ndarray]
Support = Callable[[Vector], float]
"""How far a solid reaches along a vector: the greatest product of the vector with a point of the solid."""

_GREY = plain("#808080")
_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Solid:
    """A shape with colours.

    Args:
        distance: Signed distances of points, negative inside; never changes faster than the point moves.
        reach: Its support function, from which tight boxes follow however it is turned.
        color: Linear reflectance 0..1 of points on the surface.
    """

    distance: Distance
    reach: Support
    color: Paint = _GREY

    @property
    def lower(self) -> Vector:
        """Least corner of the axis-aligned box around it."""
        return -self.reach((-1.0, 0.0, 0.0)), -self.reach((0.0, -1.0, 0.0)), -self.reach((0.0, 0.0, -1.0))

    @property
    def upper(self) -> Vector:
        """Greatest corner of that box."""
        return self.reach((1.0, 0.0, 0.0)), self.reach((0.0, 1.0, 0.0)), self.reach((0.0, 0.0, 1.0))

    def painted(self, paint: Paint) -> Solid:
        """The same shape in other colours."""
        return replace(self, color=paint)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Solid:
        """The solid shifted."""
        offset = np.array([[x], [y], [z]], dtype=np.float32)
        return Solid(
            lambda p: self.distance(p - offset),
            lambda n: self.reach(n) + n[0] * x + n[1] * y + n[2] * z,
            lambda p: self.color(p - offset),
        )

    def turned(self, degrees: float, axis: str = "z") -> Solid:
        """The solid turned about an axis through the origin, counterclockwise seen from the axis' tip."""
        first, second = (_AXES[axis] + 1) % 3, (_AXES[axis] + 2) % 3
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def back(p: np.ndarray) -> np.ndarray:
            q = p.copy()
            q[first], q[second] = c * p[first] + s * p[second], c * p[second] - s * p[first]
            return q

        def reach(n: Vector) -> float:
            m = list(n)
            m[first], m[second] = c * n[first] + s * n[second], c * n[second] - s * n[first]
            return self.reach((m[0], m[1], m[2]))

        return Solid(lambda p: self.distance(back(p)), reach, lambda p: self.color(back(p)))

    def stretched(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Solid:
        """The solid stretched along the axes; distances become lower bounds, by the least of the factors."""
        inverse = np.array([[1 / x], [1 / y], [1 / z]], dtype=np.float32)
        least = min(x, y, z)
        return Solid(
            lambda p: self.distance(p * inverse) * least,
            lambda n: self.reach((n[0] * x, n[1] * y, n[2] * z)),
            lambda p: self.color(p * inverse),
        )

    def mirrored(self, axis: str = "x") -> Solid:
        """The part where a coordinate is positive, together with its mirror image."""
        row = _AXES[axis]

        def folded(p: np.ndarray) -> np.ndarray:
            q = p.copy()
            np.abs(q[row], out=q[row])
            return q

        def reach(n: Vector) -> float:
            m = list(n)
            m[row] = abs(n[row])
            return self.reach((m[0], m[1], m[2]))

        return Solid(lambda p: self.distance(folded(p)), reach, lambda p: self.color(folded(p)))

    def standing(self) -> Solid:
        """The solid set down on z = 0."""
        return self.moved(z=-self.lower[2])

    def filling(self, x: float, y: float, z: float) -> Solid:
        """The solid stretched to a box of these sides that stands on z = 0, centred on the z axis."""
        low, high = self.lower, self.upper
        factors = [side / (b - a) for side, a, b in zip((x, y, z), low, high, strict=True)]
        middle = [(a + b) / 2 for a, b in zip(low[:2], high[:2], strict=True)]
        return self.moved(-middle[0], -middle[1], -low[2]).stretched(*factors)

    def asset(self, name: str, gloss: float = 0.0, floats: float = 0.0) -> Asset:
        """The finished asset; the solid must stand on z = 0."""
        return Asset(name, self.distance, self.color, self.lower, self.upper, gloss, floats)


def _by_nearest(solids: tuple[Solid, ...]) -> Paint:
    """Every point takes the colour of the solid whose surface it is nearest to."""

    def paint(p: np.ndarray) -> np.ndarray:
        nearest = np.argmin([np.abs(solid.distance(p)) for solid in solids], axis=0)
        colors = np.empty_like(p)
        for k, solid in enumerate(solids):
            chosen = np.flatnonzero(nearest == k)
            if chosen.size:
                colors[:, chosen] = solid.color(p.take(chosen, 1))
        return colors

    return paint


def union(*solids: Solid) -> Solid:
    """Several solids as one."""

    def distance(p: np.ndarray) -> np.ndarray:
        least = solids[0].distance(p)
        for solid in solids[1:]:
            least = np.minimum(least, solid.distance(p))
        return least

    return Solid(distance, lambda n: max(solid.reach(n) for solid in solids), _by_nearest(solids))


def blend(width: float, *solids: Solid) -> Solid:
    """Several solids as one, with fillets about as wide as `width` (polynomial smooth minimum)."""

    def distance(p: np.ndarray) -> np.ndarray:
        least = solids[0].distance(p)
        for solid in solids[1:]:
            other = solid.distance(p)
            overlap = np.maximum(width - np.abs(least - other), 0)
            least = np.minimum(least, other) - overlap * overlap * (0.25 / width)
        return least

    return Solid(distance, lambda n: max(solid.reach(n) for solid in solids), _by_nearest(solids))


def carve(solid: Solid, *tools: Solid) -> Solid:
    """A solid with others taken out of it; the cuts have the tools' colours."""

    def distance(p: np.ndarray) -> np.ndarray:
        greatest = solid.distance(p)
        for tool in tools:
            greatest = np.maximum(greatest, -tool.distance(p))
        return greatest

    return Solid(distance, solid.reach, _by_nearest((solid, *tools)))


def common(solid: Solid, other: Solid) -> Solid:
    """What two solids share, in the colours of the first; its box is only known to lie in both boxes."""
    return Solid(
        lambda p: np.maximum(solid.distance(p), other.distance(p)),
        lambda n: min(solid.reach(n), other.reach(n)),
        solid.color,
    )
