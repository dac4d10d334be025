"""Books, a camera and a laptop, metres; fronts face -y."""

from __future__ import annotations

import random

from data_modules.worlds.assets.dimensions import Size
from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, two
from data_modules.worlds.assets.primitives import box, capsule, cylinder, sphere
from data_modules.worlds.assets.solid import Solid, carve, union
from data_modules.worlds.assets.textures import Paint, decal, either, plain, stripes

_VOLUME = 0.035
"""About the thickness of one book."""


def books(dimensions: Size, rng: random.Random) -> Solid:
    """One book lying with its spine to the front, or as many on top of each other as the height asks for."""
    width, height, length = dimensions
    count = min(max(round(height / _VOLUME), 1), 5)
    thickness = height / count
    pile = []
    for k in range(count):
        # The lowest is as large as the box, so that the pile fills it.
        shrink = 1.0 if k == 0 else rng.uniform(0.75, 0.95)
        book = _book((length * shrink, width * shrink, thickness), rng)
        slack = (1 - shrink) / 2
        pile.append(book.moved(rng.uniform(-slack, slack) * length, rng.uniform(-slack, slack) * width, k * thickness))
    return union(*pile)


def _book(sides: Size, rng: random.Random) -> Solid:
    x, y, z = (side / 2 for side in sides)
    board = min(0.12 * z, 0.004)
    inset = 0.03 * min(x, y)
    cover = box((0.0, 0.0, z), (x, y, z), min(0.3 * board, 0.05 * inset))
    gap = box((0.0, 2 * inset, z), (2 * x, y, z - 2 * board))
    pages = box((0.0, 0.0, z), (x - inset, y - inset, z - 1.5 * board))
    color, ink = two(rng, BRIGHT, DARK, LIGHT)
    title = either(
        box((0.0, 0.35 * y, 2 * z), (0.6 * x, 0.1 * y, 0.3 * z)).distance,
        box((0.0, 0.08 * y, 2 * z), (0.35 * x, 0.05 * y, 0.3 * z)).distance,
        box((0.0, -0.5 * y, 2 * z), (0.5 * x, 0.25 * y, 0.3 * z)).distance,
        box((0.0, -y, z), (0.5 * x, inset, 0.35 * z)).distance,
    )
    paper = stripes(max(z / 6, 0.001), ["#f2ead6", "#ddd2b8"])
    binding = decal(plain(color), title, plain(ink))
    return union(carve(cover, gap).painted(binding), pages.painted(paper))


def camera(dimensions: Size, rng: random.Random) -> Solid:
    """A camera with a lens, its grip to the left of the lens; the size is left to the caller."""
    leather, metal = rng.choice((*DARK, "#8a5a35")), rng.choice(("#1d1e21", "#b9bcc0", "#2b2f3a"))
    body = box((0.0, 0.0, 0.038), (0.0675, 0.022, 0.038), 0.008)
    grip = box((-0.053, -0.022, 0.036), (0.014, 0.012, 0.034), 0.009)
    skin = decal(plain(leather), lambda p: 0.056 - p[2], plain(metal))
    hump = box((0.0, -0.004, 0.08), (0.022, 0.022, 0.015), 0.007).painted(plain(metal))
    barrel = cylinder((0.004, -0.038, 0.038), 0.031, 0.025, 0.003, axis="y").painted(
        stripes(0.006, ["#1a1a1c", "#3a3b3f"], "y")
    )
    rim = cylinder((0.004, -0.06, 0.038), 0.033, 0.005, 0.002, axis="y")
    glass = sphere((0.004, -0.066, 0.038), 0.024)
    shine = sphere((-0.004, -0.066, 0.048), 0.007)
    front = decal(decal(plain("#26272b"), glass.distance, plain("#27476e")), shine.distance, plain("#cfe2f5"))
    button = cylinder((-0.045, -0.004, 0.078), 0.009, 0.007).painted(plain("#c0282c"))
    dial = cylinder((0.045, 0.0, 0.079), 0.012, 0.007).painted(plain("#9a9da2"))
    screen = box((0.0, 0.022, 0.036), (0.036, 0.004, 0.024))
    back = decal(skin, screen.distance, plain("#44566e"))
    return union(union(body, grip).painted(back), hump, barrel, rim.painted(front), button, dial)


def laptop(dimensions: Size, rng: random.Random) -> Solid:
    """An open laptop; the size is left to the caller."""
    case = rng.choice(("#b4b8bd", "#2b2d31", "#d9d2c4", "#3c4a63"))
    base = box((0.0, 0.0, 0.009), (0.17, 0.115, 0.009), 0.004)
    keys = box((0.0, 0.025, 0.018), (0.15, 0.055, 0.004))
    pad = box((0.0, -0.07, 0.018), (0.05, 0.032, 0.004))
    deck = decal(plain(case), keys.distance, _keys())
    deck = decal(deck, pad.distance, plain("#8b8f96"))
    lid = box((0.0, 0.0, 0.107), (0.17, 0.005, 0.107), 0.004)
    screen = box((0.0, -0.006, 0.112), (0.158, 0.004, 0.094))
    logo = sphere((0.0, 0.024, 0.115), 0.025)
    panel = decal(plain(case), screen.distance, _picture(rng))
    panel = decal(panel, logo.distance, plain("#f2f2f2"))
    hinge = capsule((-0.12, 0.112, 0.016), (0.12, 0.112, 0.016), 0.008).painted(plain("#1f2023"))
    return union(base.painted(deck), lid.painted(panel).turned(-14, "x").moved(y=0.112, z=0.012), hinge)


def _keys() -> Paint:
    """Dark keys with gaps of 3 mm between them."""
    rows = stripes(0.003, ["#15161a", "#15161a", "#15161a", "#15161a", "#4a4d54"], "y")
    columns = stripes(0.003, ["#4a4d54", "#15161a", "#15161a", "#15161a", "#15161a", "#15161a"], "x")
    return decal(rows, lambda p: (p[0] / 0.018) % 1 - 0.16, columns)


def _picture(rng: random.Random) -> Paint:
    """A desktop: hills under a sky with a sun, or a page of text."""
    first, second = two(rng, BRIGHT)
    hill = sphere((-0.07, 0.0, -0.06), 0.16)
    sun = sphere((0.09, 0.0, 0.15), 0.025)
    if rng.random() < 0.5:
        return decal(decal(plain("#8cc3ea"), hill.distance, plain(first)), sun.distance, plain("#f9e27a"))
    page = box((0.0, 0.0, 0.11), (0.1, 1.0, 0.08))
    text = stripes(0.008, ["#f7f7f7", "#f7f7f7", "#6a6f78"])
    return decal(plain(second), page.distance, text)
