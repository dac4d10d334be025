"""CLEVR scenes drawn by Blender's path tracer, which drew CLEVR itself: slow, and the measure of our own ray tracer.

Blender runs in a process of its own (see `blender_scene.py`): it is an optional dependency under another licence, and
keeps state that no two scenes should share.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_modules.worlds.camera import BASE_LOCATION, FOCAL_OVER_SENSOR
from data_modules.worlds.geometry import CUBE_ROUNDING, CYLINDER_ROUNDING, PROFILE_S, PROFILE_Z, Ground
from data_modules.worlds.lights import BASE_LAMPS, Lights
from data_modules.worlds.materials import GROUND_ALBEDO
from kyvo.clevr import COLORS

_SCRIPT = Path(__file__).with_name("blender_scene.py")
_NO_BLENDER = 3
"""Exit status of the script where there is no `bpy`."""

_SENSOR = 32.0
_BOUNCES = 8

_ASSETS = {"cube": "SmoothCube_v2", "sphere": "Sphere", "cylinder": "SmoothCylinder"} | {
    "rubber": "Rubber",
    "metal": "MyMetal",
}
"""Names that CLEVR's .blend files have for shapes and materials, and the things in them too."""

Job = dict[str, Any]


@dataclass(frozen=True)
class BlenderRenderer:
    """Blender's Cycles on the CPU, its noise removed by Open Image Denoise.

    Args:
        samples: Paths through each pixel; CLEVR has 512 and no denoiser, which 16 denoised come close to.
        assets: CLEVR's folder `image_generation/data` of .blend files, drawn instead of solids built from numbers.
        threads: Threads that draw; 0 takes all processors.
        python: The interpreter that has `bpy`.
    """

    samples: int = 16
    assets: Path | None = None
    threads: int = 0
    python: str = sys.executable

    def __post_init__(self) -> None:
        if self.samples < 1 or self.threads < 0:
            raise ValueError(f"samples must be 1 or more, threads 0 or more, got {self.samples} and {self.threads}")
        for path in [] if self.assets is None else _asset_files(Path(self.assets)).values():
            if not Path(path).is_file():
                raise ValueError(f"CLEVR's folder of .blend files should hold {path}; there is no such file")

    def render(self, scenes: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[np.ndarray]:
        """Draw scenes in one run of Blender, whose start takes a second or two.

        Args:
            scenes: CLEVR's records; where `camera` or `lights` are missing, CLEVR's base camera and lamps are taken.
            size: Height and width of the pictures in pixels.

        Returns:
            A picture for each scene, sRGB uint8 [H, W, 3].

        Raises:
            ValueError: If the interpreter has no `bpy`.
            RuntimeError: If Blender fails, with the end of what it said.
        """
        if not scenes:
            return []
        with tempfile.TemporaryDirectory() as folder:
            pictures = [Path(folder) / f"{number:06d}.png" for number in range(len(scenes))]
            job = Path(folder) / "job.json"
            job.write_text(json.dumps(self._job(scenes, size, pictures)))
            self._run(job)
            return [np.asarray(Image.open(path).convert("RGB")) for path in pictures]

    def _job(self, scenes: Sequence[Mapping[str, Any]], size: tuple[int, int], pictures: Sequence[Path]) -> Job:
        return {
            "height": size[0],
            "width": size[1],
            "samples": self.samples,
            "threads": self.threads,
            "bounces": _BOUNCES,
            "assets": None if self.assets is None else _asset_files(Path(self.assets)),
            "rounding": {"cube": CUBE_ROUNDING, "cylinder": CYLINDER_ROUNDING},
            "ground": _ground(),
            "scenes": [_scene(scene) | {"picture": str(path)} for scene, path in zip(scenes, pictures, strict=True)],
        }

    def _run(self, job: Path) -> None:
        # -P: the script's own folder, full of modules with common names, stays off the path.
        done = subprocess.run([self.python, "-P", str(_SCRIPT), str(job)], capture_output=True, text=True)
        if done.returncode == _NO_BLENDER:
            raise ValueError(
                f"{self.python} has no Blender: the extra kyvo[blender] installs it (bpy 4.5, on Python 3.11 only)"
            )
        if done.returncode:
            raise RuntimeError(f"Blender ended with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def _asset_files(folder: Path) -> dict[str, str]:
    """Path of each of CLEVR's .blend files by our names of what is in it."""
    kinds = {name: "materials" if name in ("rubber", "metal") else "shapes" for name in _ASSETS}
    files = {name: folder / kinds[name] / f"{asset}.blend" for name, asset in _ASSETS.items()}
    return {"base": str(folder / "base_scene.blend"), **{name: str(path) for name, path in files.items()}}


def _ground() -> Job:
    """The profile of the ground: heights over distances along a direction."""
    return {
        "albedo": GROUND_ALBEDO,
        "direction": Ground.SWEEP.tolist(),
        "distances": list(PROFILE_S),
        "heights": list(PROFILE_Z),
    }


def _scene(scene: Mapping[str, Any]) -> Job:
    """Camera, lamps and objects as numbers for Blender."""
    camera = scene.get("camera", {})
    lights = scene.get("lights", BASE_LAMPS)
    return {
        "camera": list(camera.get("location", BASE_LOCATION)),
        "target": list(camera.get("target", (0.0, 0.0, 0.0))),
        "lens": _SENSOR * FOCAL_OVER_SENSOR * camera.get("focal", 1.0),
        "sensor": _SENSOR,
        "lamps": _lamps(lights),
        "sun": _sun(lights),
        "objects": [_object(record) for record in scene["objects"]],
    }


def _lamps(lights: Mapping[str, Sequence[float]]) -> list[Job]:
    """Position, side, power in watts and colour of each lamp; a square of radiance L and area A gives pi * L * A."""
    emitters = Lights(lights)
    lamps = []
    for k, name in enumerate(BASE_LAMPS):
        radiance, area = emitters.color[:, k], float(emitters.strength[k, 0])
        peak = float(radiance.max())
        lamps.append(
            {
                "name": name,
                "location": list(lights[name]),
                "side": math.sqrt(area),
                "power": math.pi * peak * area,
                "color": (radiance / peak).tolist(),
            }
        )
    return lamps


def _sun(lights: Mapping[str, Sequence[float]]) -> Job:
    """Direction, irradiance and angle across of the sun, whose disc has the area of our square."""
    emitters = Lights(lights)
    side = float(np.linalg.norm(emitters.edges[0, -1]))
    return {
        "direction": emitters.anchor[-1].tolist(),
        "irradiance": float(emitters.strength[-1, 0]),
        "angle": 2 * side / math.sqrt(math.pi),
    }


def _object(record: Mapping[str, Any]) -> Job:
    return {
        "shape": record["shape"],
        "material": record["material"],
        "color": [channel / 255 for channel in COLORS[record["color"]]],
        "center": list(record["3d_coords"]),
        "radius": record["3d_coords"][2],
        "yaw": record["rotation"],
    }
