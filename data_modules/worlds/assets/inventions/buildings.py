"""Invented houses and castles."""

from __future__ import annotations

from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.inventions.parts import around
from data_modules.worlds.assets.primitives import box, cone, cylinder, extrude
from data_modules.worlds.assets.solid import Solid, common, union
from data_modules.worlds.assets.textures import decal, either, plain


def house(kit: Kit) -> Solid:
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


def castle(kit: Kit) -> Solid:
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
        parts.append(kit.dyed(union(crown, around(box((radius, 0, tall + 0.18), (0.1, 0.12, 0.12)), 8))))
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
