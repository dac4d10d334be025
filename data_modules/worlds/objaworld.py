"""ObjaWorld: two or three assets turned any way on CLEVR's ground, and their pictures.

A scene is CLEVR's JSON record whose objects have a shape, a position and a yaw, and no size, colour or material.
Everything is a function of the generator handed in.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_modules.worlds.assets.asset import Asset, Placed
from data_modules.worlds.assets.library import ASSETS, LIVING_ROOM, PARK, SHAPES, reference_height, variants
from data_modules.worlds.assets.meshes import load_mesh_asset
from data_modules.worlds.camera import BASE_LOCATION, Camera
from data_modules.worlds.clevr import ClevrWorld, Scene, annotate
from data_modules.worlds.lights import BASE_LAMPS
from data_modules.worlds.placement import Placed as Circle
from data_modules.worlds.placement import draw_position, jittered
from data_modules.worlds.ray_tracer import RayTracer, Sampling
from data_modules.worlds.rendering import identify, render

SETUPS: Mapping[str, tuple[str, ...]] = {"park": PARK, "living_room": LIVING_ROOM, "shapes": SHAPES}

_MESHES = (".glb", ".obj", ".ply")
_ATTEMPTS = 1000
_CELLS = 32
"""Cells along each side of an asset's box in which its reach from the axis is looked for."""


@dataclass(frozen=True)
class ObjaWorld:
    """Settings of an ObjaWorld.

    In `park` and `living_room` objects are told apart by words; the variants of a word ("bench", "bench-01") look
    different and have the same z, that of `reference_height` (the bird flies at 3.0). In `shapes` every asset is a
    shape of its own, to be coded by a shape tokenizer, and z = 0 is its base.

    Args:
        setup: Which assets there are.
        image_size: Height and width of the images in pixels.
        objects: Least and greatest number of objects.
        extent: Objects stand within +-extent on both axes of the ground, where all of them lies in the picture.
        camera_jitter: The camera moves by up to this much along each axis; 0 is the published world's.
        light_jitter: Each lamp moves by up to this much along each axis.
        min_visible_pixels: Pixels that must be seen of every object in a 320x240 image; scaled to other sizes.
        assets: Folder of meshes NAME.glb, NAME.obj or NAME.ply beside the procedural assets; one of the same name takes
            its place. In `park` and `living_room` NAME is a word of the setup or WORD-VARIANT ("bench-07"). Meshes
            are centred and scaled: as long, on their longest side, as the procedural asset of their name or word.
        replace: Leave the procedural assets out.
        mesh_size: Longest side, in world units, of meshes whose name no procedural asset has.
        shadow_samples: Rays to each light where there may be shadow, rounded down to a square.
        edge_samples: Rays that smooth each pixel at an edge.
    """

    setup: Literal["park", "living_room", "shapes"] = "park"
    image_size: tuple[int, int] = (256, 256)
    objects: tuple[int, int] = (2, 3)
    extent: float = 3.0
    camera_jitter: float = 0.0
    light_jitter: float = 1.0
    min_visible_pixels: float = 200.0
    assets: Path | None = None
    replace: bool = False
    mesh_size: float = 2.0
    shadow_samples: int = 16
    edge_samples: int = 6

    def __post_init__(self) -> None:
        if self.setup not in SETUPS:
            raise ValueError(f"setup should be one of {', '.join(SETUPS)}, got {self.setup!r}")
        if self.replace and self.assets is None:
            raise ValueError("replace leaves the procedural assets out and needs a folder of meshes under assets")
        if self.mesh_size <= 0:
            raise ValueError(f"mesh_size must be positive, got {self.mesh_size}")
        _ = self._clevr  # It checks the measures they share.

    @property
    def _clevr(self) -> ClevrWorld:
        """CLEVR's world of the same measures: camera, relations and visibility are its."""
        return ClevrWorld(self.image_size, self.objects, self.extent, min_visible_pixels=self.min_visible_pixels)

    @property
    def words(self) -> Mapping[str, Mapping[str, Asset]]:
        """Assets by name, under the word that stands before the hyphen of their names.

        Raises:
            ValueError: If a mesh cannot be read, has a name that is none of the setup's, or there are none.
        """
        return _words(self.setup, self.assets, self.replace, self.mesh_size)

    def sample_scene(self, rng: random.Random) -> Scene:
        """A scene whose objects are clear of each other and in the picture; visibility is not checked (see `make`).

        Raises:
            ValueError: If the objects do not fit into the extent.
        """
        count = rng.randint(*self.objects)
        camera = {"location": jittered(rng, BASE_LOCATION, self.camera_jitter), "focal": 1.0}
        lights = {name: jittered(rng, place, self.light_jitter) for name, place in BASE_LAMPS.items()}
        scene: Scene = {"setup": self.setup, "camera": camera, "lights": lights}
        for _ in range(_ATTEMPTS):
            objects = self._place(rng, count, self.camera(scene))
            if objects is not None:
                return self._clevr.complete({**scene, "objects": objects})
        raise ValueError(f"{count} objects do not fit into an extent of {self.extent}; allow fewer or widen it")

    def _place(self, rng: random.Random, count: int, camera: Camera) -> list[dict[str, Any]] | None:
        """Objects placed one after another, or None once one finds no room."""
        objects: list[dict[str, Any]] = []
        circles: list[Circle] = []
        for _ in range(count):
            named = self.words[rng.choice(list(self.words))]
            asset = named[rng.choice(list(named))]
            yaw = math.pi - 2 * math.pi * rng.random()
            circle = draw_position(rng, self.extent, reach(asset), circles, _InPicture(asset, yaw, camera))
            if circle is None:
                return None
            circles.append(circle)
            place = [circle[0], circle[1], self._height(asset.name)]
            objects.append({"shape": asset.name, "3d_coords": place, "rotation": yaw})
        return objects

    def _height(self, name: str) -> float:
        """The z of an asset's record."""
        return 0.0 if self.setup == "shapes" else reference_height(name.partition("-")[0])

    def camera(self, scene: Mapping[str, Any]) -> Camera:
        """The scene's camera."""
        return self._clevr.camera(scene)

    def placed(self, record: Mapping[str, Any]) -> Placed:
        """The asset of an object's record, where it stands.

        A record may name the word alone ("bench"), as recognised scenes do; it then looks like the first variant.

        Raises:
            ValueError: If this world has no such asset.
        """
        named = self.words.get(record["shape"].partition("-")[0], {})
        asset = named.get(record["shape"]) or next(iter(named.values()), None)
        if asset is None:
            raise ValueError(f"setup {self.setup!r} has no asset {record['shape']!r}, only {', '.join(self.words)}")
        x, y, z = record["3d_coords"]
        return Placed(asset, (x, y, z - self._height(asset.name) + asset.floats), record["rotation"])

    def _tracer(self, scene: Mapping[str, Any]) -> RayTracer:
        sampling = Sampling(self.shadow_samples, min(4, self.shadow_samples), self.edge_samples)
        return RayTracer([self.placed(o) for o in scene["objects"]], scene.get("lights", BASE_LAMPS), sampling)

    def render(self, scene: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The picture, sRGB uint8 [H, W, 3], and the object in each pixel, int32 [H, W] (-1 ground, -2 nothing)."""
        return render(self._tracer(scene), self.camera(scene))

    def identify(self, scene: Mapping[str, Any]) -> np.ndarray:
        """The id map of `render` alone, at a part of its cost."""
        return identify(self._tracer(scene), self.camera(scene))

    def make(self, rng: random.Random) -> tuple[Scene, np.ndarray, np.ndarray]:
        """A scene in which every object can be seen, its picture and its id map; the scene carries masks and boxes.

        Raises:
            ValueError: If no such scene turns up.
        """
        for _ in range(_ATTEMPTS):
            scene = self.sample_scene(rng)
            if self._clevr.is_visible(scene, self.identify(scene)):
                image, ids = self.render(scene)
                return annotate(scene, ids), image, ids
        raise ValueError(f"in {_ATTEMPTS} scenes some object was hidden; lower min_visible_pixels")


@cache
def _words(setup: str, folder: Path | None, replace: bool, mesh_size: float) -> Mapping[str, Mapping[str, Asset]]:
    """`ObjaWorld.words`, read once."""
    procedural = [name for word in SETUPS[setup] for name in variants(word)]
    assets = {} if replace else {name: ASSETS[name] for name in procedural}
    if folder is not None:
        assets |= {path.stem: _mesh(path, mesh_size) for path in _meshes(folder)}
    found: dict[str, dict[str, Asset]] = {}
    for name in sorted(assets):
        word = name.partition("-")[0]
        if setup != "shapes" and word not in SETUPS[setup]:
            raise ValueError(f"{folder}: setup {setup!r} has meshes of {', '.join(SETUPS[setup])}, not {name!r}")
        found.setdefault(word, {})[name] = assets[name]
    return found


def _meshes(folder: Path) -> list[Path]:
    """The meshes of a folder by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _MESHES) if folder.is_dir() else []
    if not paths:
        raise ValueError(f"expected a folder with meshes {', '.join(_MESHES)} under assets, got {folder}")
    twice = [path.name for path, other in itertools.pairwise(paths) if path.stem == other.stem]
    if twice:
        raise ValueError(f"{folder}: another mesh is called as {', '.join(twice)}")
    return paths


