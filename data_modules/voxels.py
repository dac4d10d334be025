"""Voxels of surfaces: the vectors of the space `voxel8`, and solids given by signed distances as voxels.

The cube is [-0.5, 0.5]^3, z up; N voxels along each side of it, L voxels, P points or cells; vectors of points are
float32 [3, P].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.materials import srgb
from data_modules.worlds.rays import dot, unit
from kyvo.slat import Slat

SPACE = "voxel8"
"""Channels 0-2: sRGB colour * 2 - 1; 3-5: unit normal; 6: signed offset of the surface from the voxel's middle along
the normal, in voxels; 7: opacity * 2 - 1."""

FILL = 1 - 1e-4
"""Longest side of an object in the cube: short of 1 by a hair, lest faces lie on the cube's own."""

OFFSET_LIMIT = 0.87
"""Planes through a voxel lie no further from its middle than half a diagonal."""

_COARSEST = 8
"""Cells along a side at which the search for the surface starts, at least."""

_FINEST = 4
"""Parts of a voxel's side down to which one that shows no change of sign yet is searched for the surface."""

_POINTS = 1 << 14
"""Points whose distances are asked for at once: more would not stay in the processor's cache."""

_HALF_DIAGONAL = 3**0.5 / 2
_SLACK = 1.001
_STEPS = 6
_SPAN = 0.05
"""How far about a point its normal is measured, in voxels."""

_STEEPEST = 0.05
"""Least squared slope that a step towards the surface divides by: distances of stretched solids rise slowly."""

_ASIDE = (0.013, 0.007, 0.011)
"""The search starts aside of the middle by so many voxels: in the axis of a wire no direction leads to the surface."""

_CORNERS = np.indices((2, 2, 2)).reshape(3, 8)

_Distance = Callable[[np.ndarray], np.ndarray]


def voxel8(colors: np.ndarray, normals: np.ndarray, offsets: np.ndarray, opacities: np.ndarray | float) -> torch.Tensor:
    """Vectors of the space `voxel8`, float32 [L, 8].

    Args:
        colors: sRGB in [0, 1], [L, 3].
        normals: Unit vectors, [L, 3].
        offsets: How far along its normal each surface lies from its voxel's middle, in voxels, [L].
        opacities: In [0, 1], [L] or one for all; 1 is opaque.
    """
    found = np.empty((len(normals), 8), dtype=np.float32)
    found[:, :3] = np.clip(colors, 0, 1) * 2 - 1
    found[:, 3:6] = normals
    found[:, 6] = np.clip(offsets, -OFFSET_LIMIT, OFFSET_LIMIT)
    found[:, 7] = np.clip(opacities, 0, 1) * 2 - 1
    return torch.from_numpy(found)


def voxelize_asset(asset: Asset, resolution: int = 64) -> Slat:
    """The voxels that an asset's surface passes through, in the space `voxel8`.

    The middle of the asset's box comes to the cube's, the longest side of the box fills the cube. A surface that enters
    a voxel by less than an eighth of its side, or a part thinner than a quarter of it, may be overlooked.

    Args:
        asset: Its distances may be lower bounds.
        resolution: N.
    """
    lower, upper = (np.array(corner, dtype=np.float64)[:, None] for corner in (asset.lower, asset.upper))
    middle, scale = ((lower + upper) / 2).astype(np.float32), np.float32(FILL / (upper - lower).max())

    def distance(p: np.ndarray) -> np.ndarray:
        q = p / scale + middle
        parts = [asset.distance(q[:, first : first + _POINTS]) for first in range(0, max(q.shape[1], 1), _POINTS)]
        return np.concatenate(parts).astype(np.float32) * scale

    cells = _crossed(distance, resolution)
    centers = _centers(cells, resolution)
    points, normals = _nearest(distance, centers, 1 / resolution)
    colors = srgb(np.asarray(asset.color(points / scale + middle)))
    offsets = dot(points - centers, normals) * resolution
    coords = torch.from_numpy(cells.T.astype(np.int32))
    return Slat(coords, voxel8(colors.T, normals.T, offsets, 1.0), resolution, SPACE)


def _centers(cells: np.ndarray, size: int) -> np.ndarray:
    """Middles [3, P] of cells [3, P] of a cube that is divided into size^3."""
    return ((cells + 0.5) / size - 0.5).astype(np.float32)


