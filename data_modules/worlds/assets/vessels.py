"""Things that hold something: bottles, a barrel, a can, jars, a mug and a teapot, about two units tall."""

from __future__ import annotations

from data_modules.worlds.assets.outlines import arc, curve
from data_modules.worlds.assets.primitives import box, capsule, cylinder, revolve, sphere, torus, tube
from data_modules.worlds.assets.solid import Solid, union
from data_modules.worlds.assets.textures import decal, either, layers, plain, sectors, stripes


def bottle() -> Solid:
    """A tall teal bottle with a cork and a label on its front."""
    shoulder = curve([(0.52, 1.35), (0.5, 1.58), (0.34, 1.84), (0.19, 2.05), (0.17, 2.35)], 4)
    glass = revolve([(0, 0), (0.48, 0), (0.52, 0.05), *shoulder, (0.21, 2.35), (0.21, 2.48), (0, 2.48)])
    cork = cylinder((0.0, 0.0, 2.53), 0.14, 0.09, 0.02).painted(plain("#b98a55"))
    label = box((0.0, -0.5, 0.8), (0.36, 0.4, 0.38))
    star = sphere((0.0, -0.52, 0.8), 0.2)
    paper = decal(plain("#f3ead2"), star.distance, plain("#c8452e"))
    return union(glass.painted(decal(plain("#0e8f8a"), label.distance, paper)), cork)


def juice_bottle() -> Solid:
    """A square bottle of red juice with a broad white cap and an orange on its label."""
    body = box((0.0, 0.0, 0.8), (0.52, 0.52, 0.8), 0.16)
    neck = revolve([(0, 1.4), (0.5, 1.4), *curve([(0.5, 1.5), (0.42, 1.7), (0.27, 1.86), (0.24, 1.98)], 4), (0, 1.98)])
    cap = cylinder((0.0, 0.0, 2.1), 0.3, 0.15, 0.04).painted(plain("#f4f4ef"))
    label = box((0.0, -0.5, 0.8), (0.41, 0.2, 0.5))
    fruit, leaf = sphere((0.0, -0.52, 0.72), 0.27), sphere((0.2, -0.52, 1.06), 0.11)
    print_ = decal(plain("#fbf3dc"), fruit.distance, plain("#f08a1c"))
    print_ = decal(print_, leaf.distance, plain("#3f9a3a"))
    return union(union(body, neck).painted(decal(plain("#b3131f"), label.distance, print_)), cap)


def barrel() -> Solid:
    """A dark oak barrel with iron hoops, a cross branded into its front and a bung."""
    sides = curve([(0.68, 0.0), (0.83, 0.5), (0.88, 1.0), (0.83, 1.5), (0.68, 2.0)], 4)
    staves = revolve([(0, 0.04), (0.62, 0.04), (0.63, 0.0), *sides, (0.62, 2.0), (0.6, 1.92), (0, 1.92)])
    hoops = union(
        torus((0.0, 0.0, 0.14), 0.7, 0.05),
        torus((0.0, 0.0, 0.58), 0.82, 0.05),
        torus((0.0, 0.0, 1.42), 0.82, 0.05),
        torus((0.0, 0.0, 1.86), 0.7, 0.05),
    )
    bung = cylinder((0.0, -0.87, 1.0), 0.1, 0.05, 0.02, axis="y")
    planks = sectors(["#5b3517", "#6a3f1d", "#4f2d13", "#633a1a"], 4)
    bar = box((0.0, 0.0, 0.0), (0.09, 1.0, 0.42))
    cross = either(*(bar.turned(angle, "y").moved(0.0, -1.0, 1.0).distance for angle in (-40, 40)))
    brand = decal(planks, cross, plain("#1c0f06"))
    return union(staves.painted(brand), hoops.painted(plain("#3a3a3e")), bung.painted(plain("#c79a5e")))


