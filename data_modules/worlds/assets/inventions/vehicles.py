"""Invented cars, planes and boats."""

from __future__ import annotations

from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.inventions.parts import hubbed_wheel, simple_block
from data_modules.worlds.assets.outlines import curve
from data_modules.worlds.assets.primitives import box, capsule, cylinder, extrude, sphere
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import decal, either, plain, stripes


def car(kit: Kit) -> Solid:
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
    wheels = union(*(hubbed_wheel(kit, x, at, wheel) for at in axles)).mirrored()
    parts = [kit.patterned(body), cabin.painted(glazed), lamps, wheels]
    if kit.chance(0.4):
        load = simple_block(kit, kit.between(0.4, 0.7), kit.between(0.2, 0.5))
        parts.append(kit.patterned(load).moved(y=0.6 * long, z=z))
    return union(*parts)


def plane(kit: Kit) -> Solid:
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
    parts.append(hubbed_wheel(kit, 0.6 * fat, -0.4 * long, 0.14).mirrored())
    return union(*parts)


def boat(kit: Kit) -> Solid:
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
