"""A pinhole camera, CLEVR's by default: rays through pixels, and points into pixels.

Shapes: P rays or points; positions in world units, z up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BASE_LOCATION = (7.48113, -6.50764, 5.34367)
"""Where the camera of CLEVR's base scene stands; it looks at the origin."""

FOCAL_OVER_SENSOR = 35.0 / 32.0
"""A 35 mm lens on a 32 mm sensor whose width is the longer side of the image."""


@dataclass(frozen=True)
class Camera:
    """A camera that looks at a point with the z axis upwards.

    Args:
        location: Position in world units.
        height: Rows of the image.
        width: Columns of the image.
        focal: Multiplier on CLEVR's focal length; larger is closer.
        target: The point in the middle of the image, not straight above or below the camera.
    """

    location: tuple[float, float, float]
    height: int
    width: int
    focal: float = 1.0
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.location[:2] == self.target[:2]:
            raise ValueError(f"a camera at {self.location} cannot look straight up or down at {self.target}")

    @classmethod
    def with_focal_pixels(
        cls,
        location: tuple[float, float, float],
        height: int,
        width: int,
        focal_pixels: float,
        target: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Camera:
        """A camera with its focal length in pixels, as real cameras are calibrated; otherwise as the class."""
        return cls(location, height, width, focal_pixels / (FOCAL_OVER_SENSOR * max(height, width)), target)

    @property
    def focal_pixels(self) -> float:
        """Focal length in pixels (square pixels, principal point at the centre of the image)."""
        return self.focal * FOCAL_OVER_SENSOR * max(self.height, self.width)

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors right, up and forward as rows, float64 [3, 3]."""
        x, y, z = (place - aim for place, aim in zip(self.location, self.target, strict=True))
        distance, across = math.sqrt(x * x + y * y + z * z), math.hypot(x, y)
        forward = np.array([-x, -y, -z]) / distance
        right = np.array([-y, x, 0.0]) / across
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def intrinsics(self) -> np.ndarray:
        """The matrix K from the camera's frame to homogeneous pixels (column, row), float64 [3, 3]."""
        focal = self.focal_pixels
        return np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1]])

    @property
    def rotation(self) -> np.ndarray:
        """From the world's axes to Omni3D's axes of a camera (x right, y down, z forward), float64 [3, 3]."""
        return self.axes * [[1], [-1], [1]]

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points [P, 3] in the camera's frame (x right, y down, z forward), float64 [P, 3]."""
        return (np.asarray(points, dtype=np.float64) - np.array(self.location)) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points [P, 3] -> (column, row, depth along the view axis), float64 [P, 3]."""
        x, y, depth = self.axes @ (np.asarray(points, dtype=np.float64) - np.array(self.location)).T
        scale = self.focal_pixels / depth
        return np.stack([self.width / 2 + scale * x, self.height / 2 - scale * y, depth], axis=1)

    def rays(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Unit directions through continuous pixel positions (centre of a pixel = index + 0.5), float32 [3, P]."""
        right, up, forward = self.axes.astype(np.float32)[:, :, None]
        across = (columns - self.width / 2) / self.focal_pixels
        upwards = (self.height / 2 - rows) / self.focal_pixels
        directions = forward + across.astype(np.float32) * right + upwards.astype(np.float32) * up
        return directions / np.sqrt(np.einsum("ip,ip->p", directions, directions))
