"""Things to play with: balls, a hot-air balloon, a rocket, a guitar, a rubber duck and a toy chicken."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from data_modules.worlds.assets.outlines import curve
from data_modules.worlds.assets.primitives import (
    box,
    capsule,
    cylinder,
    ellipsoid,
    extrude,
    revolve,
    sphere,
    torus,
    tube,
)
from data_modules.worlds.assets.solid import Solid, blend, union
from data_modules.worlds.assets.textures import Paint, decal, grain, layers, plain, sectors

_GOLDEN = (1 + math.sqrt(5)) / 2


def basketball() -> Solid:
    """An orange ball of radius 1.3 with black seams."""
    radius = 1.3

    def seams(p: np.ndarray) -> np.ndarray:
        x, z = p[0] / radius, p[2] / radius - 1
        loops = np.abs(np.abs(x) - 0.42 - 0.4 * z * z)
        return np.minimum(np.minimum(np.abs(z), np.abs(x)), 0.8 * loops) - 0.022

    return sphere((0.0, 0.0, radius), radius).painted(decal(plain("#d9691e"), seams, plain("#1c1512")))


def _football_faces() -> tuple[np.ndarray, np.ndarray]:
    """Normals of the 12 pentagons and the 20 hexagons of a football, each divided by its plane's distance, [M, 3]."""
    signs = list(itertools.product((-1.0, 1.0), repeat=2))
    pentagons = _turned_about([(0.0, a, b * _GOLDEN) for a, b in signs])
    hexagons = _turned_about([(0.0, a * _GOLDEN, b / _GOLDEN) for a, b in signs])
    hexagons = np.concatenate([hexagons, np.array(list(itertools.product((-1.0, 1.0), repeat=3)))])
    # Distances of the two kinds of planes from the centre, edges of length one.
    return _scaled(pentagons, 2.3274), _scaled(hexagons, 2.2673)


