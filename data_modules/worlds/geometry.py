"""Surfaces a ray can meet: CLEVR's three rounded solids, assets beside them, and CLEVR's curved ground.

Shapes: N objects, P rays or points, Q (object, ray) pairs. Vectors are float32 [3, P], distances float32 [P]
with infinity where nothing is met; z points up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_modules.worlds.marching import Marched
from data_modules.worlds.rays import INFINITY, away_from_zero, box_span, dot, unit

CUBE, SPHERE, CYLINDER = range(3)
FIRST_MARCHED = 3
"""Kinds of solids: CLEVR's by their place in `SHAPES`, then the assets of a scene."""

CUBE_ROUNDING = 0.18
CYLINDER_ROUNDING = 0.09
"""Radius of the rounded edges, in half extents of the object."""

BOUNDING_RADIUS = (1.60, 1.0, 1.38)
"""Radius of the sphere around each of `SHAPES`, in half extents of the object."""

SHADOW_CUBE = 0.97
SHADOW_CYLINDER = (0.985, 0.985)
"""Sharp-edged solids that cast about the shadow of the rounded ones (half extent; radius and half height)."""

MARCH_STEPS = 8
MARCH_TOLERANCE = 3e-3


def _cylinder_span(
    origin: np.ndarray, direction: np.ndarray, radius: float, half: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distances where rays enter and leave the capped upright cylinder; enter > leave where they miss."""
    ox, oy, oz = origin
    dx, dy, dz = direction
    a = np.maximum(dx * dx + dy * dy, 1e-9)
    b = ox * dx + oy * dy
    discriminant = b * b - a * (ox * ox + oy * oy - radius * radius)
    root = np.sqrt(np.maximum(discriminant, 0)) / a
    middle = -b / a
    inverse = 1 / away_from_zero(dz)
    middle_z, reach_z = -oz * inverse, half * np.abs(inverse)
    enter = np.maximum(np.maximum(middle - root, middle_z - reach_z), 1e-4)
    leave = np.minimum(middle + root, middle_z + reach_z)
    return np.where(discriminant > 0, enter, INFINITY), leave


def _cube_distance(p: np.ndarray) -> np.ndarray:
    outside = np.maximum(np.abs(p) - (1 - CUBE_ROUNDING), 0)
    return np.sqrt(dot(outside, outside)) - CUBE_ROUNDING


def _cylinder_distance(p: np.ndarray) -> np.ndarray:
    across = np.maximum(np.sqrt(p[0] * p[0] + p[1] * p[1]) - (1 - CYLINDER_ROUNDING), 0)
    along = np.maximum(np.abs(p[2]) - (1 - CYLINDER_ROUNDING), 0)
    return np.sqrt(across * across + along * along) - CYLINDER_ROUNDING


def _hit_sphere(origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    b = dot(origin, direction)
    discriminant = b * b - dot(origin, origin) + 1
    t = -b - np.sqrt(np.maximum(discriminant, 0))
    return np.where((discriminant > 0) & (t > 1e-4), t, INFINITY)


def _hit_rounded(kind: int, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Sphere tracing from where the ray enters the sharp solid: exact on flat sides, a few steps at the edges."""
    if kind == CUBE:
        distance, (t, leave) = _cube_distance, box_span(origin, direction, 1.0)
    else:
        distance, (t, leave) = _cylinder_distance, _cylinder_span(origin, direction, 1.0, 1.0)
    pairs = np.flatnonzero(t < leave)
    out = np.full(t.shape, INFINITY)
    t, leave, origin, direction = t[pairs], leave[pairs], origin.take(pairs, 1), direction.take(pairs, 1)
    for _ in range(MARCH_STEPS):
        t = t + distance(origin + t * direction)
    hit = (distance(origin + t * direction) < MARCH_TOLERANCE) & (t <= leave + 0.01)
    out[pairs[hit]] = t[hit]
    return out


class Solids:
    """The objects of one scene as arrays over N.

    Args:
        kinds: Index into `SHAPES` of every object, or `FIRST_MARCHED` plus an index into `marched`, [N].
        centers: Positions [N, 3] of the middle of every object.
        radii: World units of one unit in the object's frame, [N]: half extents of CLEVR's solids, scales of assets.
        yaws: Rotations about z in radians [N].
        marched: Assets of the scene.
    """

    def __init__(
        self,
        kinds: np.ndarray,
        centers: np.ndarray,
        radii: np.ndarray,
        yaws: np.ndarray,
        marched: Sequence[Marched] = (),
    ) -> None:
        self.kinds = kinds
        self.marched = marched
        self.centers = np.asarray(centers, dtype=np.float32).reshape(-1, 3)
        self.radii = np.asarray(radii, dtype=np.float32)
        self.cos, self.sin = np.cos(yaws).astype(np.float32), np.sin(yaws).astype(np.float32)
        self.bounding = np.array([*BOUNDING_RADIUS, *(m.bounding for m in marched)], dtype=np.float32)[kinds]
        self.bounding_radii = self.radii * self.bounding
        self.squared = (self.centers * self.centers).sum(1, keepdims=True)
        self.present = [kind for kind in (CUBE, SPHERE, CYLINDER) if (kinds == kind).any()]
        self.is_marched = kinds >= FIRST_MARCHED
        self.behind = np.where(self.is_marched, self.bounding_radii, np.float32(0))[:, None]
        """How far behind a ray's start the middle of an object may lie that it meets, [N, 1]: assets may have hollows,
        and be large enough to stand inside their spheres."""

    def __len__(self) -> int:
        return len(self.kinds)

    def squared_distances(self, p: np.ndarray) -> np.ndarray:
        """Squared distances of points [3, P] from the centres, [N, P]."""
        return self.squared - 2 * (self.centers @ p) + dot(p, p)

    def turn(self, v: np.ndarray, j: np.ndarray) -> np.ndarray:
        """World vectors [3, Q] in the axes of objects j [Q]."""
        c, s = self.cos[j], self.sin[j]
        return np.stack([c * v[0] + s * v[1], c * v[1] - s * v[0], v[2]])

    def turn_back(self, v: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Vectors [3, Q] in the axes of objects j [Q], in the world's axes."""
        c, s = self.cos[j], self.sin[j]
        return np.stack([c * v[0] - s * v[1], s * v[0] + c * v[1], v[2]])

    def local(self, p: np.ndarray, j: np.ndarray) -> np.ndarray:
        """World points [3, Q] in the frames of objects j [Q]: centred, turned, half extent one."""
        return self.turn((p - self.centers.T.take(j, 1)) / self.radii[j], j)

    def hit(self, origin: np.ndarray, direction: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Distances at which rays (world, [3, Q]) meet objects j [Q]."""
        o, d = self.local(origin, j), self.turn(direction, j)
        kinds = self.kinds[j]
        t = np.full(j.shape, INFINITY)
        for kind in self.present:
            k = np.flatnonzero(kinds == kind)
            a, b = o.take(k, 1), d.take(k, 1)
            t[k] = _hit_sphere(a, b) if kind == SPHERE else _hit_rounded(kind, a, b)
        for asset, k in self._marched_among(j):
            t[k] = asset.hit(o.take(k, 1), d.take(k, 1))
        return t * self.radii[j]

    def _marched_among(self, j: np.ndarray) -> Iterator[tuple[Marched, np.ndarray]]:
        """The assets among objects j [Q], each with where in j it is."""
        kinds = self.kinds[j]
        for index, asset in enumerate(self.marched):
            k = np.flatnonzero(kinds == FIRST_MARCHED + index)
            if k.size:
                yield asset, k

    def blocks(self, origin: np.ndarray, direction: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether CLEVR's solids block rays in their frames, already known to meet the bounding spheres: bool [Q]."""
        kinds = self.kinds[j]
        blocked = kinds == SPHERE
        for kind in self.present:
            if kind == SPHERE:
                continue
            k = np.flatnonzero(kinds == kind)
            a, b = origin.take(k, 1), direction.take(k, 1)
            enter, leave = box_span(a, b, SHADOW_CUBE) if kind == CUBE else _cylinder_span(a, b, *SHADOW_CYLINDER)
            blocked[k] = enter < leave
        return blocked

    def normals(self, p: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Unit normals [3, Q] at surface points of objects j; CLEVR's point away from the unrounded core."""
        q, kinds = self.local(p, j), self.kinds[j]
        core = np.zeros_like(q)
        if CUBE in self.present:
            half = np.float32(1 - CUBE_ROUNDING)
            core = np.where(kinds == CUBE, np.minimum(np.maximum(q, -half), half), core)
        if CYLINDER in self.present:
            half = np.float32(1 - CYLINDER_ROUNDING)
            shrink = np.minimum(half / np.maximum(np.sqrt(q[0] * q[0] + q[1] * q[1]), 1e-6), 1)
            inner = np.stack([q[0] * shrink, q[1] * shrink, np.minimum(np.maximum(q[2], -half), half)])
            core = np.where(kinds == CYLINDER, inner, core)
        n = unit(q - core)
        for asset, k in self._marched_among(j):
            n[:, k] = asset.normals(q.take(k, 1))
        return self.turn_back(n, j)

    def paint(self, albedo: np.ndarray, p: np.ndarray, j: np.ndarray) -> None:
        """Writes the reflectance at surface points p of those objects j that are assets into albedo [3, Q]."""
        for asset, k in self._marched_among(j):
            albedo[:, k] = asset.color(self.local(p.take(k, 1), j[k]))

    def unshaded(
        self, p: np.ndarray, direction: np.ndarray, slope: np.ndarray, reach: np.ndarray, j: np.ndarray
    ) -> np.ndarray:
        """Share of round lamps that points see past assets, [Q].

        Args:
            p: Points.
            direction: Unit vectors to the middles of the lamps, [3, Q].
            slope: Radii of the lamps over their distances, [Q].
            reach: Distances of the lamps, [Q].
            j: Objects, all of them assets, [Q].
        """
        origin, direction, reach = self.local(p, j), self.turn(direction, j), reach / self.radii[j]
        seen = np.ones(j.size, dtype=np.float32)
        for asset, k in self._marched_among(j):
            seen[k] = asset.unshaded(origin.take(k, 1), direction.take(k, 1), slope[k], reach[k])
        return seen

    def crowding(self, p: np.ndarray, n: np.ndarray, to_centers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each asset with the share of bounced light [P] that it keeps from points p with normals n.

        Args:
            p: Points [3, P].
            n: Normals [3, P].
            to_centers: Squared distances to the centres, [N, P].
        """
        for j in np.flatnonzero(self.is_marched):
            asset = self.marched[self.kinds[j] - FIRST_MARCHED]
            near = np.flatnonzero(to_centers[j] < (asset.crowded * self.radii[j]) ** 2)
            share = np.zeros(p.shape[1], dtype=np.float32)
            this = np.full(near.size, j)
            share[near] = asset.crowding(self.local(p.take(near, 1), this), self.turn(n.take(near, 1), this))
            yield int(j), share


# Profile of the ground, measured on CLEVR's base scene: height over the distance along SWEEP.
# fmt: off
PROFILE_S = (
    -9.546, -4.138, -2.544, -1.048, 0.356, 1.67, 2.9, 4.048, 5.12, 6.118, 7.047, 7.909, 8.71, 9.451, 10.136, 10.769,
    11.353, 11.891, 12.385, 12.839, 13.256, 13.639, 13.989, 14.31, 14.604, 14.874, 15.121, 15.349, 15.559, 15.753,
    15.934, 16.103, 16.262, 16.412, 16.556, 16.695, 16.831, 16.964, 17.097, 17.229, 17.364, 17.5, 17.641, 17.785,
    17.935, 18.091,
)
PROFILE_Z = (
    0, 0, 0.001, 0.003, 0.006, 0.011, 0.019, 0.031, 0.048, 0.07, 0.099, 0.136, 0.183, 0.241, 0.312, 0.397, 0.499, 0.62,
    0.761, 0.925, 1.114, 1.331, 1.578, 1.858, 2.174, 2.528, 2.924, 3.365, 3.854, 4.394, 4.989, 5.642, 6.358, 7.139,
    7.991, 8.916, 9.92, 11.006, 12.179, 13.443, 14.804, 16.265, 17.831, 19.509, 21.301, 23.215,
)
# fmt: on


class Ground:
    """CLEVR's grey sweep: flat near the camera, bent up into a wall far behind, z = g(s) along one direction."""

    SWEEP = np.array([-0.90320699, 0.42920523], dtype=np.float32)
    START, END, CURVED = -10.0, 18.09, -2.5
    BINS = 4096
    NEWTON_STEPS = 6
    _per_unit = (BINS - 1) / (END - START)
    _grid = np.linspace(START, END, BINS)
    _height = np.interp(_grid, PROFILE_S, PROFILE_Z).astype(np.float32)
    _slope = np.gradient(np.interp(_grid, PROFILE_S, PROFILE_Z), _grid).astype(np.float32)

    @classmethod
    def _bin(cls, s: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum((s - cls.START) * cls._per_unit, 0), cls.BINS - 1).astype(np.int32)

    @classmethod
    def hit(cls, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Distances [P] at which rays from origin [3, P] or [3, 1] meet the ground."""
        downwards = np.minimum(direction[2], -1e-5)
        t = np.where(direction[2] < -1e-5, -origin[2] / downwards, INFINITY)
        along = cls.SWEEP @ direction[:2]
        start = cls.SWEEP @ origin[:2]
        far = np.flatnonzero((along > 0) & (start + np.minimum(t, 1e3) * along > cls.CURVED))
        if far.size:
            height = origin[2] if origin.shape[1] == 1 else origin[2][far]
            start = start if origin.shape[1] == 1 else start[far]
            t[far] = cls._hit_curved(height, start, direction[2][far], along[far], t[far])
        return t

    @classmethod
    def _hit_curved(
        cls, height: np.ndarray, start: np.ndarray, rise: np.ndarray, along: np.ndarray, flat: np.ndarray
    ) -> np.ndarray:
        """Newton from beyond: the profile is convex, so the steps come down on the crossing from one side."""
        t = np.minimum(np.minimum(flat, 200.0), (cls.END - start) / np.maximum(along, 1e-6))
        bins = cls._bin(start + t * along)
        gap = height + t * rise - cls._height[bins]
        met = gap <= 2e-3
        for _ in range(cls.NEWTON_STEPS):
            t = t - gap / np.minimum(rise - cls._slope[bins] * along, -1e-4)
            bins = cls._bin(start + t * along)
            gap = height + t * rise - cls._height[bins]
        return np.where(met, t, INFINITY)

    @classmethod
    def normals(cls, p: np.ndarray) -> np.ndarray:
        """Unit normals [3, P] of the ground below points [3, P]."""
        slope = cls._slope[cls._bin(cls.SWEEP @ p[:2])]
        up = 1 / np.sqrt(1 + slope * slope)
        side = -slope * up
        return np.stack([side * cls.SWEEP[0], side * cls.SWEEP[1], up])
