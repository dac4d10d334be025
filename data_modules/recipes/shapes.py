"""The recipe of made shapes: variations of the named assets, and invented ones, as voxels."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from data_modules.parallel import parallel_map
from data_modules.shape_folder import write_shape
from data_modules.voxels import SPACE, voxelize_asset
from data_modules.worlds.assets import living_room, park, people
from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.assets.invented import invented_solid
from data_modules.worlds.assets.library import EXPLICIT
from data_modules.worlds.assets.palette import BRIGHT, DARK, LIGHT, WOODS
from data_modules.worlds.assets.solid import Solid
from data_modules.worlds.assets.textures import Paint, grain, plain
from data_modules.worlds.materials import linear, srgb

HELD_OUT = ("cheeseburger", "duck", "guitar", "mug", "rocket", "traffic_cone")
"""Named assets that no training split shows."""

SETTINGS = "recipe.json"
"""What each split was made by, in its folder."""

_MOST_STRETCH = 1.2
_CHUNK = 16


def _person(rng: random.Random) -> Solid:
    shirt, trousers, hair = rng.sample(BRIGHT, 1)[0], rng.choice(DARK), rng.choice(DARK)
    kind = rng.randrange(3)
    if kind == 0:
        return people.person(people.striped_shirt(shirt, rng.choice(LIGHT)), trousers, hair)
    if kind == 1:
        return people.walker_with_backpack(plain(shirt), trousers, hair, rng.choice(BRIGHT))
    return people.person_in_dress(shirt, hair)


def _bench(rng: random.Random) -> Solid:
    boards, iron = grain(*rng.choice(WOODS), 0.05), rng.choice(DARK)
    if rng.random() < 0.3:
        return park.stone_bench(park.GRANITE, boards)
    return park.iron_bench(boards if rng.random() < 0.6 else plain(rng.choice(BRIGHT)), iron)


def _lamppost(rng: random.Random) -> Solid:
    make = rng.choice([park.arm_lamppost, park.lantern_lamppost])
    return make(rng.choice(DARK), rng.choice(BRIGHT))


def _bird(rng: random.Random) -> Solid:
    return park.bird(rng.choice(BRIGHT), rng.choice(LIGHT), rng.choice(DARK))


def _sofa(rng: random.Random) -> Solid:
    make = rng.choice([living_room.sofa, living_room.corner_sofa])
    return make(rng.choice(BRIGHT + DARK), rng.choice(BRIGHT + LIGHT), plain(rng.choice(BRIGHT)))


def _table(rng: random.Random) -> Solid:
    if rng.random() < 0.5:
        return living_room.drawer_table(grain(*rng.choice(WOODS), 0.06), rng.choice(LIGHT))
    return living_room.round_table(rng.choice(LIGHT), rng.choice(DARK), rng.choice(BRIGHT))


def _as_it_is(make: Callable[[], Solid]) -> Callable[[random.Random], Solid]:
    return lambda rng: make()


_NAMED: Mapping[str, Callable[[random.Random], Solid]] = {
    **{make.__name__: _as_it_is(make) for make, _ in EXPLICIT},
    "person": _person,
    "bench": _bench,
    "lamppost": _lamppost,
    "bird": _bird,
    "sofa": _sofa,
    "table": _table,
}
"""What makes each named asset; those of the park and the living room come in drawn colours."""

NAMED = tuple(_NAMED)
"""Names of the assets that are varied: the 24 explicit shapes, and those of the park and the living room."""


@dataclass(frozen=True)
class ShapeRecipe:
    """Shapes for the training of a shape tokenizer; the same recipe gives the same bytes.

    Splits whose names begin with "train" show invented assets of even seeds and named assets that are not held out; all
    others show invented assets of odd seeds and the held-out ones: nothing that any training split shows.

    Args:
        shapes: Number of shapes of each split.
        seed: Seed of everything.
        resolution: Voxels along each side.
        named: Share of variations of named assets; the rest is invented.
        held_out: Named assets of the splits that are not for training; with none these splits hold invented ones alone.
    """

    shapes: dict[str, int] = field(default_factory=lambda: {"train": 2000, "val": 200})
    seed: int = 0
    resolution: int = 32
    named: float = 0.4
    held_out: tuple[str, ...] = HELD_OUT

    def __post_init__(self) -> None:
        unknown = sorted(set(self.held_out) - set(NAMED))
        if unknown:
            raise ValueError(f"held_out names {', '.join(unknown)}; there are {', '.join(NAMED)}")
        if not 0 <= self.named <= 1:
            raise ValueError(f"named is a share from 0 to 1, got {self.named}")

    def asset(self, split: str, number: int) -> Asset:
        """A shape of a split, called "NUMBER-WHAT"."""
        # A string as seed is hashed, so that neighbouring shapes and splits have nothing in common.
        rng = random.Random(f"{self.seed}/{split}/{number}")
        names = [name for name in NAMED if (name in self.held_out) != split.startswith("train")]
        if names and rng.random() < self.named:
            name = rng.choice(names)
            return _varied(_NAMED[name](rng), rng).asset(f"{number:06d}-{name}")
        seed = 2 * rng.getrandbits(40) + (not split.startswith("train"))
        return _turned(invented_solid(seed), rng).asset(f"{number:06d}-invented-{seed}")

    def settings(self, split: str) -> dict[str, Any]:
        """What a split was made by, but for the number of its shapes, as JSON gives it back."""
        settings = {key: value for key, value in asdict(self).items() if key != "shapes"}
        found: dict[str, Any] = json.loads(json.dumps({**settings, "split": split}))
        return found


def _varied(solid: Solid, rng: random.Random) -> Solid:
    """A solid stretched along its axes, half of the time in other hues, and turned."""
    if rng.random() < 0.5:
        solid = solid.painted(_in_other_hues(solid.color, rng.uniform(0, 360)))
    limit = math.log(_MOST_STRETCH)
    return _turned(solid.stretched(*(math.exp(rng.uniform(-limit, limit)) for _ in range(3))), rng)


def _turned(solid: Solid, rng: random.Random) -> Solid:
    """A solid as it stands, or half of the time turned about z by any angle."""
    return (solid.turned(rng.uniform(0, 360)) if rng.random() < 0.5 else solid).standing()


def _in_other_hues(paint: Paint, degrees: float) -> Paint:
    """A paint whose colours, as screens show them, are turned about grey."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    third, across = (1 - c) / 3, s / math.sqrt(3)
    rows = [c + third, third - across, third + across]
    turn = np.array([np.roll(rows, k) for k in range(3)], dtype=np.float32)

    def painted(p: np.ndarray) -> np.ndarray:
        shown = turn @ srgb(paint(p)).astype(np.float32)
        return np.asarray(linear(np.clip(shown, 0, 1)), dtype=np.float32)

    return painted


