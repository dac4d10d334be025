"""Invented tables, seats, cabinets and lamps."""

from __future__ import annotations

from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.inventions.parts import four_legs, polygon_outline, simple_block, star_outline
from data_modules.worlds.assets.outlines import curve
from data_modules.worlds.assets.primitives import (
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    extrude,
    revolve,
    sphere,
    tube,
)
from data_modules.worlds.assets.solid import Solid, union


def table(kit: Kit) -> Solid:
    """Tables, stools, benches and shelves."""
    x, y, height = kit.between(0.5, 1.3), kit.between(0.4, 0.8), kit.between(0.5, 1.5)
    thick = kit.between(0.05, 0.14)
    top = box((0, 0, height), (x, y, thick), 0.04)
    if kit.chance(0.3):
        top = cylinder((0, 0, height), y * 1.2, thick, 0.04)
        x = y * 0.9
        y = x
    legs = four_legs(kit, 0.8 * x, 0.75 * y, height, kit.between(0.06, 0.13))
    if kit.chance(0.25):
        foot = revolve([(0, 0), (0.7 * y, 0), (0.65 * y, 0.1), (0.1, 0.2), (0.1, height), (0, height)])
        legs = foot
    parts = [kit.patterned(top) if kit.chance(0.3) else kit.wooden(top), kit.wooden(legs)]
    if kit.chance(0.4):
        parts.append(kit.dyed(box((0, 0, 0.35 * height), (0.75 * x, 0.7 * y, 0.04))))
    if kit.chance(0.4):
        parts.append(kit.dyed(box((0, -0.6 * y, height - 0.2), (0.35 * x, 0.3 * y, 0.13), 0.02)))
    for _ in range(kit.rng.randint(0, 2)):
        on = simple_block(kit, kit.between(0.25, 0.5), kit.between(0.2, 0.7))
        parts.append(
            kit.patterned(on).moved(kit.between(-0.5, 0.5) * x, kit.between(-0.4, 0.4) * y, height + 0.9 * thick)
        )
    return union(*parts)


def seat(kit: Kit) -> Solid:
    """Chairs, armchairs and sofas."""
    x, y, height, back = kit.between(0.4, 1.2), kit.between(0.4, 0.6), kit.between(0.35, 1), kit.between(0.4, 1.2)
    thick, soft = kit.between(0.08, 0.2), kit.between(0.02, 0.07)
    seat = kit.patterned(box((0, 0, height), (x, y, thick), soft))
    parts = [seat, kit.wooden(four_legs(kit, 0.85 * x, 0.8 * y, height, kit.between(0.06, 0.12)))]
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


def cabinet(kit: Kit) -> Solid:
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
    parts.append(kit.dyed(four_legs(kit, 0.8 * x, 0.8 * y, 0.2, 0.09)))
    if kit.chance(0.5):
        parts.append(
            kit.patterned(simple_block(kit, kit.between(0.4, 0.8), kit.between(0.3, 0.7)).moved(z=2 * z + 0.12))
        )
    return union(*parts)


def lamp(kit: Kit) -> Solid:
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
        head = extrude(polygon_outline(kit.rng.choice([3, 4, 6, 8]), 0.8 * wide), 0.06, 0.01)
    elif kind == 3:
        head = revolve([(0, 0.05), (wide * 1.2, -0.05), *curve([(wide * 1.2, 0.0), (0.6 * wide, 0.28), (0, 0.4)], 3)])
    else:
        head = extrude(star_outline(5, 0.8 * wide, 0.4 * wide), 0.08, 0.02)
    return union(base, kit.dyed(pole), kit.patterned(head).moved(lean, 0, tall))
