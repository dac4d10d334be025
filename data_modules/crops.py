"""Objects in pictures, for the recogniser: where they are and what they are, from shards.

N objects of a batch, H and W size of a picture in pixels, A attributes.
"""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from data_modules.images import ImageBytes
from data_modules.index import Index
from data_modules.loading import distributed_loader
from data_modules.make import make_unless_packed
from data_modules.recipes.recipe import WorldRecipe
from data_modules.shards import RawSample, decode_pixels, read_shard
from kyvo.models.recognizer import word_attributes
from kyvo.scene import SceneSchema
from kyvo.tokenizers.pixels import image_batch
from kyvo.training.recognizer import ObjectBatch

LEAST_PIXELS = 25
"""An object is recognised only where at least this many of its pixels are seen: 5 x 5."""


@dataclass(frozen=True)
class SceneThing:
    """What a recogniser is asked of one object of a scene.

    Args:
        box: x0, y0, x1, y1 of its pixels that are seen, x1 and y1 just outside.
        values: The number of its value of each attribute.
    """

    box: tuple[float, float, float, float]
    values: tuple[int, ...]


def visible_things(raw: RawSample, schema: SceneSchema, least_pixels: int = LEAST_PIXELS) -> list[SceneThing]:
    """The objects of a sample's scene.json of which enough is seen, in its order.

    Args:
        raw: The sample.
        schema: Whose words are the attributes.
        least_pixels: Least `visible_pixels` of an object.

    Raises:
        BadInputError: Naming shard and key, if an object has no `bbox` and `visible_pixels`, or other words.
    """
    scene = raw.decode("scene.json")
    try:
        return [
            _thing(one, schema)
            for one in scene["objects"]
            if one["visible_pixels"] >= least_pixels and one["bbox"] is not None
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise raw.fault(
            "scene.json", f"expected objects with bbox, visible_pixels and words: {type(error).__name__}: {error}"
        ) from error


def _thing(raw: Mapping[str, Any], schema: SceneSchema) -> SceneThing:
    x0, y0, x1, y1 = map(float, raw["bbox"])
    read = {name: schema[name].read(raw) for name in word_attributes(schema)}
    return SceneThing((x0, y0, x1, y1), tuple(schema[name].values.index(str(word)) for name, word in read.items()))


class CropDataset(Dataset[tuple[np.ndarray, SceneThing]]):
    """Objects, each with the whole picture that it is in, uint8 [H, W, 3], decoded when asked for.

    Args:
        things: The objects, and where their pictures lie.
    """

    def __init__(self, things: Sequence[tuple[ImageBytes, SceneThing]]) -> None:
        self.things = things

    @classmethod
    def of_split(
        cls, root: Path, split: str, schema: SceneSchema, limit: int | None = None, least_pixels: int = LEAST_PIXELS
    ) -> "CropDataset":
        """The objects of the first `limit` scenes of a split (default: all).

        Raises:
            ValueError: If there is no such split, or none of its objects can be used.
        """
        things = [
            (picture, thing)
            for shard in Index.read(root).shards(split, limit)
            for picture, raw in _pictures(root / shard.name, shard.samples)
            for thing in visible_things(raw, schema, least_pixels)
        ]
        if not things:
            raise ValueError(f"{root}: no object of split {split!r} shows {least_pixels} pixels or more")
        return cls(things)

    def __len__(self) -> int:
        return len(self.things)

    def __getitem__(self, index: int) -> tuple[np.ndarray, SceneThing]:
        picture, thing = self.things[index]
        return decode_pixels(picture.read()), thing


def _pictures(path: Path, samples: int) -> Iterator[tuple[ImageBytes, RawSample]]:
    """The first samples of a shard with their scenes, and where their pictures lie in it."""
    raws = list(read_shard(path, {"scene.json"}))[:samples]
    with tarfile.open(path, "r:") as shard:
        places = {member.name: ImageBytes(str(path), member.offset_data, member.size) for member in shard}
    for raw in raws:
        found = [places[name] for name in (f"{raw.key}.image.png", f"{raw.key}.image.jpg") if name in places]
        if not found:
            raise raw.fault("image.png", "missing")
        yield found[0], raw


def object_batch(rows: Sequence[tuple[np.ndarray, SceneThing]]) -> ObjectBatch:
    """Objects as the recogniser's training reads them; the pictures are all of one size."""
    return ObjectBatch(
        image_batch([picture for picture, _ in rows]),
        torch.tensor([thing.box for _, thing in rows]),
        torch.tensor([thing.values for _, thing in rows]),
    )


class CropDataModule(LightningDataModule):
    """Batches of objects with their pictures and boxes, an `ObjectBatch`; the model cuts the crops.

    Each process reads its own share; the order of an epoch follows from `seed` and the epoch.

    Args:
        root: Folder of the shards.
        batch_size: Objects in a batch of one process.
        train_split: Split to train on.
        val_split: Split to validate on.
        val_limit: At most this many scenes of `val_split` are used, the first ones.
        least_pixels: Objects of which fewer pixels are seen are left out.
        num_workers: Processes that decode; 0 decodes in the training process.
        seed: Seed of the order.
        make: The world to make in `root`, as far as it isn't there yet and nothing was packed there; None to take what
            is there.
        workers: Processes that make the world.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 64,
        train_split: str = "train",
        val_split: str = "val",
        val_limit: int = 500,
        least_pixels: int = LEAST_PIXELS,
        num_workers: int = 0,
        seed: int = 0,
        make: WorldRecipe | None = None,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.batch_size = batch_size
        self.train_split = train_split
        self.val_split = val_split
        self.val_limit = val_limit
        self.least_pixels = least_pixels
        self.num_workers = num_workers
        self.seed = seed
        self.make = make
        self.workers = workers

    def prepare_data(self) -> None:
        """Make what is missing of the world; ValueError if the folder holds another one."""
        make_unless_packed(self.root, self.make, self.workers)

    def setup(self, stage: str) -> None:
        """Find the objects."""
        schema = Index.read(self.root).scene_schema
        if stage == "fit":
            self.train_things = CropDataset.of_split(
                self.root, self.train_split, schema, least_pixels=self.least_pixels
            )
        self.val_things = CropDataset.of_split(self.root, self.val_split, schema, self.val_limit, self.least_pixels)

    def train_dataloader(self) -> DataLoader[tuple[np.ndarray, SceneThing]]:
        """Shuffled batches; an incomplete last one is dropped."""
        return self._loader(self.train_things, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[np.ndarray, SceneThing]]:
        """Validation batches in order."""
        return self._loader(self.val_things, shuffle=False)

    def _loader(self, things: CropDataset, shuffle: bool) -> DataLoader[tuple[np.ndarray, SceneThing]]:
        return distributed_loader(self, things, self.batch_size, shuffle, self.seed, self.num_workers, object_batch)
