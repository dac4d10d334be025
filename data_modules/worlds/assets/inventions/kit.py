"""What inventions are made with: random numbers, colours that go together, and patterns."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, WOODS
from data_modules.worlds.assets.solid import Solid
from data_modules.worlds.assets.textures import (
    Paint,
    decal,
    fade,
    grain,
    layers,
    mottled,
    plain,
    sectors,
    spots,
    stripes,
)


@dataclass(frozen=True)
class Kit:
    """What an invention is made with: a source of random numbers and a few colours that go together."""

    rng: random.Random

    @cached_property
    def palette(self) -> list[str]:
        """Four colours."""
        rng = self.rng
        if rng.random() < 0.4:
            return [*rng.sample(BRIGHT, 2), rng.choice(LIGHT), rng.choice(DARK)]
        hue, turns = rng.random(), rng.choice([(0, 0.5, 0.04), (0, 0.33, 0.67), (0, 0.08, -0.08), (0, 0.2, 0.55)])
        vivid, light = rng.uniform(0.25, 0.95), rng.uniform(0.45, 1)
        colors = [hex_color(hue + turn, vivid * rng.uniform(0.7, 1), light * rng.uniform(0.7, 1)) for turn in turns]
        return [*colors, rng.choice([*LIGHT, *DARK])]

    def between(self, low: float, high: float) -> float:
        """Any number from low to high."""
        return self.rng.uniform(low, high)

    def chance(self, share: float) -> bool:
        """True for a share of all draws."""
        return self.rng.random() < share

    def color(self) -> str:
        """A colour of the palette."""
        return self.rng.choice(self.palette)

    def two(self) -> tuple[str, str]:
        """Two different ones."""
        first, second = self.rng.sample(self.palette, 2)
        return first, second

    def dyed(self, solid: Solid) -> Solid:
        """A solid in one colour."""
        return solid.painted(plain(self.color()))

    def patterned(self, solid: Solid) -> Solid:
        """A solid with a pattern as large as suits it."""
        sides = [high - low for low, high in zip(solid.lower, solid.upper, strict=True)]
        return solid.painted(self.rng.choice(_PATTERNS)(self, solid.lower, sides))

    def wooden(self, solid: Solid) -> Solid:
        """A solid of wood, or else in one colour."""
        if self.chance(0.4):
            return self.dyed(solid)
        return solid.painted(grain(*self.rng.choice(WOODS), 0.06, self.rng.choice("xyz")))


def hex_color(hue: float, saturation: float, value: float) -> str:
    """#rrggbb of a hue in turns, a saturation and a value from 0 to 1."""
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


_Pattern = Callable[[Kit, Sequence[float], Sequence[float]], Paint]


def _plain(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return plain(kit.color())


def _striped(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    axis = kit.rng.choice([0, 1, 2, 2])
    return stripes(sides[axis] / kit.rng.randint(3, 8), kit.two(), "xyz"[axis], lower[axis])


def _banded(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    first, second = kit.two()
    low = kit.between(0.15, 0.6)
    return layers(
        [lower[2] + share * sides[2] for share in (low, low + kit.between(0.1, 0.3))], [first, second, kit.color()]
    )


def _spotted(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    cell = max(sides) / kit.between(3.0, 6.0)
    first, second = kit.two()
    region = spots(cell, cell * kit.between(0.25, 0.45), kit.between(0.6, 1), kit.rng.randint(1, 999))
    return decal(plain(first), region, plain(second))


def _fading(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return fade(lower[2] + 0.2 * sides[2], lower[2] + 0.9 * sides[2], kit.two())


def _sliced(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return sectors(kit.rng.sample(kit.palette, kit.rng.randint(2, 3)), kit.rng.randint(1, 4), kit.between(0, 90))


def _flecked(kit: Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return mottled(plain(kit.color()), max(sides) / kit.between(6, 14), 0.4, kit.rng.randint(1, 999))


_PATTERNS: tuple[_Pattern, ...] = (_plain, _plain, _striped, _banded, _spotted, _fading, _sliced, _flecked)
