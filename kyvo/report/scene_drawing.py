"""Drawings of scenes from above: what is where, what it is, how large; and the same in words.

The viewer stands at the lower edge, so that what is left in a picture is left in the drawing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from kyvo.clevr import COLORS, DIRECTIONS, SIZES
from kyvo.scene import SCHEMAS, Scene, SceneObject, SceneSchema, get_schema

Color = tuple[int, int, int]
Point = tuple[float, float]

SHARPNESS = 4
"""Everything is drawn this much larger and then reduced, for smooth edges."""

PAPER: Color = (255, 255, 255)
FLOOR: Color = (240, 241, 243)
LINE: Color = (218, 220, 224)
INK: Color = (45, 48, 54)
FAINT: Color = (120, 124, 132)

PALETTE: tuple[Color, ...] = (
    *((78, 121, 167), (242, 142, 43), (225, 87, 89), (118, 183, 178), (89, 161, 79)),
    *((237, 201, 72), (176, 122, 161), (255, 157, 167), (156, 117, 95), (140, 140, 150)),
)
"""Colours of kinds of object that have none of their own, by their order in the schema."""


@dataclass(frozen=True)
class View:
    """How the floor lies on the drawing.

    Args:
        axes: names of the two quantities that span the floor.
        right: what points right, as a direction in those quantities.
        down: what points down, towards the viewer.
        center: the point of the floor in the middle of the drawing, in the quantities.
        extent: how far the floor reaches from its middle along each quantity.
        things: how large things are, relative to CLEVR's.
    """

    axes: tuple[str, str]
    right: Point
    down: Point
    center: Point
    extent: float
    things: float = 1.0

    def place(self, point: Point) -> Point:
        """Return where a point of the floor lies, in scene units right of and below the middle."""
        x, y = point[0] - self.center[0], point[1] - self.center[1]
        return self.right[0] * x + self.right[1] * y, self.down[0] * x + self.down[1] * y

    @property
    def reach(self) -> float:
        """Return how far the floor's corners reach from the middle on the drawing."""
        return self.extent * max(sum(map(abs, self.right)), sum(map(abs, self.down)))


# CLEVR's camera looks along the floor's diagonal; these are its "right" and "front".
_CLEVR = View(("x", "y"), DIRECTIONS["right"][:2], DIRECTIONS["front"][:2], (0.0, 0.0), 3.0)
# As on a map: nothing is known of the camera of a user's own data.
_MAP = View(("x", "y"), (1.0, 0.0), (0.0, -1.0), (0.0, 0.0), 3.0)
_CAMERA = View(("camera_x", "depth"), (1.0, 0.0), (0.0, -1.0), (0.0, 2.0), 2.0)


def draw_scene(
    scene: Scene,
    schema: SceneSchema | str = "clevr",
    size: int = 256,
    extent: float | None = None,
    names: bool = False,
) -> Image.Image:
    """Draw a scene from above.

    Objects with a size, colour, material and shape look like what they are; others are boxes or discs with their
    names. What lies outside the floor is drawn at its edge. Of our own worlds, what is right in the picture is right
    here; of other schemas, x points right and y up.

    Args:
        scene: what to draw.
        schema: the scene's schema or its name.
        size: width and height in pixels.
        extent: half the floor's width in scene units; by default 3, and 2 m for camera frames.
        names: whether to name also the objects that look like what they are.

    Returns:
        An RGB image [size, size].

    Raises:
        ValueError: for a schema without a place on a floor.
    """
    schema = get_schema(schema)
    view = _view(schema, extent)
    canvas = Canvas(size, view)
    canvas.floor()
    solid = all(name in schema for name in ("size", "color", "material", "shape"))
    draw = _draw_clevr if solid else _draw_named
    for obj in sorted(scene, key=lambda obj: canvas.point(_position(obj, schema, view))[1]):
        at = canvas.point(_position(obj, schema, view))
        draw(canvas, obj, schema, at)
        if solid and names:
            canvas.label((at[0], at[1] + _radius(canvas, obj)), f"{obj['color']} {obj['shape']}")
    return canvas.finish()


