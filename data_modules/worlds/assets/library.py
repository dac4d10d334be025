"""All assets by name, in the groups that worlds draw from."""

from __future__ import annotations

from collections.abc import Callable

from data_modules.worlds.assets import food, household, living_room, park, people, playthings, vessels
from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.objectron import DIMENSIONS, draw_dimensions, objectron_asset
from data_modules.worlds.assets.solid import Solid
from data_modules.worlds.assets.textures import plain

__all__ = [
    "ASSETS",
    "EXPLICIT",
    "LIVING_ROOM",
    "OBJECTRON",
    "PARK",
    "SHAPES",
    "draw_dimensions",
    "objectron_asset",
    "reference_height",
    "variants",
]

PARK = ("person", "bench", "lamppost", "bird")
"""Words of the park; every word has variants."""

LIVING_ROOM = ("person", "sofa", "table")
"""Words of the living room."""

OBJECTRON = tuple(DIMENSIONS)
"""Categories of `objectron_asset`."""

_REFERENCE_HEIGHTS = {"person": 0.7, "lamppost": 0.7, "bench": 0.35, "sofa": 0.35, "table": 0.35, "bird": 3.0}

_SCALES = {"person": 1.25, "lamppost": 1.1, "bench": 1.3, "sofa": 1.3, "table": 1.4, "bird": 1.3}
"""How much larger than modelled: large enough for which way they face to be seen in 64 pixels."""

EXPLICIT: tuple[tuple[Callable[[], Solid], float], ...] = (
    (vessels.bottle, 1.5),
    (vessels.juice_bottle, 1.5),
    (vessels.barrel, 0.3),
    (vessels.soup_can, 1.0),
    (vessels.vase, 1.5),
    (vessels.mug, 1.2),
    (vessels.teapot, 1.5),
    (food.cheeseburger, 0.4),
    (food.cake_slice, 0.4),
    (food.egg_toast, 0.5),
    (food.apple, 1.2),
    (food.mushroom, 0.6),
    (playthings.basketball, 0.5),
    (playthings.soccer_ball, 0.8),
    (playthings.balloon, 0.5),
    (playthings.rocket, 1.2),
    (playthings.guitar, 1.0),
    (playthings.duck, 1.2),
    (playthings.chicken, 0.2),
    (household.candle, 0.7),
    (household.boot, 1.2),
    (household.traffic_cone, 0.6),
    (household.book, 0.6),
    (household.chair, 0.5),
)
"""Solids of the world of explicit shapes, with the strength of their highlights."""

SHAPES = tuple(make.__name__ for make, _ in EXPLICIT)
"""Names of the assets of the world of explicit shapes."""


def _people() -> dict[str, Solid]:
    return {
        "person": people.person(people.striped_shirt("#b02a2e", "#f2ead8"), "#2b3d63", "#3a2416"),
        "person-01": people.walker_with_backpack(plain("#3f8f4a"), "#6b5a44", "#c9963e", "#e0762a"),
        "person-02": people.person_in_dress("#e0b030", "#241812"),
    }


def _park() -> dict[str, Solid]:
    return {
        "bench": park.iron_bench(park.OAK, "#222426"),
        "bench-01": park.iron_bench(park.GREEN_BOARDS, "#e8e6e0"),
        "bench-02": park.stone_bench(park.GRANITE, park.OAK),
        "lamppost": park.arm_lamppost("#24282c", "#b03030"),
        "lamppost-01": park.arm_lamppost("#2f5d46", "#e0b040"),
        "lamppost-02": park.lantern_lamppost("#1c1e20", "#d03a6a"),
        "bird": park.bird("#b8281e", "#e8b08a", "#7a1a16"),
        "bird-01": park.bird("#3a78c0", "#e8873a", "#22466e"),
        "bird-02": park.bird("#f0f0ec", "#ffffff", "#7e868e"),
    }


def _living_room() -> dict[str, Solid]:
    return {
        "sofa": living_room.sofa("#c2687a", "#d88a98", living_room.STRIPED_PILLOW),
        "sofa-01": living_room.sofa("#3c5f8a", "#4f78a8", plain("#e8b83a")),
        "sofa-02": living_room.corner_sofa("#8a8478", "#a29b8d", plain("#c0502a")),
        "table": living_room.drawer_table(living_room.WALNUT, "#7a4f2c"),
        "table-01": living_room.drawer_table(living_room.PINE, "#f0ece0"),
        "table-02": living_room.round_table("#e9e4da", "#2a2a2c", "#c06a3a"),
    }


def _all() -> dict[str, Asset]:
    worded = _people() | _park() | _living_room()
    return {name: _worded(name, solid) for name, solid in worded.items()} | {
        make.__name__: make().asset(make.__name__, gloss) for make, gloss in EXPLICIT
    }


def _worded(name: str, solid: Solid) -> Asset:
    scale, floats = _SCALES[_word(name)], 3.0 if _word(name) == "bird" else 0.0
    return solid.stretched(scale, scale, scale).asset(name, 0.3, floats)


def _word(name: str) -> str:
    """The word that a scene has for an asset: what precedes the variant."""
    return name.partition("-")[0]


ASSETS: dict[str, Asset] = _all()
"""Every asset by name: words, their variants as "word-01", and explicit shapes."""


def variants(word: str) -> tuple[str, ...]:
    """Names of the assets that a scene calls `word`, the plain one first.

    Raises:
        ValueError: If there is no such asset.
    """
    names = tuple(name for name in ASSETS if _word(name) == word)
    if not names:
        raise ValueError(f"no asset is called {word!r}; there are {', '.join(sorted({_word(n) for n in ASSETS}))}")
    return names


def reference_height(name: str) -> float:
    """The z that scenes record for an object in its usual place.

    Its origin, the middle of its base, then lies at the asset's `floats`: on the ground but for the bird. So an object
    recorded at z is drawn at z - reference_height(name) + floats. Explicit shapes record their base, 0.

    Args:
        name: A name of `ASSETS`.
    """
    if name not in ASSETS:
        raise ValueError(f"no asset is called {name!r}; there are {', '.join(ASSETS)}")
    return _REFERENCE_HEIGHTS.get(_word(name), 0.0)
