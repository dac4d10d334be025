"""CLEVR's rules of placement: where objects may stand, and which directions hold between them.

All rules act on the ground plane and on CLEVR's constant direction vectors.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kyvo.clevr import DIRECTIONS, SIZES

RELATIONS = ("left", "right", "front", "behind")
MIN_GAP = 0.25
"""Free distance between two objects' circles on the ground."""

MIN_MARGIN = 0.4
"""Distance along the left-right and front-behind axes, so that no relation is a close call."""

RELATION_EPSILON = 0.2
"""How far an object must lie in a direction for the relation to hold."""

_ATTEMPTS = 50

Placed = tuple[float, float, float]
"""x, y and half extent of an object."""


def check_objects(objects: tuple[int, int]) -> None:
    """Raise ValueError if a least and a greatest number of objects make no sense."""
    least, greatest = objects
    if not 1 <= least <= greatest:
        raise ValueError(f"objects must be (least, greatest) with 1 <= least <= greatest, got {objects}")


def jittered(rng: random.Random, place: Sequence[float], amount: float) -> list[float]:
    """A place moved by up to `amount` along each axis."""
    return [x + rng.uniform(-amount, amount) for x in place]


def offset_along(direction: str, start: Sequence[float], end: Sequence[float]) -> float:
    """How far `end` lies from `start` in a direction, on the ground."""
    x, y, _ = DIRECTIONS[direction]
    return (end[0] - start[0]) * x + (end[1] - start[1]) * y


def fits(candidate: Placed, others: Iterable[Placed]) -> bool:
    """Whether an object may stand there: clear of the others' circles, and of their rows and columns."""
    x, y, radius = candidate
    for other in others:
        if math.hypot(x - other[0], y - other[1]) - radius - other[2] < MIN_GAP:
            return False
        if abs(offset_along("right", other, candidate)) < MIN_MARGIN:
            return False
        if abs(offset_along("behind", other, candidate)) < MIN_MARGIN:
            return False
    return True


def footprint(record: Mapping[str, Any]) -> Placed:
    """x, y and half extent of an object's record."""
    x, y, _ = record["3d_coords"]
    return x, y, SIZES[record["size"]]


def draw_position(
    rng: random.Random,
    extent: float,
    radius: float,
    others: Sequence[Placed],
    accept: Callable[[Placed], bool] = lambda candidate: True,
) -> Placed | None:
    """A legal position within +-extent that `accept` takes too, or None after 50 attempts."""
    for _ in range(_ATTEMPTS):
        candidate = (rng.uniform(-extent, extent), rng.uniform(-extent, extent), radius)
        if accept(candidate) and fits(candidate, others):
            return candidate
    return None


def relationships(objects: Sequence[Mapping[str, Any]]) -> dict[str, list[list[int]]]:
    """For each relation and object, the indices of the objects that lie in that direction of it."""
    places = [o["3d_coords"] for o in objects]
    return {
        name: [
            [j for j, other in enumerate(places) if j != i and offset_along(name, place, other) > RELATION_EPSILON]
            for i, place in enumerate(places)
        ]
        for name in RELATIONS
    }
