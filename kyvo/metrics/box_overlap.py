"""Exact overlap of boxes in any position: volume of what two share over the volume of both together.

N pairs of boxes, A and B numbers of boxes, F = 12 faces (6 of the box, one more for each cut), E = 12 edges of a face.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CORNER_SIGNS = np.array(
    [(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)], dtype=float
)
"""Omni3D's order of a box's corners, as signs along its own x (length), y (height) and z (width)."""

_FACES = np.array([(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (3, 7, 6, 2), (0, 4, 7, 3), (1, 2, 6, 5)])
"""Corners of each face, counterclockwise as seen from outside."""

_CUTS = tuple((axis, sign) for axis in range(3) for sign in (-1.0, 1.0))
_SLOTS = 6 + len(_CUTS)
_CHUNK = 1024
"""Pairs that are cut together: some 14 MB of edges."""

_FLAT = 1e-12
"""Share of the second box's size within which a point outside of a plane counts as on it."""


@dataclass(frozen=True)
class Boxes:
    """Boxes in the camera's frame (x right, y down, z forward), metres; N of them.

    Args:
        centers: float64 [N, 3].
        dimensions: float64 [N, 3], width, height and length, which lie along the box's own z, y and x.
        rotations: float64 [N, 3, 3], from the box's own axes into the camera's frame.
    """

    centers: Floats
    dimensions: Floats
    rotations: Floats

    @classmethod
    def of(cls, centers: ArrayLike, dimensions: ArrayLike, rotations: ArrayLike) -> "Boxes":
        """Boxes of nested lists, also of empty ones."""
        shapes = ((-1, 3), (-1, 3), (-1, 3, 3))
        values = (centers, dimensions, rotations)
        return cls(*(np.asarray(one, dtype=np.float64).reshape(form) for one, form in zip(values, shapes, strict=True)))

    def __len__(self) -> int:
        return len(self.centers)

    def __getitem__(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Boxes":
        return Boxes(self.centers[index], self.dimensions[index], self.rotations[index])

    @property
    def halves(self) -> Floats:
        """Half the size along the box's own x, y and z, float64 [N, 3]."""
        return self.dimensions[:, ::-1] / 2

    @property
    def volumes(self) -> Floats:
        """Cubic metres, float64 [N]; 0 for a box that has a side without a positive length, or no place."""
        real = np.isfinite(self.dimensions).all(-1) & np.isfinite(self.centers).all(-1) & (self.dimensions > 0).all(-1)
        return np.where(real, self.dimensions.prod(-1), 0.0)

    @property
    def corners(self) -> Floats:
        """Corners in Omni3D's order, float64 [N, 8, 3]."""
        own = CORNER_SIGNS * self.halves[:, None]
        return own @ self.rotations.swapaxes(-1, -2) + self.centers[:, None]


def nearest_rotations(matrices: ArrayLike, tolerance: float = 0.01) -> Floats:
    """Make axes that were rounded in a file orthogonal again: without, overlaps are not symmetric.

    Args:
        matrices: [N, 3, 3]. A mirror image is turned into a rotation that gives the same box.
        tolerance: Greatest change of an entry.

    Returns:
        float64 [N, 3, 3]; NaN for a matrix that is no rotation by more than the tolerance, or not finite.
    """
    given = np.asarray(matrices, dtype=np.float64).reshape(-1, 3, 3)
    finite = np.isfinite(given.sum((-1, -2)))
    left, _, right = np.linalg.svd(np.where(finite[:, None, None], given, np.eye(3)))
    nearest = left @ right
    close = finite & (np.abs(nearest - given).reshape(-1, 9).max(-1) <= tolerance)
    nearest[np.linalg.det(nearest) < 0, :, 2] *= -1
    nearest[~close] = np.nan
    return nearest


def iou3d(first: Boxes, second: Boxes) -> Floats:
    """Overlap of boxes pair by pair: the first box is cut along the faces of the second, and what remains is measured.

    Exact up to rounding: no sampling, no triangles that nearly lie in a plane.

    Args:
        first: N boxes; those without a volume overlap nothing.
        second: N boxes.

    Returns:
        float64 [N] in [0, 1].

    Raises:
        ValueError: Not as many boxes on both sides.

    Example:
        >>> import numpy as np
        >>> cubes = Boxes.of([[0, 0, 2], [0, 0, 2.5]], np.ones((2, 3)), np.stack([np.eye(3)] * 2))
        >>> iou3d(cubes[:1], cubes[1:]).round(4).tolist()
        [0.3333]
    """
    if len(first) != len(second):
        raise ValueError(f"boxes should come in pairs, got {len(first)} and {len(second)}")
    shared = np.zeros(len(first))
    near = np.flatnonzero(_may_touch(first, second))
    for start in range(0, len(near), _CHUNK):
        chunk = near[start : start + _CHUNK]
        shared[chunk] = _shared_volumes(first[chunk], second[chunk])
    return _ratio(shared, first, second)


def iou3d_matrix(first: Boxes, second: Boxes, compared: NDArray[np.bool_] | None = None) -> Floats:
    """Overlap of each of A boxes with each of B boxes.

    Args:
        first: A boxes.
        second: B boxes.
        compared: bool [A, B], the pairs of interest; others get 0. Default is all.

    Returns:
        float64 [A, B] in [0, 1].
    """
    wanted = np.ones((len(first), len(second)), dtype=bool) if compared is None else compared
    rows, columns = np.nonzero(wanted)
    result = np.zeros(wanted.shape)
    result[rows, columns] = iou3d(first[rows], second[columns])
    return result


def oracle_iou3d_matrix(centers: Floats, dimensions: Floats, truths: Boxes) -> Floats:
    """Overlap of boxes whose rotation is not known with true ones, each taken to be turned as the true one is.

    This is an oracle: it tells what place and size are worth if the rotation were right.

    Args:
        centers: float64 [A, 3], metres in the camera's frame.
        dimensions: float64 [A, 3], width, height, length.
        truths: B true boxes.

    Returns:
        float64 [A, B] in [0, 1].
    """
    rows, columns = (grid.ravel() for grid in np.indices((len(centers), len(truths))))
    turned = Boxes(centers[rows], dimensions[rows], truths.rotations[columns])
    true = truths[columns]
    # Both lie along the same axes, so that what they share is a box.
    apart = np.abs(np.einsum("nji,nj->ni", true.rotations, turned.centers - true.centers))
    sides = np.minimum(turned.halves + true.halves - apart, 2 * np.minimum(turned.halves, true.halves))
    shared = np.nan_to_num(sides.clip(min=0)).prod(-1)
    return _ratio(shared, turned, true).reshape(len(centers), len(truths))


def _ratio(shared: Floats, first: Boxes, second: Boxes) -> Floats:
    """Volumes that pairs share, [N], over the volumes that they fill; 0 where either has none."""
    ours, theirs = first.volumes, second.volumes
    both = ours + theirs - shared
    real = (ours > 0) & (theirs > 0)
    return np.where(real, shared / np.where(real, both, 1.0), 0.0).clip(0.0, 1.0)


def _may_touch(first: Boxes, second: Boxes) -> NDArray[np.bool_]:
    """Which pairs have volumes, spheres that meet, and extents that meet along the second box's axes: bool [N]."""
    apart = first.centers - second.centers
    reach = np.linalg.norm(first.halves, axis=-1) + np.linalg.norm(second.halves, axis=-1)
    turned = second.rotations.swapaxes(-1, -2) @ first.rotations
    along = np.abs(np.einsum("nji,nj->ni", second.rotations, apart))
    extent = second.halves + np.einsum("nij,nj->ni", np.abs(turned), first.halves)
    # Comparisons with NaN are false: such a box touches nothing.
    meet = (np.linalg.norm(apart, axis=-1) < reach) & (along < extent).all(-1)
    return meet & (first.volumes > 0) & (second.volumes > 0)


def _shared_volumes(first: Boxes, second: Boxes) -> Floats:
    """Volumes that boxes share pair by pair, float64 [N]."""
    # In the second box's own frame its faces are planes x = -h, x = h, ...
    corners = (first.corners - second.centers[:, None]) @ second.rotations
    edges, there = _surface(corners)
    for number, (axis, sign) in enumerate(_CUTS):
        _cut(edges, there, number, axis, sign, second.halves)
    return _volumes(edges, there)


def _surface(corners: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Faces of boxes as loops of edges, [N, 8, 3] -> float64 [N, F, E, 2, 3] (from, to) and which of them there are.

    Loops need not be in order: each edge has its direction, and that is all that cutting and measuring ask for.
    """
    edges = np.zeros((len(corners), _SLOTS, _SLOTS, 2, 3))
    there = np.zeros(edges.shape[:3], dtype=bool)
    edges[:, :6, :4, 0] = corners[:, _FACES]
    edges[:, :6, :4, 1] = corners[:, np.roll(_FACES, -1, axis=1)]
    there[:, :6, :4] = True
    return edges, there


def _cut(edges: Floats, there: NDArray[np.bool_], number: int, axis: int, sign: float, halves: Floats) -> None:
    """Cut away, in place, what lies beyond the plane `sign * coordinate = half` and close the hole with a new face.

    Points on the plane stay. An edge is always divided from its inner end, so that two faces which share it agree to
    the last bit about the point, and about every later comparison: the surface stays closed.
    """
    beyond = sign * edges[..., axis] - halves[:, None, None, None, axis]
    inside = beyond <= _FLAT * halves.max(-1)[:, None, None, None]
    leaving = there & inside[..., 0] & ~inside[..., 1]
    entering = there & ~inside[..., 0] & inside[..., 1]
    for crossing, inner in ((leaving, 0), (entering, 1)):
        pair, face, edge = np.nonzero(crossing)
        start, stop = edges[pair, face, edge, inner], edges[pair, face, edge, 1 - inner]
        depth, excess = np.minimum(beyond[pair, face, edge, inner], 0.0), beyond[pair, face, edge, 1 - inner]
        points = start + (depth / (depth - excess))[:, None] * (stop - start)
        points[:, axis] = sign * halves[pair, axis]
        edges[pair, face, edge, 1 - inner] = points
    there &= inside.any(-1)
    _close(edges, there, number, leaving, entering)


def _close(
    edges: Floats, there: NDArray[np.bool_], number: int, leaving: NDArray[np.bool_], entering: NDArray[np.bool_]
) -> None:
    """Close each cut face by an edge along the cut, and the hole by a face of the same edges turned round, in place."""
    pair, face = np.nonzero(leaving.any(-1))
    exits = edges[pair, face, leaving.argmax(-1)[pair, face], 1]
    entries = edges[pair, face, entering.argmax(-1)[pair, face], 0]
    closing = np.stack([exits, entries], axis=1)
    # No slot serves twice: the lid of cut k has an edge of each of the 6 + k faces before it, later cuts follow.
    slot = 6 + number
    edges[pair, face, slot], there[pair, face, slot] = closing, True
    edges[pair, slot, face], there[pair, slot, face] = closing[:, ::-1], True


def _volumes(edges: Floats, there: NDArray[np.bool_]) -> Floats:
    """Volumes inside closed surfaces, float64 [N]: the cones from the origin onto the faces, with their signs."""
    anchor = np.take_along_axis(edges[..., 0, :], there.argmax(-1)[..., None, None], axis=2)
    start, stop = edges[..., 0, :] - anchor, edges[..., 1, :] - anchor
    areas = np.where(there[..., None], np.cross(start, stop), 0.0).sum(2)
    return np.einsum("nfi,nfi->n", anchor[:, :, 0], areas).clip(min=0.0) / 6