def soup_can() -> Solid:
    """A tin of soup, red above and white below, with a golden medal on its front."""
    rim = [(0.74, 1.9), (0.78, 1.93), (0.78, 2.0), (0.73, 2.0), (0.73, 1.95), (0, 1.95)]
    tin = revolve([(0, 0), (0.78, 0), (0.78, 0.07), (0.74, 0.1), *rim])
    medal = sphere((0.0, -0.74, 1.0), 0.24)
    letters = either(
        *(box((x, -0.7, 1.52), (0.035, 0.3, 0.14)).distance for x in (-0.3, -0.15, 0.0, 0.15, 0.3)),
        box((0.0, -0.7, 0.45), (0.34, 0.3, 0.06)).distance,
    )
    paper = layers([0.1, 1.02, 1.9], ["#b9bcc0", "#f4f0e4", "#c0191d", "#b9bcc0"])
    ink = layers([1.0], ["#c0191d", "#f4f0e4"])
    return union(tin.painted(decal(decal(paper, letters, ink), medal.distance, plain("#d9a62e"))))


def vase() -> Solid:
    """A white jar with two ears and a blue belt and flower."""
    outside = curve([(0.4, 0.0), (0.46, 0.08), (0.78, 0.7), (0.76, 1.15), (0.44, 1.58), (0.4, 1.75), (0.52, 1.92)], 6)
    inside = curve([(0.46, 1.92), (0.33, 1.74), (0.34, 1.58), (0.5, 1.3), (0.5, 0.9)], 2)
    jar = revolve([(0, 0), *outside, *inside, (0, 0.9)])
    ear = tube([(x, 0.0, z) for x, z in curve([(0.4, 1.7), (0.72, 1.68), (0.86, 1.4), (0.7, 1.12)], 3)], 0.06)
    flower = sphere((0.0, -0.76, 0.85), 0.26)
    middle = sphere((0.0, -0.79, 0.85), 0.1)
    glaze = layers([0.12, 0.2, 1.5, 1.58], ["#f5f3ee", "#24479b", "#f5f3ee", "#24479b", "#f5f3ee"])
    glaze = decal(decal(glaze, flower.distance, plain("#24479b")), middle.distance, plain("#e0b040"))
    return union(jar.painted(glaze), ear.mirrored().painted(plain("#f5f3ee")))


def mug() -> Solid:
    """A striped mug of coffee, its handle to the right."""
    cup = revolve([(0, 0), (0.7, 0), (0.75, 0.05), (0.75, 1.6), (0.65, 1.6), (0.64, 1.4), (0, 1.4)])
    bands = stripes(0.27, ["#f2c230", "#f7f3e8"])
    coffee = cylinder((0.0, 0.0, 1.41), 0.64, 0.03).painted(plain("#3d2110"))
    handle = tube([(x, 0.0, z) for x, z in arc((0.72, 0.8), 0.45, -90, 90, 8)], 0.11)
    return union(cup.painted(bands), coffee, handle.painted(plain("#f2c230")))


def teapot() -> Solid:
    """A round blue teapot, its spout to the right and its handle to the left."""
    belly = revolve([(0, 0), (0.5, 0), *curve([(0.55, 0.05), (0.85, 0.5), (0.8, 0.95), (0.42, 1.28)], 5), (0, 1.28)])
    lid = revolve([(0, 1.2), (0.46, 1.26), *curve([(0.44, 1.3), (0.28, 1.44), (0.0, 1.5)], 4)])
    knob = sphere((0.0, 0.0, 1.56), 0.11)
    spout = union(
        capsule((0.7, 0.0, 0.5), (1.1, 0.0, 0.85), 0.2, 0.12),
        capsule((1.1, 0.0, 0.85), (1.27, 0.0, 1.2), 0.12, 0.085),
    )
    handle = tube([(x, 0.0, z) for x, z in arc((-0.76, 0.75), 0.42, 75, 285, 9)], 0.085)
    dots = either(*(sphere((0.82 * x, -0.82 * y, 0.62), 0.13).distance for x, y in ((0, 1), (0.7, 0.71), (-0.7, 0.71))))
    glaze = decal(layers([0.08, 1.25], ["#f0ead8", "#2d69b3", "#f0ead8"]), dots, plain("#f0ead8"))
    return union(union(belly, spout, handle).painted(glaze), union(lid, knob).painted(plain("#f0c23c")))
