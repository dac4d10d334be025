"""Parts of inventions: handles, wheels, legs, eyes, spikes and simple blocks."""

from __future__ import annotations

import math

from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.outlines import Corner, arc
from data_modules.worlds.assets.primitives import box, capsule, cone, cylinder, ellipsoid, extrude, sphere, torus, tube
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import Paint, decal, plain


def around(solid: Solid, count: int, start: float = 0.0) -> Solid:
    """Copies of a solid about the z axis."""
    return union(*(solid.turned(start + 360 * k / count) for k in range(count)))


def bow_handle(kit: Kit, x: float, low: float, high: float) -> Solid:
    """A bow on the right, whose ends lie at a distance from the z axis."""
    radius, wide = (high - low) / 2, kit.between(0.6, 1.1)
    bow = [(x - 0.05 + wide * (a - x), 0.0, z) for a, z in arc((x, (low + high) / 2), radius, -90, 90, 6)]
    return tube(bow, kit.between(0.06, 0.11))


def hubbed_wheel(kit: Kit, x: float, y: float, radius: float) -> Solid:
    """A wheel with its hub, standing on the ground right of the middle, its axle along x."""
    wide = kit.between(0.09, 0.16)
    hub = cylinder((x, y, radius), 0.5 * radius, wide + 0.03, 0.02, "x").painted(plain(kit.palette[0]))
    return union(cylinder((x, y, radius), radius, wide, 0.04, "x").painted(plain("#232326")), hub)


def four_legs(kit: Kit, x: float, y: float, height: float, thick: float) -> Solid:
    """Four legs at the corners of a rectangle, of one of several kinds."""
    kind, out = kit.rng.randrange(3), kit.between(0.85, 1.2)
    if kind == 0:
        leg = box((x, y, height / 2), (thick, thick, height / 2), 0.02)
    elif kind == 1:
        leg = capsule((x * out, y * out, thick), (x, y, height), thick * 0.8, thick)
    else:
        leg = cylinder((x, y, height / 2), thick, height / 2, 0.02)
    return leg.mirrored("x").mirrored("y")


def with_eyes(kit: Kit, coat: Paint, x: float, y: float, z: float, size: float) -> Paint:
    """A coat with two dark eyes, some with white around them."""
    white, dark = sphere((x, y, z), size).mirrored(), sphere((x, y, z), 0.55 * size).mirrored()
    around = decal(coat, white.distance, plain("#f6f4ee")) if kit.chance(0.6) else coat
    return decal(around, dark.distance, plain("#141416"))


def ring_of_spikes(kit: Kit, count: int, radius: float, z: float) -> Solid:
    """Cones that stand out around the z axis at a height."""
    thorn = cone((0, 0, 0), kit.between(0.1, 0.18), kit.between(0.3, 0.6)).turned(90, "y")
    return around(thorn.moved(x=0.9 * radius, z=z), count, kit.between(0, 90))


def simple_block(kit: Kit, wide: float, tall: float) -> Solid:
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
        return extrude(polygon_outline(kit.rng.randint(3, 8), half), tall / 2, 0.02, "z").moved(z=tall / 2)
    if kind == 6:
        return extrude(
            star_outline(kit.rng.randint(4, 8), half, half * kit.between(0.5, 0.8)), tall / 2, 0.02, "z"
        ).moved(z=tall / 2)
    return box((0, 0, 0), (0.6 * half, 0.6 * half, 0.6 * half), 0.05).turned(45, "x").turned(45).standing()


def polygon_outline(count: int, radius: float) -> list[Corner]:
    """A regular polygon with a number of corners."""
    return arc((0.0, 0.0), radius, 0, 360 - 360 / count, count - 1)


def star_outline(count: int, outer: float, inner: float) -> list[Corner]:
    """A star with a number of points."""
    turns = [math.pi * (k / count + 0.5) for k in range(2 * count)]
    return [((outer, inner)[k % 2] * math.cos(a), (outer, inner)[k % 2] * math.sin(a)) for k, a in enumerate(turns)]
