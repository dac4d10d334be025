"""Making worlds: the samples of a recipe written as shards, whatever is missing of them."""

import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from data_modules.asking import add_questions
from data_modules.index import FILE_NAME, Index
from data_modules.parallel import parallel_map
from data_modules.recipes.recipe import WorldRecipe
from data_modules.shards import Files, read_shard, shard_name, write_shard
from data_modules.storage import Root

CHUNK = 8


def make(out: Path, recipe: WorldRecipe, workers: int = 2, splits: Container[str] | None = None) -> None:
    """Make a world as shards.

    The bytes depend on the recipe alone, not on the number of workers. Shards that are there already are kept, so an
    interrupted run can be repeated.

    Args:
        out: Folder of the shards; created if need be.
        recipe: What is made.
        workers: Processes, each with one thread.
        splits: Those of the recipe's splits to make; by default all.

    Raises:
        ValueError: If the folder holds a world of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    for split in recipe.scenes:
        if splits is not None and split not in splits:
            continue
        _make_split(out, recipe, split, workers)
        if recipe.engine is not None:
            add_questions(out, split, recipe.engine, recipe.seed, workers)


def make_unless_packed(
    root: Root, recipe: WorldRecipe | None, workers: int, splits: Container[str] | None = None
) -> None:
    """Make a world where a recipe is given, unless the folder holds a packed data set, which is taken as it is."""
    if recipe is not None and not Index.is_packed(root):
        make(Path(root), recipe, workers, splits)


@dataclass(frozen=True)
class _Job:
    """Consecutive scenes of one shard."""

    recipe: WorldRecipe
    split: str
    shard: int
    scenes: range
    last: bool


def _make_split(out: Path, recipe: WorldRecipe, split: str, workers: int) -> None:
    index = _open(out, recipe, split)
    jobs = [job for shard in _missing(out, index, recipe, split) for job in _jobs(recipe, split, shard)]
    if not jobs:
        return
    families: dict[str, list[Files]] = {family: [] for family in recipe.shard_families(split)}
    with Progress() as progress:
        bar = progress.add_task(f"making {split}", total=sum(len(job.scenes) for job in jobs))
        for job, made in zip(jobs, parallel_map(_make_scenes, jobs, workers), strict=True):
            for family, files in made.items():
                families[family] += files
            progress.advance(bar, len(job.scenes))
            if job.last:
                for family, files in families.items():
                    index = index.with_shard(family, write_shard(out / shard_name(family, job.shard), files))
                    families[family] = []
                index.write(out)


def _open(out: Path, recipe: WorldRecipe, split: str) -> Index:
    """The folder's index, a new one if there is none, with the split's settings entered."""
    index = Index.read(out) if (out / FILE_NAME).exists() else Index(recipe.schema)
    if index.schema != recipe.schema:
        raise ValueError(f"{out} holds scenes of schema {index.schema!r}, the recipe makes {recipe.schema!r}")
    wanted, found = recipe.settings(split), index.settings.get(split)
    if found is not None and found != wanted:
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        raise ValueError(
            f"{out} holds another world: its {split} split was made with {_some(found, differing)}, wanted is "
            f"{_some(wanted, differing)}. Use another folder, or remove this one"
        )
    index = index.with_settings(split, wanted)
    index.write(out)
    return index


def _some(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={settings.get(name)}" for name in names)


def _missing(out: Path, index: Index, recipe: WorldRecipe, split: str) -> Iterator[int]:
    """Numbers of the shards that are to be made; a file that isn't in the index may not be of this recipe."""
    complete = {shard.name for shards in index.families.values() for shard in shards if (out / shard.name).is_file()}
    for shard in range(-(-recipe.scenes[split] // recipe.scenes_per_shard)):
        if not {shard_name(family, shard) for family in recipe.shard_families(split)} <= complete:
            yield shard


def _jobs(recipe: WorldRecipe, split: str, shard: int) -> Iterator[_Job]:
    start = shard * recipe.scenes_per_shard
    stop = min(start + recipe.scenes_per_shard, recipe.scenes[split])
    for first in range(start, stop, CHUNK):
        yield _Job(recipe, split, shard, range(first, min(first + CHUNK, stop)), first + CHUNK >= stop)


def _make_scenes(job: _Job) -> dict[str, list[Files]]:
    """The samples of each family that come from some scenes."""
    return job.recipe.samples(job.split, job.scenes)


def make_raw(out: Path, recipe: WorldRecipe, workers: int = 2) -> None:
    """Make a world and write it in the layout in which such data is published, without shards.

    Args:
        out: Folder of the layout; created if need be. Its folder `.shards` holds what is made until all of it is.
        recipe: What is made.
        workers: Processes, each with one thread.
    """
    shards = out / ".shards"
    make(shards, recipe, workers)
    index = Index.read(shards)
    for split in recipe.scenes:
        families = {family: _samples(shards, index, family) for family in recipe.shard_families(split)}
        recipe.write_raw(out, split, families)
    shutil.rmtree(shards)


def _samples(root: Path, index: Index, family: str) -> Iterator[Files]:
    for shard in index.families.get(family, ()):
        for raw in read_shard(root / shard.name):
            yield raw.key, dict(raw.members)
