"""Meshes from files as assets: GLB, OBJ, PLY and whatever else `trimesh` reads (`pip install kyvo[meshes]`).

A mesh is baked once into a grid of distances and colours that is kept as .npz (see `baking` for what is inside a mesh
with holes); after that no triangle is looked at again.

Shapes: F triangles, S samples of the surface.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.baking import Samples, bake, sample, step_of, thickness
from data_modules.worlds.assets.grid import Grid
from data_modules.worlds.materials import linear

_Y_UP = (".glb", ".gltf", ".obj")
_GLTF = (".glb", ".gltf")

_UNCOLORED = 0.6
"""Reflectance of meshes without colours."""

_LAYOUT = "1"
"""Raised whenever grids are baked differently, so that kept ones are not taken for new ones."""


def load_mesh_asset(
    path: str | Path,
    name: str | None = None,
    size: float = 1.0,
    resolution: int = 64,
    up: str | None = None,
    gloss: float = 0.3,
    cache: str | Path | None = None,
) -> Asset:
    """A mesh as an asset: centred over the origin, its base at z = 0.

    Colours come from the base colour texture, the colours of vertices or faces, or the colour of the material; textures
    and the colours of PLY and OBJ files are sRGB, all others linear, as glTF has it. Parts of a closed mesh that are
    thinner than a step of the grid may vanish.

    Args:
        path: The file.
        name: What to call it; None takes the name of the file.
        size: Length of its longest side in world units.
        resolution: Lattice points along that side.
        up: The axis of the file that points up, "y" or "z"; the front of a y-up file looks along +z, as glTF has it.
            None means "y" for GLB, GLTF and OBJ files and "z" for all others.
        gloss: Strength of its highlights; 1 is that of CLEVR's rubber.
        cache: Folder for the baked grid; None means the folder of the file. The grid's name holds a hash of the file
            (not of textures beside it) and of the settings.

    Raises:
        ValueError: If the file cannot be read or holds no triangles, or an argument is out of range.
    """
    path = Path(path)
    up = up_axis(path, up)
    if up not in ("y", "z") or resolution < 16 or size <= 0:
        raise ValueError(f'up must be "y" or "z", resolution at least 16, size above 0; got {up}, {resolution}, {size}')
    if not path.is_file():
        raise ValueError(f"no mesh at {path}")
    digest = hashlib.sha256(f"{_LAYOUT} {resolution} {up} ".encode() + path.read_bytes()).hexdigest()
    kept = Path(cache or path.parent) / f"{path.stem}-{digest[:16]}.npz"
    if not kept.is_file():
        _keep(kept, *_bake(path, resolution, up))
    with np.load(kept) as arrays:
        grid = Grid(arrays["lower"], float(arrays["step"]), arrays["distances"], arrays["colors"])
        return _asset(name or path.stem, grid, arrays["corners"], size, gloss)


def _asset(name: str, grid: Grid, corners: np.ndarray, size: float, gloss: float) -> Asset:
    """The solid in a grid, whose box has the given corners [2, 3], moved and scaled."""
    scale = size / float((corners[1] - corners[0]).max())
    base = np.array([*(corners[0] + corners[1])[:2] / 2, corners[0, 2]])
    origin = base.astype(np.float32)[:, None]
    lower, upper = (tuple(((corner - base) * scale).tolist()) for corner in corners)
    return Asset(
        name,
        lambda p: np.float32(scale) * grid.distance(p / np.float32(scale) + origin),
        lambda p: grid.color(p / np.float32(scale) + origin),
        lower,
        upper,
        gloss,
    )


def _keep(path: Path, grid: Grid, corners: np.ndarray) -> None:
    """Writes a grid and the corners of its solid's box, whole or not at all: several workers may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez_compressed(
        partial, lower=grid.lower, step=grid.step, distances=grid.distances, colors=grid.colors, corners=corners
    )
    os.replace(partial, path)


def _bake(path: Path, resolution: int, up: str) -> tuple[Grid, np.ndarray]:
    """The grid of the mesh in a file and the corners [2, 3] of the box around its solid, z up."""
    parts = read_parts(path)
    triangles = upright_triangles(parts, up)
    closed, step = _is_closed(triangles), step_of(triangles, resolution)
    samples = sample(triangles, step)
    grid = bake(samples, sampled_colors(path, parts, samples), step, closed)
    extra = thickness(step, closed)
    corners = triangles.reshape(-1, 3)
    return grid, np.stack([corners.min(0) - extra, corners.max(0) + extra])


