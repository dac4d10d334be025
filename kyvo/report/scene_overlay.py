"""Scenes drawn over their pictures: what a camera sees of objects, as blocks, boxes or markers.

K points of an outline, N objects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kyvo.clevr import SIZES
from kyvo.metrics.box_overlap import CORNER_SIGNS, Boxes, Floats
from kyvo.report.scene_drawing import SHARPNESS, Color
from kyvo.scene import Scene, SceneObject, SceneSchema

TRUE: Color = (20, 160, 80)
WRITTEN: Color = (220, 50, 160)
"""Colours of what is true and of what was written; the page's key has them too."""

_HALO: Color = (255, 255, 255)
_RIM = 0.8
"""Colour and width in pixels of what sets lines off from the picture."""
_EDGES = ((0, 1, 2, 3, 0), (4, 5, 6, 7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Lines along the edges of a box, as numbers of its corners."""

_RING = 24
_MARKER = 0.045
"""Radius of a marker over the depth of its object, so that near and far ones look alike."""

_NEAREST = 1e-2
"""Depth from which on a point is drawn; what lies behind the camera has no place in the picture."""

_POSITION = ("x", "y", "z")


@dataclass(frozen=True)
class Outline:
    """Lines that stand for an object.

    Args:
        points: float64 [K, 3], in the scene's coordinates.
        lines: Numbers of the points that each line joins.
    """

    points: Floats
    lines: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Layer:
    """A scene to draw.

    Args:
        scene: Its objects.
        color: Of its lines.
        width: Of its lines in pixels.
        rotations: float64 [N, 3, 3], how boxes in the camera's frame are turned; None where that is not known.
    """

    scene: Scene
    color: Color
    width: float = 1.5
    rotations: Floats | None = None


def has_outlines(schema: SceneSchema) -> bool:
    """Whether objects of a schema can be drawn over a picture: it says where they are in space."""
    return _has_boxes(schema) or all(map(schema.position, _POSITION))


def draw_over(
    picture: Image.Image, camera: Floats, layers: Sequence[Layer], schema: SceneSchema, side: int
) -> Image.Image:
    """Draw scenes over a picture.

    Args:
        picture: Any size; it is scaled.
        camera: float64 [3, 4], see `kyvo.sample.Sample.camera`.
        layers: Scenes, the later over the earlier.
        schema: Of the scenes.
        side: Pixels of the drawing's longer side.

    Raises:
        ValueError: For a schema that does not say where objects are in space.
    """
    if not has_outlines(schema):
        raise ValueError(f"schema {schema.name!r} does not place its objects in space; they cannot be drawn")
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Small pictures keep their pixels, as in the page's other panels.
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    canvas = picture.convert("RGB").resize(size, kind).resize((size[0] * SHARPNESS, size[1] * SHARPNESS), 0)
    draw = ImageDraw.Draw(canvas)
    drawn = [
        (layer, [line for one in outlines(layer, schema, camera) for line in _seen_lines(one, camera, canvas.size)])
        for layer in layers
    ]
    # All rims before all lines: those of one layer would hide the lines of another.
    strokes = [(_HALO, layer.width + _RIM, lines) for layer, lines in drawn]
    strokes += [(layer.color, layer.width, lines) for layer, lines in drawn]
    for color, width, lines in strokes:
        for line in lines:
            draw.line(line, fill=color, width=round(width * SHARPNESS))
    return canvas.resize(size, Image.Resampling.LANCZOS)


def outlines(layer: Layer, schema: SceneSchema, camera: Floats) -> list[Outline]:
    """What stands for the objects of a scene: boxes in the camera's frame, blocks of a size, or markers."""
    if _has_boxes(schema):
        known = layer.rotations
        turns = np.tile(np.eye(3), (len(layer.scene), 1, 1)) if known is None else known
        return [_box(one, turn) for one, turn in zip(layer.scene, turns, strict=True)]
    words = schema["size"].values if "size" in schema else ()
    if words and set(words) <= SIZES.keys():
        return [_block(one, schema) for one in layer.scene]
    return [_marker(one, schema, camera) for one in layer.scene]


def _has_boxes(schema: SceneSchema) -> bool:
    return all(map(schema.position, ("camera_x", "camera_y", "depth", "width", "height", "length")))


def _numbers(obj: SceneObject, schema: SceneSchema, names: Sequence[str]) -> list[float]:
    places = [schema.position(name) for name in names]
    return [float(obj[place[0]][place[1]]) for place in places if place is not None]


def _box(obj: SceneObject, rotation: Floats) -> Outline:
    boxes = Boxes.of([obj["center_cam"]], [obj["dimensions"]], [rotation])
    return Outline(boxes.corners[0], _EDGES)


def _block(obj: SceneObject, schema: SceneSchema) -> Outline:
    """The cube of CLEVR that an object fills; how it is turned is no part of a scene."""
    center = np.array(_numbers(obj, schema, _POSITION))
    return Outline(center + SIZES[str(obj["size"])] * CORNER_SIGNS, _EDGES)


def _marker(obj: SceneObject, schema: SceneSchema, camera: Floats) -> Outline:
    """A ring that lies at an object's place, and a pointer to where it looks."""
    center = np.array(_numbers(obj, schema, _POSITION))
    radius = _MARKER * max(float(camera[2] @ np.append(center, 1.0)), _NEAREST)
    angles = np.arange(_RING) * 2 * math.pi / _RING
    points = [center + radius * np.array([math.cos(one), math.sin(one), 0.0]) for one in angles]
    lines = [(*range(_RING), 0)]
    for yaw in _numbers(obj, schema, ("yaw",)):
        ahead = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        points += [center, center + 2.2 * radius * ahead]
        lines.append((_RING, _RING + 1))
    return Outline(np.stack(points), lines)


def _seen_lines(outline: Outline, camera: Floats, size: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """The parts of an outline's lines that lie before the camera, in pixels."""
    places, depths = project(outline.points, camera)
    # What is far outside of the picture is cut there: the drawing's numbers are small.
    pixels = (places.clip(-9, 10) * size).tolist()
    ahead = (depths > _NEAREST) & np.isfinite(places).all(1)
    pairs = [pair for line in outline.lines for pair in pairwise(line)]
    return [[tuple(pixels[a]), tuple(pixels[b])] for a, b in pairs if ahead[a] and ahead[b]]


def project(points: Floats, camera: Floats) -> tuple[Floats, NDArray[np.float64]]:
    """Where a camera sees points.

    Args:
        points: float64 [K, 3], in the scene's coordinates.
        camera: float64 [3, 4], see `kyvo.sample.Sample.camera`.

    Returns:
        Places across and down, float64 [K, 2] in widths and heights of the picture, and depths [K]; places of what is
        not before the camera mean nothing.

    Example:
        >>> camera = np.array([[1.0, 0, 0.5, 0], [0, 1.0, 0.5, 0], [0, 0, 1, 0]])
        >>> project(np.array([[0.5, -0.5, 2.0]]), camera)[0].tolist()
        [[0.75, 0.25]]
    """
    seen = np.column_stack([points, np.ones(len(points))]) @ camera.T
    return seen[:, :2] / np.maximum(seen[:, 2:], _NEAREST), seen[:, 2]
