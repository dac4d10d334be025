"""A shoe that points towards +x, metres."""

from __future__ import annotations

import random

from data_modules.worlds.assets.dimensions import Size
from data_modules.worlds.assets.outlines import Corner, curve
from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, two
from data_modules.worlds.assets.primitives import box, capsule, ellipsoid, extrude
from data_modules.worlds.assets.solid import Solid, blend, carve, common, union
from data_modules.worlds.assets.textures import decal, either, plain

_SOLE: tuple[Corner, ...] = (
    *((-0.142, 0.0), (-0.12, 0.034), (-0.03, 0.034), (0.06, 0.05), (0.12, 0.038)),
    *((0.142, 0.0), (0.11, -0.045), (0.04, -0.05), (-0.04, -0.032), (-0.12, -0.034)),
)
"""A left foot's sole from above."""


def shoe(dimensions: Size, rng: random.Random) -> Solid:
    """A laced shoe with a low or a high shaft; the size is left to the caller."""
    color, second = two(rng, BRIGHT, LIGHT, DARK)
    rise = rng.choice((0.0, 0.03))
    sole = extrude(curve(_SOLE, 2, closed=True), 0.014, 0.006, axis="z").moved(z=0.014)
    toe = ellipsoid((0.07, 0.0, 0.03), (0.066, 0.043, 0.042))
    instep = capsule((0.05, 0.0, 0.035), (-0.04, 0.0, 0.075), 0.037, 0.034)
    heel = capsule((-0.1, 0.0, 0.045), (-0.092, 0.0, 0.085 + rise), 0.036)
    throat = capsule((-0.04, 0.0, 0.06), (-0.05, 0.0, 0.082 + rise), 0.034)
    hollow = box((-0.078, 0.0, 0.115 + rise), (0.047, 0.026, 0.045), 0.024).painted(plain("#191a1d"))
    stripe = box((0.0, 0.0, 0.0), (0.006, 0.1, 0.04)).turned(25, "y")
    stripes = either(*(stripe.moved(x, 0.0, 0.055).distance for x in (-0.03, 0.0)))
    cap = decal(plain(color), lambda p: 0.1 - p[0], plain(second))
    leather = blend(0.03, toe, instep, heel, throat).painted(decal(cap, stripes, plain(second)))
    # Cut off flat at the sole and at the top, where the heel's round end would close it.
    upper = carve(common(leather, box((0.0, 0.0, 0.055 + rise / 2), (0.2, 0.1, 0.05 + rise / 2))), hollow)
    eyelets = ((0.045, 0.072), (0.02, 0.082), (-0.005, 0.093))
    laces = union(*(capsule((x, -0.026, z), (x, 0.026, z), 0.005) for x, z in eyelets))
    rubber = sole.painted(plain(rng.choice(("#f3f1ea", "#1d1e21", "#b98a55"))))
    return union(upper, rubber, laces.painted(plain("#f6f4ee")))
