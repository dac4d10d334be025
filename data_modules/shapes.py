"""Shapes for the training of shape tokenizers: voxels and their vectors, and pictures where there are some.

B objects of a batch, C channels of a vector, N voxels along each side of the cube, S side of a picture in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from data_modules.loading import loader_of
from data_modules.recipes.shapes import ShapeRecipe, make_shapes
from data_modules.shape_folder import ShapeFile, ViewFiles, find_shapes
from data_modules.voxels import SPACE
from kyvo.cameras import Cameras
from kyvo.slat import Slat, densify
from kyvo.training.shape_tokenizer import ShapeBatch


@dataclass(frozen=True)
class SeenShape:
    """An object, and a picture of it where there is one.

    Args:
        slat: Its voxels.
        image: Its colours, not multiplied by `alpha`, float32 [3, S, S] in [0, 1].
        alpha: How opaque it is, float32 [S, S] in [0, 1].
        camera: The one camera of the picture.
    """

    slat: Slat
    image: Tensor | None = None
    alpha: Tensor | None = None
    camera: Cameras | None = None


# ---- turns ----------------------------------------------------------------------------------------------------------


def turn(shape: SeenShape, quarters: int, mirror: bool) -> SeenShape:
    """A shape mirrored, x to -x, and then turned about z by quarter turns, its picture and camera with it; exact.

    Args:
        shape: In the space `voxel8`.
        quarters: Quarter turns, counterclockwise from above.
        mirror: Whether it is mirrored; its picture then is, too.

    Raises:
        ValueError: If the shape is of another space, of whose vectors it is not known how they turn.
    """
    matrix = torch.eye(3, dtype=torch.int32)
    if mirror:
        matrix[0, 0] = -1
    for _ in range(quarters % 4):
        matrix = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.int32) @ matrix
    turned = replace(shape, slat=_turned_slat(shape.slat, matrix))
    if shape.camera is not None:
        turned = replace(turned, camera=_turned_camera(shape.camera, matrix.float(), mirror))
    if mirror and shape.image is not None and shape.alpha is not None:
        turned = replace(turned, image=shape.image.flip(-1), alpha=shape.alpha.flip(-1))
    return turned


def _turned_slat(slat: Slat, matrix: Tensor) -> Slat:
    """Voxels and normals turned by a matrix int32 [3, 3] about the middle of the cube."""
    if slat.space != SPACE:
        raise ValueError(f"only shapes of the space {SPACE!r} can be turned, got {slat.space!r}: set augment to false")
    # Counted from the middle of the cube in half voxels, indices stay integers.
    middles = (2 * slat.coords.int() + 1 - slat.resolution) @ matrix.T
    feats = slat.feats.clone()
    feats[:, 3:6] = feats[:, 3:6] @ matrix.T.float()
    return replace(slat, coords=(middles + slat.resolution - 1) // 2, feats=feats)


def _turned_camera(camera: Cameras, matrix: Tensor, mirror: bool) -> Cameras:
    """The camera that sees the turned object as the old one saw it, mirrored images from left to right."""
    world = torch.eye(4)
    world[:3, :3] = matrix.T
    extrinsics, intrinsics = camera.extrinsics @ world, camera.intrinsics
    if mirror:
        extrinsics = torch.diag(torch.tensor([-1.0, 1, 1, 1])) @ extrinsics
        flip = torch.tensor([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
        intrinsics = flip @ intrinsics @ torch.diag(torch.tensor([-1.0, 1, 1]))
    return Cameras(extrinsics, intrinsics)


# ---- data sets ------------------------------------------------------------------------------------------------------


class Visit(NamedTuple):
    """A shape that is asked for: its number, and the epoch."""

    number: int
    epoch: int


class VisitSampler(DistributedSampler[Any]):
    """The order of an epoch for one process; with each shape goes the epoch, which processes that read don't know.

    Without shuffling all epochs are alike.
    """

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch if self.shuffle else 0
        return (Visit(number, epoch) for number in super().__iter__())


class ShapeDataset(Dataset[SeenShape]):
    """Shapes, read when asked for by a `Visit`; what is drawn for a visit follows from it and the seed.

    Args:
        shapes: Where they lie.
        image_size: S; None reads no pictures.
        augment: Whether shapes are turned by any quarter turn and mirrored.
        seed: Seed of the draws.

    Raises:
        ValueError: If pictures are to be read and a shape has none.
    """

    def __init__(
        self, shapes: Sequence[ShapeFile], image_size: int | None = None, augment: bool = False, seed: int = 0
    ) -> None:
        bare = [shape.latents for shape in shapes if shape.renders is None]
        if image_size is not None and bare:
            raise ValueError(f"{bare[0]}: expected pictures in renders/{bare[0].stem}/transforms.json, found none")
        self.shapes = shapes
        self.image_size = image_size
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, visit: Visit) -> SeenShape:
        rng = np.random.default_rng((self.seed, visit.epoch, visit.number))
        file = self.shapes[visit.number]
        found = SeenShape(Slat.load(file.latents))
        if self.image_size is not None and file.renders is not None:
            views = ViewFiles.of(file.renders)
            view = int(rng.integers(len(views)))
            color, alpha = views.read(view, self.image_size, background=None)
            found = SeenShape(found.slat, color, alpha, views.cameras[[view]])
        return turn(found, int(rng.integers(4)), bool(rng.integers(2))) if self.augment else found


def shape_batch(shapes: Sequence[SeenShape]) -> ShapeBatch:
    """Shapes as the training reads them; all of one kind, and all with a picture or none."""
    grid = densify([shape.slat for shape in shapes])
    images = [shape.image for shape in shapes if shape.image is not None]
    alphas = [shape.alpha for shape in shapes if shape.alpha is not None]
    cameras = [shape.camera for shape in shapes if shape.camera is not None]
    if not images:
        return ShapeBatch(grid)
    extrinsics, intrinsics = (torch.cat([getattr(c, name) for c in cameras]) for name in ("extrinsics", "intrinsics"))
    return ShapeBatch(grid, torch.stack(images), torch.stack(alphas), Cameras(extrinsics, intrinsics))


class ShapeDataModule(LightningDataModule):
    """Batches of shapes, each a `ShapeBatch`, from folders in the layout of TRELLIS' data sets.

    Each process reads its own share; the order of an epoch, and what is drawn for a shape in it, follow from `seed` and
    the epoch.

    Args:
        train: Folder with latents/MODEL/NAME.npz, and renders/NAME/transforms.json where there are pictures.
        val: The same, for validation.
        model: Name of the latents; None for the only one there.
        batch_size: Shapes in a batch of one process.
        val_limit: At most this many shapes of `val` are used, the first ones.
        views: Whether pictures are read, one view of each shape and step; else the training renders its own.
        image_size: Side of the pictures in pixels, to which they are scaled.
        augment: Whether training shapes, in the space `voxel8`, are turned about z by any quarter turn and mirrored.
        num_workers: Processes that read; 0 reads in the training process.
        seed: Seed of the order and of all draws.
        make: The shapes to make in the folders beside each other that `train` and `val` are, as far as they aren't
            there yet; None to take what is there.
        workers: Processes that make shapes.
    """

    def __init__(
        self,
        train: str,
        val: str,
        model: str | None = None,
        batch_size: int = 8,
        val_limit: int = 500,
        views: bool = False,
        image_size: int = 128,
        augment: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        make: ShapeRecipe | None = None,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.train = Path(train)
        self.val = Path(val)
        self.model = model
        self.batch_size = batch_size
        self.val_limit = val_limit
        self.image_size = image_size if views else None
        self.augment = augment
        self.num_workers = num_workers
        self.seed = seed
        self.make = make
        self.workers = workers

    def prepare_data(self) -> None:
        """Make what is missing of the shapes; ValueError if the folders hold others, or are not those of the recipe."""
        if self.make is None:
            return
        places = {self.train.parent / split for split in self.make.shapes}
        if not {self.train, self.val} <= places:
            raise ValueError(f"make fills {sorted(map(str, places))}, but train is {self.train} and val is {self.val}")
        make_shapes(self.train.parent, self.make, self.workers)

    def setup(self, stage: str) -> None:
        """Find the shapes."""
        if stage == "fit":
            found = find_shapes(self.train, self.model)
            self.train_shapes = ShapeDataset(found, self.image_size, self.augment, self.seed)
        found = find_shapes(self.val, self.model)[: self.val_limit]
        self.val_shapes = ShapeDataset(found, self.image_size, seed=self.seed)

    def train_dataloader(self) -> DataLoader[SeenShape]:
        """Shuffled batches; an incomplete last one is dropped."""
        return self._loader(self.train_shapes, shuffle=True)

    def val_dataloader(self) -> DataLoader[SeenShape]:
        """Validation batches in order."""
        return self._loader(self.val_shapes, shuffle=False)

    def _loader(self, shapes: ShapeDataset, shuffle: bool) -> DataLoader[SeenShape]:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = VisitSampler(shapes, world, rank, shuffle, self.seed)
        return loader_of(shapes, self.batch_size, sampler, self.num_workers, shape_batch)
