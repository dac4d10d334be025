"""Invented beasts, birds, fish and figures."""

from __future__ import annotations

from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.inventions.parts import simple_block, with_eyes
from data_modules.worlds.assets.primitives import box, capsule, cone, cylinder, ellipsoid, extrude, sphere, tube
from data_modules.worlds.assets.solid import Solid, blend, union
from data_modules.worlds.assets.textures import plain


def beast(kit: Kit) -> Solid:
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
        with_eyes(kit, coat, 0.6 * skull, y - 0.75 * skull, top + 0.35 * skull, 0.4 * skull)
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


def _ears(kit: Kit, skull: float, y: float, z: float) -> Solid:
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


def bird(kit: Kit) -> Solid:
    """Birds, chicks and owls."""
    fat, tall = kit.between(0.4, 0.6), kit.between(0.45, 0.8)
    legs = kit.between(0.1, 0.7)
    trunk = ellipsoid((0, 0, legs + tall), (fat, fat * kit.between(0.9, 1.6), tall))
    skull = kit.between(0.28, 0.42)
    y, z = -kit.between(0.1, 0.5), legs + 2 * tall + 0.3 * skull
    eyed = with_eyes(kit, kit.patterned(trunk).color, 0.55 * skull, y - 0.75 * skull, z + 0.2, 0.17)
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


def fish(kit: Kit) -> Solid:
    """Fish on a stand."""
    long, fat, high = kit.between(0.7, 1.2), kit.between(0.2, 0.4), kit.between(0.3, 0.6)
    z = high + kit.between(0.2, 0.5)
    body = ellipsoid((0, 0, z), (fat, long, high))
    coat = with_eyes(kit, kit.patterned(body).color, 0.75 * fat, -0.65 * long, z + 0.25 * high, 0.17)
    tail = extrude(
        [(0.8 * long, z), (1.35 * long, z + 0.8 * high), (1.2 * long, z), (1.35 * long, z - 0.8 * high)], 0.06
    )
    fin = extrude([(-0.4 * long, z + 0.7 * high), (0.5 * long, z + 0.6 * high), (0.4 * long, z + 1.5 * high)], 0.06)
    side = ellipsoid((fat + 0.1, 0, z - 0.2 * high), (0.25, 0.15, 0.06)).turned(15, "y").mirrored()
    fins = kit.dyed(union(tail.turned(90).mirrored(), fin.turned(90).mirrored(), side))
    stand = union(cylinder((0, 0, 0.05), 0.4, 0.05), cylinder((0, 0, z / 2), 0.07, z / 2))
    return union(body.painted(coat), fins, kit.dyed(stand))


def figure(kit: Kit) -> Solid:
    """Robots, dolls and snowmen: a head on a body, with arms and legs."""
    wide, deep, tall, legs = kit.between(0.3, 0.6), kit.between(0.22, 0.4), kit.between(0.3, 0.6), kit.between(0.3, 0.8)
    boxy = kit.chance(0.5)
    middle = (0.0, 0.0, legs + tall)
    torso = box(middle, (wide, deep, tall), 0.06) if boxy else ellipsoid(middle, (wide, deep, 1.1 * tall))
    skull = kit.between(0.25, 0.45)
    z = legs + 2 * tall + 0.85 * skull
    head = box((0, 0, z), (skull, 0.8 * skull, 0.8 * skull), 0.05) if boxy else sphere((0, 0, z), skull)
    face = with_eyes(kit, plain(kit.color()), 0.45 * skull, -0.85 * skull, z + 0.1, 0.16)
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
        hat = simple_block(kit, 1.6 * skull, kit.between(0.2, 0.6)).moved(z=z + 0.72 * skull)
        parts.append(kit.patterned(hat))
    return union(*parts)
