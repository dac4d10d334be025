"""Surfaces of triangles as grids of signed distances.

Inside and outside. Where the triangles close into a volume, a point is inside if they wind around it. Any others, with
holes, loose sheets or reversed faces, become a shell half a step thick on either side: outside is what can be reached
from afar without crossing the shell, so that holes narrower than a step close and wider ones stay open.

Shapes: F triangles, S samples of the surface, lattice points [X, Y, Z] or M of them in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from data_modules.worlds.assets.grid import Grid
from data_modules.worlds.materials import srgb

_MARGIN = 2
"""Lattice points beyond the surface on every side."""

_SHELL = 0.51
"""Half the thickness of shells, in steps: of two neighbouring points on either side of a sheet, one lies that near."""

_SAMPLES_PER_STEP = 2
_NEAREST = 4
"""How many samples around a lattice point are looked at."""

_EXACT_WITHIN = 2.5
"""Distances up to this many steps are those to triangles, greater ones those to samples."""

_ASIDE = (0.00271, 0.00314)
"""Columns of lattice points are moved aside by this many steps, lest they run through edges of triangles."""


@dataclass(frozen=True)
class Samples:
    """Points of a surface.

    Args:
        triangles: Corners of the surface's triangles, [F, 3, 3].
        faces: The triangle of every sample, [S].
        weights: Shares of that triangle's corners, [S, 3].
    """

    triangles: np.ndarray
    faces: np.ndarray
    weights: np.ndarray

    @cached_property
    def points(self) -> np.ndarray:
        """Positions [S, 3]."""
        return np.einsum("sc,sci->si", self.weights, self.triangles[self.faces])


def step_of(triangles: np.ndarray, resolution: int) -> float:
    """Distance between lattice points if `resolution` of them are to span the longest side with its margins."""
    corners = triangles.reshape(-1, 3)
    return float((corners.max(0) - corners.min(0)).max() / (resolution - 1 - 2 * _MARGIN))


def sample(triangles: np.ndarray, step: float) -> Samples:
    """Spreads samples evenly over triangles [F, 3, 3], some to a step of the lattice and at least one on each."""
    a, b, c = triangles.transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    counts = np.maximum(np.ceil(area * (_SAMPLES_PER_STEP / step) ** 2), 1).astype(np.int64)
    faces = np.repeat(np.arange(len(triangles)), counts)
    k = np.arange(faces.size) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5
    u, v = (k * 0.7548777) % 1, (k * 0.5698403) % 1
    beyond = u + v > 1
    u, v = np.where(beyond, 1 - u, u), np.where(beyond, 1 - v, v)
    return Samples(triangles, faces, np.stack([1 - u - v, u, v], axis=1))


def bake(samples: Samples, colors: np.ndarray, step: float, closed: bool) -> Grid:
    """The grid of a surface.

    Args:
        samples: The surface, sampled with `sample` at the same step.
        colors: Linear reflectance of the samples, [S, 3].
        step: Distance between lattice points.
        closed: Whether the triangles bound a volume.
    """
    corners = samples.triangles.reshape(-1, 3)
    lower = corners.min(0) - _MARGIN * step
    shape = tuple(np.ceil((corners.max(0) - lower) / step + _MARGIN).astype(int) + 1)
    lattice = lower + step * np.indices(shape).reshape(3, -1).T
    nearest = _nearest(samples.points, lattice, np.rint((samples.points - lower) / step).astype(int), shape)
    distances = _distances(samples, lattice, nearest, _EXACT_WITHIN * step).reshape(shape)
    if closed:
        distances = np.where(_wound_around((samples.triangles - lower) / step, shape), -distances, distances)
    else:
        distances = _shell(distances, _SHELL * step)
    painted = srgb(colors[nearest].mean(1)) * 255 + 0.5
    return Grid(lower, step, distances.astype(np.float32), painted.astype(np.uint8).reshape(*shape, 3))


def thickness(step: float, closed: bool) -> float:
    """By how much the baked solid is larger on every side than the surface."""
    return 0.0 if closed else _SHELL * step


def _nearest(points: np.ndarray, lattice: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Indices [M, K] of the samples nearest to each lattice point.

    Away from the surface they are those of the nearest lattice point beside it, as searching there takes long: in the
    middle of a ball, all samples are as near.

    Args:
        points: Samples [S, 3].
        lattice: Lattice points [M, 3].
        places: The lattice point next to each sample, [S, 3].
        shape: X, Y and Z.
    """
    beside = np.zeros(shape, dtype=bool)
    beside[tuple(places.T)] = True
    beside = ndimage.binary_dilation(beside, np.ones((3, 3, 3)), iterations=math.ceil(_EXACT_WITHIN))
    known = np.flatnonzero(beside)
    found = np.zeros((beside.size, min(_NEAREST, len(points))), dtype=np.int64)
    found[known] = cKDTree(points).query(lattice[known], k=np.arange(found.shape[1]) + 1)[1]
    ask = ndimage.distance_transform_edt(~beside, return_distances=False, return_indices=True)
    return found[np.ravel_multi_index(tuple(ask.reshape(3, -1)), shape)]


