"""CLEVR's lights: three square lamps that look at the origin, and a sun.

All four are one kind of square emitter. Seen from a point p it lies at `anchor - follow * p`: follow is 1 for a lamp
and 0 for the sun, whose direction is the same everywhere. So every product with that vector is a matrix product.

Shapes: L = 4 lights, P points; vectors float32 [3, P].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BASE_LAMPS: dict[str, tuple[float, float, float]] = {
    "Lamp_Key": (6.44671, -2.90517, 4.2584),
    "Lamp_Fill": (-4.67112, -4.0136, 3.01122),
    "Lamp_Back": (-1.1685, 2.64602, 5.81574),
}
"""Lamp positions of CLEVR's base scene."""

_LAMP_SIDES = (0.5, 0.5, 1.0)
_LAMP_RADIANCE = ((100.0, 93.23, 81.67), (22.85, 24.53, 30.0), (12.5, 12.5, 12.5))
_SUN_DIRECTION = (0.41449565, -0.19458349, 0.88900542)
_SUN_IRRADIANCE = 0.45
_SUN_SIDE = 0.0997 * np.sqrt(np.pi)
"""Side of the square with the solid angle of the sun's disc (0.0997 rad radius)."""


class Lights:
    """The four lights of a scene as arrays over L.

    Args:
        lamps: Positions of the lamps of `BASE_LAMPS`, by name.
    """

    def __init__(self, lamps: Mapping[str, Sequence[float]]) -> None:
        positions = np.array([lamps[name] for name in BASE_LAMPS], dtype=np.float64)
        anchor = np.concatenate([positions, [_SUN_DIRECTION]])
        axis = anchor / np.linalg.norm(anchor, axis=1, keepdims=True)
        side = np.array([*_LAMP_SIDES, _SUN_SIDE])
        edge = np.cross(axis, [[0.0, 0.0, 1.0]] * 3 + [[1.0, 0.0, 0.0]])
        edge /= np.linalg.norm(edge, axis=1, keepdims=True)

        def single(a: np.ndarray) -> np.ndarray:
            return a.astype(np.float32)

        self.anchor = single(anchor)
        """Position of each lamp, direction of the sun, [L, 3]."""
        self.follow = single(np.array([1.0, 1.0, 1.0, 0.0]))[:, None]
        self.axis = single(axis)
        """Where the emitters' normals come from: unit vectors from the origin, [L, 3]."""
        self.strength = single(np.array([*(s * s for s in _LAMP_SIDES), _SUN_IRRADIANCE]))[:, None]
        self.color = single(np.array([*_LAMP_RADIANCE, (1.0, 1.0, 1.0)])).T
        """Radiance of each lamp (of the sun: colour of its irradiance), [3, L]."""
        self.edges = single(np.stack([side[:, None] * edge, side[:, None] * np.cross(edge, axis)]))
        """The two sides of each square, [2, L, 3]."""
        self.half_diagonal = single(side * 0.7071)[:, None]
        self.radius = single(side / np.sqrt(np.pi))
        """Radii of the discs as large as the squares, [L]."""
        self.reach = np.array([1.0, 1.0, 1.0, np.inf], dtype=np.float32)[:, None]
        """How far along its vector an emitter lies: nothing behind a lamp shades, everything before the sun does."""
        self._anchor_squared = (self.anchor * self.anchor).sum(1, keepdims=True)
        self._anchor_axis = (self.anchor * self.axis).sum(1, keepdims=True)

    def along(self, v: np.ndarray, v_dot_p: np.ndarray) -> np.ndarray:
        """Products of vectors [3, P] with the vectors from points p to the lights, given v.p [P]: [L, P]."""
        return self.anchor @ v - self.follow * v_dot_p

    def squared_distances(self, p_to_light_p: np.ndarray, p_dot_p: np.ndarray) -> np.ndarray:
        """Squared lengths [L, P] of the vectors to the lights, given their products with p and p.p."""
        return self._anchor_squared - self.follow * (2 * p_to_light_p + p_dot_p)

    def irradiance(self, p: np.ndarray, inverse: np.ndarray) -> np.ndarray:
        """What falls from each light on a surface at p that faces it, before colour and shadow, [L, P].

        Args:
            p: Points [3, P].
            inverse: One over the distance to each light, [L, P].
        """
        facing = self._anchor_axis - self.follow * (self.axis @ p)
        return self.strength * np.maximum(facing, 0) * inverse * inverse * inverse
