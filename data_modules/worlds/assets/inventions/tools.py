"""Invented tools: hammers, spoons, rackets, brushes and forks."""

from __future__ import annotations

from data_modules.worlds.assets.inventions.kit import Kit
from data_modules.worlds.assets.primitives import box, capsule, cylinder, ellipsoid, torus
from data_modules.worlds.assets.solid import Solid, carve, union


def tool(kit: Kit) -> Solid:
    """Hammers, spoons, brushes, rackets and keys, standing on their handles."""
    long, thin = kit.between(0.9, 1.7), kit.between(0.07, 0.13)
    grip = capsule((0, 0, thin), (0, 0, long), thin * kit.between(1, 1.5), thin)
    head = kit.rng.choice([_hammer, _spoon, _racket, _brush, _fork])(kit)
    return union(kit.patterned(grip), head.moved(z=long - head.lower[2] - 0.06))


def _hammer(kit: Kit) -> Solid:
    x, z = kit.between(0.35, 0.6), kit.between(0.14, 0.22)
    return kit.dyed(union(box((0, 0, 0), (x, z, z), 0.03), cylinder((-x, 0, 0), 1.2 * z, 0.1, 0.02, "x")))


def _spoon(kit: Kit) -> Solid:
    bowl = ellipsoid((0, 0, 0), (kit.between(0.3, 0.45), 0.16, kit.between(0.35, 0.6)))
    return carve(kit.dyed(bowl), kit.dyed(ellipsoid((0, -0.14, 0), (0.28, 0.17, 0.36))))


def _racket(kit: Kit) -> Solid:
    x, z = kit.between(0.35, 0.5), kit.between(0.45, 0.65)
    ring = torus((0, 0, 0), 0.4, 0.06, "y").stretched(x=x / 0.4, z=z / 0.4)
    net = cylinder((0, 0, 0), 0.4, 0.03, axis="y").stretched(x=x / 0.4, z=z / 0.4)
    return union(kit.dyed(ring), kit.patterned(net))


def _brush(kit: Kit) -> Solid:
    x, z = kit.between(0.25, 0.5), kit.between(0.3, 0.6)
    return union(
        kit.wooden(box((0, 0, 0), (x, 0.14, 0.1), 0.02)), kit.patterned(box((0, 0, z / 2), (0.95 * x, 0.11, z / 2)))
    )


def _fork(kit: Kit) -> Solid:
    count, x = kit.rng.randint(2, 4), kit.between(0.25, 0.4)
    places = [x * (2 * k / (count - 1) - 1) for k in range(count)]
    teeth = [capsule((at, 0, 0), (at, 0, kit.between(0.5, 0.7)), 0.07, 0.04) for at in places]
    return kit.dyed(union(capsule((-x, 0, 0), (x, 0, 0), 0.08), *teeth))
