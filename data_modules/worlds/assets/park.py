"""What stands in a park: benches, lampposts and a bird in the air, all facing -y."""

from __future__ import annotations

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
from data_modules.worlds.assets.solid import Solid, blend, union
from data_modules.worlds.assets.textures import Paint, decal, grain, layers, plain


def iron_bench(wood: Paint, iron: str) -> Solid:
    """Wooden slats on two iron frames with armrests."""
    seat = union(*(box((0.0, y, 0.48), (0.85, 0.085, 0.03), 0.015) for y in (-0.2, 0.0, 0.2)))
    back = union(*(box((0.0, 0.0, z), (0.85, 0.025, 0.075), 0.015) for z in (0.18, 0.38)))
    leaning = back.turned(-14, "x").moved(y=0.28, z=0.48)
    frame = tube([(0.72, -0.28, 0.032), (0.72, -0.24, 0.44), (0.72, 0.26, 0.44), (0.72, 0.4, 0.95)], 0.032)
    legs = tube([(0.72, 0.26, 0.44), (0.72, 0.36, 0.032)], 0.032)
    arms = tube([(0.76, -0.26, 0.44), (0.76, -0.26, 0.68), (0.76, 0.3, 0.72)], 0.032)
    feet = box((0.72, 0.03, 0.02), (0.04, 0.38, 0.02), 0.015)
    rails = union(frame, legs, arms, feet).mirrored().painted(plain(iron))
    return union(union(seat, leaning).painted(wood), rails)


def stone_bench(stone: Paint, wood: Paint) -> Solid:
    """A heavy bench: stone cheeks, a thick seat and one broad back board."""
    cheeks = box((0.68, 0.06, 0.23), (0.1, 0.28, 0.23), 0.03).mirrored().painted(stone)
    posts = box((0.68, 0.3, 0.62), (0.06, 0.05, 0.34), 0.02).mirrored().painted(stone)
    seat = box((0.0, 0.0, 0.48), (0.85, 0.34, 0.05), 0.02)
    back = box((0.0, 0.28, 0.82), (0.85, 0.04, 0.16), 0.02)
    return union(cheeks, posts, union(seat, back).painted(wood))


def arm_lamppost(metal: str, banner: str) -> Solid:
    """A tall post whose bent arm carries the lantern forward, a banner on its left side."""
    post = union(
        cone((0.0, 0.0, 0.0), 0.2, 0.2, 0.11),
        capsule((0.0, 0.0, 0.15), (0.0, 0.0, 2.35), 0.06, 0.045),
        cylinder((0.0, 0.0, 0.6), 0.085, 0.04, 0.02),
    )
    bend = curve([(0.0, 2.3), (-0.06, 2.52), (-0.3, 2.6), (-0.5, 2.48)], 3)
    arm = tube([(0.0, y, z) for y, z in bend], 0.038)
    hood = cone((0.0, -0.5, 2.3), 0.24, 0.16, 0.06)
    lamp = sphere((0.0, -0.5, 2.28), 0.14)
    flag = box((0.24, 0.0, 1.7), (0.2, 0.015, 0.3), 0.01)
    rod = capsule((0.0, 0.0, 2.02), (0.44, 0.0, 2.02), 0.02)
    iron = union(post, arm, hood, rod).painted(plain(metal))
    return union(iron, lamp.painted(plain("#fff1b8")), flag.painted(layers([1.6], ["#f2ead8", banner])))


def lantern_lamppost(metal: str, basket: str) -> Solid:
    """An old lantern on a post, a flower basket hanging at its front."""
    post = union(
        cylinder((0.0, 0.0, 0.1), 0.2, 0.1, 0.03),
        cone((0.0, 0.0, 0.18), 0.13, 0.3, 0.06),
        capsule((0.0, 0.0, 0.3), (0.0, 0.0, 1.9), 0.055),
        cylinder((0.0, 0.0, 1.95), 0.12, 0.04, 0.02),
        cone((0.0, 0.0, 2.42), 0.24, 0.16, 0.03),
        sphere((0.0, 0.0, 2.6), 0.05),
    )
    glass = cone((0.0, 0.0, 1.98), 0.12, 0.45, 0.2)
    hook = tube([(0.0, 0.0, 1.55), (0.0, -0.34, 1.6), (0.0, -0.34, 1.4)], 0.024)
    pot = cone((0.0, -0.34, 1.12), 0.1, 0.2, 0.17)
    flowers = ellipsoid((0.0, -0.34, 1.36), (0.2, 0.2, 0.13))
    blooms = decal(plain("#3f7a34"), lambda p: (p[0] * 9 + p[1] * 5) % 1 - 0.5, plain(basket))
    return union(
        union(post, hook).painted(plain(metal)),
        glass.painted(plain("#fff0b0")),
        pot.painted(plain("#7a4a28")),
        flowers.painted(blooms),
    )


def bird(feathers: str, belly: str, wings: str, beak: str = "#f0a020") -> Solid:
    """A small bird flying towards -y with its wings spread."""
    trunk = ellipsoid((0.0, 0.0, 0.22), (0.2, 0.36, 0.2)).turned(-8, "x")
    head = sphere((0.0, -0.38, 0.36), 0.17)
    body = blend(0.12, trunk, head)
    throat = ellipsoid((0.0, -0.16, 0.06), (0.18, 0.42, 0.2))
    eyes = sphere((0.12, -0.49, 0.42), 0.045).mirrored()
    coat = decal(decal(plain(feathers), throat.distance, plain(belly)), eyes.distance, plain("#101010"))
    bill = revolve([(0, 0), (0.07, 0), (0, 0.22)]).turned(90, "x").moved(y=-0.52, z=0.34)
    wing = extrude(curve([(0.0, -0.24), (0.4, -0.3), (0.78, -0.1), (0.5, 0.1), (0.0, 0.2)], 2), 0.035, 0.03, axis="z")
    spread = wing.painted(layers([0.5], [feathers, wings], "x")).turned(-20, "y").moved(x=0.08, z=0.3).mirrored()
    fan = extrude([(-0.06, 0.0), (-0.2, 0.42), (0.2, 0.42), (0.06, 0.0)], 0.03, 0.025, axis="z")
    tail = fan.turned(12, "x").moved(y=0.26, z=0.24)
    flying = union(body.painted(coat), bill.painted(plain(beak)), spread, tail.painted(plain(wings)))
    return flying.standing()


OAK = grain("#b0713a", "#7c4a22", 0.05)
"""Brown wood with its grain along x."""

GREEN_BOARDS = grain("#4d8a55", "#336b40", 0.05)
"""Painted boards."""

GRANITE = plain("#a9a49b")
