"""Meshes as voxels: exactly those that a triangle touches, with what is seen of the triangles in each.

F triangles in the unit of voxels (the cube is [0, N]^3), N voxels along each side of the cube, H pairs of a triangle
and a voxel that it touches, S samples of the surface, L voxels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from data_modules.faults import Fault, FaultCount
from data_modules.parallel import parallel_map
from data_modules.shape_folder import write_shape
from data_modules.voxels import FILL, SPACE, voxel8
from data_modules.worlds.assets.baking import Samples, sample
from data_modules.worlds.assets.meshes import read_parts, sampled_colors, texels, up_axis, upright_triangles
from data_modules.worlds.materials import srgb
from kyvo.slat import Slat

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
"""Files that are taken for meshes."""

_SOURCES = "sources.jsonl"
"""Of each finished mesh the hash of file and settings, a line for each."""

_LAYOUT = "1"
"""Raised whenever meshes are voxelised differently, so that what is there is not taken for new."""

_PAIRS = 1 << 20
"""Pairs of a triangle and a voxel that are tested at once."""

_SAMPLE_STEP = 0.35
"""Samples are spread as for a lattice with this step, in voxels: about 33 to a voxel's side."""

_AGREE = 0.3
"""Mean of unit normals below which a voxel holds two sides of a sheet, whose normals would cancel."""


def voxelize_mesh(path: str | Path, resolution: int = 64, up: str | None = None) -> Slat:
    """The voxels that the triangles of a mesh touch, in the space `voxel8`.

    The middle of the mesh's box comes to the cube's, the longest side of the box fills the cube. Vectors are means over
    the area in each voxel. Normals follow the winding of the triangles; where both sides of a sheet lie in a voxel they
    are those of one side. Colours are as for `load_mesh_asset`; opacity is that of glTF materials that blend or mask.

    Args:
        path: GLB, OBJ, PLY or whatever else `trimesh` reads.
        resolution: N.
        up: The axis of the file that points up, "y" or "z"; None means "y" for GLB, GLTF and OBJ files and "z" for all
            others.

    Raises:
        ValueError: Naming the file, if it cannot be read or holds no triangles of any extent.
    """
    path = Path(path)
    up = up_axis(path, up)
    if up not in ("y", "z") or resolution < 1:
        raise ValueError(f'up must be "y" or "z", resolution at least 1; got {up}, {resolution}')
    if not path.is_file():
        raise ValueError(f"no mesh at {path}")
    parts = read_parts(path)
    triangles = _fitted(upright_triangles(parts, up), resolution)
    cells, pairs = touched(triangles, resolution)
    samples = _in_every_voxel(triangles, cells, pairs, resolution)
    colors = srgb(sampled_colors(path, parts, samples.surface))
    return _averaged(samples, colors, _opacities(parts, samples.surface), resolution)


def _fitted(triangles: np.ndarray, size: int) -> np.ndarray:
    """Triangles [F, 3, 3] moved and scaled to fill the cube [0, N]^3."""
    corners = triangles.reshape(-1, 3)
    low, high = corners.min(0), corners.max(0)
    fitted: np.ndarray = ((triangles - (low + high) / 2) * (FILL / (high - low).max()) + 0.5) * size
    return fitted


# ---- which voxels ---------------------------------------------------------------------------------------------------