def has_floor(schema: SceneSchema) -> bool:
    """Whether scenes of a schema can be drawn: x and y, or camera_x and depth are among its quantities."""
    return _find_view(schema) is not None


def floor_extent(scenes: Iterable[Scene], schema: SceneSchema) -> float:
    """Half the width of a floor that holds all objects: 3 for our own worlds, else a round number.

    Raises:
        ValueError: for a schema without a place on a floor.
    """
    view = _view(schema, None)
    if view is _CLEVR:
        return view.extent
    places = [_position(obj, schema, view) for scene in scenes for obj in scene]
    depth = 2 if view is _CAMERA else 1
    reach = max((max(abs(x), abs(y) / depth) for x, y in places if math.isfinite(x) and math.isfinite(y)), default=0.0)
    power = 10.0 ** math.floor(math.log10(reach)) if reach > 0 else 1.0
    return next(step * power for step in (1, 2, 3, 5, 10) if step * power >= reach)


def describe_scene(scene: Scene) -> str:
    """Return one line per object: its words, then its numbers.

    >>> describe_scene(Scene((SceneObject({"color": "red", "shape": "cube", "location": (0.5, -1.0, 0.7)}),)))
    'red cube (0.50, -1.00, 0.70)'
    """
    return "\n".join(_describe(obj) for obj in scene) or "(no object)"


def _describe(obj: SceneObject) -> str:
    words = [value for value in obj.values.values() if isinstance(value, str)]
    numbers = [value for value in obj.values.values() if not isinstance(value, str) and len(value) <= 4]
    return " ".join([*words, *(f"({', '.join(f'{number:.2f}' for number in value)})" for value in numbers)])


def _find_view(schema: SceneSchema) -> View | None:
    world = _CLEVR if _is_own_world(schema) else _MAP
    return next((view for view in (world, _CAMERA) if all(map(schema.position, view.axes))), None)


def _is_own_world(schema: SceneSchema) -> bool:
    """Whether places mean what they do in our worlds; where a schema names its shapes these alone are other words."""
    own = SCHEMAS.get(schema.name)
    return own is not None and own.markers == schema.markers and _measured(own) == _measured(schema)


def _measured(schema: SceneSchema) -> list[tuple[str, ...]]:
    return [one.quantities for one in schema.attributes]


def _view(schema: SceneSchema, extent: float | None) -> View:
    view = _find_view(schema)
    if view is None:
        axes = " or ".join(" and ".join(view.axes) for view in (_MAP, _CAMERA))
        raise ValueError(f"schema {schema.name!r} does not place its objects by {axes}; it can't be drawn")
    if extent is None:
        return view
    center = (0.0, extent) if view is _CAMERA else view.center
    return replace(view, center=center, extent=extent, things=1.0 if view is _CLEVR else extent / view.extent)


def _number(obj: SceneObject, schema: SceneSchema, quantity: str) -> float | None:
    position = schema.position(quantity)
    return None if position is None else float(obj[position[0]][position[1]])


def _position(obj: SceneObject, schema: SceneSchema, view: View) -> Point:
    x, y = (_number(obj, schema, axis) or 0.0 for axis in view.axes)
    return x, y


