"""The recipe of ObjaWorlds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_modules.raw.objaworld import write
from data_modules.recipes.recipe import WorldRecipe
from data_modules.shards import Files
from data_modules.worlds.objaworld import ObjaWorld


@dataclass(frozen=True)
class ObjaWorldRecipe(WorldRecipe):
    """An ObjaWorld: scenes of assets and their pictures.

    Args:
        worlds: The worlds whose scenes take turns, as the paper's park and living room.
    """

    worlds: tuple[ObjaWorld, ...] = (ObjaWorld(setup="park"), ObjaWorld(setup="living_room"))

    def __post_init__(self) -> None:
        if len({world.setup == "shapes" for world in self.worlds}) != 1:
            setups = [world.setup for world in self.worlds]
            raise ValueError(f"the worlds of a recipe have words or shapes, not both; got setups {setups}")

    @property
    def schema(self) -> str:
        """Assets by words, or shapes by their codes."""
        return "objaworld-shapes" if self.worlds[0].setup == "shapes" else "objaworld"

    def samples(self, split: str, scenes: range) -> dict[str, list[Files]]:
        """The scenes and their pictures."""
        return {split: [self.scene(self.worlds[number % len(self.worlds)], split, number) for number in scenes]}

    def write_raw(self, out: Path, split: str, families: Mapping[str, Iterable[Files]]) -> None:
        """The folders that the official evaluation reads."""
        write(out, split, families[split])
