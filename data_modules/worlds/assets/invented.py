"""Invented assets: things put together at random, for training on more variety than there are named assets.

Each is drawn from a family (vessels, furniture, creatures, vehicles, ...) that gives its plan; proportions, colours,
patterns and small parts follow from the seed. Fronts face -y; things are about two units tall before they are scaled.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.outlines import Corner, arc, curve
from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, WOODS
from data_modules.worlds.assets.primitives import (
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    extrude,
    revolve,
    sphere,
    torus,
    tube,
)
from data_modules.worlds.assets.solid import Solid, blend, carve, common, union
from data_modules.worlds.assets.textures import (
    Paint,
    decal,
    either,
    fade,
    grain,
    layers,
    mottled,
    plain,
    sectors,
    spots,
    stripes,
)


def invent(seed: int) -> Asset:
    """An invented asset, always the same one for a seed, called "invented-SEED"."""
    return invented_solid(seed).asset(f"invented-{seed}", gloss=0.5)


def invented_solid(seed: int) -> Solid:
    """The solid of an invented asset, standing on z = 0."""
    # A string as seed is hashed, so that neighbouring seeds have nothing in common.
    rng = random.Random(f"invented/{seed}")
    made = rng.choice(FAMILIES)(_Kit(rng))
    return made.stretched(*(rng.uniform(0.8, 1.25) for _ in range(3))).standing()


@dataclass(frozen=True)
class _Kit:
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
        colors = [_hex(hue + turn, vivid * rng.uniform(0.7, 1), light * rng.uniform(0.7, 1)) for turn in turns]
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


def _hex(hue: float, saturation: float, value: float) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


# ---- patterns -------------------------------------------------------------------------------------------------------

_Pattern = Callable[[_Kit, Sequence[float], Sequence[float]], Paint]


def _plain(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return plain(kit.color())


def _striped(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    axis = kit.rng.choice([0, 1, 2, 2])
    return stripes(sides[axis] / kit.rng.randint(3, 8), kit.two(), "xyz"[axis], lower[axis])


def _banded(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    first, second = kit.two()
    low = kit.between(0.15, 0.6)
    return layers(
        [lower[2] + share * sides[2] for share in (low, low + kit.between(0.1, 0.3))], [first, second, kit.color()]
    )


def _spotted(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    cell = max(sides) / kit.between(3.0, 6.0)
    first, second = kit.two()
    region = spots(cell, cell * kit.between(0.25, 0.45), kit.between(0.6, 1), kit.rng.randint(1, 999))
    return decal(plain(first), region, plain(second))


def _fading(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return fade(lower[2] + 0.2 * sides[2], lower[2] + 0.9 * sides[2], kit.two())


def _sliced(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return sectors(kit.rng.sample(kit.palette, kit.rng.randint(2, 3)), kit.rng.randint(1, 4), kit.between(0, 90))


def _flecked(kit: _Kit, lower: Sequence[float], sides: Sequence[float]) -> Paint:
    return mottled(plain(kit.color()), max(sides) / kit.between(6, 14), 0.4, kit.rng.randint(1, 999))


_PATTERNS: tuple[_Pattern, ...] = (_plain, _plain, _striped, _banded, _spotted, _fading, _sliced, _flecked)


# ---- parts ----------------------------------------------------------------------------------------------------------


def _around(solid: Solid, count: int, start: float = 0.0) -> Solid:
    """Copies of a solid about the z axis."""
    return union(*(solid.turned(start + 360 * k / count) for k in range(count)))


def _handle(kit: _Kit, x: float, low: float, high: float) -> Solid:
    """A bow on the right, whose ends lie at a distance from the z axis."""
    radius, wide = (high - low) / 2, kit.between(0.6, 1.1)
    bow = [(x - 0.05 + wide * (a - x), 0.0, z) for a, z in arc((x, (low + high) / 2), radius, -90, 90, 6)]
    return tube(bow, kit.between(0.06, 0.11))


def _wheel(kit: _Kit, x: float, y: float, radius: float) -> Solid:
    """A wheel with its hub, standing on the ground right of the middle, its axle along x."""
    wide = kit.between(0.09, 0.16)
    hub = cylinder((x, y, radius), 0.5 * radius, wide + 0.03, 0.02, "x").painted(plain(kit.palette[0]))
    return union(cylinder((x, y, radius), radius, wide, 0.04, "x").painted(plain("#232326")), hub)


def _legs(kit: _Kit, x: float, y: float, height: float, thick: float) -> Solid:
    """Four legs at the corners of a rectangle, of one of several kinds."""
    kind, out = kit.rng.randrange(3), kit.between(0.85, 1.2)
    if kind == 0:
        leg = box((x, y, height / 2), (thick, thick, height / 2), 0.02)
    elif kind == 1:
        leg = capsule((x * out, y * out, thick), (x, y, height), thick * 0.8, thick)
    else:
        leg = cylinder((x, y, height / 2), thick, height / 2, 0.02)
    return leg.mirrored("x").mirrored("y")


def _eyes(kit: _Kit, coat: Paint, x: float, y: float, z: float, size: float) -> Paint:
    """A coat with two dark eyes, some with white around them."""
    white, dark = sphere((x, y, z), size).mirrored(), sphere((x, y, z), 0.55 * size).mirrored()
    around = decal(coat, white.distance, plain("#f6f4ee")) if kit.chance(0.6) else coat
    return decal(around, dark.distance, plain("#141416"))


def _spikes(kit: _Kit, count: int, radius: float, z: float) -> Solid:
    """Cones that stand out around the z axis at a height."""
    thorn = cone((0, 0, 0), kit.between(0.1, 0.18), kit.between(0.3, 0.6)).turned(90, "y")
    return _around(thorn.moved(x=0.9 * radius, z=z), count, kit.between(0, 90))


def _block(kit: _Kit, wide: float, tall: float) -> Solid:
    """One simple solid of about a width and a height, standing on z = 0."""
    half = wide / 2
    kind = kit.rng.randrange(8)
    if kind == 0:
        return box((0, 0, tall / 2), (half, half * kit.between(0.6, 1), tall / 2), kit.between(0.02, 0.12) * tall)
    if kind == 1:
        return cylinder((0, 0, tall / 2), half, tall / 2, 0.1 * min(tall, half))
    if kind == 2:
        return cone((0, 0, 0), half, tall, half * kit.between(0, 0.7))
    if kind == 3:
        return ellipsoid((0, 0, tall / 2), (half, half, tall / 2))
    if kind == 4:
        tyre = min(tall / 2, 0.6 * half)
        return torus((0, 0, tyre), half - tyre * 0.6, tyre)
    if kind == 5:
        return extrude(_polygon(kit.rng.randint(3, 8), half), tall / 2, 0.02, "z").moved(z=tall / 2)
    if kind == 6:
        return extrude(_star(kit.rng.randint(4, 8), half, half * kit.between(0.5, 0.8)), tall / 2, 0.02, "z").moved(
            z=tall / 2
        )
    return box((0, 0, 0), (0.6 * half, 0.6 * half, 0.6 * half), 0.05).turned(45, "x").turned(45).standing()


def _polygon(count: int, radius: float) -> list[Corner]:
    return arc((0.0, 0.0), radius, 0, 360 - 360 / count, count - 1)


def _star(count: int, outer: float, inner: float) -> list[Corner]:
    """A star with a number of points."""
    turns = [math.pi * (k / count + 0.5) for k in range(2 * count)]
    return [((outer, inner)[k % 2] * math.cos(a), (outer, inner)[k % 2] * math.sin(a)) for k, a in enumerate(turns)]


# ---- families -------------------------------------------------------------------------------------------------------


def _vessel(kit: _Kit) -> Solid:
    """Bottles, vases, bowls, pots and mugs."""
    tall, count = kit.between(0.8, 2.4), kit.rng.randint(3, 5)
    corners = [(kit.between(0.25, 0.95), tall * k / (count - 1)) for k in range(count)]
    side = [(max(r, 0.12), z) for r, z in curve(corners, 4)]
    body = kit.patterned(revolve([(0, 0), *side, (0, tall)]))
    parts = [_hollowed(kit, body, side)] if kit.chance(0.55) and side[-1][0] > 0.3 else [body, _lid(kit, *side[-1])]
    if kit.chance(0.6):
        ear = _ear(kit, side, tall * kit.between(0.15, 0.35), tall * kit.between(0.6, 0.85))
        parts.append(ear.mirrored() if kit.chance(0.4) else ear)
    if kit.chance(0.4):
        r, z = kit.rng.choice(side[1:-1])
        parts.append(kit.dyed(torus((0, 0, z), r, kit.between(0.05, 0.1))))
    return union(*parts)


def _hollowed(kit: _Kit, body: Solid, side: Sequence[Corner]) -> Solid:
    """A vessel with a hole as wide as its side leaves room for."""
    top, tall = side[-1]
    deep, wall = tall * kit.between(0.3, 0.7), kit.between(0.07, 0.12)
    narrowest = min(r for r, z in side if z >= tall - deep)
    return carve(body, kit.dyed(cylinder((0, 0, tall), max(min(top, narrowest) - wall, 0.1), deep)))


def _lid(kit: _Kit, radius: float, z: float) -> Solid:
    lid = revolve([(0, z - 0.02), (radius + 0.05, z - 0.02), (radius * 0.8, z + 0.12), (0, z + 0.2)])
    return union(kit.dyed(lid), kit.dyed(sphere((0, 0, z + 0.28), kit.between(0.1, 0.18))))


def _ear(kit: _Kit, side: Sequence[Corner], low: float, high: float) -> Solid:
    """A handle on the right that goes out from the side of a vessel at two heights."""
    out = max(r for r, z in side if low - 0.3 <= z <= high + 0.3)
    first, second = (min((abs(z - at), r) for r, z in side)[1] for at in (low, high))
    bow = [(first - 0.06, 0.0, low), (out + 0.25, 0.0, low), (out + 0.33, 0.0, (low + high) / 2)]
    return kit.dyed(tube([*bow, (out + 0.25, 0.0, high), (second - 0.06, 0.0, high)], kit.between(0.07, 0.11)))


def _table(kit: _Kit) -> Solid:
    """Tables, stools, benches and shelves."""
    x, y, height = kit.between(0.5, 1.3), kit.between(0.4, 0.8), kit.between(0.5, 1.5)
    thick = kit.between(0.05, 0.14)
    top = box((0, 0, height), (x, y, thick), 0.04)
    if kit.chance(0.3):
        top = cylinder((0, 0, height), y * 1.2, thick, 0.04)
        x = y * 0.9
        y = x
    legs = _legs(kit, 0.8 * x, 0.75 * y, height, kit.between(0.06, 0.13))
    if kit.chance(0.25):
        foot = revolve([(0, 0), (0.7 * y, 0), (0.65 * y, 0.1), (0.1, 0.2), (0.1, height), (0, height)])
        legs = foot
    parts = [kit.patterned(top) if kit.chance(0.3) else kit.wooden(top), kit.wooden(legs)]
    if kit.chance(0.4):
        parts.append(kit.dyed(box((0, 0, 0.35 * height), (0.75 * x, 0.7 * y, 0.04))))
    if kit.chance(0.4):
        parts.append(kit.dyed(box((0, -0.6 * y, height - 0.2), (0.35 * x, 0.3 * y, 0.13), 0.02)))
    for _ in range(kit.rng.randint(0, 2)):
        on = _block(kit, kit.between(0.25, 0.5), kit.between(0.2, 0.7))
        parts.append(
            kit.patterned(on).moved(kit.between(-0.5, 0.5) * x, kit.between(-0.4, 0.4) * y, height + 0.9 * thick)
        )
    return union(*parts)


def _seat(kit: _Kit) -> Solid:
    """Chairs, armchairs and sofas."""
    x, y, height, back = kit.between(0.4, 1.2), kit.between(0.4, 0.6), kit.between(0.35, 1), kit.between(0.4, 1.2)
    thick, soft = kit.between(0.08, 0.2), kit.between(0.02, 0.07)
    seat = kit.patterned(box((0, 0, height), (x, y, thick), soft))
    parts = [seat, kit.wooden(_legs(kit, 0.85 * x, 0.8 * y, height, kit.between(0.06, 0.12)))]
    if kit.chance(0.6):
        rest = box((0, y - 0.08, height + back / 2), (x, 0.1, back / 2 + 0.05), soft)
        parts.append(kit.patterned(rest.turned(kit.between(-6, 0), "x")))
    else:
        post = capsule((0.85 * x, y - 0.08, height), (0.85 * x, y, height + back), 0.06).mirrored()
        count = kit.rng.randint(2, 4)
        levels = [height + back * (k + 1) / count for k in range(count)]
        parts += [kit.wooden(union(post, *(box((0, y - 0.05, z - 0.05), (0.85 * x, 0.05, 0.06)) for z in levels)))]
    if kit.chance(0.5):
        arm = box((x, 0.0, height + 0.25), (0.1, y, 0.3), 0.06).mirrored()
        parts.append(kit.dyed(arm))
    if kit.chance(0.4):
        parts.append(kit.patterned(ellipsoid((0, 0.1, height + thick + 0.1), (0.5 * x, 0.3 * y, 0.15))))
    return union(*parts)


def _cabinet(kit: _Kit) -> Solid:
    """Chests, cupboards, radios and ovens: boxes with doors, drawers, knobs and feet."""
    x, y, z = kit.between(0.4, 1), kit.between(0.3, 0.6), kit.between(0.4, 1.2)
    body = box((0, 0, z + 0.15), (x, y, z), kit.between(0.01, 0.1))
    rows, columns = kit.rng.randint(1, 4), kit.rng.randint(1, 2)
    fronts, knobs = [], []
    for row in range(rows):
        for column in range(columns):
            middle = (x * ((2 * column + 1) / columns - 1), -y, 0.15 + z * (2 * row + 1) / rows)
            fronts.append(box(middle, (0.82 * x / columns, 0.05, 0.8 * z / rows), 0.02))
            knobs.append(sphere((middle[0], -y - 0.08, middle[2]), 0.07))
    parts = [kit.wooden(body), kit.patterned(union(*fronts)), kit.dyed(union(*knobs))]
    parts.append(kit.dyed(_legs(kit, 0.8 * x, 0.8 * y, 0.2, 0.09)))
    if kit.chance(0.5):
        parts.append(kit.patterned(_block(kit, kit.between(0.4, 0.8), kit.between(0.3, 0.7)).moved(z=2 * z + 0.12)))
    return union(*parts)


def _beast(kit: _Kit) -> Solid:
    """Creatures on four legs or more."""
    long, fat, high = kit.between(0.5, 1.1), kit.between(0.28, 0.5), kit.between(0.2, 0.9)
    z = high + fat
    trunk = kit.rng.choice(
        [ellipsoid((0, 0, z), (fat, long, fat)), capsule((0, -long + fat, z), (0, long - fat, z), fat, 0.85 * fat)]
    )
    skull = kit.between(0.22, 0.42)
    y, top = -long - 0.4 * skull, z + kit.between(0.0, 0.8)
    neck = capsule((0, -0.7 * long, z), (0, y, top), 0.6 * fat, 0.7 * skull)
    head = ellipsoid((0, y, top), (skull, skull * kit.between(0.9, 1.4), skull))
    coat = kit.patterned(trunk).color
    snout = sphere((0, y - 0.9 * skull, top - 0.2 * skull), kit.between(0.4, 0.6) * skull)
    body = blend(0.2, trunk, neck, head).painted(
        _eyes(kit, coat, 0.6 * skull, y - 0.75 * skull, top + 0.35 * skull, 0.4 * skull)
    )
    rows = kit.rng.choice([2, 2, 2, 3])
    spread = [(-0.65 + 1.3 * k / (rows - 1)) * long for k in range(rows)]
    thick = kit.between(0.08, 0.16)
    feet = [capsule((0.7 * fat, at, thick), (0.6 * fat, at, z - 0.3 * fat), thick, thick * 1.2) for at in spread]
    parts = [body, kit.dyed(snout), kit.dyed(union(*feet).mirrored()), _ears(kit, skull, y, top)]
    tail = [(0, 0.9 * long, z), (0, long + 0.2, z + 0.1), (0, long + kit.between(0.3, 0.6), z + kit.between(-0.3, 0.6))]
    parts.append(kit.dyed(tube(tail, kit.between(0.06, 0.14))))
    if kit.chance(0.3):
        ridge = [cone((0, at * long, z + 0.7 * fat), 0.13, 0.2 + 0.3 * fat) for at in (-0.6, -0.2, 0.2, 0.6)]
        parts.append(kit.dyed(union(*ridge)))
    return union(*parts)


def _ears(kit: _Kit, skull: float, y: float, z: float) -> Solid:
    """Ears or horns on both sides of a head."""
    kind, size = kit.rng.randrange(4), skull * kit.between(0.35, 0.6)
    if kind == 0:
        ear = sphere((0.75 * skull, y, z + 0.75 * skull), size)
    elif kind == 1:
        ear = cone((0, 0, 0), size, 2.4 * size).turned(20, "y").moved(0.5 * skull, y, z + 0.6 * skull)
    elif kind == 2:
        ear = ellipsoid((0.5 * skull, y, z + 1.5 * skull), (0.35 * size + 0.03, 0.3 * size, 0.9 * skull))
    else:
        ear = tube(
            [
                (0.5 * skull, y, z + 0.7 * skull),
                (1.1 * skull, y, z + 1.1 * skull),
                (1.2 * skull, y - 0.1, z + 1.7 * skull),
            ],
            0.07,
        )
    return kit.dyed(ear.mirrored())


def _bird(kit: _Kit) -> Solid:
    """Birds, chicks and owls."""
    fat, tall = kit.between(0.4, 0.6), kit.between(0.45, 0.8)
    legs = kit.between(0.1, 0.7)
    trunk = ellipsoid((0, 0, legs + tall), (fat, fat * kit.between(0.9, 1.6), tall))
    skull = kit.between(0.28, 0.42)
    y, z = -kit.between(0.1, 0.5), legs + 2 * tall + 0.3 * skull
    eyed = _eyes(kit, kit.patterned(trunk).color, 0.55 * skull, y - 0.75 * skull, z + 0.2, 0.17)
    body = blend(0.25, trunk, sphere((0, y, z), skull)).painted(eyed)
    beak = cone((0, 0, 0), 0.14, kit.between(0.25, 0.6)).turned(90, "x").moved(0, y - 0.8 * skull, z)
    wing = ellipsoid((fat, 0.1, legs + tall), (0.12, 0.55, 0.4)).turned(kit.between(-30, 20), "x").mirrored()
    if kit.chance(0.3):
        wing = extrude([(0.2, -0.35), (1.2, -0.1), (1.4, 0.3), (0.3, 0.4)], 0.05, 0.02, "z").mirrored()
        wing = wing.moved(z=legs + 1.2 * tall)
    foot = tube([(0.22, 0, legs + 0.2), (0.22, 0, 0.06), (0.22, -0.28, 0.06)], 0.06).mirrored()
    tail = extrude([(-0.12, 0.0), (0.12, 0.0), (0.3, 0.6), (-0.3, 0.6)], 0.06, 0.02, "z").turned(
        kit.between(0, 45), "x"
    )
    parts = [body, kit.dyed(beak), kit.dyed(wing), kit.dyed(foot), kit.dyed(tail.moved(y=fat * 0.8, z=legs + tall))]
    if kit.chance(0.4):
        parts.append(kit.dyed(union(*(sphere((0, y + s, z + skull), 0.12) for s in (-0.15, 0.0, 0.15)))))
    return union(*parts)


def _fish(kit: _Kit) -> Solid:
    """Fish on a stand."""
    long, fat, high = kit.between(0.7, 1.2), kit.between(0.2, 0.4), kit.between(0.3, 0.6)
    z = high + kit.between(0.2, 0.5)
    body = ellipsoid((0, 0, z), (fat, long, high))
    coat = _eyes(kit, kit.patterned(body).color, 0.75 * fat, -0.65 * long, z + 0.25 * high, 0.17)
    tail = extrude(
        [(0.8 * long, z), (1.35 * long, z + 0.8 * high), (1.2 * long, z), (1.35 * long, z - 0.8 * high)], 0.06
    )
    fin = extrude([(-0.4 * long, z + 0.7 * high), (0.5 * long, z + 0.6 * high), (0.4 * long, z + 1.5 * high)], 0.06)
    side = ellipsoid((fat + 0.1, 0, z - 0.2 * high), (0.25, 0.15, 0.06)).turned(15, "y").mirrored()
    fins = kit.dyed(union(tail.turned(90).mirrored(), fin.turned(90).mirrored(), side))
    stand = union(cylinder((0, 0, 0.05), 0.4, 0.05), cylinder((0, 0, z / 2), 0.07, z / 2))
    return union(body.painted(coat), fins, kit.dyed(stand))


def _figure(kit: _Kit) -> Solid:
    """Robots, dolls and snowmen: a head on a body, with arms and legs."""
    wide, deep, tall, legs = kit.between(0.3, 0.6), kit.between(0.22, 0.4), kit.between(0.3, 0.6), kit.between(0.3, 0.8)
    boxy = kit.chance(0.5)
    middle = (0.0, 0.0, legs + tall)
    torso = box(middle, (wide, deep, tall), 0.06) if boxy else ellipsoid(middle, (wide, deep, 1.1 * tall))
    skull = kit.between(0.25, 0.45)
    z = legs + 2 * tall + 0.85 * skull
    head = box((0, 0, z), (skull, 0.8 * skull, 0.8 * skull), 0.05) if boxy else sphere((0, 0, z), skull)
    face = _eyes(kit, plain(kit.color()), 0.45 * skull, -0.85 * skull, z + 0.1, 0.16)
    thick, drop = kit.between(0.08, 0.15), kit.between(-0.7, 0.7)
    shoulder = (wide, 0.0, legs + 1.7 * tall)
    elbow = (wide + 0.35, 0.0, shoulder[2] - 0.3)
    arm = tube([shoulder, elbow, (wide + 0.45, -0.3, shoulder[2] + drop)], thick)
    leg = union(
        capsule((0.5 * wide, 0, 0.1), (0.5 * wide, 0, legs + 0.1), thick * 1.2),
        box((0.5 * wide, -0.1, 0.07), (0.16, 0.26, 0.07), 0.04),
    )
    parts = [kit.patterned(torso), head.painted(face), kit.dyed(arm.mirrored()), kit.dyed(leg.mirrored())]
    if kit.chance(0.6):
        hat = _block(kit, 1.6 * skull, kit.between(0.2, 0.6)).moved(z=z + 0.72 * skull)
        parts.append(kit.patterned(hat))
    return union(*parts)


def _car(kit: _Kit) -> Solid:
    """Cars, vans, lorries and carts."""
    x, long, wheel = kit.between(0.35, 0.5), kit.between(0.7, 1.3), kit.between(0.18, 0.32)
    floor, high = 0.8 * wheel, kit.between(0.12, 0.3)
    body = box((0, 0, floor + high), (x, long, high), kit.between(0.03, 0.1))
    front, back = sorted(kit.between(-0.9, 0.9) * long for _ in range(2))
    back = max(back, front + 0.6)
    z, top = floor + 2 * high - 0.03, kit.between(0.3, 0.7)
    shape = [(front, z), (back, z), (back - kit.between(0, 0.2), z + top), (front + kit.between(0.05, 0.25), z + top)]
    cabin = extrude(shape, 0.9 * x, 0.03, "x")
    inner = [
        (front + 0.12, z + 0.08),
        (back - 0.12, z + 0.08),
        (back - 0.25, z + top - 0.1),
        (front + 0.3, z + top - 0.1),
    ]
    panes = extrude(inner, 2.0, axis="x").distance
    screen = box((0, front, z + 0.55 * top), (0.7 * x, 0.3, 0.3 * top)).distance
    glazed = decal(plain(kit.palette[0]), either(panes, screen), plain("#9fc4d8"))
    lamps = sphere((0.65 * x, -long, floor + 1.2 * high), 0.1).mirrored().painted(plain("#f7e9a0"))
    axles = [-0.6 * long, 0.6 * long] + ([0.1 * long] if kit.chance(0.2) else [])
    wheels = union(*(_wheel(kit, x, at, wheel) for at in axles)).mirrored()
    parts = [kit.patterned(body), cabin.painted(glazed), lamps, wheels]
    if kit.chance(0.4):
        load = _block(kit, kit.between(0.4, 0.7), kit.between(0.2, 0.5))
        parts.append(kit.patterned(load).moved(y=0.6 * long, z=z))
    return union(*parts)


def _plane(kit: _Kit) -> Solid:
    """Aeroplanes and rockets lying down, on wheels."""
    long, fat = kit.between(0.8, 1.2), kit.between(0.18, 0.35)
    z = fat + 0.25
    hull = kit.patterned(capsule((0, -long + fat, z), (0, long, z + 0.1), fat, 0.45 * fat))
    span, sweep = kit.between(0.8, 1.4), kit.between(-0.1, 0.5)
    wing = extrude([(0, -0.3), (span, sweep - 0.15), (span, sweep + 0.15), (0, 0.25)], 0.05, 0.02, "z").mirrored()
    fin = extrude([(long - 0.4, z), (long, z), (long + 0.15, z + 0.7), (long - 0.05, z + 0.7)], 0.05, 0.02, "x")
    rear = (
        extrude([(0, -0.15), (0.5, 0.05), (0.5, 0.2), (0, 0.15)], 0.04, 0.02, "z")
        .mirrored()
        .moved(y=long - 0.1, z=z + 0.1)
    )
    parts = [hull, kit.patterned(wing.moved(z=z + kit.between(-0.1, fat))), kit.dyed(union(fin, rear))]
    if kit.chance(0.5):
        parts.append(kit.dyed(capsule((0.5 * span, -0.35, z - 0.12), (0.5 * span, 0.2, z - 0.12), 0.11).mirrored()))
    else:
        blade = box((0, 0, 0), (0.5, 0.03, 0.07), 0.02).turned(kit.between(0, 180), "y")
        parts.append(kit.dyed(union(blade, sphere((0, 0, 0), 0.1)).moved(y=-long - 0.03, z=z)))
    parts.append(_wheel(kit, 0.6 * fat, -0.4 * long, 0.14).mirrored())
    return union(*parts)


def _boat(kit: _Kit) -> Solid:
    """Boats with a cabin, a funnel or a sail."""
    long, wide, high = kit.between(0.8, 1.3), kit.between(0.3, 0.5), kit.between(0.25, 0.5)
    right = [(0.0, -long), (0.6 * wide, -0.7 * long), (wide, -0.1 * long), (0.85 * wide, 0.8 * long), (0, 0.9 * long)]
    plan = curve([*right, *((-x, y) for x, y in right[-2:0:-1])], 2, closed=True)
    hull = kit.patterned(extrude(plan, high / 2, 0.03, "z").moved(z=high / 2))
    deck = kit.wooden(extrude([(0.85 * x, 0.85 * y) for x, y in plan], 0.06, axis="z").moved(z=high))
    parts = [hull, deck]
    if kit.chance(0.5):
        mast, reach = kit.between(1.2, 2), kit.between(0.6, 1)
        sail = extrude([(0.05, high + 0.25), (reach * long, high + 0.25), (0.05, high + mast)], 0.05, 0.01, "x")
        jib = extrude([(-0.1, high + 0.25), (-0.8 * long, high + 0.2), (-0.1, high + 0.8 * mast)], 0.05, 0.01, "x")
        parts += [
            kit.dyed(cylinder((0, 0, high + mast / 2), 0.06, mast / 2 + 0.1)),
            kit.patterned(sail),
            kit.patterned(jib),
        ]
    else:
        cabin = box((0, 0.1, high + 0.25), (0.6 * wide, 0.4 * long, 0.28), 0.04)
        windows = stripes(0.22, ["#f4f1e6", "#33465a"], "y")
        parts.append(cabin.painted(decal(plain(kit.color()), lambda p: abs(p[2] - high - 0.28) - 0.1, windows)))
        for k in range(kit.rng.randint(1, 3)):
            parts.append(kit.patterned(cylinder((0, 0.1 + 0.3 * (k - 1), high + 0.7), 0.13, 0.3, 0.02)))
    return union(*parts)


def _stack(kit: _Kit) -> Solid:
    """Towers of two to six simple solids."""
    z, wide, parts = 0.0, kit.between(0.8, 1.5), []
    for _ in range(kit.rng.randint(2, 6)):
        made = kit.patterned(_block(kit, wide, kit.between(0.25, 0.8)))
        parts.append(made.moved(z=z))
        z += made.upper[2] - 0.02
        wide *= kit.between(0.65, 1.1)
    return union(*parts)


def _house(kit: _Kit) -> Solid:
    """Houses, barns and chapels."""
    x, y, z = kit.between(0.4, 0.9), kit.between(0.4, 0.9), kit.between(0.3, 0.9)
    rise, eaves = kit.between(0.3, 0.9), kit.between(0.02, 0.15)
    columns, rows = kit.rng.randint(2, 4), kit.rng.randint(1, 3)
    places = [(x * ((2 * i + 1) / columns - 1), 2 * z * (j + 0.55) / rows) for i in range(columns) for j in range(rows)]
    size = (0.3 * x / columns * 1.6, 0.45 * z / rows)
    windows = either(*(box((a, -y, b), (size[0], 0.05 + y * 3, size[1])).distance for a, b in places))
    walls = box((0, 0, z), (x, y, z)).painted(decal(plain(kit.color()), windows, plain("#3b5268")))
    door = box((0, -y, 0.25), (0.16, 0.04, 0.25))
    gable = [(-x - eaves, 2 * z), (x + eaves, 2 * z), (kit.between(-0.3, 0.3) * x, 2 * z + rise)]
    roof = extrude(gable, y + eaves, 0.02) if kit.chance(0.6) else _hip(x + eaves, y + eaves, rise).moved(z=2 * z)
    parts = [walls, kit.dyed(door), kit.patterned(roof)]
    if kit.chance(0.6):
        parts.append(kit.dyed(box((0.5 * x, 0.2 * y, 2 * z + 0.4 * rise), (0.1, 0.1, 0.5 * rise + 0.1))))
    if kit.chance(0.35):
        side = kit.patterned(cylinder((0, 0, 1.3 * z), 0.3, 1.3 * z).moved(x, -y * 0.4))
        parts += [side, kit.dyed(cone((x, -y * 0.4, 2.6 * z), 0.38, kit.between(0.4, 0.8)))]
    return union(*parts)


def _hip(x: float, y: float, rise: float) -> Solid:
    """A roof that slopes to all four sides."""
    along, across = (extrude([(-a, 0), (a, 0), (0, rise)], b, axis=axis) for a, b, axis in ((x, y, "y"), (y, x, "x")))
    return common(along, across)


def _castle(kit: _Kit) -> Solid:
    """Towers with battlements or pointed roofs, and gates."""
    radius, tall = kit.between(0.35, 0.6), kit.between(0.9, 1.8)
    square = kit.chance(0.4)
    keep = box((0, 0, tall / 2), (radius, radius, tall / 2)) if square else cylinder((0, 0, tall / 2), radius, tall / 2)
    slits = either(*(box((0, 0, z), (0.06, 2.0, 0.13)).distance for z in (0.55 * tall, 0.8 * tall)))
    stone = decal(kit.patterned(keep).color, slits, plain("#1c1d22"))
    gate = union(box((0, -radius, 0.2), (0.17, 0.07, 0.2)), cylinder((0, -radius, 0.4), 0.17, 0.07, axis="y"))
    parts = [keep.painted(stone), kit.dyed(gate)]
    if kit.chance(0.5):
        crown = cylinder((0, 0, tall), radius + 0.12, 0.1)
        parts.append(kit.dyed(union(crown, _around(box((radius, 0, tall + 0.18), (0.1, 0.12, 0.12)), 8))))
    else:
        parts.append(kit.patterned(cone((0, 0, tall - 0.02), radius + 0.15, kit.between(0.5, 1.2))))
    if kit.chance(0.6):
        away, low = radius + kit.between(0.4, 0.8), tall * kit.between(0.4, 0.8)
        turret = union(
            kit.patterned(cylinder((away, 0, low / 2), 0.26, low / 2)), kit.dyed(cone((away, 0, low), 0.34, 0.45))
        )
        wall = kit.dyed(box((away / 2, 0, 0.25 * tall), (away / 2, 0.12, 0.25 * tall)))
        parts.append(union(turret, wall).mirrored() if kit.chance(0.7) else union(turret, wall))
    return union(*parts)


def _plant(kit: _Kit) -> Solid:
    """Trees, flowers and cacti, some in pots."""
    green = _hex(kit.between(0.22, 0.42), kit.between(0.4, 0.9), kit.between(0.35, 0.7))
    leafy = mottled(plain(green), 0.16, 0.35, kit.rng.randint(1, 999))
    base, parts = 0.0, []
    if kit.chance(0.5):
        base = kit.between(0.4, 0.7)
        wide = kit.between(0.3, 0.5)
        parts.append(kit.patterned(cone((0, 0, 0), wide * 0.75, base, wide)))
    tall = kit.between(0.6, 1.4)
    kind, top = kit.rng.randrange(5), base + tall
    trunk = capsule((0, 0, base), (0, 0, top), kit.between(0.07, 0.15))
    if kind == 0:
        crowns = [(kit.between(-0.4, 0.4), kit.between(-0.4, 0.4), top + kit.between(-0.1, 0.5)) for _ in range(4)]
        parts += [union(*(sphere(c, kit.between(0.3, 0.5)) for c in crowns)).painted(leafy), kit.wooden(trunk)]
    elif kind == 1:
        tiers = [cone((0, 0, base + 0.3 + 0.4 * k), 0.75 - 0.17 * k, 0.65) for k in range(kit.rng.randint(2, 4))]
        parts += [union(*tiers).painted(leafy), kit.wooden(trunk)]
    elif kind == 2:
        leaf = ellipsoid((0.28, 0, 0), (0.3, 0.14, 0.05)).turned(20, "y").moved(z=top)
        petals = _around(leaf, kit.rng.randint(5, 8))
        blade = ellipsoid((0.3, 0, base + 0.35 * tall), (0.32, 0.12, 0.05)).turned(-25, "y").moved(x=0.1)
        parts += [trunk.painted(plain(green)), kit.dyed(petals), kit.dyed(sphere((0, 0, top + 0.03), 0.2))]
        parts.append(_around(blade, 3).painted(leafy))
    elif kind == 3:
        stem = capsule((0, 0, base), (0, 0, top + 0.3), 0.26)
        arms = [
            tube([(0.1, 0, z), (0.5, 0, z), (0.5, 0, z + kit.between(0.3, 0.6))], 0.14).turned(turn)
            for z, turn in ((base + 0.5, 0), (base + 0.7, 180))
        ]
        ribs = sectors([green, _hex(0.35, 0.5, 0.35)], 8)
        parts += [union(stem, *arms).painted(ribs), kit.dyed(sphere((0, 0, top + 0.56), 0.13))]
    else:
        leaf = tube([(0.05, 0, base), (0.25, 0, base + 0.6 * tall), (0.75, 0, base + tall)], 0.08)
        parts.append(_around(leaf, kit.rng.randint(4, 7), kit.between(0, 60)).painted(leafy))
    return union(*parts)


def _lamp(kit: _Kit) -> Solid:
    """Lamps, parasols and signs: a foot, a pole and something on it."""
    tall, foot = kit.between(0.9, 2), kit.between(0.3, 0.55)
    base = kit.dyed(cone((0, 0, 0), foot, kit.between(0.08, 0.3), foot * kit.between(0.3, 0.8)))
    lean = kit.between(-0.5, 0.5) if kit.chance(0.4) else 0.0
    pole = tube([(0, 0, 0.1), (0, 0, 0.6 * tall), (lean, 0, tall)], kit.between(0.05, 0.09))
    kind, wide = kit.rng.randrange(5), kit.between(0.4, 0.8)
    if kind == 0:
        head = cone((0, 0, -0.1), wide, kit.between(0.3, 0.7), 0.5 * wide)
    elif kind == 1:
        head = sphere((0, 0, 0.1), 0.6 * wide)
    elif kind == 2:
        head = extrude(_polygon(kit.rng.choice([3, 4, 6, 8]), 0.8 * wide), 0.06, 0.01)
    elif kind == 3:
        head = revolve([(0, 0.05), (wide * 1.2, -0.05), *curve([(wide * 1.2, 0.0), (0.6 * wide, 0.28), (0, 0.4)], 3)])
    else:
        head = extrude(_star(5, 0.8 * wide, 0.4 * wide), 0.08, 0.02)
    return union(base, kit.dyed(pole), kit.patterned(head).moved(lean, 0, tall))


def _tool(kit: _Kit) -> Solid:
    """Hammers, spoons, brushes, rackets and keys, standing on their handles."""
    long, thin = kit.between(0.9, 1.7), kit.between(0.07, 0.13)
    grip = capsule((0, 0, thin), (0, 0, long), thin * kit.between(1, 1.5), thin)
    head = kit.rng.choice([_hammer, _spoon, _racket, _brush, _fork])(kit)
    return union(kit.patterned(grip), head.moved(z=long - head.lower[2] - 0.06))


def _hammer(kit: _Kit) -> Solid:
    x, z = kit.between(0.35, 0.6), kit.between(0.14, 0.22)
    return kit.dyed(union(box((0, 0, 0), (x, z, z), 0.03), cylinder((-x, 0, 0), 1.2 * z, 0.1, 0.02, "x")))


def _spoon(kit: _Kit) -> Solid:
    bowl = ellipsoid((0, 0, 0), (kit.between(0.3, 0.45), 0.16, kit.between(0.35, 0.6)))
    return carve(kit.dyed(bowl), kit.dyed(ellipsoid((0, -0.14, 0), (0.28, 0.17, 0.36))))


def _racket(kit: _Kit) -> Solid:
    x, z = kit.between(0.35, 0.5), kit.between(0.45, 0.65)
    ring = torus((0, 0, 0), 0.4, 0.06, "y").stretched(x=x / 0.4, z=z / 0.4)
    net = cylinder((0, 0, 0), 0.4, 0.03, axis="y").stretched(x=x / 0.4, z=z / 0.4)
    return union(kit.dyed(ring), kit.patterned(net))


def _brush(kit: _Kit) -> Solid:
    x, z = kit.between(0.25, 0.5), kit.between(0.3, 0.6)
    return union(
        kit.wooden(box((0, 0, 0), (x, 0.14, 0.1), 0.02)), kit.patterned(box((0, 0, z / 2), (0.95 * x, 0.11, z / 2)))
    )


def _fork(kit: _Kit) -> Solid:
    count, x = kit.rng.randint(2, 4), kit.between(0.25, 0.4)
    places = [x * (2 * k / (count - 1) - 1) for k in range(count)]
    teeth = [capsule((at, 0, 0), (at, 0, kit.between(0.5, 0.7)), 0.07, 0.04) for at in places]
    return kit.dyed(union(capsule((-x, 0, 0), (x, 0, 0), 0.08), *teeth))


def _emblem(kit: _Kit) -> Solid:
    """Flat things upright: gears, stars, hearts, blobs and wheels, some on a stand."""
    kind, half = kit.rng.randrange(4), kit.between(0.1, 0.3)
    if kind == 0:
        teeth = kit.rng.randint(6, 12)
        outline = [
            c
            for k in range(teeth)
            for c in arc((0, 0), 0.8 + 0.25 * (k % 2), 360 * k / teeth, 360 * (k + 0.8) / teeth, 2)
        ]
    elif kind == 1:
        outline = _star(kit.rng.randint(4, 9), 1.0, kit.between(0.35, 0.7))
    elif kind == 2:
        count = kit.rng.randint(5, 8)
        spokes = [(kit.between(0.5, 1.1), 2 * math.pi * k / count) for k in range(count)]
        outline = curve([(r * math.cos(a), r * math.sin(a)) for r, a in spokes], 4, closed=True)
    else:
        right = [(0.0, -1.0), (0.6, -0.35), (0.95, 0.25), (0.75, 0.7), (0.35, 0.75), (0.0, 0.45)]
        outline = [*right, *((-x, z) for x, z in right[-2:0:-1])]
    solid = kit.patterned(extrude(outline, half, 0.02))
    if kit.chance(0.5):
        solid = carve(solid, kit.dyed(cylinder((0, 0, 0), kit.between(0.2, 0.35), 1.0, axis="y")))
    else:
        boss = kit.rng.choice([sphere((0, -half, 0), 0.28), cylinder((0, -half, 0), 0.3, 0.12, 0.03, "y")])
        solid = union(solid, kit.dyed(boss))
    if kit.chance(0.5):
        return solid
    stand = box((0, 0, solid.lower[2] - 0.05), (kit.between(0.4, 0.7), half + 0.15, 0.12), 0.03)
    return union(solid, kit.dyed(stand))


def _rings(kit: _Kit) -> Solid:
    """Rings through one another, or on a peg."""
    count = kit.rng.randint(2, 5)
    if kit.chance(0.5):
        z, parts = (
            0.16,
            [kit.dyed(cylinder((0, 0, 0.08), 0.7, 0.08, 0.03)), kit.wooden(cylinder((0, 0, 0.9), 0.12, 0.9))],
        )
        for k in range(count):
            tyre = kit.between(0.12, 0.2)
            parts.append(kit.patterned(torus((0, 0, z + tyre), 0.55 - 0.06 * k, tyre)))
            z += 1.9 * tyre
        return union(*parts)
    links = []
    for k in range(count):
        link = torus((0, 0, 0), 0.42, kit.between(0.08, 0.14), "xy"[k % 2]).moved(z=0.62 * k)
        links.append(kit.patterned(link))
    return union(*links)


def _cluster(kit: _Kit) -> Solid:
    """A core with solids, spikes or knobs all around it: fruit, mines, molecules, crowns."""
    core = kit.patterned(_block(kit, kit.between(1, 1.4), kit.between(0.7, 1.4)))
    tall = core.upper[2]
    parts = [core]
    if kit.chance(0.5):
        parts.append(kit.dyed(_spikes(kit, kit.rng.randint(3, 8), 0.5, 0.5 * tall)))
    for _ in range(kit.rng.randint(1, 4)):
        away = kit.between(0.4, 0.75)
        knob = _block(kit, kit.between(0.25, 0.6), kit.between(0.25, 0.6)).moved(x=away, z=kit.between(0, 0.7) * tall)
        knob = kit.patterned(knob)
        parts.append(knob.mirrored() if kit.chance(0.4) else _around(knob, kit.rng.randint(1, 5), kit.between(0, 360)))
    if kit.chance(0.4):
        parts.append(kit.dyed(capsule((0, 0, tall - 0.1), (0.1, 0, tall + 0.3), 0.07)))
    if kit.chance(0.3):
        parts.append(kit.dyed(_handle(kit, 0.5, 0.2 * tall, 0.8 * tall)))
    return union(*parts)


FAMILIES: tuple[Callable[[_Kit], Solid], ...] = (
    _vessel,
    _vessel,
    _table,
    _seat,
    _cabinet,
    _beast,
    _beast,
    _bird,
    _fish,
    _figure,
    _figure,
    _car,
    _plane,
    _boat,
    _stack,
    _house,
    _castle,
    _plant,
    _lamp,
    _tool,
    _emblem,
    _rings,
    _cluster,
)
"""Plans to draw from; those with more variety count twice."""