def _distances(samples: Samples, points: np.ndarray, nearest: np.ndarray, within: float) -> np.ndarray:
    """Distances [M] of points [M, 3] to their nearest samples [M, K], where those are near to their triangles."""
    apart = np.linalg.norm(points - samples.points[nearest[:, 0]], axis=1)
    near = np.flatnonzero(apart < within)
    for k in range(nearest.shape[1]):
        corners = samples.triangles[samples.faces[nearest[near, k]]]
        apart[near] = np.minimum(apart[near], _to_triangles(points[near], corners))
    return apart


def _to_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distances [M] of points [M, 3] to triangles [M, 3, 3]: to the plane above the triangle, else to the edges."""
    a, b, c = corners.transpose(1, 0, 2)
    edges = np.stack([_to_segments(points, *ends) for ends in ((a, b), (b, c), (c, a))]).min(0)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    above = length > 1e-12
    for start, end in ((a, b), (b, c), (c, a)):
        above &= np.einsum("mi,mi->m", np.cross(end - start, points - start), normal) >= 0
    plane = np.abs(np.einsum("mi,mi->m", points - a, normal)) / np.maximum(length, 1e-12)
    return np.where(above, plane, edges)


def _to_segments(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    along, toward = end - start, points - start
    squared = np.maximum(np.einsum("mi,mi->m", along, along), 1e-24)
    share = np.clip(np.einsum("mi,mi->m", toward, along) / squared, 0, 1)
    return np.linalg.norm(toward - share[:, None] * along, axis=1)


def _wound_around(triangles: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lattice points [X, Y, Z] that triangles wind around, their corners [F, 3, 3] in steps from the first point.

    Walking up a column of points, each triangle that is crossed from outside adds one and from inside takes one.
    """
    flat = triangles[:, :, :2] - _ASIDE
    low, high = np.ceil(flat.min(1)).astype(int), np.floor(flat.max(1)).astype(int)
    wide, deep = np.maximum(high - low + 1, 0).T
    face = np.repeat(np.arange(len(triangles)), wide * deep)
    k = np.arange(face.size) - np.repeat(np.cumsum(wide * deep) - wide * deep, wide * deep)
    column = low[face] + np.stack(np.divmod(k, deep[face]), axis=1)
    toward = flat[face] - column[:, None]
    x, y = toward[..., 0], toward[..., 1]
    parts = np.roll(x, -1, 1) * np.roll(y, -2, 1) - np.roll(x, -2, 1) * np.roll(y, -1, 1)
    crossed = (parts > 0).all(1) | (parts < 0).all(1)
    parts, face, column = parts[crossed], face[crossed], column[crossed]
    height = np.einsum("kc,kc->k", parts, triangles[face, :, 2]) / parts.sum(1)
    turns = np.zeros((*shape[:2], shape[2] + 1), dtype=np.int32)
    np.add.at(turns, (column[:, 0], column[:, 1], np.ceil(height).astype(int)), -np.sign(parts[:, 0]).astype(np.int32))
    return turns.cumsum(2)[:, :, :-1] != 0


def _shell(distances: np.ndarray, half: float) -> np.ndarray:
    """Signed distances to a shell around a surface and all it keeps from outside, given distances to the surface."""
    regions, _ = ndimage.label(distances > half)
    enclosed = (regions != regions[0, 0, 0]) & (regions != 0)
    return np.where(enclosed, -distances - half, distances - half)
