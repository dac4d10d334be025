"""The command `kyvo data code`: codes of pictures and of shapes for shards, latents and codes for meshes."""

from pathlib import Path
from typing import Any, Literal

import torch

from data_modules import coding
from data_modules.mesh_voxels import code_meshes
from data_modules.shape_coding import ShapeLibrary, code_folder, code_shapes
from kyvo.tokenizers.shapes import ShapeTokenizer


def code(
    root: Path | None = None,
    image_tokenizer: str | None = None,
    shape_tokenizer: str | None = None,
    latents: Path | None = None,
    meshes: Path | None = None,
    out: Path | None = None,
    resolution: int | None = None,
    up: Literal["y", "z"] | None = None,
    max_bad_fraction: float = 0.0,
    batch_size: int = 64,
    num_workers: int = 0,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    precision: str = "32-true",
) -> dict[str, Any] | None:
    """Add codes to all shards of a folder, in place of older codes; or make latents, and codes, of meshes.

    On as many devices as there are; of shapes, each device codes an asset once. Meshes are coded on one.

    Args:
        root: Folder of the shards, on a disk that all nodes see.
        image_tokenizer: Folder or hub id of a trained image tokenizer, or the name of one that ships.
        shape_tokenizer: Folder of a trained shape tokenizer, or the name of one that ships. The objects of the scenes
            name their shapes; without `latents` these are the embedded assets.
        latents: Folder with latents of the shapes by name, as `meshes` and `out` make it.
        meshes: Folder of meshes (GLB, GLTF, OBJ, PLY, STL, OFF) to be voxelised, instead of shards: no `root` then.
        out: Of meshes: folder for their voxels, OUT/latents/voxel8/NAME.npz, and with a shape tokenizer for their
            codes, OUT/codes/NAME.npz.
        resolution: Of meshes: voxels along each side; default is the shape tokenizer's, else 64.
        up: Of meshes: the axis that points up; default is y for GLB, GLTF and OBJ files and z for all others.
        max_bad_fraction: Of meshes: largest share of unreadable ones that is left out; 0 makes the first one fatal.
        batch_size: Images encoded together on each device.
        num_workers: Processes for each device that decode pictures, or that voxelise meshes; 0 does without.
        accelerator: cpu, gpu, or auto.
        devices: Number of devices on each node, or auto.
        num_nodes: Number of nodes.
        precision: As Lightning's trainer takes it; the quantisation itself is always in float32.

    Returns:
        Of meshes: how many were made, were there already and were bad, and how many files of codes were written.

    Raises:
        ValueError: If the arguments do not go together, or something cannot be coded, saying what.
    """
    _check(root, image_tokenizer, shape_tokenizer, latents, meshes, out)
    shapes = None if shape_tokenizer is None else ShapeTokenizer.from_pretrained(shape_tokenizer)
    if meshes is not None and out is not None:
        size = resolution or (64 if shapes is None else shapes.resolution)
        made = code_meshes(meshes, out, size, up, max(1, num_workers), max_bad_fraction)
        return made if shapes is None else {**made, "coded": code_folder(out, _on_device(shapes, accelerator))}
    if root is not None and image_tokenizer is not None:
        coding.code(root, image_tokenizer, batch_size, num_workers, accelerator, devices, num_nodes, precision)
    if root is not None and shapes is not None:
        with coding.coding_trainer(accelerator, devices, num_nodes, precision) as trainer:
            code_shapes(root, shapes, ShapeLibrary(latents), trainer)
    return None


def _check(
    root: Path | None,
    image_tokenizer: str | None,
    shape_tokenizer: str | None,
    latents: Path | None,
    meshes: Path | None,
    out: Path | None,
) -> None:
    """Raise ValueError unless the arguments ask for one thing, and for all that it needs."""
    if (meshes is None) != (out is None) or (meshes is None) == (root is None):
        raise ValueError(
            "give --root, the folder of shards to code, or --meshes and --out, what to voxelise and where to"
        )
    if meshes is not None and (image_tokenizer is not None or latents is not None):
        raise ValueError("--image_tokenizer and --latents are for shards (--root), not for --meshes")
    if meshes is None and image_tokenizer is None and shape_tokenizer is None:
        raise ValueError("give --image_tokenizer, --shape_tokenizer or both: what shall code the shards?")
    if latents is not None and shape_tokenizer is None:
        raise ValueError("--latents are what --shape_tokenizer codes: give both")


def _on_device(tokenizer: ShapeTokenizer, accelerator: str) -> ShapeTokenizer:
    return tokenizer.to("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