def up_axis(path: Path, up: str | None) -> str:
    """The axis of a file that points up: as given, else "y" for GLB, GLTF and OBJ files and "z" for all others."""
    return up or ("y" if path.suffix.lower() in _Y_UP else "z")


def upright_triangles(parts: list[Any], up: str) -> np.ndarray:
    """Corners of all parts' triangles in a row, [F, 3, 3], z up."""
    triangles = np.concatenate([part.triangles for part in parts])
    return np.stack([triangles[..., 0], -triangles[..., 2], triangles[..., 1]], axis=-1) if up == "y" else triangles


def read_parts(path: Path) -> list[Any]:
    """The meshes in a file, where its scene puts them.

    Raises:
        ValueError: Naming the file, if it cannot be read or holds no triangles of any extent.
    """
    try:
        import trimesh
    except ImportError as error:
        raise ValueError(f"reading {path} needs `pip install kyvo[meshes]`") from error
    try:
        scene = trimesh.load_scene(str(path))
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    # Broken files make the readers raise whatever comes: of struct, json, NumPy, Pillow or their own.
    except Exception as error:
        raise ValueError(f"cannot read a mesh from {path}: {error}") from error
    corners = np.concatenate([part.vertices for part in parts]) if parts else np.zeros((1, 3))
    if not (np.isfinite(corners).all() and np.ptp(corners, axis=0).max() > 0):
        raise ValueError(f"{path} holds no triangles of any extent")
    return parts


def _is_closed(triangles: np.ndarray) -> bool:
    """Whether triangles [F, 3, 3] bound a volume, once corners at the same place are one (textures cut them apart)."""
    import trimesh

    mesh = trimesh.Trimesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3), process=False)
    mesh.merge_vertices()
    return bool(mesh.is_watertight and mesh.is_winding_consistent)


def sampled_colors(path: Path, parts: list[Any], samples: Samples) -> np.ndarray:
    """Linear reflectance [S, 3] of samples of all parts' triangles in a row, the parts those of a file."""
    gltf = path.suffix.lower() in _GLTF
    starts = np.cumsum([0, *(len(part.faces) for part in parts)])
    owner = np.searchsorted(starts, samples.faces, side="right") - 1
    colors = np.empty((samples.faces.size, 3))
    for k, part in enumerate(parts):
        mine = owner == k
        colors[mine] = _part_colors(part, samples.faces[mine] - starts[k], samples.weights[mine], gltf)
    return colors


def _part_colors(part: Any, faces: np.ndarray, weights: np.ndarray, gltf: bool) -> np.ndarray:
    """Linear reflectance [S, 3], or one [3] for all, of points on one mesh."""
    visual = part.visual
    if not visual.defined:
        return np.full(3, _UNCOLORED)
    if visual.kind == "face":
        values = visual.face_colors[faces, :3] / 255
    elif visual.kind == "vertex":
        values = np.einsum("sc,sci->si", weights, visual.vertex_colors[part.faces[faces], :3] / 255)
    else:
        return _material_colors(visual, part.faces[faces], weights)
    return values if gltf else linear(values)


def _material_colors(visual: Any, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear reflectance [S, 3] or [3]: the texture times the base colour, or either alone."""
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is None or visual.uv is None:
        return np.asarray(material.main_color)[:3] / 255
    factor = getattr(material, "baseColorFactor", None)
    colors = linear(texels(image.convert("RGB"), visual.uv, corners, weights) / 255)
    return colors * (1 if factor is None else np.asarray(factor)[:3] / 255)


def texels(image: Any, uv: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pixels [S, ...] of a repeating image at points of triangles.

    Args:
        image: A picture of Pillow's.
        uv: Places of all corners, across from the left, up from the bottom, in 0..1.
        corners: Which of them are those of each point's triangle, [S, 3].
        weights: Shares of these corners in the point, [S, 3].
    """
    pixels = np.asarray(image)
    rows, columns = pixels.shape[:2]
    across, up = np.einsum("sc,sci->is", weights, uv[corners])
    column = np.floor(across % 1 * columns).astype(int) % columns
    row = np.floor((1 - up) % 1 * rows).astype(int) % rows
    found: np.ndarray = pixels[row, column]
    return found
