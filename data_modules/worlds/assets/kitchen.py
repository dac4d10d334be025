"""Bottles, cereal boxes and cups, metres; fronts face -y."""

from __future__ import annotations

import random

import numpy as np

from data_modules.worlds.assets.dimensions import Size
from data_modules.worlds.assets.outlines import arc, curve
from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, two
from data_modules.worlds.assets.primitives import box, cylinder, revolve, sphere, torus, tube
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import Paint, Region, decal, either, layers, plain, stripes


def bottle(dimensions: Size, rng: random.Random) -> Solid:
    """A bottle with a label and a cap: of wine, of lemonade, or to take along; the size is left to the caller."""
    return rng.choice((_wine, _lemonade, _flask))(rng)


def _wine(rng: random.Random) -> Solid:
    glass, foil = rng.choice(("#1f3a22", "#3a2414", "#12202e")), rng.choice(BRIGHT + DARK)
    shoulder = curve([(0.0375, 0.13), (0.036, 0.15), (0.022, 0.172), (0.015, 0.19)], 4)
    body = revolve([(0, 0), (0.035, 0), (0.0375, 0.004), *shoulder, (0.015, 0.222), (0, 0.222)])
    neck = cylinder((0.0, 0.0, 0.212), 0.0165, 0.018, 0.002).painted(plain(foil))
    label = box((0.0, -0.04, 0.075), (0.028, 0.034, 0.034))
    crest = sphere((0.0, -0.038, 0.08), 0.014)
    paper = decal(plain("#efe6cd"), crest.distance, plain(foil))
    return union(body.painted(decal(plain(glass), label.distance, paper)), neck)


def _lemonade(rng: random.Random) -> Solid:
    drink, band = two(rng, BRIGHT)
    side = curve([(0.033, 0.0), (0.0375, 0.012), (0.036, 0.06), (0.0375, 0.12), (0.03, 0.165), (0.013, 0.2)], 4)
    body = revolve([(0, 0), *side, (0.013, 0.215), (0, 0.215)])
    cap = cylinder((0.0, 0.0, 0.2195), 0.0165, 0.0105, 0.002).painted(plain(rng.choice(LIGHT + BRIGHT)))
    logo = either(*(sphere((x, -0.036, 0.095), 0.011).distance for x in (-0.016, 0.0, 0.016)))
    label = decal(plain(band), logo, plain("#ffffff"))
    return union(body.painted(decal(plain(drink), lambda p: np.abs(p[2] - 0.095) - 0.03, label)), cap)


def _flask(rng: random.Random) -> Solid:
    color, lid = two(rng, BRIGHT, LIGHT, DARK)
    side = curve([(0.0375, 0.15), (0.034, 0.17), (0.026, 0.185)], 4)
    body = revolve([(0, 0), (0.0355, 0), (0.0375, 0.003), *side, (0, 0.185)])
    cap = cylinder((0.0, 0.0, 0.2), 0.027, 0.018, 0.003)
    loop = torus((0.0, 0.0, 0.217), 0.014, 0.004, axis="y")
    mark = sphere((0.0, -0.038, 0.11), 0.014)
    paint = decal(layers([0.018], [lid, color]), mark.distance, plain(lid))
    return union(body.painted(paint), union(cap, loop).painted(plain(lid)))


def cereal_box(dimensions: Size, rng: random.Random) -> Solid:
    """A carton with a title and a bowl of cereal on its front and back, and print on its sides."""
    width, height, length = dimensions
    x, y, z = length / 2, width / 2, height / 2
    color, ink = two(rng, BRIGHT)
    print_ = box((0.0, 0.0, 0.9 * z), (2 * x, 0.6 * y, 0.5 * z))
    sides = decal(plain(color), print_.distance, stripes(0.06 * z, ["#fbf7ea", "#fbf7ea", "#55585e"]))
    picture = _breakfast(x, z, color, ink)
    carton = box((0.0, 0.0, z), (x, y, z), 0.03 * min(x, y))
    return carton.painted(decal(sides, lambda p: 0.98 * y - np.abs(p[1]), picture))


def _breakfast(x: float, z: float, color: str, ink: str) -> Paint:
    """A title over a bowl of rings, for a face of half width x and half height z."""
    unit = min(x, z)

    def disc(across: float, up: float, radius: float) -> Region:
        return lambda p: np.hypot(p[0] - across * unit, p[2] - 0.75 * z - up * unit) - radius * unit

    bowl = disc(0.0, 0.0, 0.62)
    milk = box((0.0, 0.0, 0.75 * z + 0.04 * unit), (0.62 * unit, 1.0, 0.08 * unit), 0.05 * unit)
    rings = either(*(disc(across, 0.15, 0.13) for across in (-0.4, -0.13, 0.13, 0.4)))
    title = box((0.0, 0.0, 1.7 * z), (0.78 * x, 1.0, 0.16 * z))
    letters = either(*(box((k * 0.3 * x, 0.0, 1.7 * z), (0.1 * x, 1.0, 0.1 * z)).distance for k in (-2, -1, 0, 1, 2)))
    paint = decal(plain(color), title.distance, decal(plain("#fbf7ea"), letters, plain(ink)))
    paint = decal(paint, lambda p: np.maximum(bowl(p), p[2] - 0.75 * z), plain(ink))
    return decal(decal(paint, milk.distance, plain("#fffdf6")), rings, plain("#c98a3a"))


def cup(dimensions: Size, rng: random.Random) -> Solid:
    """A mug or a tea cup with coffee, its handle to the right; the size is left to the caller."""
    color, second = two(rng, BRIGHT, LIGHT, DARK[:2])
    if rng.random() < 0.5:
        side, handle = [(0.04, 0.0), (0.0425, 0.003), (0.0425, 0.1)], arc((0.041, 0.052), 0.03, -80, 80, 6)
    else:
        side = curve([(0.024, 0.0), (0.028, 0.008), (0.038, 0.04), (0.0425, 0.1)], 6)
        handle = arc((0.036, 0.06), 0.03, -70, 75, 6)
    bowl = revolve([(0, 0), *side, (0.0385, 0.1), (0.0375, 0.088), (0, 0.088)])
    coffee = cylinder((0.0, 0.0, 0.0885), 0.037, 0.001).painted(plain(rng.choice(("#3a1f0f", "#8a5a34", "#b9722b"))))
    ear = tube([(x, 0.0, z) for x, z in handle], 0.006).painted(plain(color))
    mark = rng.choice((sphere((0.0, -0.043, 0.052), 0.022).distance, lambda p: np.abs(p[2] - 0.06) - 0.012))
    return union(bowl.painted(decal(plain(color), mark, plain(second))), coffee, ear)