# ---- making ---------------------------------------------------------------------------------------------------------


def make_shapes(root: Path, recipe: ShapeRecipe, workers: int = 2) -> None:
    """Make the shapes of a recipe: ROOT/SPLIT/latents/voxel8/NAME.npz.

    The bytes depend on the recipe alone, not on the number of workers. Shapes that are there already are kept, so an
    interrupted run can be repeated, and a larger number adds to a smaller one.

    Args:
        root: Folder of the splits; created if need be.
        recipe: What is made.
        workers: Processes, each with one thread.

    Raises:
        ValueError: If a split's folder holds shapes of another recipe, or more than are asked for.
    """
    for split, count in recipe.shapes.items():
        _make_split(root / split, recipe, split, count, workers)


@dataclass(frozen=True)
class _Job:
    """Some shapes of a split."""

    recipe: ShapeRecipe
    split: str
    folder: Path
    numbers: tuple[int, ...]


def _make_split(folder: Path, recipe: ShapeRecipe, split: str, count: int, workers: int) -> None:
    latents = folder / "latents" / SPACE
    latents.mkdir(parents=True, exist_ok=True)
    _check_settings(folder / SETTINGS, recipe.settings(split), latents)
    there = {int(file.name[:6]) for file in latents.glob("[0-9]*.npz")}
    if there and max(there) >= count:
        raise ValueError(f"{latents} holds {max(there) + 1} shapes, the recipe makes {count}: use another folder")
    missing = [number for number in range(count) if number not in there]
    numbers = [tuple(missing[first : first + _CHUNK]) for first in range(0, len(missing), _CHUNK)]
    jobs = [_Job(replace(recipe, shapes={}), split, latents, some) for some in numbers]
    if not jobs:
        return
    with Progress() as progress:
        bar = progress.add_task(f"making {split}", total=len(missing))
        for made in parallel_map(_make, jobs, workers):
            progress.advance(bar, made)


def _check_settings(file: Path, wanted: Mapping[str, Any], latents: Path) -> None:
    """Write the settings of a split; ValueError if there are shapes of other settings, or of no recipe."""
    if not file.is_file():
        if any(latents.glob("*.npz")):
            raise ValueError(f"{latents} holds shapes that no recipe made: use another folder, or no recipe")
        file.write_text(json.dumps(wanted, indent=1) + "\n")
    found = json.loads(file.read_text())
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        was, is_ = ({name: one.get(name) for name in differing} for one in (found, wanted))
        raise ValueError(f"{file.parent} holds other shapes: made with {was}, wanted is {is_}. Use another folder")


def _make(job: _Job) -> int:
    """Make some shapes; how many."""
    for number in job.numbers:
        asset = job.recipe.asset(job.split, number)
        write_shape(job.folder / f"{asset.name}.npz", voxelize_asset(asset, job.recipe.resolution))
    return len(job.numbers)