class Canvas:
    """An image with the floor's scale: places in scene units, drawn in pixels."""

    def __init__(self, size: int, view: View) -> None:
        self.size, self.view = size, view
        self.side = size * SHARPNESS
        # Objects stand on the floor's edge, and half of them beyond it.
        self.scale = self.side / (2 * (view.reach + 0.55 * view.things))
        self.image = Image.new("RGB", (self.side, self.side), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.labels: list[tuple[Point, str]] = []

    def point(self, position: Point) -> Point:
        """Return the pixel of a place; what lies outside the drawing is moved to its edge."""
        right, down = self.view.place(position)
        limit = self.view.reach + 0.4 * self.view.things
        x, y = (_between(-limit, value, limit) if math.isfinite(value) else limit for value in (right, down))
        return self.side / 2 + x * self.scale, self.side / 2 + y * self.scale

    def floor(self) -> None:
        """Draw the floor with a line each unit, or tenth or ten of them, and a thicker one around it."""
        (a, b), extent = self.view.center, self.view.extent
        corners = [(-extent, -extent), (extent, -extent), (extent, extent), (-extent, extent)]
        polygon = [self.point((a + x, b + y)) for x, y in corners]
        self.draw.polygon(polygon, fill=FLOOR)
        unit = 10.0 ** math.floor(math.log10(extent))
        for number in range(math.ceil(-extent / unit), math.floor(extent / unit) + 1):
            step = number * unit
            self._line((a + step, b - extent), (a + step, b + extent))
            self._line((a - extent, b + step), (a + extent, b + step))
        self.draw.line([*polygon, polygon[0]], fill=(190, 193, 199), width=SHARPNESS + 2)

    def _line(self, start: Point, stop: Point) -> None:
        self.draw.line([self.point(start), self.point(stop)], fill=LINE, width=SHARPNESS)

    def label(self, at: Point, text: str) -> None:
        """Write text centred below a pixel, once everything else is drawn."""
        self.labels.append((at, text))

    def finish(self) -> Image.Image:
        """Reduce to the final size and write the labels."""
        image = self.image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        points = max(9, self.size // 22)
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(points)
        for (x, y), text in self.labels:
            half, height = font.getlength(text) / 2 + 2, points + 4
            at = _between(half, x / SHARPNESS, self.size - half), min(y / SHARPNESS + 1, self.size - height)
            draw.text(at, text, fill=INK, font=font, anchor="ma", stroke_width=2, stroke_fill=PAPER)
        return image


def _between(low: float, value: float, high: float) -> float:
    return max(low, min(high, value))


def _shade(color: Color, amount: float) -> Color:
    """Move a colour towards white (amount > 0) or black (amount < 0), by that share of the way."""
    goal = 255 if amount > 0 else 0
    red, green, blue = (round(part + (goal - part) * abs(amount)) for part in color)
    return red, green, blue


def _radius(canvas: "Canvas", obj: SceneObject) -> float:
    return SIZES.get(str(obj["size"]), 0.5) * canvas.scale


def _draw_clevr(canvas: Canvas, obj: SceneObject, schema: SceneSchema, at: Point) -> None:
    radius = _radius(canvas, obj)
    color = COLORS.get(str(obj["color"]), PALETTE[-1])
    metal = obj["material"] == "metal"
    _shadow(canvas, at, radius)
    _SOLIDS.get(str(obj["shape"]), _sphere)(canvas, at, radius, color, metal)


def _shadow(canvas: Canvas, at: Point, radius: float) -> None:
    x, y = at
    box = (x - radius * 0.95, y + radius * 0.35, x + radius * 1.15, y + radius * 1.12)
    canvas.draw.ellipse(box, fill=(206, 208, 213))


def _outline(color: Color) -> Color:
    return _shade(color, -0.45)


def _sphere(canvas: Canvas, at: Point, radius: float, color: Color, metal: bool) -> None:
    x, y = at
    rings = 24
    for ring in range(rings):
        share = ring / rings
        # Each smaller disc is nearer to the light, up and to the left, and lighter.
        r, offset = radius * (1 - share), radius * share * 0.35
        tone = -0.30 + (0.75 if metal else 0.40) * share
        box = (x - offset - r, y - offset - r, x - offset + r, y - offset + r)
        canvas.draw.ellipse(box, fill=_shade(color, tone))
    canvas.draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_outline(color), width=SHARPNESS)
    if metal:
        _gleam(canvas, (x - radius * 0.34, y - radius * 0.38), radius * 0.2)


def _cube(canvas: Canvas, at: Point, radius: float, color: Color, metal: bool) -> None:
    x, y = at
    side = radius * 0.86
    top, middle, bottom = y - side * 1.1, y + side * 0.15, y + side * 1.1
    skew = side * 0.16
    front = [(x - side, middle), (x + side, middle), (x + side, bottom), (x - side, bottom)]
    roof = [(x - side, middle), (x - side + skew, top), (x + side - skew, top), (x + side, middle)]
    canvas.draw.polygon(front, fill=_shade(color, -0.22), outline=_outline(color), width=SHARPNESS)
    canvas.draw.polygon(roof, fill=_shade(color, 0.12), outline=_outline(color), width=SHARPNESS)
    if metal:
        band = [(x - side * 0.62, middle), (x - side * 0.3, top), (x - side * 0.02, top), (x - side * 0.3, middle)]
        canvas.draw.polygon(band, fill=_shade(color, 0.7))


def _cylinder(canvas: Canvas, at: Point, radius: float, color: Color, metal: bool) -> None:
    x, y = at
    side, lid = radius * 0.9, radius * 0.48
    top, bottom = y - radius * 0.42, y + radius * 0.5
    columns = 24
    canvas.draw.ellipse((x - side, bottom - lid, x + side, bottom + lid), fill=_shade(color, -0.3))
    for column in range(columns):
        left = x - side + 2 * side * column / columns
        lit = math.exp(-((column / columns - 0.3) ** 2) / 0.02)
        tone = -0.3 + (0.85 if metal else 0.22) * lit
        foot = lid * math.sqrt(1 - (2 * (column + 0.5) / columns - 1) ** 2)
        canvas.draw.rectangle((left, top, left + 2 * side / columns, bottom + foot), fill=_shade(color, tone))
    canvas.draw.arc((x - side, bottom - lid, x + side, bottom + lid), 0, 180, fill=_outline(color), width=SHARPNESS)
    for edge in (x - side, x + side):
        canvas.draw.line([(edge, top), (edge, bottom)], fill=_outline(color), width=SHARPNESS)
    roof = (x - side, top - lid, x + side, top + lid)
    canvas.draw.ellipse(roof, fill=_shade(color, 0.15), outline=_outline(color), width=SHARPNESS)
    if metal:
        _gleam(canvas, (x - side * 0.3, top - lid * 0.2), lid * 0.35)


def _gleam(canvas: Canvas, at: Point, radius: float) -> None:
    x, y = at
    canvas.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 255, 255))


