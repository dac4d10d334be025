"""What stands in a living room: sofas and coffee tables, facing -y."""

from __future__ import annotations

from data_modules.worlds.assets.primitives import box, capsule, cone, cylinder, sphere
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import Paint, decal, grain, plain, stripes


def sofa(cloth: str, cushions: str, pillow: Paint) -> Solid:
    """A sofa for two, with thick arms and one pillow at its left end."""
    base = box((0.0, 0.02, 0.24), (0.95, 0.4, 0.14), 0.06)
    back = box((0.0, 0.34, 0.5), (0.95, 0.13, 0.38), 0.11)
    arms = box((0.9, -0.03, 0.38), (0.14, 0.42, 0.25), 0.11).mirrored()
    seats = box((0.38, -0.08, 0.42), (0.365, 0.34, 0.1), 0.07).mirrored()
    return union(
        union(base, back, arms).painted(plain(cloth)),
        seats.painted(plain(cushions)),
        _pillow(pillow),
        _feet(0.85, 0.3, 0.1),
    )


def corner_sofa(cloth: str, cushions: str, pillow: Paint) -> Solid:
    """A sofa that comes forward at its right end, without an arm there."""
    base = union(box((0.0, 0.02, 0.22), (0.98, 0.4, 0.12), 0.05), box((0.62, -0.35, 0.22), (0.36, 0.4, 0.12), 0.05))
    back = box((0.0, 0.36, 0.48), (0.98, 0.11, 0.32), 0.09)
    arm = box((-0.9, -0.02, 0.36), (0.1, 0.4, 0.22), 0.08)
    seats = union(
        box((-0.28, -0.08, 0.38), (0.5, 0.33, 0.08), 0.06),
        box((0.62, -0.28, 0.38), (0.36, 0.45, 0.08), 0.06),
    )
    return union(
        union(base, back, arm).painted(plain(cloth)),
        seats.painted(plain(cushions)),
        _pillow(pillow),
        _feet(0.88, 0.3, 0.1),
    )


def _pillow(paint: Paint) -> Solid:
    return box((0.0, 0.0, 0.0), (0.19, 0.08, 0.18), 0.075).turned(-18, "x").moved(-0.55, 0.12, 0.66).painted(paint)


def _feet(x: float, y: float, height: float) -> Solid:
    foot = cylinder((x, y, height / 2), 0.05, height / 2)
    return foot.mirrored("x").mirrored("y").painted(plain("#3b2415"))


def drawer_table(wood: Paint, front: str) -> Solid:
    """A coffee table with two drawers at the front, a book on it at the left."""
    top = box((0.0, 0.0, 0.53), (0.66, 0.4, 0.045), 0.02)
    body = box((0.0, 0.02, 0.42), (0.58, 0.32, 0.08), 0.01)
    legs = box((0.56, 0.3, 0.25), (0.055, 0.055, 0.25), 0.015).mirrored("x").mirrored("y")
    shelf = box((0.0, 0.0, 0.14), (0.56, 0.3, 0.025), 0.01)
    drawers = box((0.28, -0.32, 0.42), (0.25, 0.03, 0.06), 0.01).mirrored().painted(plain(front))
    knobs = sphere((0.28, -0.37, 0.42), 0.035).mirrored().painted(plain("#e8c860"))
    book = box((0.0, 0.0, 0.0), (0.15, 0.11, 0.035), 0.01).turned(15).moved(-0.38, 0.0, 0.605)
    return union(union(top, body, legs, shelf).painted(wood), drawers, knobs, book.painted(plain("#2f6db5")))


def round_table(top: str, legs: str, pot: str) -> Solid:
    """A round table on three splayed legs, a plant in a pot standing towards the front."""
    slab = cylinder((0.0, 0.0, 0.5), 0.62, 0.035, 0.02).painted(plain(top))
    leg = capsule((0.22, 0.0, 0.48), (0.46, 0.0, 0.035), 0.045, 0.035).painted(plain(legs))
    legs_around = union(*(leg.turned(angle) for angle in (90, 210, 330)))
    vessel = cone((0.0, -0.34, 0.53), 0.08, 0.16, 0.12).painted(plain(pot))
    leaves = sphere((0.0, -0.34, 0.8), 0.15)
    green = decal(plain("#2f7a3a"), lambda p: (p[0] * 13 + p[1] * 7 + p[2] * 11) % 1 - 0.4, plain("#57a84f"))
    return union(slab, legs_around, vessel, leaves.painted(green))


WALNUT = grain("#9a6a3e", "#6a4424", 0.06)
PINE = grain("#d9ae74", "#b98a50", 0.06)
STRIPED_PILLOW = stripes(0.06, ["#f4efe2", "#2c5a8c"])
