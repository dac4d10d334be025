"""Things found about a house: a candle, a boot, a traffic cone, a book and a chair, about two units tall."""

from __future__ import annotations

from data_modules.worlds.assets.outlines import curve
from data_modules.worlds.assets.primitives import box, capsule, cone, revolve, sphere, torus
from data_modules.worlds.assets.solid import Solid, blend, carve, union
from data_modules.worlds.assets.textures import decal, either, grain, layers, plain, stripes


def candle() -> Solid:
    """A burning purple candle on a brass saucer with a ring to hold it by, to the right."""
    saucer = revolve([(0, 0), (0.6, 0), (0.78, 0.16), (0.7, 0.18), (0.58, 0.08), (0, 0.08)])
    ring = torus((0.93, 0.0, 0.22), 0.17, 0.045, axis="y")
    wax = revolve([(0, 0.05), (0.42, 0.05), (0.42, 1.62), (0.36, 1.68), (0.28, 1.62), (0, 1.58)])
    drops = union(
        capsule((0.3, -0.3, 1.6), (0.31, -0.31, 1.15), 0.07), capsule((-0.35, -0.22, 1.6), (-0.36, -0.23, 1.35), 0.07)
    )
    wick = capsule((0.0, 0.0, 1.55), (0.0, 0.0, 1.82), 0.03).painted(plain("#20160f"))
    flame = revolve(curve([(0.0, 1.76), (0.13, 1.92), (0.09, 2.12), (0.0, 2.36)], 5))
    return union(
        union(saucer, ring).painted(plain("#c99a3a")),
        union(wax, drops).painted(plain("#7a35a0")),
        wick,
        flame.painted(layers([1.95], ["#f47a16", "#ffd84a"])),
    )


def boot() -> Solid:
    """A green rubber boot, its toe to the front."""
    shaft = revolve([(0, 0.3), (0.4, 0.3), (0.38, 1.0), (0.46, 1.9), (0, 1.9)]).moved(y=0.35)
    hollow = cone((0.0, 0.35, 1.2), 0.32, 0.9, 0.42).painted(plain("#16301c"))
    foot = capsule((0.0, 0.35, 0.42), (0.0, -0.55, 0.36), 0.36, 0.32)
    sole = union(
        box((0.0, -0.4, 0.07), (0.37, 0.52, 0.07), 0.06), box((0.0, 0.45, 0.11), (0.34, 0.32, 0.11), 0.06)
    ).painted(plain("#2a2420"))
    rim = torus((0.0, 0.35, 1.87), 0.43, 0.06).painted(plain("#e3cf4a"))
    strap = layers([1.5, 1.62], ["#2f8a3f", "#e3cf4a", "#2f8a3f"])
    toe = decal(strap, lambda p: 0.55 + p[1] + 0.35 * p[2], plain("#24702f"))
    return union(carve(blend(0.25, shaft, foot).painted(toe), hollow), sole, rim)


def traffic_cone() -> Solid:
    """An orange cone with two white bands on a square foot."""
    foot = box((0.0, 0.0, 0.08), (0.75, 0.75, 0.08), 0.06).painted(plain("#d8500f"))
    spike = revolve([(0, 0.1), (0.56, 0.1), (0.12, 2.05), (0.08, 2.1), (0, 2.1)])
    bands = layers([0.75, 1.05, 1.4, 1.65], ["#f26a14", "#f6f4ee", "#f26a14", "#f6f4ee", "#f26a14"])
    return union(foot, spike.painted(bands))


def book() -> Solid:
    """A thick book standing upright, its title on the front and its spine to the left."""
    cover = box((0.0, 0.0, 1.05), (0.75, 0.27, 1.05), 0.04)
    gap = box((0.14, 0.0, 1.05), (0.75, 0.2, 1.2))
    pages = box((0.02, 0.0, 1.05), (0.68, 0.21, 0.98)).painted(stripes(0.035, ["#f4ecd6", "#ded2b4"], "y"))
    title = either(
        box((0.05, -0.3, 1.6), (0.45, 0.1, 0.08)).distance,
        box((0.05, -0.3, 1.38), (0.3, 0.1, 0.05)).distance,
        sphere((0.05, -0.3, 0.75), 0.28).distance,
        box((-0.75, 0.0, 1.7), (0.1, 0.2, 0.12)).distance,
        box((-0.75, 0.0, 0.4), (0.1, 0.2, 0.06)).distance,
    )
    binding = decal(plain("#8c1d3f"), title, plain("#e4b74a"))
    return union(carve(cover, gap).painted(binding), pages)


def chair() -> Solid:
    """A wooden chair with a red seat."""
    seat = box((0.0, 0.0, 1.0), (0.55, 0.52, 0.06), 0.03)
    cushion = box((0.0, -0.03, 1.08), (0.48, 0.44, 0.07), 0.06).painted(plain("#bf2f35"))
    front = capsule((0.47, -0.44, 0.06), (0.45, -0.42, 1.0), 0.06).mirrored()
    back = capsule((0.47, 0.5, 0.06), (0.47, 0.46, 2.2), 0.06).mirrored()
    rails = union(*(box((0.0, 0.47, z), (0.45, 0.035, 0.09), 0.03) for z in (1.45, 1.75, 2.08)))
    rung = union(
        capsule((0.0, -0.43, 0.45), (0.45, -0.43, 0.45), 0.035), capsule((0.46, -0.43, 0.6), (0.46, 0.48, 0.6), 0.035)
    )
    return union(union(seat, front, back, rails, rung.mirrored()).painted(grain("#b77b3f", "#935a28", 0.05)), cushion)
