"""Folders of shapes in the layout of TRELLIS' data sets: latents, and pictures of the objects with their cameras.

    ROOT/latents/MODEL/NAME.npz          what `kyvo.slat.Slat` reads
    ROOT/renders/NAME/transforms.json    cameras and names of pictures (RGBA), where there are any
    ROOT/metadata.csv                    which objects there are, where there is one

V views of an object, S side of a picture in pixels.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kyvo.cameras import Cameras
from kyvo.slat import Slat


@dataclass(frozen=True)
class ShapeFile:
    """Where an object lies.

    Args:
        name: What its files are called; in TRELLIS' data sets the SHA-256 of the mesh.
        latents: Its voxels and their vectors, an .npz.
        renders: The transforms.json of its pictures, if there is one.
    """

    name: str
    latents: Path
    renders: Path | None


def find_shapes(root: str | Path, model: str | None = None) -> list[ShapeFile]:
    """The objects of a folder, in the order of their names.

    With a metadata.csv they are those whose column `latent_MODEL` is True (all rows, if there is no such column).

    Args:
        root: The folder.
        model: Name of the latents; default is the only one there.

    Raises:
        ValueError: Naming the folder, if it holds no latents, or of several models and none is named; naming the first
            file that metadata.csv speaks of and that is not there.
    """
    root = Path(root)
    folder = root / "latents" / (model or _only_model(root))
    files = {file.stem: file for file in folder.glob("*.npz") if not file.name.startswith(".")}
    names = _listed(root / "metadata.csv", folder.name) if (root / "metadata.csv").is_file() else sorted(files)
    missing = [name for name in names if name not in files]
    if missing:
        raise ValueError(f"{root / 'metadata.csv'} speaks of {folder / missing[0]}.npz, which is not there")
    if not names:
        raise ValueError(f"expected latents/MODEL/NAME.npz in {root}, found none in {folder}")
    renders = {name: root / "renders" / name / "transforms.json" for name in names}
    return [ShapeFile(name, files[name], renders[name] if renders[name].is_file() else None) for name in names]


def _only_model(root: Path) -> str:
    models = sorted(path.name for path in (root / "latents").glob("*") if path.is_dir())
    if len(models) != 1:
        found = f"those of {', '.join(models)}: name one" if models else "none"
        raise ValueError(f"expected the latents of one model in {root}, latents/MODEL/NAME.npz, found {found}")
    return models[0]


def _listed(metadata: Path, model: str) -> list[str]:
    """Names of the objects that a table says there are latents of, sorted."""
    with metadata.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "sha256" not in rows[0]:
        raise ValueError(f"{metadata}: expected a column sha256, the names of the objects; got {', '.join(rows[0])}")
    return sorted(row["sha256"] for row in rows if row.get(f"latent_{model}", "True") in ("True", "true", "1", "1.0"))


def write_shape(file: Path, slat: Slat) -> None:
    """Write an object's latents, whole or not at all."""
    partial = file.with_name(f".{file.name}")
    slat.save(partial)
    os.replace(partial, file)


# ---- pictures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ViewFiles:
    """The pictures of an object.

    Args:
        cameras: V cameras.
        pictures: The file of each one's picture.
    """

    cameras: Cameras
    pictures: Sequence[Path]

    @classmethod
    def of(cls, transforms: Path) -> "ViewFiles":
        """What a transforms.json speaks of; ValueError, naming it, if it holds no cameras."""
        return cls(*Cameras.from_transforms(transforms))

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int, size: int, background: float | None = 1.0) -> tuple[Tensor, Tensor]:
        """One picture, as `read_picture` gives it."""
        return read_picture(self.pictures[index], size, background)


def read_picture(file: Path, size: int, background: float | None = 1.0) -> tuple[Tensor, Tensor]:
    """A picture with an object, scaled, and laid over a background.

    Args:
        file: A square picture, RGBA; one without alpha counts as opaque everywhere.
        size: S.
        background: Grey behind the object, 0 black to 1 white; None leaves the colours as they are, not multiplied by
            the opacity.

    Returns:
        Colours float32 [3, S, S] and opacity float32 [S, S], both in [0, 1].

    Raises:
        ValueError: Naming the file, if it is not there, cannot be decoded or is not square.
    """
    try:
        with Image.open(file) as image:
            rgba = image.convert("RGBA")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise ValueError(f"{file}: not a readable picture: {error}") from error
    if rgba.width != rgba.height:
        raise ValueError(f"{file}: expected a square picture, got {rgba.width} x {rgba.height}")
    if rgba.width != size:
        # Pillow weighs colours by their alpha here, so that what is transparent does not bleed into edges.
        rgba = rgba.resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(rgba).copy()).permute(2, 0, 1).float() / 255
    colors, alpha = pixels[:3], pixels[3]
    return (colors if background is None else colors * alpha + background * (1 - alpha)), alpha
