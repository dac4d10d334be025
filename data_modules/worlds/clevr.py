"""The CLEVR world: scenes by CLEVR's rules, and their pictures.

A scene is CLEVR's JSON record (objects, relationships, directions) with two more keys, `camera` and `lights`, and once
drawn `mask` and each object's `bbox` and `visible_pixels`. Everything is a function of the generator handed in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_modules.worlds.camera import BASE_LOCATION, Camera
from data_modules.worlds.lights import BASE_LAMPS
from data_modules.worlds.masks import run_lengths
from data_modules.worlds.placement import Placed, check_objects, draw_position, jittered, relationships
from data_modules.worlds.ray_tracer import RayTracer, Sampling
from data_modules.worlds.rendering import identify, render
from kyvo.clevr import COLORS, DIRECTIONS, MATERIALS, SHAPES, SIZES

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "shape": SHAPES,
}
"""CLEVR's attributes and their values."""

Scene = dict[str, Any]

_REFERENCE_FOCAL = Camera(BASE_LOCATION, 240, 320).focal_pixels
"""Focal length in pixels of the 320x240 images for which CLEVR states its pixel threshold."""

_ATTEMPTS = 1000


@dataclass(frozen=True)
class ClevrWorld:
    """Settings of a CLEVR world.

    Args:
        image_size: Height and width of the images in pixels.
        objects: Least and greatest number of objects.
        extent: Objects stand within +-extent on both axes of the ground.
        focal: Multiplier on CLEVR's focal length; 1.8 with extent 1.5 is a close-up.
        camera_jitter: The camera moves by up to this much along each axis; CLEVR has 0.5.
        light_jitter: Each lamp moves by up to this much along each axis; CLEVR has 1.0.
        min_visible_pixels: Pixels that must be seen of every object in a 320x240 image of CLEVR's camera; scaled to
            other sizes and focal lengths.
        shadow_samples: Rays to each light where there may be shadow, rounded down to a square.
        edge_samples: Rays that smooth each pixel at an edge.
    """

    image_size: tuple[int, int] = (256, 256)
    objects: tuple[int, int] = (3, 10)
    extent: float = 3.0
    focal: float = 1.0
    camera_jitter: float = 0.0
    light_jitter: float = 1.0
    min_visible_pixels: float = 200.0
    shadow_samples: int = 16
    edge_samples: int = 6

    def __post_init__(self) -> None:
        check_objects(self.objects)
        if min(self.image_size) < 1 or self.extent <= 0 or self.focal <= 0:
            raise ValueError(
                f"image_size, extent and focal must be positive, got {self.image_size}, {self.extent} and {self.focal}"
            )

    def sample_scene(self, rng: random.Random) -> Scene:
        """A scene by CLEVR's rules of placement; whether every object can be seen is not checked (see `make`).

        Raises:
            ValueError: If the objects do not fit into the extent.
        """
        count = rng.randint(*self.objects)
        camera = {"location": jittered(rng, BASE_LOCATION, self.camera_jitter), "focal": self.focal}
        lights = {name: jittered(rng, place, self.light_jitter) for name, place in BASE_LAMPS.items()}
        for _ in range(_ATTEMPTS):
            objects = self._place(rng, count)
            if objects is not None:
                return self.complete({"objects": objects, "camera": camera, "lights": lights})
        raise ValueError(f"{count} objects do not fit into an extent of {self.extent}; allow fewer or widen it")

    def _place(self, rng: random.Random, count: int) -> list[dict[str, Any]] | None:
        """Objects placed one after another, or None once one finds no room (CLEVR then starts again)."""
        objects: list[dict[str, Any]] = []
        placed: list[Placed] = []
        for _ in range(count):
            size = rng.choice(ATTRIBUTES["size"])
            place = draw_position(rng, self.extent, SIZES[size], placed)
            if place is None:
                return None
            placed.append(place)
            objects.append(draw_object(rng, size, place))
        return objects

    def complete(self, scene: Mapping[str, Any]) -> Scene:
        """The scene with what follows from its objects and camera: relations, directions and pixel coordinates."""
        camera = self.camera(scene)
        places = camera.project(np.array([o["3d_coords"] for o in scene["objects"]]).reshape(-1, 3))
        objects = [
            o | {"pixel_coords": [round(column), round(row), depth]}
            for o, (column, row, depth) in zip(scene["objects"], places.tolist(), strict=True)
        ]
        return {
            **scene,
            "objects": objects,
            "relationships": relationships(objects),
            "directions": {name: list(vector) for name, vector in DIRECTIONS.items()},
        }

    def camera(self, scene: Mapping[str, Any]) -> Camera:
        """The scene's camera, or CLEVR's base camera where it names none."""
        record = scene.get("camera", {})
        location = tuple(record.get("location", BASE_LOCATION))
        return Camera(location, *self.image_size, focal=record.get("focal", self.focal))

    def _tracer(self, scene: Mapping[str, Any]) -> RayTracer:
        sampling = Sampling(self.shadow_samples, min(4, self.shadow_samples), self.edge_samples)
        return RayTracer(scene["objects"], scene.get("lights", BASE_LAMPS), sampling)

    def render(self, scene: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The picture, sRGB uint8 [H, W, 3], and the object in each pixel, int32 [H, W] (-1 ground, -2 nothing)."""
        return render(self._tracer(scene), self.camera(scene))

    def identify(self, scene: Mapping[str, Any]) -> np.ndarray:
        """The id map of `render` alone, at a tenth of its cost."""
        return identify(self._tracer(scene), self.camera(scene))

    def visible_pixels_needed(self, scene: Mapping[str, Any]) -> float:
        """`min_visible_pixels` at the size and focal length of the scene's image."""
        return self.min_visible_pixels * (self.camera(scene).focal_pixels / _REFERENCE_FOCAL) ** 2

    def is_visible(self, scene: Mapping[str, Any], ids: np.ndarray) -> bool:
        """Whether enough is seen of every object."""
        return bool((visible_pixels(ids, len(scene["objects"])) >= self.visible_pixels_needed(scene)).all())

    def make(self, rng: random.Random) -> tuple[Scene, np.ndarray, np.ndarray]:
        """A scene in which every object can be seen, its picture and its id map; the scene carries masks and boxes.

        Raises:
            ValueError: If no such scene turns up, as where the camera does not see all of the extent.
        """
        for _ in range(_ATTEMPTS):
            scene = self.sample_scene(rng)
            if self.is_visible(scene, self.identify(scene)):
                image, ids = self.render(scene)
                return annotate(scene, ids), image, ids
        raise ValueError(f"in {_ATTEMPTS} scenes some object was hidden; lower focal, extent or min_visible_pixels")


def draw_object(rng: random.Random, size: str, place: Placed, **fixed: str) -> dict[str, Any]:
    """An object's record with attributes drawn at random, except those given.

    `rotation` is CLEVR's: a number in 0..360 that its renderer, and ours, takes as radians.
    """
    shape, color = (fixed.get(name) or rng.choice(ATTRIBUTES[name]) for name in ("shape", "color"))
    rotation = 360 * rng.random()
    material = fixed.get("material") or rng.choice(MATERIALS)
    return {
        "shape": shape,
        "size": size,
        "color": color,
        "material": material,
        "3d_coords": [place[0], place[1], SIZES[size]],
        "rotation": rotation,
    }


def visible_pixels(ids: np.ndarray, count: int) -> np.ndarray:
    """Pixels in which each of `count` objects is seen, int64 [count]."""
    return np.bincount(ids[ids >= 0], minlength=count)


def annotate(scene: Mapping[str, Any], ids: np.ndarray) -> Scene:
    """The scene with what its id map shows.

    Objects gain `visible_pixels` and `bbox` [x0, y0, x1, y1] (x1 and y1 just outside; None where nothing is seen), the
    scene gains `mask`, the run lengths of all pixels that show an object.
    """
    counts = visible_pixels(ids, len(scene["objects"])).tolist()
    objects = [
        o | {"bbox": _bounds(ids == k) if counts[k] else None, "visible_pixels": counts[k]}
        for k, o in enumerate(scene["objects"])
    ]
    return {**scene, "objects": objects, "mask": run_lengths(ids >= 0)}


def _bounds(mask: np.ndarray) -> list[int]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
