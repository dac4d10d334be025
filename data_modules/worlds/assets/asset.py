"""One solid with colours, given by a signed distance function, and its place in a scene.

Shapes: P points, float32 [3, P].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Asset:
    """A solid with colours in its own frame: z up, front towards -y, standing on z = 0.

    Args:
        name: "person", "bench-01" and so on.
        distance: Signed distances [P] of points [3, P]: negative inside; no more than the true distance outside
            (Lipschitz constant 1), which is what sphere tracing needs.
        color: Linear reflectance 0..1, [3, P], of points [3, P] on the surface.
        lower: Least corner of the tight axis-aligned box around it, world units at scale 1.
        upper: Greatest corner of that box.
        gloss: Strength of the highlights; 1 is that of CLEVR's rubber.
        floats: Height of its base above the ground in a world.
    """

    name: str
    distance: Callable[[np.ndarray], np.ndarray]
    color: Callable[[np.ndarray], np.ndarray]
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    gloss: float = 0.0
    floats: float = 0.0

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"{self.name}: lower must be below upper on every axis, got {self.lower} and {self.upper}")


@dataclass(frozen=True)
class Placed:
    """An asset somewhere in a scene.

    Args:
        asset: What stands there.
        position: World position of the origin of the asset's frame.
        yaw: Rotation about z in radians, counterclockwise from above.
        scale: World units for one unit of the asset's frame.
    """

    asset: Asset
    position: tuple[float, float, float]
    yaw: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"{self.asset.name}: scale must be positive, got {self.scale}")
