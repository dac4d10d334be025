"""Omni3D's conventions: numbers of categories, and which annotations its loader ignores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CATEGORY_IDS: Mapping[str, int] = {
    **{"bicycle": 11, "books": 14, "bottle": 15, "camera": 16, "cereal box": 17},
    **{"chair": 18, "cup": 19, "laptop": 20, "shoes": 21, "shelves": 25},
    **{"sink": 28, "cabinet": 29, "bathtub": 30, "toilet": 32, "table": 37},
    **{"bed": 39, "sofa": 43, "television": 44, "refrigerator": 49, "stove": 53},
    **{"oven": 57, "machine": 61},
}
"""Omni3D's number of each category of Objectron and ARKitScenes."""


@dataclass(frozen=True)
class Limits:
    """When an object is too small, too cut off or too hidden to count; shares of 1."""

    height: float
    truncation: float
    visibility: float


TRAINING = Limits(0.05, 0.75, 0.25)
EVALUATION = Limits(0.0625, 0.3333, 0.3333)

_TALLEST = 1.5
_FARTHEST = 1e8
_DEPTH_ERROR = 0.5


def is_ignored(annotation: Mapping[str, Any], height: float, limits: Limits) -> bool:
    """Whether Omni3D's loader ignores an annotation.

    Args:
        annotation: With its numbers checked; unknown ones (-1) are no reason to ignore it.
        height: Rows of the image.
        limits: What still counts.
    """
    if annotation.get("behind_camera", False) or not annotation.get("valid3D", True):
        return True
    hidden, cut = annotation.get("visibility", -1), annotation.get("truncation", -1)
    rectangle = rectangle_of(annotation)
    tall = None if rectangle is None else rectangle[3] - rectangle[1]
    return (
        min(annotation["dimensions"]) <= 0
        or annotation["center_cam"][2] > _FARTHEST
        or annotation.get("lidar_pts", -1) == 0
        or annotation.get("segmentation_pts", -1) == 0
        or annotation.get("depth_error", -1) > _DEPTH_ERROR
        or (tall is not None and not limits.height * height < tall < _TALLEST * height)
        or cut >= limits.truncation
        or 0 <= hidden <= limits.visibility
    )


def rectangle_of(annotation: Mapping[str, Any]) -> list[float] | None:
    """What an object covers of the picture (left, top, right, bottom), cut off at its edges where the file says so.

    None where the annotation has neither rectangle.
    """
    for name in ("bbox2D_trunc", "bbox2D_proj"):
        if name in annotation and (any(value != -1 for value in annotation[name]) or name == "bbox2D_proj"):
            rectangle: list[float] = annotation[name]
            return rectangle
    return None