def _mesh(path: Path, size: float) -> Asset:
    """A mesh as large, and as high in the air, as the procedural asset of its name or word."""
    model = ASSETS.get(path.stem) or ASSETS.get(path.stem.partition("-")[0])
    if model is None:
        return load_mesh_asset(path, size=size)
    longest = max(high - low for low, high in zip(model.lower, model.upper, strict=True))
    return replaced(load_mesh_asset(path, size=longest), floats=model.floats)


@cache
def reach(asset: Asset) -> float:
    """Radius of the least circle around an asset's origin, seen from above, within which all of it lies.

    Found on a grid over its box, so up to a cell's diagonal too large: tight for balls, unlike the box's own.
    """
    lower, upper = np.array(asset.lower), np.array(asset.upper)
    cell = (upper - lower) / _CELLS
    ticks = (np.arange(_CELLS) + 0.5)[:, None] * cell + lower
    p = np.stack(np.meshgrid(*ticks.T, indexing="ij")).reshape(3, -1).astype(np.float32)
    inside = asset.distance(p) <= np.linalg.norm(cell) / 2
    farthest = np.hypot(p[0], p[1])[inside].max(initial=0.0)
    return min(float(farthest + np.hypot(*cell[:2]) / 2), _corner(asset))


def _corner(asset: Asset) -> float:
    """Distance of the farthest corner of an asset's box from its axis."""
    (x0, y0, _), (x1, y1, _) = asset.lower, asset.upper
    return math.hypot(max(-x0, x1), max(-y0, y1))


@dataclass(frozen=True)
class _InPicture:
    """Whether all of an asset's box is seen where it stands."""

    asset: Asset
    yaw: float
    camera: Camera

    def __call__(self, circle: Circle) -> bool:
        x, y, _ = circle
        box = np.array(list(itertools.product(*zip(self.asset.lower, self.asset.upper, strict=True))))
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        turned = box @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + (x, y, self.asset.floats)
        column, row, _ = self.camera.project(turned).T
        inside = min(column.min(), row.min()) >= 0 and column.max() <= self.camera.width
        return bool(inside and row.max() <= self.camera.height)