_SOLIDS: dict[str, Callable[[Canvas, Point, float, Color, bool], None]] = {
    "cube": _cube,
    "sphere": _sphere,
    "cylinder": _cylinder,
}


def _draw_named(canvas: Canvas, obj: SceneObject, schema: SceneSchema, at: Point) -> None:
    attribute = next((entry for entry in schema.attributes if entry.kind == "word"), None)
    name = "" if attribute is None else str(obj[attribute.name])
    order = attribute.values.index(name) if attribute and name in attribute.values else 0
    color = PALETTE[order % len(PALETTE)]
    width, length = _number(obj, schema, "width"), _number(obj, schema, "length")
    unknown, least = 0.7 * canvas.view.things, 0.04 * canvas.view.things
    half = [max(least, (number or unknown) / 2) * canvas.scale for number in (width, length)]
    x, y = at
    box = (x - half[0], y - half[1], x + half[0], y + half[1])
    draw = canvas.draw.ellipse if width is None else canvas.draw.rectangle
    draw(box, _shade(color, 0.35), _outline(color), SHARPNESS + 2)
    yaw = _number(obj, schema, "yaw")
    if yaw is not None:
        _arrow(canvas, at, half[0], canvas.view.place(_turned(canvas.view, yaw)), _outline(color))
    canvas.label((x, y + half[1]), name)


def _turned(view: View, yaw: float) -> Point:
    return view.center[0] + math.cos(yaw), view.center[1] + math.sin(yaw)


def _arrow(canvas: Canvas, at: Point, length: float, direction: Point, color: Color) -> None:
    """Draw where an object looks, from its middle to its edge."""
    (x, y), (right, down) = at, direction
    tip = x + right * length, y + down * length
    canvas.draw.line([at, tip], fill=color, width=2 * SHARPNESS)
    head = length * 0.35
    sides = [(tip[0] - head * (right + turn * down), tip[1] - head * (down - turn * right)) for turn in (0.6, -0.6)]
    canvas.draw.polygon([tip, *sides], fill=color)
