"""Pictures alone, for the training of image tokenizers: from shards or from a folder of files.

B batch, H and W size of an image in pixels.
"""

import glob
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from data_modules.loading import distributed_loader
from data_modules.make import make_unless_packed
from data_modules.recipes.recipe import WorldRecipe
from data_modules.shards import decode_pixels
from kyvo.tokenizers.pixels import image_batch

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageBytes:
    """Where an encoded picture lies.

    Args:
        path: The picture's own file, or the tar file that holds it.
        offset: First byte.
        size: Number of bytes.
    """

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The encoded picture."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find_images(pattern: str) -> list[ImageBytes]:
    """Every picture of a folder (with its subfolders) or of shards, in the order of their names.

    Args:
        pattern: A folder of PNG or JPEG files, or a glob of tar files (`data/train*.tar`), whose members `image.*`
            and `target.image.*` are taken.

    Raises:
        ValueError: Nothing found.
    """
    if Path(pattern).is_dir():
        files = sorted(path for path in Path(pattern).rglob("*") if path.suffix.lower() in SUFFIXES)
        found = [ImageBytes(str(path), 0, path.stat().st_size) for path in files]
    else:
        found = [image for path in sorted(glob.glob(pattern)) for image in _shard_images(path)]
    if not found:
        raise ValueError(f"expected a folder of pictures or a glob of tar files that hold some, got {pattern!r}")
    return found


def _shard_images(path: str) -> list[ImageBytes]:
    with tarfile.open(path, "r:") as shard:
        return [ImageBytes(path, member.offset_data, member.size) for member in shard if _is_image(member.name)]


def _is_image(name: str) -> bool:
    return name.endswith(tuple(f"image{suffix}" for suffix in SUFFIXES))


class ImageDataset(Dataset[np.ndarray]):
    """Pictures as uint8 [H, W, 3], decoded when asked for.

    Args:
        images: Where they lie.
        size: Height and width; pictures of another size are scaled to it (bicubic, antialiased).
    """

    def __init__(self, images: Sequence[ImageBytes], size: tuple[int, int]) -> None:
        self.images = images
        self.size = size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        found = decode_pixels(self.images[index].read())
        if found.shape[:2] == tuple(self.size):
            return found
        height, width = self.size
        return np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.BICUBIC))


class ImageDataModule(LightningDataModule):
    """Batches of pictures, float32 [B, 3, H, W] in [-1, 1].

    Each process reads its own share; the order of an epoch follows from `seed` and the epoch.

    Args:
        train: A folder of PNG or JPEG files, or a glob of shards.
        val: The same, for validation.
        image_size: Height and width to which pictures are scaled.
        batch_size: Pictures in a batch of one process.
        val_limit: At most this many pictures of `val` are used, the first ones.
        num_workers: Processes that decode; 0 decodes in the training process.
        seed: Seed of the order.
        make: The world to make in the folder of `train`, a glob of shards, as far as it isn't there yet and nothing was
            packed there; None to take what is there.
        workers: Processes that make the world.
    """

    def __init__(
        self,
        train: str,
        val: str,
        image_size: tuple[int, int] = (256, 256),
        batch_size: int = 16,
        val_limit: int = 500,
        num_workers: int = 0,
        seed: int = 0,
        make: WorldRecipe | None = None,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.image_size = image_size
        self.batch_size = batch_size
        self.val_limit = val_limit
        self.num_workers = num_workers
        self.seed = seed
        self.make = make
        self.workers = workers

    def prepare_data(self) -> None:
        """Make what is missing of the world; ValueError if the folder holds another one."""
        make_unless_packed(Path(self.train).parent, self.make, self.workers)

    def setup(self, stage: str) -> None:
        """Find the pictures."""
        if stage == "fit":
            self.train_images = ImageDataset(find_images(self.train), self.image_size)
        self.val_images = ImageDataset(find_images(self.val)[: self.val_limit], self.image_size)

    def train_dataloader(self) -> DataLoader[np.ndarray]:
        """Shuffled batches; an incomplete last one is dropped."""
        return self._loader(self.train_images, shuffle=True)

    def val_dataloader(self) -> DataLoader[np.ndarray]:
        """Validation batches in order."""
        return self._loader(self.val_images, shuffle=False)

    def _loader(self, images: ImageDataset, shuffle: bool) -> DataLoader[np.ndarray]:
        return distributed_loader(self, images, self.batch_size, shuffle, self.seed, self.num_workers, image_batch)