def _turned_about(corners: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Corners, and the same with their coordinates exchanged in turn."""
    return np.concatenate([np.roll(np.array(corners), k, axis=1) for k in range(3)])


def _scaled(normals: np.ndarray, height: float) -> np.ndarray:
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True) / height).astype(np.float32)


def soccer_ball() -> Solid:
    """A white ball of radius 1.1 with twelve black pentagons and grey seams."""
    radius = 1.1
    pentagons, hexagons = _football_faces()
    center = np.array([[0.0], [0.0], [radius]], dtype=np.float32)

    def black(p: np.ndarray) -> np.ndarray:
        q = (p - center) / radius
        return (hexagons @ q).max(0) - (pentagons @ q).max(0)

    def seams(p: np.ndarray) -> np.ndarray:
        heights = np.sort(hexagons @ ((p - center) / radius), axis=0)
        return heights[-1] - heights[-2] - 0.008

    leather = decal(plain("#f3f3f0"), seams, plain("#8b8b8b"))
    return sphere((0.0, 0.0, radius), radius).painted(decal(leather, black, plain("#17171a")))


def balloon() -> Solid:
    """A hot-air balloon in the colours of the rainbow over its basket."""
    side = [(0.2, 0.62), (0.55, 1.05), (0.86, 1.6), (0.84, 2.15), (0.5, 2.55), (0.0, 2.68)]
    envelope = revolve([(0, 0.62), *curve(side, 4)])
    rainbow = sectors(["#d3222a", "#f07f1e", "#f7d02c", "#3a9d43", "#2a62b8", "#7b3aa0"], 2, start=-90)
    basket = box((0.0, 0.0, 0.18), (0.22, 0.22, 0.18), 0.03)
    ropes = tube([(0.19, 0.19, 0.34), (0.14, 0.14, 0.68)], 0.018).mirrored("x").mirrored("y")
    wicker = layers([0.29], ["#9a6a34", "#5f3d1c"])
    return union(envelope.painted(rainbow), basket.painted(wicker), ropes.painted(plain("#4a3a28")))


def rocket() -> Solid:
    """A white toy rocket with a red nose, three red fins and a round window at its front."""
    hull = curve([(0.34, 0.3), (0.5, 0.75), (0.52, 1.2), (0.4, 1.75), (0.18, 2.2), (0.0, 2.45)], 4)
    nozzle = revolve([(0, 0.08), (0.28, 0.08), (0.24, 0.35), (0, 0.35)]).painted(plain("#3c3c40"))
    fin = extrude([(0.36, 0.95), (0.86, 0.35), (0.82, 0.04), (0.7, 0.04), (0.36, 0.38)], 0.05, 0.04)
    fins = union(*(fin.turned(angle) for angle in (90, 210, 330))).painted(plain("#c8252c"))
    ring = torus((0.0, -0.5, 1.35), 0.2, 0.05, axis="y").painted(plain("#c8252c"))
    paint = layers([1.8], ["#f2f2ee", "#c8252c"])
    glass = decal(paint, sphere((0.0, -0.5, 1.35), 0.2).distance, plain("#58b5e0"))
    return union(revolve([(0, 0.3), *hull]).painted(glass), nozzle, fins, ring)


def guitar() -> Solid:
    """A guitar standing on its end, strings to the front."""
    right = [(0.0, 0.02), (0.42, 0.08), (0.62, 0.45), (0.42, 0.85), (0.46, 1.15), (0.3, 1.36), (0.0, 1.4)]
    outline = curve([*right, *((-x, z) for x, z in right[-2:0:-1])], 3, closed=True)
    body = extrude(outline, 0.17, 0.02)
    edge = extrude([(0.93 * x, 0.93 * (z - 0.7) + 0.7) for x, z in outline], 0.5).moved(y=-0.55)
    hole = cylinder((0.0, -0.2, 0.88), 0.17, 0.1, axis="y")
    top = decal(plain("#6b3414"), edge.distance, grain("#d98c3e", "#c07428", 0.05, axis="z"))
    neck = box((0.0, -0.16, 1.7), (0.075, 0.05, 0.62), 0.02).painted(plain("#3a2010"))
    head = box((0.0, -0.13, 2.42), (0.12, 0.045, 0.16), 0.03).painted(plain("#3a2010"))
    pegs = capsule((0.1, -0.13, 2.36), (0.19, -0.13, 2.36), 0.03).mirrored()
    pegs = union(pegs, pegs.moved(z=0.14)).painted(plain("#e8e4d8"))
    bridge = box((0.0, -0.19, 0.38), (0.2, 0.03, 0.05), 0.02).painted(plain("#2a160a"))
    strings = box((0.025, -0.215, 1.32), (0.012, 0.012, 0.95)).mirrored().painted(plain("#e6e0d0"))
    wood = decal(top, hole.distance, plain("#140a06"))
    return union(body.painted(wood), neck, head, pegs, bridge, strings).standing()


def duck() -> Solid:
    """A yellow rubber duck."""
    trunk = ellipsoid((0.0, 0.1, 0.55), (0.68, 0.85, 0.55))
    tail = capsule((0.0, 0.6, 0.75), (0.0, 1.0, 1.1), 0.3, 0.08)
    head = sphere((0.0, -0.45, 1.4), 0.5)
    wing = ellipsoid((0.62, 0.15, 0.68), (0.14, 0.5, 0.3)).mirrored()
    eyes = sphere((0.22, -0.88, 1.52), 0.11).mirrored()
    coat = decal(plain("#f7cf1d"), eyes.distance, plain("#151515"))
    bill = union(ellipsoid((0.0, -0.98, 1.34), (0.24, 0.22, 0.07)), ellipsoid((0.0, -0.94, 1.24), (0.19, 0.18, 0.07)))
    return union(blend(0.25, trunk, tail, head).painted(coat), wing.painted(plain("#eab90f")), bill.painted(_ORANGE))


def chicken() -> Solid:
    """A white hen with a red comb, standing."""
    trunk = ellipsoid((0.0, 0.1, 0.95), (0.5, 0.68, 0.5))
    neck = capsule((0.0, -0.35, 1.1), (0.0, -0.5, 1.62), 0.32, 0.24)
    tail = capsule((0.0, 0.5, 1.15), (0.0, 0.9, 1.6), 0.28, 0.14)
    eyes = sphere((0.19, -0.66, 1.72), 0.075).mirrored()
    coat = decal(plain("#f4f0e6"), eyes.distance, plain("#17120f"))
    wing = ellipsoid((0.47, 0.16, 0.98), (0.1, 0.42, 0.27)).mirrored().painted(plain("#ddd3bf"))
    beak = revolve([(0, 0), (0.1, 0), (0, 0.26)]).turned(90, "x").moved(y=-0.7, z=1.64).painted(_ORANGE)
    comb = union(*(sphere((0.0, y, z), 0.12) for y, z in ((-0.63, 1.88), (-0.48, 1.95), (-0.33, 1.88))))
    wattle = ellipsoid((0.0, -0.74, 1.42), (0.07, 0.07, 0.13))
    leg = tube([(0.2, 0.05, 0.55), (0.2, 0.05, 0.05), (0.2, -0.25, 0.05)], 0.05)
    toes = tube([(0.06, -0.2, 0.05), (0.2, 0.05, 0.05), (0.34, -0.2, 0.05)], 0.05)
    return union(
        blend(0.2, trunk, neck, tail).painted(coat),
        wing,
        beak,
        union(comb, wattle).painted(plain("#c41f22")),
        union(leg, toes).mirrored().painted(_ORANGE),
    )


_ORANGE: Paint = plain("#ee8a1a")
