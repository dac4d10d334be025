"""Invented assets: things put together at random, for training on more variety than there are named assets.

Each is drawn from a family (vessels, furniture, creatures, vehicles, ...) that gives its plan; proportions, colours,
patterns and small parts follow from the seed. Fronts face -y; things are about two units tall before they are scaled.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.inventions.buildings import castle, house
from data_modules.worlds.assets.inventions.creatures import beast, bird, figure, fish
from data_modules.worlds.assets.inventions.furniture import cabinet, lamp, seat, table
from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.inventions.ornaments import cluster, emblem, plant, rings, stack, vessel
from data_modules.worlds.assets.inventions.tools import tool
from data_modules.worlds.assets.inventions.vehicles import boat, car, plane
from data_modules.worlds.assets.solid import Solid


def invent(seed: int) -> Asset:
    """An invented asset, always the same one for a seed, called "invented-SEED"."""
    return invented_solid(seed).asset(f"invented-{seed}", gloss=0.5)


def invented_solid(seed: int) -> Solid:
    """The solid of an invented asset, standing on z = 0."""
    # A string as seed is hashed, so that neighbouring seeds have nothing in common.
    rng = random.Random(f"invented/{seed}")
    made = rng.choice(FAMILIES)(Kit(rng))
    return made.stretched(*(rng.uniform(0.8, 1.25) for _ in range(3))).standing()


FAMILIES: tuple[Callable[[Kit], Solid], ...] = (
    vessel,
    vessel,
    table,
    seat,
    cabinet,
    beast,
    beast,
    bird,
    fish,
    figure,
    figure,
    car,
    plane,
    boat,
    stack,
    house,
    castle,
    plant,
    lamp,
    tool,
    emblem,
    rings,
    cluster,
)
"""Plans to draw from; those with more variety count twice."""
