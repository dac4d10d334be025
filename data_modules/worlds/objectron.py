"""An Objectron-like world: everyday things on a table or floor, as a phone sees them, annotated as Omni3D does it.

The objects' boxes are in the camera's frame (x right, y down, z forward) and in metres. CLEVR's ground and lamps, which
are made for scenes of some six units, serve all sizes: the picture is traced in a world in which the camera stands 8
units from what it looks at, whether that is half a metre or three. Everything is a function of the generator handed in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data_modules.worlds.assets.asset import Placed
from data_modules.worlds.assets.library import OBJECTRON, draw_dimensions, objectron_asset
from data_modules.worlds.camera import FOCAL_OVER_SENSOR, Camera
from data_modules.worlds.clevr import Scene, annotate, visible_pixels
from data_modules.worlds.lights import BASE_LAMPS
from data_modules.worlds.placement import Placed as Circle
from data_modules.worlds.placement import check_objects, draw_position, jittered
from data_modules.worlds.ray_tracer import Color, RayTracer, Sampling
from data_modules.worlds.rendering import identify, render

_LARGE = ("bicycle", "chair")
_NEAR, _FAR = (0.4, 1.5), (1.5, 3.0)
"""How far the camera stands from small and from large things, metres."""

_CAMERA_UNITS = 8.0
"""How far it stands in the units of the lamps."""

_AZIMUTH = (-85.0, 0.0)
_ELEVATION = (12.0, 60.0)
_ROLL = 12.0
"""Where the camera stands, degrees: from where lamps and wall are behind the things, as CLEVR's camera at -41; how high
above the horizon; how far it's tilted to either side."""

_FOCAL = (0.8, 1.1)
"""Focal length over the longer side of the image."""

_AIM = 0.12
"""How far the camera aims beside the objects, over its distance."""

_SURFACES = (
    *((0.62, 0.38, 0.2), (0.45, 0.26, 0.15), (0.8, 0.6, 0.4), (0.9, 0.9, 0.88), (0.5, 0.5, 0.52)),
    *((0.8, 0.74, 0.62), (0.36, 0.38, 0.42), (0.4, 0.52, 0.65), (0.65, 0.32, 0.25), (0.48, 0.6, 0.42)),
)
"""Linear reflectance of tables and floors: woods, stone, carpets and cloths."""

_WALLS = ((0.35, 0.36, 0.38), (0.3, 0.26, 0.2), (0.2, 0.24, 0.3), (0.12, 0.12, 0.12))
"""Light from where the ground ends."""

_BOX_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""A box's own axes in its asset's frame, as columns: x along the length, y down, z along the width."""

_CORNERS = np.array(
    [(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]
)
"""Omni3D's order of a box's corners, as signs along its own axes (length, height, width)."""

_ATTEMPTS = 1000


@dataclass(frozen=True)
class PhoneCamera(Camera):
    """A camera that may be held askew.

    Args:
        roll: Turn about the line of sight in radians; the picture turns counterclockwise.
    """

    roll: float = 0.0

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors right, up and forward as rows, float64 [3, 3]."""
        right, up, forward = super().axes
        c, s = math.cos(self.roll), math.sin(self.roll)
        return np.stack([c * right - s * up, s * right + c * up, forward])


