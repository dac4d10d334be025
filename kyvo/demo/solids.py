"""What the three-dimensional view draws of a scene: boxes, balls and cylinders on a floor, and where to look from.

Coordinates are right-handed with z up, in scene units.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kyvo.clevr import COLORS, SIZES
from kyvo.report.scene_drawing import PALETTE
from kyvo.scene import Scene, SceneObject, SceneSchema

Point = tuple[float, float, float]
Kind = Literal["cube", "sphere", "cylinder"]

KINDS: dict[str, Kind] = {"cube": "cube", "sphere": "sphere", "cylinder": "cylinder"}
LEAST_HALF = 0.02
UNKNOWN_HALF = 0.35
"""Half the side of things of which no size is known."""


@dataclass(frozen=True)
class Solid:
    """One thing to draw.

    Args:
        kind: Its form.
        center: Its middle.
        half: Half its width, depth and height.
        yaw: How far it is turned about z in radians; None where a scene does not say.
        color: Red, green and blue, 0 to 255.
        metal: Whether it gleams.
        name: What it is, in words.
    """

    kind: Kind
    center: Point
    half: Point
    yaw: float | None
    color: tuple[int, int, int]
    metal: bool
    name: str


@dataclass(frozen=True)
class Look:
    """Where from and how much of the floor is seen.

    Args:
        target: The middle of what is seen, on the floor.
        extent: How far the floor reaches from there.
        azimuth: Direction of the viewer about z from x, in radians.
        elevation: How far above the horizon the viewer is, in radians.
    """

    target: Point
    extent: float
    azimuth: float
    elevation: float


# CLEVR's base camera stands at (7.48, -6.51, 5.34) and looks at the origin.
CLEVR_LOOK = Look((0.0, 0.0, 0.0), 2.25, math.atan2(-6.50764, 7.48113), math.atan2(5.34367, 9.9154))


def solids_of(scene: Scene, schema: SceneSchema) -> list[Solid]:
    """What to draw for each object, in the order of the scene.

    Args:
        scene: The objects.
        schema: Their schema. Sizes come from width, height and length or from CLEVR's words, colours from CLEVR's
            words; places from x, y and z, or from camera_x, camera_y and depth.
    """
    return [_solid(one, schema) for one in scene]


def look_at(solids: list[Solid], schema: SceneSchema) -> Look:
    """A view of all solids; of scenes like CLEVR's from its camera, of others from the front.

    Args:
        solids: What is seen.
        schema: Of the scene.
    """
    if "size" in schema:
        reach = max((max(map(abs, one.center[:2])) + one.half[0] for one in solids), default=0.0)
        return Look(CLEVR_LOOK.target, max(CLEVR_LOOK.extent, math.ceil(2 * reach) / 2), *_CLEVR_ANGLES)
    if not solids:
        return Look((0.0, 0.0, 0.0), 2.0, -math.pi / 2, CLEVR_LOOK.elevation)
    low = [min(one.center[axis] - one.half[axis] for one in solids) for axis in range(3)]
    high = [max(one.center[axis] + one.half[axis] for one in solids) for axis in range(3)]
    middle = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    extent = max(high[0] - low[0], high[1] - low[1]) / 2 * 1.2
    return Look((*middle, low[2]), max(extent, 0.2), -math.pi / 2, CLEVR_LOOK.elevation)


_CLEVR_ANGLES = CLEVR_LOOK.azimuth, CLEVR_LOOK.elevation


def view_data(scene: Scene, schema: SceneSchema, selected: int | None = None) -> dict[str, Any]:
    """What the view in the browser draws, as JSON.

    Args:
        scene: The objects.
        schema: Their schema.
        selected: The object that is marked.
    """
    solids = solids_of(scene, schema)
    return {"solids": [asdict(one) for one in solids], "look": asdict(look_at(solids, schema)), "selected": selected}


def object_name(one: SceneObject, schema: SceneSchema) -> str:
    """The words of an object in the order of its schema.

    >>> from kyvo.scene import SCHEMAS
    >>> object_name(SceneObject({"shape": "sofa", "location": (0.0, 0.0, 0.0, 0.0)}), SCHEMAS["objaworld"])
    'sofa'
    """
    return " ".join(str(one[a.name]) for a in schema.attributes if a.kind == "word") or "object"


def _solid(one: SceneObject, schema: SceneSchema) -> Solid:
    half = _half(one, schema)
    return Solid(
        KINDS.get(str(one.values.get("shape")), "cube"),
        _center(one, schema, half),
        half,
        _number(one, schema, "yaw"),
        _color(one, schema),
        one.values.get("material") == "metal",
        object_name(one, schema),
    )


def _number(one: SceneObject, schema: SceneSchema, quantity: str) -> float | None:
    found = schema.position(quantity)
    return None if found is None else float(one[found[0]][found[1]])


def _half(one: SceneObject, schema: SceneSchema) -> Point:
    measured = [_number(one, schema, quantity) for quantity in ("width", "length", "height")]
    if None not in measured:
        width, length, height = (max((number or 0.0) / 2, LEAST_HALF) for number in measured)
        return width, length, height
    size = SIZES.get(str(one.values.get("size")), UNKNOWN_HALF)
    return size, size, size


def _center(one: SceneObject, schema: SceneSchema, half: Point) -> Point:
    if schema.position("camera_x") is not None:
        # Cameras have y downwards and look along depth.
        right, down, depth = (_number(one, schema, name) or 0.0 for name in ("camera_x", "camera_y", "depth"))
        return right, depth, -down
    x, y, z = (_number(one, schema, name) for name in ("x", "y", "z"))
    return x or 0.0, y or 0.0, half[2] if z is None else z


def _color(one: SceneObject, schema: SceneSchema) -> tuple[int, int, int]:
    """The object's own colour, else one for each word of its first attribute."""
    if str(one.values.get("color")) in COLORS:
        return COLORS[str(one["color"])]
    words = next((attribute for attribute in schema.attributes if attribute.kind == "word"), None)
    order = words.values.index(str(one[words.name])) if words and one[words.name] in words.values else 0
    return PALETTE[order % len(PALETTE)]
