"""The recipe of Objectron-like worlds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_modules.raw.omni3d import write
from data_modules.recipes.recipe import WorldRecipe
from data_modules.shards import Files
from data_modules.worlds.objectron import ObjectronWorld


@dataclass(frozen=True)
class ObjectronRecipe(WorldRecipe):
    """An Objectron-like world: things on a table or a floor before a phone's camera.

    Args:
        world: The scenes and their pictures.
    """

    world: ObjectronWorld = field(default_factory=ObjectronWorld)

    @property
    def schema(self) -> str:
        """Objectron's."""
        return "objectron"

    def samples(self, split: str, scenes: range) -> dict[str, list[Files]]:
        """The scenes and their pictures."""
        return {split: [self.scene(self.world, split, number) for number in scenes]}

    def write_raw(self, out: Path, split: str, families: Mapping[str, Iterable[Files]]) -> None:
        """Omni3D's JSON and pictures."""
        write(out, split, families[split])
