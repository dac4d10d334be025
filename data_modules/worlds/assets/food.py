"""Food, about one to two units tall: a cheeseburger, a slice of cake, toast with an egg, an apple and a mushroom."""

from __future__ import annotations

import numpy as np

from data_modules.worlds.assets.outlines import arc, curve
from data_modules.worlds.assets.primitives import box, capsule, cylinder, ellipsoid, extrude, revolve, sphere, tube
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import decal, either, fade, layers, mottled, plain, spots


def cheeseburger() -> Solid:
    """Bun, lettuce, tomato, cheese with its corners hanging out, meat and bun."""
    bottom = cylinder((0.0, 0.0, 0.17), 1.05, 0.17, 0.1).painted(layers([0.3], ["#c9812f", "#f0d7a2"]))
    meat = cylinder((0.0, 0.0, 0.46), 1.1, 0.15, 0.11).painted(mottled(plain("#5a2f18"), 0.07, 0.35))
    cheese = box((0.0, 0.0, 0.635), (0.9, 0.9, 0.03), 0.02).turned(20).painted(plain("#f5b51e"))
    corners = union(*(box((0.8, 0.8, 0.56), (0.1, 0.1, 0.085), 0.02).turned(20 + 90 * k) for k in range(4))).painted(
        plain("#f5b51e")
    )
    tomato = cylinder((0.0, 0.0, 0.71), 1.02, 0.05, 0.04).painted(plain("#c62a1e"))
    leaf = [(1.0 + 0.13 * (k % 2), a) for k, a in enumerate(range(0, 360, 15))]
    wavy = [arc((0.0, 0.0), radius, angle, angle, 1)[0] for radius, angle in leaf]
    lettuce = extrude(wavy, 0.045, 0.03, axis="z").moved(z=0.8).painted(mottled(plain("#6fb03a"), 0.12, 0.25))
    dome = curve([(1.08, 0.95), (1.02, 1.2), (0.78, 1.45), (0.4, 1.6), (0.0, 1.65)], 4)
    top = revolve([(0, 0.84), (1.02, 0.84), *dome])
    seeds = spots(0.24, 0.06)
    crust = decal(plain("#c9812f"), lambda p: np.where(p[2] > 1.12, seeds(p), 1), plain("#f7e7bf"))
    return union(bottom, meat, cheese, corners, tomato, lettuce, top.painted(crust))


def cake_slice() -> Solid:
    """A slice of cake with its point to the front: sponge and cream in layers, icing, a cherry on cream."""
    wedge = [(0.0, -1.05), *arc((0.0, -1.05), 2.1, 66, 114, 6)]
    sponge = extrude(wedge, 0.55, axis="z").moved(z=0.55)
    bands = layers([0.45, 0.57, 1.0], ["#e8bf74", "#fff4e2", "#e8bf74", "#f4a6bd"])
    # The rounded side of the slice was the outside of the cake: iced all over.
    cut = decal(bands, lambda p: 2.08**2 - p[0] ** 2 - (p[1] + 1.05) ** 2, plain("#f4a6bd"))
    icing = extrude(wedge, 0.09, 0.03, axis="z").moved(z=1.12).painted(plain("#f4a6bd"))
    cream = union(cylinder((0.0, 0.55, 1.25), 0.3, 0.09, 0.08), cylinder((0.0, 0.55, 1.38), 0.2, 0.08, 0.07)).painted(
        plain("#fffaf0")
    )
    cherry = sphere((0.0, 0.55, 1.6), 0.2).painted(plain("#b80f24"))
    stalk = tube([(0.0, 0.55, 1.78), (0.05, 0.58, 1.95), (0.14, 0.62, 2.06)], 0.025).painted(plain("#4f6b2a"))
    return union(sponge.painted(cut), icing, cream, cherry, stalk)


def egg_toast() -> Solid:
    """A thick slice of toast lying down, a fried egg on it, its round top to the back."""
    shape = [(-0.85, -1.0), (0.85, -1.0), (0.88, 0.25)]
    shape += curve([(0.92, 0.35), (1.05, 0.65), (0.9, 0.95), (0.5, 1.05), (0.0, 1.02), (-0.5, 1.05), (-0.9, 0.95)], 2)
    shape += [(-1.05, 0.65), (-0.92, 0.35), (-0.88, 0.25)]
    slice_ = extrude(shape, 0.2, 0.08, axis="z").moved(z=0.2)
    inset = extrude([(0.86 * x, 0.86 * y) for x, y in shape], 0.5, axis="z").moved(z=0.6)
    bread = decal(plain("#9c5a22"), inset.distance, mottled(plain("#e3b66a"), 0.09, 0.2))
    blob = curve(
        [(0.6, 0.0), (0.5, 0.45), (0.1, 0.6), (-0.4, 0.55), (-0.7, 0.1), (-0.45, -0.5), (0.15, -0.55)], 3, True
    )
    white = extrude(blob, 0.06, 0.05, axis="z").moved(z=0.44).painted(plain("#fbf8ee"))
    yolk = ellipsoid((0.0, 0.05, 0.5), (0.29, 0.29, 0.17)).painted(plain("#f6a21a"))
    return union(slice_.painted(bread), white, yolk)


def apple() -> Solid:
    """A red apple, green on its back, with a stalk and a leaf to the right."""
    side = curve([(0.42, 0.0), (0.8, 0.25), (1.05, 0.85), (1.0, 1.4), (0.62, 1.72), (0.25, 1.66), (0.0, 1.4)], 6)
    fruit = revolve([(0, 0.12), (0.2, 0.06), *side])
    skin = fade(0.35, 1.05, ("#b5161d", "#c9b23c"), axis="y")
    freckles = spots(0.22, 0.018)
    stalk = capsule((0.0, 0.0, 1.4), (0.08, 0.02, 1.98), 0.055).painted(plain("#5a3a1c"))
    leaf = extrude(curve([(0.0, 0.0), (0.3, 0.2), (0.75, 0.05), (0.4, -0.18)], 3, True), 0.03, 0.02, axis="z")
    green = leaf.turned(-25, "y").moved(0.08, 0.0, 1.75).painted(plain("#3d8f36"))
    return union(fruit.painted(decal(skin, freckles, plain("#e8c9a0"))), stalk, green)


def mushroom() -> Solid:
    """A toadstool, its red cap dotted white, with a face on the stem."""
    stem = revolve([(0, 0), *curve([(0.42, 0.0), (0.5, 0.2), (0.38, 0.6), (0.34, 1.1)], 4), (0, 1.1)])
    cap = revolve([(0, 0.95), (0.6, 0.9), *curve([(1.0, 0.95), (0.97, 1.3), (0.62, 1.75), (0.0, 1.9)], 7)])
    dots = spots(0.62, 0.2, salt=5)
    eyes = sphere((0.16, -0.4, 0.6), 0.08).mirrored()
    mouth = box((0.0, -0.45, 0.42), (0.12, 0.2, 0.03))
    face = decal(plain("#f1e6cf"), either(eyes.distance, mouth.distance), plain("#2a2019"))
    red = decal(plain("#c4201c"), dots, plain("#fbf6ea"))
    return union(stem.painted(face), cap.painted(decal(red, lambda p: p[2] - 0.97, plain("#ead9b8"))))
