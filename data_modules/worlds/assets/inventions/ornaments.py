"""Invented vessels, stacks, plants, emblems, rings and clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from data_modules.worlds.assets.inventions.kit import Kit, hex_color
from data_modules.worlds.assets.inventions.parts import around, bow_handle, ring_of_spikes, simple_block, star_outline
from data_modules.worlds.assets.outlines import Corner, arc, curve
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
from data_modules.worlds.assets.solid import Solid, carve, union
from data_modules.worlds.assets.textures import mottled, plain, sectors


def vessel(kit: Kit) -> Solid:
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


def _hollowed(kit: Kit, body: Solid, side: Sequence[Corner]) -> Solid:
    """A vessel with a hole as wide as its side leaves room for."""
    top, tall = side[-1]
    deep, wall = tall * kit.between(0.3, 0.7), kit.between(0.07, 0.12)
    narrowest = min(r for r, z in side if z >= tall - deep)
    return carve(body, kit.dyed(cylinder((0, 0, tall), max(min(top, narrowest) - wall, 0.1), deep)))


def _lid(kit: Kit, radius: float, z: float) -> Solid:
    lid = revolve([(0, z - 0.02), (radius + 0.05, z - 0.02), (radius * 0.8, z + 0.12), (0, z + 0.2)])
    return union(kit.dyed(lid), kit.dyed(sphere((0, 0, z + 0.28), kit.between(0.1, 0.18))))


def _ear(kit: Kit, side: Sequence[Corner], low: float, high: float) -> Solid:
    """A handle on the right that goes out from the side of a vessel at two heights."""
    out = max(r for r, z in side if low - 0.3 <= z <= high + 0.3)
    first, second = (min((abs(z - at), r) for r, z in side)[1] for at in (low, high))
    bow = [(first - 0.06, 0.0, low), (out + 0.25, 0.0, low), (out + 0.33, 0.0, (low + high) / 2)]
    return kit.dyed(tube([*bow, (out + 0.25, 0.0, high), (second - 0.06, 0.0, high)], kit.between(0.07, 0.11)))


def stack(kit: Kit) -> Solid:
    """Towers of two to six simple solids."""
    z, wide, parts = 0.0, kit.between(0.8, 1.5), []
    for _ in range(kit.rng.randint(2, 6)):
        made = kit.patterned(simple_block(kit, wide, kit.between(0.25, 0.8)))
        parts.append(made.moved(z=z))
        z += made.upper[2] - 0.02
        wide *= kit.between(0.65, 1.1)
    return union(*parts)


def plant(kit: Kit) -> Solid:
    """Trees, flowers and cacti, some in pots."""
    green = hex_color(kit.between(0.22, 0.42), kit.between(0.4, 0.9), kit.between(0.35, 0.7))
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
        petals = around(leaf, kit.rng.randint(5, 8))
        blade = ellipsoid((0.3, 0, base + 0.35 * tall), (0.32, 0.12, 0.05)).turned(-25, "y").moved(x=0.1)
        parts += [trunk.painted(plain(green)), kit.dyed(petals), kit.dyed(sphere((0, 0, top + 0.03), 0.2))]
        parts.append(around(blade, 3).painted(leafy))
    elif kind == 3:
        stem = capsule((0, 0, base), (0, 0, top + 0.3), 0.26)
        arms = [
            tube([(0.1, 0, z), (0.5, 0, z), (0.5, 0, z + kit.between(0.3, 0.6))], 0.14).turned(turn)
            for z, turn in ((base + 0.5, 0), (base + 0.7, 180))
        ]
        ribs = sectors([green, hex_color(0.35, 0.5, 0.35)], 8)
        parts += [union(stem, *arms).painted(ribs), kit.dyed(sphere((0, 0, top + 0.56), 0.13))]
    else:
        leaf = tube([(0.05, 0, base), (0.25, 0, base + 0.6 * tall), (0.75, 0, base + tall)], 0.08)
        parts.append(around(leaf, kit.rng.randint(4, 7), kit.between(0, 60)).painted(leafy))
    return union(*parts)


def emblem(kit: Kit) -> Solid:
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
        outline = star_outline(kit.rng.randint(4, 9), 1.0, kit.between(0.35, 0.7))
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


def rings(kit: Kit) -> Solid:
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


def cluster(kit: Kit) -> Solid:
    """A core with solids, spikes or knobs all around it: fruit, mines, molecules, crowns."""
    core = kit.patterned(simple_block(kit, kit.between(1, 1.4), kit.between(0.7, 1.4)))
    tall = core.upper[2]
    parts = [core]
    if kit.chance(0.5):
        parts.append(kit.dyed(ring_of_spikes(kit, kit.rng.randint(3, 8), 0.5, 0.5 * tall)))
    for _ in range(kit.rng.randint(1, 4)):
        away = kit.between(0.4, 0.75)
        knob = simple_block(kit, kit.between(0.25, 0.6), kit.between(0.25, 0.6)).moved(
            x=away, z=kit.between(0, 0.7) * tall
        )
        knob = kit.patterned(knob)
        parts.append(knob.mirrored() if kit.chance(0.4) else around(knob, kit.rng.randint(1, 5), kit.between(0, 360)))
    if kit.chance(0.4):
        parts.append(kit.dyed(capsule((0, 0, tall - 0.1), (0.1, 0, tall + 0.3), 0.07)))
    if kit.chance(0.3):
        parts.append(kit.dyed(bow_handle(kit, 0.5, 0.2 * tall, 0.8 * tall)))
    return union(*parts)