@dataclass(frozen=True)
class ObjectronWorld:
    """Settings of an Objectron-like world.

    Args:
        image_size: Height and width of the images in pixels; phones take portraits of 4:3.
        objects: Least and greatest number of objects.
        crowded: Share of scenes with more than the least number.
        max_truncation: Largest share of an object's box in the picture's plane that lies outside the picture.
        min_visibility: Least share that is seen of what other objects could hide.
        min_height: Least height of an object's box in the picture, over the picture's.
        light_jitter: Each lamp moves by up to this much along each axis, in CLEVR's units.
        shadow_samples: Rays to each light where there may be shadow, rounded down to a square.
        edge_samples: Rays that smooth each pixel at an edge.
    """

    image_size: tuple[int, int] = (320, 240)
    objects: tuple[int, int] = (1, 3)
    crowded: float = 0.2
    max_truncation: float = 0.3
    min_visibility: float = 0.5
    min_height: float = 0.15
    light_jitter: float = 1.5
    shadow_samples: int = 16
    edge_samples: int = 6

    def __post_init__(self) -> None:
        check_objects(self.objects)
        if min(self.image_size) < 1:
            raise ValueError(f"image_size must be positive, got {self.image_size}")

    def make(self, rng: random.Random) -> tuple[Scene, np.ndarray, np.ndarray]:
        """A scene, its picture uint8 [H, W, 3] and its id map int32 [H, W] (-1 ground, -2 nothing).

        The scene has `K`, `width`, `height`, `mask`, and objects with Omni3D's fields (`category`, `center_cam`,
        `dimensions`, `R_cam`, `bbox3D_cam`, `bbox2D_tight`, `bbox2D_proj`, `bbox2D_trunc`, `visibility`,
        `truncation`, `behind_camera`, `valid3D`) beside `bbox` and `visible_pixels`.

        Raises:
            ValueError: If no picture turns up in which enough is seen of every object.
        """
        for _ in range(_ATTEMPTS):
            view = self._draw(rng)
            records = view.records() if view else []
            if view and all(map(self._is_in_picture, records)):
                shares = self._visibility(view)
                if min(shares) >= self.min_visibility:
                    image, ids = render(self._tracer(view, view.things), view.camera)
                    return _scene(view, records, shares, ids), image, ids
        raise ValueError(f"in {_ATTEMPTS} scenes some object was not in view; allow more truncation or fewer objects")

    def _draw(self, rng: random.Random) -> _View | None:
        """Things, the camera and the surroundings; None where the things find no room side by side."""
        least, greatest = self.objects
        crowded = least < greatest and rng.random() < self.crowded
        categories = _categories(rng, rng.randint(least + 1, greatest) if crowded else least)
        scale = _CAMERA_UNITS / rng.uniform(*(_FAR if categories[0] in _LARGE else _NEAR))
        assets = [objectron_asset(category, draw_dimensions(category, rng), rng) for category in categories]
        places = _places(rng, [math.hypot(*asset.upper[:2]) * scale for asset in assets])
        if places is None:
            return None
        yaws = [rng.uniform(-math.pi, math.pi) for _ in assets]
        things = [Placed(a, (x, y, 0.0), yaw, scale) for a, (x, y, _), yaw in zip(assets, places, yaws, strict=True)]
        lamps = {name: jittered(rng, place, self.light_jitter) for name, place in BASE_LAMPS.items()}
        camera = _camera(rng, things, *self.image_size)
        return _View(categories, things, camera, lamps, rng.choice(_SURFACES), rng.choice(_WALLS))

    def _tracer(self, view: _View, things: Sequence[Placed]) -> RayTracer:
        sampling = Sampling(self.shadow_samples, min(4, self.shadow_samples), self.edge_samples)
        return RayTracer(things, view.lamps, sampling, view.ground, view.sky)

    def _is_in_picture(self, record: Mapping[str, Any]) -> bool:
        """Whether enough of an object's box lies in the picture, large enough and before the camera."""
        _, top, _, bottom = record["bbox2D_trunc"]
        tall = bottom - top >= self.min_height * self.image_size[0]
        return tall and record["truncation"] <= self.max_truncation and not record["behind_camera"]

    def _visibility(self, view: _View) -> list[float]:
        """Which share of the pixels that each object would have alone it has among the others."""
        if len(view.things) == 1:
            return [1.0]
        together = visible_pixels(identify(self._tracer(view, view.things), view.camera), len(view.things))
        alone = [(identify(self._tracer(view, [thing]), view.camera) == 0).sum() for thing in view.things]
        return [float(seen / max(whole, 1)) for seen, whole in zip(together, alone, strict=True)]


@dataclass(frozen=True)
class _View:
    """What is traced.

    Args:
        categories: Of each thing.
        things: Assets in metres, scaled to the units of the lamps.
        camera: Where it is seen from, in these units.
        lamps: Positions by CLEVR's names.
        ground: Reflectance of the table or floor.
        sky: Light from beyond it.
    """

    categories: Sequence[str]
    things: Sequence[Placed]
    camera: PhoneCamera
    lamps: Mapping[str, Sequence[float]]
    ground: Color
    sky: Color

    def records(self) -> list[dict[str, Any]]:
        """Omni3D's fields of each thing, but for what its pixels tell."""
        return [
            {"category": category, **_record(thing, self.camera)}
            for category, thing in zip(self.categories, self.things, strict=True)
        ]


