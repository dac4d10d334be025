"""How large the things of Objectron are.

Sizes are (width, height, length) in metres, as in Omni3D.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

Size = tuple[float, float, float]


@dataclass(frozen=True)
class Dimensions:
    """Sizes of one category: a typical one, how much whole things differ, and how much each side does besides.

    Args:
        typical: Width, height and length in metres.
        spread: Standard deviation of the logarithm of the common factor.
        sides: The same of each side's own factor.
        round: Whether length and width are one number, as of a bottle.
    """

    typical: Size
    spread: float = 0.1
    sides: float = 0.05
    round: bool = False

    def draw(self, rng: random.Random) -> Size:
        """A size; no factor is further out than two standard deviations."""
        common = _factor(rng, self.spread)
        width, height, length = (side * common * _factor(rng, self.sides) for side in self.typical)
        return (length * self.typical[0] / self.typical[2] if self.round else width, height, length)


def _factor(rng: random.Random, spread: float) -> float:
    return math.exp(spread * min(max(rng.gauss(0, 1), -2), 2))


DIMENSIONS: dict[str, Dimensions] = {
    "bicycle": Dimensions((0.58, 1.05, 1.68), 0.06, 0.05),
    "books": Dimensions((0.16, 0.035, 0.23), 0.15, 0.18),
    "bottle": Dimensions((0.075, 0.23, 0.075), 0.12, 0.1, round=True),
    "camera": Dimensions((0.085, 0.095, 0.135), 0.1, 0.08),
    "cereal box": Dimensions((0.065, 0.29, 0.19), 0.1, 0.08),
    "chair": Dimensions((0.52, 0.88, 0.48), 0.08, 0.06),
    "cup": Dimensions((0.085, 0.1, 0.12), 0.1, 0.08),
    "laptop": Dimensions((0.25, 0.23, 0.34), 0.08, 0.07),
    "shoes": Dimensions((0.105, 0.12, 0.285), 0.08, 0.07),
}
"""Sizes by category, near what such things measure in real life."""


def draw_dimensions(category: str, rng: random.Random) -> Size:
    """Width, height and length in metres of a thing of a category.

    Raises:
        ValueError: If there is no such category.
    """
    if category not in DIMENSIONS:
        raise ValueError(f"no category is called {category!r}; there are {', '.join(DIMENSIONS)}")
    return DIMENSIONS[category].draw(rng)