def touched(triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels that triangles touch, by separating axes: the three of the grid, the plane, and nine between edges.

    Args:
        triangles: Corners in the unit of voxels, [F, 3, 3], in [0, N].
        size: N.

    Returns:
        Numbers of the voxels, x-major, rising, int64 [L]; and pairs (triangle, place of a voxel in that list) of all
        that touch, int64 [H, 2].
    """
    found = [pairs for k in _chunks(triangles, size) if len(pairs := _touching(triangles, *k, size))]
    pairs = np.concatenate(found)
    cells, place = np.unique(pairs[:, 1], return_inverse=True)
    return cells, np.stack([pairs[:, 0], place.reshape(-1)], 1)


def _chunks(triangles: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Triangles, with a voxel [*, 3] of their boxes each, all such pairs in turn."""
    low = np.clip(np.ceil(triangles.min(1)).astype(np.int64) - 1, 0, size - 1)
    high = np.clip(np.floor(triangles.max(1)).astype(np.int64), 0, size - 1)
    sides = high - low + 1
    ends = np.cumsum(sides.prod(1))
    for first in range(0, int(ends[-1]), _PAIRS):
        number = np.arange(first, min(first + _PAIRS, int(ends[-1])))
        face = np.searchsorted(ends, number, side="right")
        rest = number - (ends[face] - sides[face].prod(1))
        x, rest = np.divmod(rest, sides[face, 1] * sides[face, 2])
        y, z = np.divmod(rest, sides[face, 2])
        yield face, low[face] + np.stack([x, y, z], 1)


def _touching(triangles: np.ndarray, face: np.ndarray, voxel: np.ndarray, size: int) -> np.ndarray:
    """Those pairs of a triangle and a voxel of its box [*, 3] that touch: (triangle, number of the voxel), [H, 2]."""
    for axis in _axes(triangles):
        # Against a cube of side 1 around each middle: its shadow on the axis reaches half the sum of the components.
        axis = axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-300)
        shadow = np.einsum("fki,fi->fk", triangles, axis)
        reach = 0.5 * np.abs(axis).sum(1)
        slack = 1e-12 * size
        low, high = shadow.min(1) - reach - slack, shadow.max(1) + reach + slack
        middle = np.einsum("hi,hi->h", voxel + 0.5, axis[face])
        kept = np.flatnonzero((low[face] <= middle) & (middle <= high[face]))
        face, voxel = face[kept], voxel[kept]
    return np.stack([face, np.ravel_multi_index(tuple(voxel.T), (size,) * 3)], 1)


def _axes(triangles: np.ndarray) -> Iterator[np.ndarray]:
    """Directions [F, 3] that may part a triangle from a voxel of its box: its normal, and edges x axes of the grid."""
    edges = np.roll(triangles, -1, 1) - triangles
    yield np.cross(edges[:, 0], edges[:, 1])
    for k in range(3):
        for axis in np.eye(3):
            yield np.cross(edges[:, k], axis)


# ---- what is in them ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Placed:
    """Samples of a surface and the voxels they lie in.

    Args:
        surface: The samples.
        voxels: Indices of the voxels, [L, 3].
        place: Which of them each sample lies in, [S].
        areas: How much of the surface each sample stands for, [S].
    """

    surface: Samples
    voxels: np.ndarray
    place: np.ndarray
    areas: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean [L, K] in each voxel of values [S, K] of the samples."""
        total = np.bincount(self.place, self.areas, len(self.voxels))
        sums = [np.bincount(self.place, self.areas * column, len(self.voxels)) for column in values.T]
        return np.stack(sums, 1) / total[:, None]


def _in_every_voxel(triangles: np.ndarray, cells: np.ndarray, pairs: np.ndarray, size: int) -> _Placed:
    """Samples of the whole surface, and more where a voxel got none: the nearest point of each triangle in it."""
    spread = sample(triangles, _SAMPLE_STEP)
    areas = _areas(triangles) / np.maximum(np.bincount(spread.faces, minlength=len(triangles)), 1)
    place = _places(np.floor(spread.points).astype(np.int64), cells, size)
    voxels = np.stack(np.unravel_index(cells, (size,) * 3), 1)
    known = np.flatnonzero((place >= 0) & (areas[spread.faces] > 0))
    bare = np.ones(len(cells), dtype=bool)
    bare[place[known]] = False
    face, lacking = pairs[bare[pairs[:, 1]]].T
    surface = Samples(
        triangles,
        np.concatenate([spread.faces[known], face]),
        np.concatenate([spread.weights[known], _nearest_weights(voxels[lacking] + 0.5, triangles[face])]),
    )
    weights = np.concatenate([areas[spread.faces[known]], np.ones(len(face))])
    return _Placed(surface, voxels, np.concatenate([place[known], lacking]), weights)


def _areas(triangles: np.ndarray) -> np.ndarray:
    areas: np.ndarray = 0.5 * np.linalg.norm(_crosses(triangles), axis=1)
    return areas


def _crosses(triangles: np.ndarray) -> np.ndarray:
    """Normals [F, 3], as long as twice the area."""
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def _places(voxels: np.ndarray, cells: np.ndarray, size: int) -> np.ndarray:
    """Which of the voxels with the given numbers each is, -1 for none, [S]."""
    number = np.ravel_multi_index(tuple(np.clip(voxels, 0, size - 1).T), (size,) * 3)
    place = np.searchsorted(cells, number)
    place[place == len(cells)] = 0
    return np.where(cells[place] == number, place, -1)


def _nearest_weights(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Shares [H, 3] of the corners in the point of each triangle that is nearest to a point [H, 3]."""
    edges = _on_edges(points, triangles)
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    toward, normal = points - triangles[:, 0], _crosses(triangles)
    squared = np.einsum("hi,hi->h", normal, normal)
    upright = np.maximum(squared, 1e-300)
    u = np.einsum("hi,hi->h", np.cross(toward, second), normal) / upright
    v = np.einsum("hi,hi->h", np.cross(first, toward), normal) / upright
    above = (squared > 1e-24) & (u >= 0) & (v >= 0) & (u + v <= 1)
    plane = np.stack([1 - u - v, u, v], 1)
    return np.where(above[:, None], plane, edges)