def _categories(rng: random.Random, count: int) -> list[str]:
    """Categories of things that may stand together; every other one is of the first one's kind, as shoes are."""
    first = rng.choice(OBJECTRON)
    group = [category for category in OBJECTRON if (category in _LARGE) == (first in _LARGE)]
    return [first, *(rng.choice((first, rng.choice(group))) for _ in range(count - 1))]


def _places(rng: random.Random, radii: Sequence[float]) -> list[Circle] | None:
    """Circles of the radii clear of each other, as near as there is room for, the only one at the origin."""
    places: list[Circle] = []
    for radius in radii:
        extent = 0.0 if len(radii) == 1 else 1.2 * sum(radii)
        place = draw_position(rng, extent, radius, places)
        if place is None:
            return None
        places.append(place)
    return places


def _camera(rng: random.Random, things: Sequence[Placed], height: int, width: int) -> PhoneCamera:
    """A camera held somewhere around the things and aimed about at their middle."""
    middle = np.mean([_middle(thing) for thing in things], axis=0)
    around, up = (math.radians(rng.uniform(*span)) for span in (_AZIMUTH, _ELEVATION))
    away = np.array([math.cos(up) * math.cos(around), math.cos(up) * math.sin(around), math.sin(up)])
    x, y, z = middle + _CAMERA_UNITS * away
    target = [place + _AIM * _CAMERA_UNITS * rng.uniform(-1, 1) for place in middle.tolist()]
    focal, roll = rng.uniform(*_FOCAL) / FOCAL_OVER_SENSOR, math.radians(rng.uniform(-_ROLL, _ROLL))
    return PhoneCamera((x, y, z), height, width, focal, (target[0], target[1], target[2]), roll)


def _middle(thing: Placed) -> np.ndarray:
    """World position of the middle of a thing's box, [3]."""
    middle = (np.array(thing.asset.lower) + thing.asset.upper) / 2
    return np.array(thing.position) + thing.scale * (_turn(thing.yaw) @ middle)


def _turn(yaw: float) -> np.ndarray:
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _record(thing: Placed, camera: PhoneCamera) -> dict[str, Any]:
    """Omni3D's fields of a thing's box; lengths in units of the asset's frame, metres."""
    length, width, height = np.array(thing.asset.upper) - thing.asset.lower
    axes = camera.rotation @ _turn(thing.yaw) @ _BOX_AXES
    center = camera.to_camera(_middle(thing)[None])[0] / thing.scale
    corners = (_CORNERS * (length / 2, height / 2, width / 2)) @ axes.T + center
    behind = bool(corners[:, 2].min() <= 0)
    pixels = corners @ camera.intrinsics.T
    pixels = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)
    projected = np.concatenate([pixels.min(0), pixels.max(0)])
    cut = np.clip(projected, 0, [camera.width, camera.height] * 2)
    return {
        "center_cam": center.tolist(),
        "dimensions": [float(width), float(height), float(length)],
        "R_cam": axes.tolist(),
        "bbox3D_cam": corners.tolist(),
        "bbox2D_proj": projected.tolist(),
        "bbox2D_trunc": cut.tolist(),
        "truncation": float(1 - _area(cut) / _area(projected)),
        "behind_camera": behind,
        "valid3D": True,
    }


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _scene(view: _View, records: Sequence[Scene], shares: Sequence[float], ids: np.ndarray) -> Scene:
    """The scene's JSON."""
    camera = view.camera
    objects = [record | {"visibility": share} for record, share in zip(records, shares, strict=True)]
    about = {"width": camera.width, "height": camera.height, "K": camera.intrinsics.tolist()}
    scene = annotate({"objects": objects, **about}, ids)
    for record in scene["objects"]:
        record["bbox2D_tight"] = record["bbox"]
    return scene
