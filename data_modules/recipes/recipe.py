"""Recipes: what a made data set consists of, scene by scene, as a function of its seed."""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_modules.shards import Files, encode_json, encode_png
from data_modules.worlds.questions import QuestionEngine


class World(Protocol):
    """Scenes and their pictures, drawn from a generator."""

    def make(self, rng: random.Random) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """A scene's record, its picture uint8 [H, W, 3], and the object in each pixel int32 [H, W]."""
        ...


@dataclass(frozen=True)
class WorldRecipe(ABC):
    """What a world is made of; the same recipe gives the same bytes.

    Args:
        scenes: Number of scenes of each split.
        seed: Seed of everything.
        scenes_per_shard: Scenes of a shard; training needs at least as many shards as it has workers x ranks.
    """

    scenes: dict[str, int] = field(default_factory=lambda: {"train": 6000, "val": 500, "test": 500})
    seed: int = 0
    scenes_per_shard: int = 250

    @property
    @abstractmethod
    def schema(self) -> str:
        """Name of the schema of its scenes."""

    def shard_families(self, split: str) -> tuple[str, ...]:
        """The families of shards that a split makes."""
        return (split,)

    @property
    def engine(self) -> QuestionEngine | None:
        """What asks questions about the finished scenes; None where none are asked."""
        return None

    @abstractmethod
    def samples(self, split: str, scenes: range) -> dict[str, list[Files]]:
        """The samples of each family that come from consecutive scenes."""

    @abstractmethod
    def write_raw(self, out: Path, split: str, families: Mapping[str, Iterable[Files]]) -> None:
        """Write a split's samples, by family, in the layout in which such data is published."""

    def settings(self, split: str) -> dict[str, Any]:
        """What the index records of a split, as JSON gives it back."""
        settings = {**asdict(self), "scenes": self.scenes[split], "recipe": type(self).__name__}
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return plain

    def generator(self, split: str, number: int) -> random.Random:
        """The source of all that is drawn for a scene."""
        # A string as seed is hashed, so that neighbouring scenes and splits have nothing in common.
        return random.Random(f"{self.seed}/{split}/{number}")

    def scene(self, world: World, split: str, number: int) -> Files:
        """Key and members of one scene of a world that is scenes alone."""
        record, image, _ = world.make(self.generator(split, number))
        return f"{split}-{number:06d}", {"image.png": encode_png(image), "scene.json": encode_json(record)}
