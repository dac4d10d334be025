"""Colours that things of everyday life come in."""

from __future__ import annotations

import random

BRIGHT = ("#c3272b", "#e2711d", "#f0c02e", "#3b9447", "#1f7f8c", "#2c5fb0", "#6c3a9c", "#c8477e")
DARK = ("#1d1e21", "#2b2f3a", "#3b2a20", "#23402f", "#4a1f26", "#20334f")
LIGHT = ("#f3f1ea", "#dcd7c9", "#c9ced6", "#efe3c6", "#d7e4e2")
WOODS = (("#b77b3f", "#935a28"), ("#d9ae74", "#b98a50"), ("#7a4c2a", "#56331a"))


def two(rng: random.Random, *palettes: tuple[str, ...]) -> tuple[str, str]:
    """Two different colours out of some palettes."""
    first, second = rng.sample([color for palette in palettes for color in palette], 2)
    return first, second
