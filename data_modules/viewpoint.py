"""How points of a scene get into its picture, from what the scene's JSON says of its camera."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_modules.worlds.camera import Camera

_NUMBERS = (int, float)


def projection(scene: Mapping[str, Any], size: tuple[int, int] | None) -> np.ndarray | None:
    """The camera of a scene as `Sample.camera` has it; None where the data does not say.

    Args:
        scene: With Omni3D's `K`, `width` and `height`, whose points are in the camera's frame, or with a `camera` as
            our worlds and packed CLEVR have it: `location`, `focal`, and `size` where the picture was another one.
        size: Height and width of the picture; None where there is none.

    Returns:
        float64 [3, 4].

    Raises:
        ValueError: Numbers that make no camera.
    """
    if {"K", "width", "height"} <= scene.keys():
        matrix = np.array(scene["K"], dtype=np.float64).reshape(3, 3)
        return _in_widths(np.pad(matrix, ((0, 0), (0, 1))), scene["height"], scene["width"])
    record = scene.get("camera")
    if size is None or not isinstance(record, Mapping) or not _is_place(record.get("location")):
        return None
    x, y, z = record["location"]
    height, width = record.get("size", size)
    camera = Camera((x, y, z), height, width, record.get("focal", 1.0))
    shift = -camera.rotation @ np.array(camera.location)
    return _in_widths(camera.intrinsics @ np.column_stack([camera.rotation, shift]), height, width)


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(one, _NUMBERS) for one in value)


def _in_widths(matrix: np.ndarray, height: float, width: float) -> np.ndarray:
    """The matrix for places in widths and heights of a picture, of one for pixels: pictures may have been scaled."""
    if not np.isfinite(matrix).all() or min(height, width) <= 0:
        raise ValueError(f"a camera needs finite numbers and a picture, got {matrix.tolist()} and {height} x {width}")
    return matrix / np.array([[width], [height], [1.0]])
