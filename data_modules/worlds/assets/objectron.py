"""The nine categories of Objectron as assets that fill a box of given dimensions.

Omni3D gives a box (width, height, length) and lays length along the object's x axis, height along y, width along z.
Assets have z upwards: length lies along x, width along y, height along z.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.bicycle import bicycle
from data_modules.worlds.assets.chairs import chair
from data_modules.worlds.assets.desk import books, camera, laptop
from data_modules.worlds.assets.dimensions import DIMENSIONS, Size, draw_dimensions
from data_modules.worlds.assets.kitchen import bottle, cereal_box, cup
from data_modules.worlds.assets.shoes import shoe
from data_modules.worlds.assets.solid import Solid

__all__ = ["DIMENSIONS", "draw_dimensions", "objectron_asset"]

_MAKERS: dict[str, tuple[Callable[[Size, random.Random], Solid], float]] = {
    "bicycle": (bicycle, 0.8),
    "books": (books, 0.4),
    "bottle": (bottle, 1.5),
    "camera": (camera, 0.8),
    "cereal box": (cereal_box, 0.5),
    "chair": (chair, 0.4),
    "cup": (cup, 1.2),
    "laptop": (laptop, 0.8),
    "shoes": (shoe, 0.3),
}
"""What makes each category, and the strength of its highlights."""


def objectron_asset(category: str, dimensions: Size, rng: random.Random) -> Asset:
    """A thing of a category that touches all sides of a box of the given dimensions.

    Its origin is the middle of the base. Fronts face -y, but for bicycles and shoes, which point towards +x. Distances
    stay tight for dimensions near those of `draw_dimensions`; others stretch the thing.

    Args:
        category: One of `DIMENSIONS`.
        dimensions: Width, height and length in metres.
        rng: Decides upon colours and kind.

    Raises:
        ValueError: If there is no such category, or a dimension is not positive.
    """
    if category not in _MAKERS:
        raise ValueError(f"no category is called {category!r}; there are {', '.join(_MAKERS)}")
    if not min(dimensions) > 0:
        raise ValueError(f"dimensions (width, height, length) of a {category} must be positive, got {dimensions}")
    make, gloss = _MAKERS[category]
    width, height, length = dimensions
    return make(dimensions, rng).filling(length, width, height).asset(category, gloss)
