"""People about 1.9 units tall, facing -y."""

from __future__ import annotations

from data_modules.worlds.assets.primitives import box, capsule, cone, ellipsoid, sphere
from data_modules.worlds.assets.solid import Solid, blend, carve, union
from data_modules.worlds.assets.textures import Paint, Region, decal, either, layers, plain

_SKIN, _EYES, _LIPS = "#d8a17e", "#20242c", "#a04038"


def person(shirt: Paint, trousers: str, hair: str, skin: str = _SKIN) -> Solid:
    """Somebody in a shirt and trousers, arms slightly bent."""
    legs = capsule((0.12, 0.0, 0.12), (0.11, 0.0, 0.82), 0.095, 0.115).mirrored()
    return union(_head(skin, hair), _torso(shirt), legs.painted(plain(trousers)), _arms(shirt, skin), _shoes())


def walker_with_backpack(shirt: Paint, trousers: str, hair: str, pack: str) -> Solid:
    """The same with a backpack."""
    bag = union(
        box((0.0, 0.25, 1.2), (0.2, 0.12, 0.27), 0.09),
        box((0.0, 0.37, 1.08), (0.14, 0.05, 0.11), 0.045).painted(plain("#33291f")),
    )
    return union(person(shirt, trousers, hair), bag.painted(decal(plain(pack), _lower_half(1.2), plain("#3a2d20"))))


def person_in_dress(dress: str, hair: str) -> Solid:
    """Somebody in a long dress, with long hair."""
    skirt = cone((0.0, 0.0, 0.28), 0.36, 0.7, 0.17)
    legs = capsule((0.1, 0.0, 0.12), (0.1, 0.0, 0.5), 0.07).mirrored()
    locks = capsule((0.0, 0.13, 1.66), (0.0, 0.17, 1.25), 0.15, 0.1)
    clothes = union(skirt, _torso(plain(dress))).painted(plain(dress))
    belt = cone((0.0, 0.0, 0.93), 0.205, 0.08, 0.2).stretched(y=0.85)
    return union(
        _head(_SKIN, hair),
        clothes,
        belt.painted(plain("#f4e8d0")),
        legs.painted(plain(_SKIN)),
        locks.painted(plain(hair)),
        _arms(plain(dress), _SKIN),
        _shoes("#b02a3a"),
    )


def _lower_half(height: float) -> Region:
    return lambda p: p[2] - (height - 0.13)


def _head(skin: str, hair: str) -> Solid:
    face = ellipsoid((0.0, -0.01, 1.69), (0.165, 0.18, 0.21))
    eyes = sphere((0.07, -0.17, 1.72), 0.04).mirrored()
    mouth = box((0.0, -0.19, 1.6), (0.06, 0.1, 0.014))
    features = decal(decal(plain(skin), eyes.distance, plain(_EYES)), mouth.distance, plain(_LIPS))
    nose = sphere((0.0, -0.19, 1.67), 0.032)
    neck = capsule((0.0, 0.0, 1.42), (0.0, 0.0, 1.55), 0.075)
    # The cut leaves a fringe over the brow and the hair long at the back.
    mop = ellipsoid((0.0, 0.03, 1.72), (0.19, 0.19, 0.21))
    cap = carve(mop, box((0.0, -0.32, 1.5), (0.4, 0.26, 0.29)))
    return union(face.painted(features), nose.painted(plain(skin)), neck.painted(plain(skin)), cap.painted(plain(hair)))


def _torso(shirt: Paint) -> Solid:
    chest = box((0.0, 0.0, 1.26), (0.24, 0.14, 0.2), 0.12)
    hips = box((0.0, 0.0, 0.95), (0.2, 0.135, 0.17), 0.12)
    return blend(0.15, chest, hips).painted(shirt)


def _arms(shirt: Paint, skin: str) -> Solid:
    sleeve = capsule((0.27, 0.0, 1.36), (0.34, 0.0, 1.1), 0.085, 0.07).painted(shirt)
    forearm = capsule((0.34, 0.0, 1.08), (0.33, -0.13, 0.88), 0.058, 0.05)
    hand = sphere((0.33, -0.15, 0.83), 0.07)
    return union(sleeve, union(forearm, hand).painted(plain(skin))).mirrored()


def _shoes(color: str = "#26211f") -> Solid:
    shoe = box((0.12, -0.06, 0.065), (0.085, 0.18, 0.065), 0.06)
    return shoe.mirrored().painted(layers([0.03], ["#e8e4da", color]))


def striped_shirt(color: str, stripe: str) -> Paint:
    """A shirt with a broad stripe across the chest and buttons, on the front only."""
    front = box((0.0, -0.2, 1.24), (0.3, 0.14, 0.06))
    collar = box((0.0, -0.2, 1.42), (0.07, 0.2, 0.06))
    return decal(plain(color), either(front.distance, collar.distance), plain(stripe))