def _on_edges(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Shares [H, 3] of the corners in the nearest point of a triangle's edges."""
    best, least = np.zeros((len(points), 3)), np.full(len(points), np.inf)
    for start, end in ((0, 1), (1, 2), (2, 0)):
        edge, toward = triangles[:, end] - triangles[:, start], points - triangles[:, start]
        squared = np.maximum(np.einsum("hi,hi->h", edge, edge), 1e-300)
        share = np.clip(np.einsum("hi,hi->h", toward, edge) / squared, 0, 1)
        away = np.square(toward - share[:, None] * edge).sum(1)
        nearer = away < least
        weights = np.zeros((len(points), 3))
        weights[:, start], weights[:, end] = 1 - share, share
        best[nearer], least[nearer] = weights[nearer], away[nearer]
    return best


def _averaged(samples: _Placed, colors: np.ndarray, opacities: np.ndarray, size: int) -> Slat:
    """Means over the samples in each voxel; colours sRGB [S, 3], opacities [S]."""
    place, voxels = samples.place, samples.voxels
    normals = _common_normals(samples)
    away = samples.surface.points - (voxels[place] + 0.5)
    offsets = samples.mean(np.einsum("si,si->s", away, normals[place])[:, None])[:, 0]
    feats = voxel8(samples.mean(colors), normals, offsets, samples.mean(opacities[:, None])[:, 0])
    return Slat(torch.from_numpy(voxels.astype(np.int32)), feats, size, SPACE)


def _common_normals(samples: _Placed) -> np.ndarray:
    """Unit normals [L, 3]: means, and where these cancel, means of what is turned to the same side first."""
    crosses = _crosses(samples.surface.triangles)
    faces = crosses / np.maximum(np.linalg.norm(crosses, axis=1, keepdims=True), 1e-300)
    normals = faces[samples.surface.faces]
    found = samples.mean(normals)
    torn = np.linalg.norm(found, axis=1) < _AGREE
    if torn.any():
        spread = samples.mean(np.einsum("si,sj->sij", normals, normals).reshape(-1, 9))[torn]
        axes = np.zeros_like(found)
        axes[torn] = _main_axes(spread.reshape(-1, 3, 3))
        against = np.einsum("si,si->s", normals, axes[samples.place]) < 0
        found[torn] = samples.mean(np.where(against[:, None], -normals, normals))[torn]
    length = np.linalg.norm(found, axis=1, keepdims=True)
    # Triangles without area have no normal.
    return np.where(length > 1e-9, found / np.maximum(length, 1e-9), [0.0, 0.0, 1.0])


def _main_axes(spread: np.ndarray) -> np.ndarray:
    """Directions [*, 3] along which normals lie, given the means of their products [*, 3, 3]."""
    axes: np.ndarray = np.linalg.eigh(spread)[1][:, :, 2]
    # An axis has no sign of its own: its first component that is not small is made positive.
    lead = np.take_along_axis(axes, (np.abs(axes) > 0.5).argmax(1)[:, None], 1)
    return axes * np.where(lead < 0, -1, 1)


def _opacities(parts: Sequence[Any], samples: Samples) -> np.ndarray:
    """Opacity in [0, 1] of samples, [S]: 1 but for glTF materials that say that they blend or mask."""
    starts = np.cumsum([0, *(len(part.faces) for part in parts)])
    found = np.ones(samples.faces.size)
    for k, part in enumerate(parts):
        if getattr(getattr(part.visual, "material", None), "alphaMode", None) in ("BLEND", "MASK"):
            mine = (samples.faces >= starts[k]) & (samples.faces < starts[k + 1])
            corners = part.faces[samples.faces[mine] - starts[k]]
            found[mine] = _alphas(part.visual, corners, samples.weights[mine])
    return found


def _alphas(visual: Any, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Opacity [S] by a glTF material: texture times factor; with a mask, whether that reaches the cutoff."""
    material = visual.material
    factor, image = material.baseColorFactor, material.baseColorTexture
    alpha = np.full(len(corners), 1.0 if factor is None else np.asarray(factor)[3] / 255)
    if image is not None and visual.uv is not None:
        alpha *= texels(image.convert("RGBA"), visual.uv, corners, weights)[:, 3] / 255
    if material.alphaMode == "MASK":
        cutoff = 0.5 if material.alphaCutoff is None else material.alphaCutoff
        return (alpha >= cutoff).astype(np.float64)
    return alpha


# ---- folders of meshes ----------------------------------------------------------------------------------------------


def code_meshes(
    meshes: Path,
    out: Path,
    resolution: int = 64,
    up: str | None = None,
    workers: int = 2,
    max_bad_fraction: float = 0.0,
) -> dict[str, Any]:
    """Voxels of every mesh below a folder, in the layout of TRELLIS' data sets: OUT/latents/voxel8/NAME.npz.

    A mesh in a subfolder is named by its path, with -- between folders. What is there already from the same file and
    settings is kept, so an interrupted run can be repeated; OUT/latents/voxel8/sources.jsonl remembers what was made
    of what.

    Args:
        meshes: Folder of GLB, GLTF, OBJ, PLY, STL or OFF files.
        out: Folder that is written; created if need be.
        resolution: Voxels along each side.
        up: The axis that points up, "y" or "z"; default is "y" for GLB, GLTF and OBJ files and "z" for all others.
        workers: Processes, each with one thread.
        max_bad_fraction: Largest share of unreadable meshes that is left out; 0 makes the first one fatal.

    Returns:
        How many meshes were made, were there already and were bad; and the reasons of the bad ones.

    Raises:
        ValueError: No mesh in the folder, or two of one name.
        BadInputError: If more is bad than may be, naming the file and why.
    """
    folder = out / "latents" / SPACE
    folder.mkdir(parents=True, exist_ok=True)
    done, count, kept = _sources(folder), FaultCount(max_bad_fraction), 0
    jobs = [
        _Coding(path, folder / f"{name}.npz", resolution, up, done.get(name))
        for name, path in find_meshes(meshes).items()
    ]
    with Progress() as progress, (folder / _SOURCES).open("a") as record:
        bar = progress.add_task("voxelising", total=len(jobs))
        for job, made in zip(jobs, parallel_map(_code, jobs, workers), strict=True):
            if isinstance(made, Fault):
                count.add(made)
            elif made is None:
                kept += 1
                count.good += 1
            else:
                count.good += 1
                record.write(_line(job.target.stem, made))
                record.flush()
            progress.advance(bar)
    count.check()
    return {"made": count.good - kept, "kept": kept, "bad": count.bad, "reasons": dict(count.reasons)}


@dataclass(frozen=True)
class _Coding:
    """One mesh to voxelise.

    Args:
        path: The mesh.
        target: The file that is written.
        resolution: Voxels along each side.
        up: Axis of the mesh that points up.
        done: What the target was made of, as `_code` gives it; None where there is none.
    """

    path: Path
    target: Path
    resolution: int
    up: str | None
    done: str | None


def _code(job: _Coding) -> str | Fault | None:
    """Hash of a mesh and its settings once it is written, None if it was there, or what is wrong with it."""
    settings = f"{_LAYOUT} {job.resolution} {up_axis(job.path, job.up)} "
    source = hashlib.sha256(settings.encode() + job.path.read_bytes()).hexdigest()
    if source == job.done and job.target.is_file():
        return None
    try:
        write_shape(job.target, voxelize_mesh(job.path, job.resolution, job.up))
    except ValueError as error:
        return Fault(str(job.path), "", "", str(error))
    return source


def _sources(folder: Path) -> dict[str, str]:
    """What the voxels of each name were made of; the record is written anew, without what an interruption cut short."""
    file = folder / _SOURCES
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}\n")]
    found = {row["name"]: row["source"] for row in rows}
    file.write_text("".join(_line(name, source) for name, source in found.items()))
    return found


def _line(name: str, source: str) -> str:
    return json.dumps({"name": name, "source": source}) + "\n"


def find_meshes(folder: Path) -> dict[str, Path]:
    """The meshes below a folder by name, in the order of their paths.

    Raises:
        ValueError: If there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES):
        name = "--".join(path.relative_to(folder).with_suffix("").parts)
        if name in found:
            raise ValueError(f"{path} and {found[name]} would both be called {name!r}: rename one")
        found[name] = path
    if not found:
        raise ValueError(f"expected a folder with meshes ({', '.join(SUFFIXES)}), found none below {folder}")
    return found
