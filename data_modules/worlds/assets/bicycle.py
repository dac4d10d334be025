"""A bicycle that rides towards +x, metres."""

from __future__ import annotations

import math
import random

from data_modules.worlds.assets.dimensions import Size
from data_modules.worlds.assets.palette import BRIGHT, DARK
from data_modules.worlds.assets.primitives import box, capsule, cylinder, torus, tube
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import plain

_AXLE, _HEIGHT, _TYRE = 0.5, 0.34, 0.32
"""How far the hubs are from the middle, their height, and the radius of the wheels' circles."""


def bicycle(dimensions: Size, rng: random.Random) -> Solid:
    """A bicycle with a diamond frame; the size is left to the caller."""
    color, leather = rng.choice(BRIGHT + DARK[:2]), rng.choice(("#1b1b1d", "#7a4526"))
    parts = [_frame(color), _wheels(), _handlebars(leather), _saddle(leather), _drive()]
    return union(*parts, *([_basket()] if rng.random() < 0.4 else []))


def _wheels() -> Solid:
    hub = (_AXLE, 0.0, _HEIGHT)
    tyre = torus(hub, _TYRE, 0.022, axis="y").painted(plain("#1a1a1c"))
    rim = torus(hub, _TYRE - 0.028, 0.011, axis="y")
    angles = [math.radians(36 * k) for k in range(5)]
    offsets = [(0.3 * math.cos(a), 0.3 * math.sin(a)) for a in angles]
    spokes = [capsule((_AXLE - x, 0.0, _HEIGHT - z), (_AXLE + x, 0.0, _HEIGHT + z), 0.005) for x, z in offsets]
    axle = cylinder(hub, 0.028, 0.05, axis="y")
    return union(tyre, union(rim, axle, *spokes).painted(plain("#b8bcc2"))).mirrored()


def _frame(color: str) -> Solid:
    crank, seat, head = (-0.06, 0.0, 0.29), (-0.2, 0.0, 0.76), (0.36, 0.0, 0.72)
    thick = tube([seat, crank, head, (-0.19, 0.0, 0.72)], 0.021)
    rear = tube([crank, (-_AXLE, 0.03, _HEIGHT), seat], 0.013).mirrored("y")
    fork = tube([(_AXLE, 0.035, _HEIGHT), (0.385, 0.03, 0.68), (0.34, 0.0, 0.86)], 0.015).mirrored("y")
    return union(thick, rear, fork).painted(plain(color))


def _handlebars(leather: str) -> Solid:
    stem = tube([(0.36, 0.0, 0.72), (0.32, 0.0, 0.96), (0.36, 0.0, 0.98)], 0.015)
    bar = tube([(0.36, 0.0, 0.98), (0.37, 0.1, 1.0), (0.24, 0.25, 1.02)], 0.013).mirrored("y")
    grips = capsule((0.28, 0.205, 1.012), (0.19, 0.27, 1.02), 0.02).mirrored("y").painted(plain(leather))
    return union(union(stem, bar).painted(plain("#b8bcc2")), grips)


def _saddle(leather: str) -> Solid:
    post = capsule((-0.2, 0.0, 0.76), (-0.23, 0.0, 0.88), 0.014).painted(plain("#b8bcc2"))
    nose = capsule((-0.3, 0.0, 0.9), (-0.12, 0.0, 0.9), 0.035, 0.022)
    wings = box((-0.31, 0.0, 0.905), (0.05, 0.075, 0.025), 0.024)
    return union(post, union(nose, wings).painted(plain(leather)))


def _drive() -> Solid:
    disc = cylinder((-0.06, -0.045, 0.29), 0.085, 0.008, axis="y")
    near = tube([(-0.06, -0.07, 0.29), (0.06, -0.08, 0.18)], 0.012)
    far = tube([(-0.06, 0.05, 0.29), (-0.18, 0.08, 0.4)], 0.012)
    pedals = union(box((0.06, -0.12, 0.18), (0.045, 0.04, 0.012)), box((-0.18, 0.12, 0.4), (0.045, 0.04, 0.012)))
    return union(union(disc, near, far).painted(plain("#8d9197")), pedals.painted(plain("#1a1a1c")))


def _basket() -> Solid:
    return box((0.52, 0.0, 0.84), (0.12, 0.16, 0.1), 0.02).painted(plain("#a5793f"))
