"""Chairs that face -y, metres."""

from __future__ import annotations

import random

from data_modules.worlds.assets.dimensions import Size
from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, WOODS
from data_modules.worlds.assets.primitives import box, capsule
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import grain, plain


def chair(dimensions: Size, rng: random.Random) -> Solid:
    """A wooden chair, or a moulded one on thin legs; the size is left to the caller."""
    return rng.choice((_wooden, _moulded))(rng)


def _wooden(rng: random.Random) -> Solid:
    wood = grain(*rng.choice(WOODS), 0.02)
    seat = box((0.0, 0.0, 0.44), (0.23, 0.23, 0.02), 0.01)
    front = box((0.2, -0.21, 0.22), (0.022, 0.022, 0.22), 0.006).mirrored()
    back = capsule((0.205, 0.25, 0.02), (0.205, 0.215, 0.44), 0.02).mirrored()
    posts = capsule((0.205, 0.215, 0.44), (0.205, 0.27, 0.86), 0.02).mirrored()
    rails = union(
        *(box((0.0, y, z), (0.2, 0.013, 0.035), 0.008) for y, z in ((0.235, 0.6), (0.25, 0.71), (0.262, 0.82)))
    )
    rung = capsule((0.205, -0.21, 0.2), (0.205, 0.235, 0.2), 0.013).mirrored()
    cushion = box((0.0, -0.01, 0.475), (0.2, 0.2, 0.025), 0.023).painted(plain(rng.choice(BRIGHT + LIGHT)))
    return union(union(seat, front, back, posts, rails, rung).painted(wood), cushion)


def _moulded(rng: random.Random) -> Solid:
    shell, legs = rng.choice(BRIGHT + LIGHT + DARK), rng.choice(("#1b1b1d", "#b8bcc2", "#c9a06a"))
    seat = box((0.0, -0.02, 0.45), (0.24, 0.23, 0.02), 0.018)
    back = box((0.0, 0.0, 0.2), (0.22, 0.018, 0.22), 0.016).turned(-10, "x").moved(y=0.2, z=0.45)
    body = union(seat, back).painted(plain(shell))
    front = capsule((0.14, -0.14, 0.44), (0.22, -0.24, 0.015), 0.015).mirrored()
    rear = capsule((0.14, 0.12, 0.44), (0.22, 0.24, 0.015), 0.015).mirrored()
    return union(body, union(front, rear).painted(plain(legs)))
