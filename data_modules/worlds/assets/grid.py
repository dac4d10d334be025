"""Signed distances and colours on a lattice of points, and what lies between them.

Shapes: lattice points [X, Y, Z] or M of them in a row, P points; vectors are float32 [3, P].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_modules.worlds.materials import linear


@dataclass(frozen=True)
class Grid:
    """A solid in its own frame.

    Args:
        lower: Position of the first lattice point, [3].
        step: Distance between neighbouring lattice points.
        distances: Signed distances, negative inside, float32 [X, Y, Z]; positive all around the outside.
        colors: sRGB colours of the nearest part of the surface, uint8 [X, Y, Z, 3].
    """

    lower: np.ndarray
    step: float
    distances: np.ndarray
    colors: np.ndarray

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances [M] and linear reflectance [3, M]."""
        decoded = linear(np.arange(256) / 255).astype(np.float32)
        return self.distances.reshape(-1), np.ascontiguousarray(decoded[self.colors].reshape(-1, 3).T)

    def distance(self, p: np.ndarray) -> np.ndarray:
        """Signed distances [P] of points, beyond the lattice a lower bound."""
        q, aside = self._inside(p)
        between = self._interpolate(self._rows[0], q)
        if not aside.any():
            return between
        # From outside a convex box, what is in it lies at more than a right angle behind the box's nearest point.
        return np.where(aside > 0, np.sqrt(aside * aside + np.square(np.maximum(between, 0))), between)

    def color(self, p: np.ndarray) -> np.ndarray:
        """Linear reflectance [3, P] next to points."""
        return self._interpolate(self._rows[1], self._inside(p)[0])

    def _inside(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest points in the lattice, in steps from its first point [3, P], and how far away they are [P]."""
        last = np.array(self.distances.shape, dtype=np.float32)[:, None] - 1
        wanted = (p - self.lower[:, None].astype(np.float32)) / np.float32(self.step)
        q = np.minimum(np.maximum(wanted, 0), last)
        aside = wanted - q
        return q, np.float32(self.step) * np.sqrt(np.einsum("ip,ip->p", aside, aside))

    def _interpolate(self, values: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Values [..., M] between lattice points, [..., P]."""
        shape = self.distances.shape
        # NumPy makes float64 of float32 and integers together.
        corner = np.floor(np.minimum(q, np.array(shape, dtype=np.float32)[:, None] - 2))
        x, y, z = q - corner
        cell = corner.astype(np.int32)
        sheet, row = shape[1] * shape[2], shape[2]

        def along_z(start: np.ndarray) -> np.ndarray:
            low = values.take(start, -1)
            return low + z * (values.take(start + 1, -1) - low)

        def along_y(start: np.ndarray) -> np.ndarray:
            low = along_z(start)
            return low + y * (along_z(start + row) - low)

        first = cell[0] * sheet + cell[1] * row + cell[2]
        low = along_y(first)
        return low + x * (along_y(first + sheet) - low)
