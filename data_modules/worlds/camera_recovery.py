"""Where the camera of a CLEVR scene stood, from the pixel coordinates that its objects were given.

CLEVR jitters its camera and does not record where it went, but every object's position is known both in the world and
in the picture. The camera always looks at the origin, so its three coordinates are all there is to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_modules.worlds.camera import BASE_LOCATION, Camera

_PIXEL_ERROR, _DEPTH_ERROR = 0.3, 1e-3
"""Errors of `pixel_coords`: columns and rows are rounded to whole pixels, depths are single precision floats."""

_TOLERANCE = 2.0
"""Largest distance in pixels between an object and where it is said to be that still counts as found."""

_STEPS = 20
_MOVE = 1e-5
"""Half the distance, in world units, between the two views whose difference gives a derivative."""

_FLAT = 1e-3
"""Least ratio of singular values of the derivatives at which all three coordinates follow from the objects."""


def recover_camera(objects: Sequence[Mapping[str, Any]], height: int, width: int, focal: float = 1.0) -> Camera:
    """The camera under which objects appear at their `pixel_coords`, by least squares (Gauss-Newton).

    Args:
        objects: CLEVR's records with `3d_coords` [x, y, z] and `pixel_coords` [column, row, depth].
        height: Rows of the image.
        width: Columns of the image.
        focal: Multiplier on CLEVR's focal length.

    Raises:
        ValueError: If there are fewer than two objects, or they stand so that the camera does not follow from them, or
            no camera sees them at these pixels (as where the image has another size).
    """
    if len(objects) < 2:
        raise ValueError(f"a camera is recovered from two or more objects, got {len(objects)}")
    points, seen = (np.array([o[key] for o in objects], dtype=np.float64) for key in ("3d_coords", "pixel_coords"))
    camera = Camera(BASE_LOCATION, height, width, focal)
    for _ in range(_STEPS):
        step = _newton_step(camera, points, seen)
        camera = _moved(camera, step)
        if np.abs(step).max() < _MOVE:
            break
    off = np.abs(camera.project(points) - seen)[:, :2].max()
    if not off <= _TOLERANCE:
        raise ValueError(f"no camera sees the objects at their pixel_coords in {width}x{height}: {off:.1f} pixels off")
    return camera


def _newton_step(camera: Camera, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The move of the camera, [3], that would cancel the errors if the view changed linearly with it."""
    weight = 1 / np.array([_PIXEL_ERROR, _PIXEL_ERROR, _DEPTH_ERROR])
    errors = (seen - camera.project(points)) * weight
    sides = [
        [_moved(camera, sign * axis).project(points) * weight for sign in (1, -1)] for axis in _MOVE * np.identity(3)
    ]
    derivatives = np.stack([(ahead - back).reshape(-1) / (2 * _MOVE) for ahead, back in sides], axis=1)
    step, _, _, singular = np.linalg.lstsq(derivatives, errors.reshape(-1), rcond=None)
    if singular[-1] < _FLAT * singular[0]:
        raise ValueError(f"the positions of {len(points)} objects leave the camera undetermined")
    return step


def _moved(camera: Camera, step: np.ndarray) -> Camera:
    x, y, z = (np.array(camera.location) + step).tolist()
    return replace(camera, location=(x, y, z))
