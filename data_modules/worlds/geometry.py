"""Surfaces a ray can meet: CLEVR's three rounded solids and its curved ground.

Shapes: N objects, P rays or points, Q (object, ray) pairs. Vectors are float32 [3, P], distances float32 [P]
with infinity where nothing is met; z points up.
"""

from __future__ import annotations

import numpy as np

CUBE, SPHERE, CYLINDER = range(3)

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
INFINITY = np.float32(np.inf)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of [3, P] with [3, P] or [3, 1] vectors, [P]."""
    return np.einsum("ip,ip->p", a, b)


def unit(a: np.ndarray) -> np.ndarray:
    """Vectors [3, P] scaled to length one."""
    return a / np.sqrt(np.maximum(dot(a, a), 1e-20))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of [3, P] vectors."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _away_from_zero(a: np.ndarray) -> np.ndarray:
    return np.where(np.abs(a) < 1e-7, np.float32(1e-7), a)


def _box_span(origin: np.ndarray, direction: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances where rays enter and leave the axis-aligned cube of the given half extent."""
    inverse = 1 / _away_from_zero(direction)
    middle, reach = -origin * inverse, half * np.abs(inverse)
    enter, leave = middle - reach, middle + reach
    first = np.maximum(np.maximum(enter[0], enter[1]), enter[2])
    return np.maximum(first, 1e-4), np.minimum(np.minimum(leave[0], leave[1]), leave[2])


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
    inverse = 1 / _away_from_zero(dz)
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
        distance, (t, leave) = _cube_distance, _box_span(origin, direction, 1.0)
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
        kinds: Index into `SHAPES` of every object, [N].
        centers: Positions [N, 3].
        radii: Half extents [N].
        yaws: Rotations about z in radians [N].
    """

    def __init__(self, kinds: np.ndarray, centers: np.ndarray, radii: np.ndarray, yaws: np.ndarray) -> None:
        self.kinds = kinds
        self.centers = np.asarray(centers, dtype=np.float32).reshape(-1, 3)
        self.radii = np.asarray(radii, dtype=np.float32)
        self.cos, self.sin = np.cos(yaws).astype(np.float32), np.sin(yaws).astype(np.float32)
        self.bounding = np.asarray(BOUNDING_RADIUS, dtype=np.float32)[kinds]
        self.bounding_radii = self.radii * self.bounding
        self.squared = (self.centers * self.centers).sum(1, keepdims=True)
        self.present = [kind for kind in (CUBE, SPHERE, CYLINDER) if (kinds == kind).any()]

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
        return t * self.radii[j]

    def blocks(self, origin: np.ndarray, direction: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether rays in the objects' frames, already known to meet the bounding spheres, are blocked: bool [Q]."""
        kinds = self.kinds[j]
        blocked = kinds == SPHERE
        for kind in self.present:
            if kind == SPHERE:
                continue
            k = np.flatnonzero(kinds == kind)
            a, b = origin.take(k, 1), direction.take(k, 1)
            enter, leave = _box_span(a, b, SHADOW_CUBE) if kind == CUBE else _cylinder_span(a, b, *SHADOW_CYLINDER)
            blocked[k] = enter < leave
        return blocked

    def normals(self, p: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Unit normals [3, Q] at surface points of objects j: away from the nearest point of the unrounded core."""
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
        return self.turn_back(unit(q - core), j)


# Profile of the ground, measured on CLEVR's base scene: height over the distance along SWEEP.
# fmt: off
_PROFILE_S = (
    -9.546, -4.138, -2.544, -1.048, 0.356, 1.67, 2.9, 4.048, 5.12, 6.118, 7.047, 7.909, 8.71, 9.451, 10.136, 10.769,
    11.353, 11.891, 12.385, 12.839, 13.256, 13.639, 13.989, 14.31, 14.604, 14.874, 15.121, 15.349, 15.559, 15.753,
    15.934, 16.103, 16.262, 16.412, 16.556, 16.695, 16.831, 16.964, 17.097, 17.229, 17.364, 17.5, 17.641, 17.785,
    17.935, 18.091,
)
_PROFILE_Z = (
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
    _height = np.interp(_grid, _PROFILE_S, _PROFILE_Z).astype(np.float32)
    _slope = np.gradient(np.interp(_grid, _PROFILE_S, _PROFILE_Z), _grid).astype(np.float32)

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