def _parts(cells: np.ndarray) -> np.ndarray:
    """The 8 parts of each cell, [3, 8 P], those of a cell in a row."""
    return (2 * cells[:, :, None] + _CORNERS[:, None]).reshape(3, -1)


# ---- which voxels ---------------------------------------------------------------------------------------------------


def _crossed(distance: _Distance, size: int) -> np.ndarray:
    """Voxels [3, L] that the surface passes through, x-major."""
    near = _near(distance, size)
    inside = _inside_corners(distance, near, size)
    corners_inside = inside.sum(1)
    crossed = (corners_inside > 0) & (corners_inside < 8)
    open_ = np.flatnonzero(~crossed)
    crossed[open_] = _changes_within(distance, near.take(open_, 1), inside[open_, 0], size)
    found = near[:, crossed]
    return found[:, np.lexsort(found[::-1])]


def _near(distance: _Distance, size: int) -> np.ndarray:
    """Voxels [3, P] near enough to the surface to hold some of it, found from coarse cells to fine ones."""
    coarse = size
    while coarse % 2 == 0 and coarse > _COARSEST:
        coarse //= 2
    cells = _reached(distance, np.indices((coarse,) * 3).reshape(3, -1), coarse)
    while coarse < size:
        coarse *= 2
        cells = _reached(distance, _parts(cells), coarse)
    return cells


def _reached(distance: _Distance, cells: np.ndarray, size: int) -> np.ndarray:
    """Those cells that the surface may reach: distances never change faster than the point moves."""
    return cells[:, np.abs(distance(_centers(cells, size))) <= _SLACK * _HALF_DIAGONAL / size]


def _inside_corners(distance: _Distance, cells: np.ndarray, size: int) -> np.ndarray:
    """Which corners of voxels lie inside, [P, 8]."""
    corners = (cells[:, :, None] + _CORNERS[:, None]).reshape(3, -1)
    numbers, back = np.unique(np.ravel_multi_index(tuple(corners), (size + 1,) * 3), return_inverse=True)
    places = np.stack(np.unravel_index(numbers, (size + 1,) * 3)) / size - 0.5
    inside: np.ndarray = (distance(places.astype(np.float32)) <= 0)[back]
    return inside.reshape(-1, 8)


def _changes_within(distance: _Distance, cells: np.ndarray, inside: np.ndarray, size: int) -> np.ndarray:
    """Whether voxels [3, P] hold a point on the other side than their corners, `inside` [P] tells which: [P]."""
    found = np.zeros(inside.size, dtype=bool)
    parts, owner, fineness = cells, np.arange(inside.size), 1
    while fineness < _FINEST and owner.size:
        fineness *= 2
        parts, owner = _parts(parts), np.repeat(owner, 8)
        gaps = distance(_centers(parts, size * fineness))
        found[owner[(gaps <= 0) != inside[owner]]] = True
        going = np.flatnonzero(~found[owner] & (np.abs(gaps) <= _SLACK * _HALF_DIAGONAL / (size * fineness)))
        parts, owner = parts.take(going, 1), owner[going]
    return found


# ---- what is in them ------------------------------------------------------------------------------------------------


def _nearest(distance: _Distance, centers: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of the surface, in or next to the voxel around each centre, and the unit normals there, [3, L] each."""
    low, high = centers - side / 2, centers + side / 2
    points = centers + np.float32(side) * np.array(_ASIDE, dtype=np.float32)[:, None]
    for _ in range(_STEPS):
        points = _step(distance, np.minimum(np.maximum(points, low), high), side)
    slope = _slopes(distance, points, side)
    # Where all slopes cancel the normal is upwards rather than nothing.
    slope[2] += 1e-9
    return points, unit(slope)


def _step(distance: _Distance, points: np.ndarray, side: float) -> np.ndarray:
    """Points moved to where the surface is expected, by no more than a voxel."""
    slope = _slopes(distance, points, side)
    far = distance(points) / np.maximum(dot(slope, slope), _STEEPEST)
    move = far * slope
    return points - move * np.minimum(1, side / np.maximum(np.sqrt(dot(move, move)), 1e-12)).astype(np.float32)


def _slopes(distance: _Distance, points: np.ndarray, side: float) -> np.ndarray:
    """Gradients [3, P] of the distance: differences along the axes."""
    span = np.float32(_SPAN * side)
    ahead = span * np.eye(3, dtype=np.float32)[:, :, None]
    return np.stack([distance(points + step) - distance(points - step) for step in ahead]) / (2 * span)
