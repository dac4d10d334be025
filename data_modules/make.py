"""Making worlds: scenes, pictures, questions and edits drawn from a seed and written as shards."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from data_modules.index import FILE_NAME, Index, Shard
from data_modules.parallel import parallel_map
from data_modules.shards import ShardWriter, encode_json, encode_png
from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.instructions import KINDS, instruction
from data_modules.worlds.programs import FILTERED
from data_modules.worlds.questions import FAMILIES, questions

CHUNK = 8
Files = tuple[str, dict[str, bytes]]


@dataclass(frozen=True)
class WorldRecipe:
    """What a world is made of; the same recipe gives the same bytes.

    Args:
        world: The scenes and their pictures.
        scenes: Number of scenes of each split.
        seed: Seed of everything.
        questions: Questions about each scene.
        families: Families of questions, each as likely.
        longest: Most attributes by which questions describe an object.
        edits: Edits of each scene, each an instruction and the scene it leads to; fewer where none can be done.
        kinds: Kinds of instruction.
        move_step: How far instructions move an object along each direction; None draws it.
        synonyms: Whether words and wordings of questions and instructions vary.
        edit_images: Whether edits have pictures, before and after; else scenes alone.
        scenes_per_shard: Scenes of a shard; training needs at least as many shards as it has workers x ranks.
    """

    world: ClevrWorld = field(default_factory=ClevrWorld)
    scenes: dict[str, int] = field(default_factory=lambda: {"train": 6000, "val": 500, "test": 500})
    seed: int = 0
    questions: int = 6
    families: tuple[str, ...] = FAMILIES
    longest: int = len(FILTERED)
    edits: int = 3
    kinds: tuple[str, ...] = KINDS
    move_step: float | None = None
    synonyms: bool = False
    edit_images: bool = False
    scenes_per_shard: int = 250

    def settings(self, split: str) -> dict[str, Any]:
        """What the index records of a split, as JSON gives it back."""
        settings = {**asdict(self), "scenes": self.scenes[split]}
        return json.loads(json.dumps(settings))


def make(out: Path, recipe: WorldRecipe = WorldRecipe(), workers: int = 2) -> None:
    """Make a CLEVR-like world: scenes, pictures, questions and edits, as shards.

    The bytes depend on the recipe alone, not on the number of workers. Shards that are there already are kept, so an
    interrupted run can be repeated.

    Args:
        out: Folder of the shards; created if need be.
        recipe: What is made.
        workers: Processes, each with one thread.

    Raises:
        ValueError: If the folder holds a world of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    for split in recipe.scenes:
        _make_split(out, recipe, split, workers)


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
    families: dict[str, list[Files]] = _families(recipe, split)
    with Progress() as progress:
        bar = progress.add_task(f"making {split}", total=sum(len(job.scenes) for job in jobs))
        for job, made in zip(jobs, parallel_map(_make_scenes, jobs, workers), strict=True):
            for family, files in made.items():
                families[family] += files
            progress.advance(bar, len(job.scenes))
            if job.last:
                for family, files in families.items():
                    index = index.with_shard(family, _write_shard(out / _name(family, job.shard), files))
                index.write(out)
                families = _families(recipe, split)


def _open(out: Path, recipe: WorldRecipe, split: str) -> Index:
    """The folder's index, a new one if there is none, with the split's settings entered."""
    index = Index.read(out) if (out / FILE_NAME).exists() else Index("clevr")
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


def _families(recipe: WorldRecipe, split: str) -> dict[str, list[Files]]:
    return {family: [] for family in ((split, f"{split}-edits") if recipe.edits else (split,))}


def _name(family: str, shard: int) -> str:
    return f"{family}-{shard:06d}.tar"


def _missing(out: Path, index: Index, recipe: WorldRecipe, split: str) -> Iterator[int]:
    """Numbers of the shards that are to be made; a file that isn't in the index may not be of this recipe."""
    complete = {shard.name for shards in index.families.values() for shard in shards if (out / shard.name).is_file()}
    for shard in range(-(-recipe.scenes[split] // recipe.scenes_per_shard)):
        if not {_name(family, shard) for family in _families(recipe, split)} <= complete:
            yield shard


def _jobs(recipe: WorldRecipe, split: str, shard: int) -> Iterator[_Job]:
    start = shard * recipe.scenes_per_shard
    stop = min(start + recipe.scenes_per_shard, recipe.scenes[split])
    for first in range(start, stop, CHUNK):
        yield _Job(recipe, split, shard, range(first, min(first + CHUNK, stop)), first + CHUNK >= stop)


def _write_shard(path: Path, files: Sequence[Files]) -> Shard:
    with ShardWriter(path) as writer:
        for key, members in files:
            writer.write(key, members)
    return writer.shard


def _make_scenes(job: _Job) -> dict[str, list[Files]]:
    """The samples of each family that come from some scenes."""
    families = _families(job.recipe, job.split)
    for number in job.scenes:
        # A string as seed is hashed, so that neighbouring scenes and splits have nothing in common.
        rng = random.Random(f"{job.recipe.seed}/{job.split}/{number}")
        key = f"{job.split}-{number:06d}"
        scene, image, asked = _make_scene(job.recipe, rng)
        members = {"image.png": encode_png(image), "scene.json": encode_json(scene)}
        families[job.split].append((key, members | ({"question.json": encode_json(asked)} if asked else {})))
        if job.recipe.edits:
            families[f"{job.split}-edits"] += _make_edits(job.recipe, rng, key, scene, members)
    return families


def _make_scene(recipe: WorldRecipe, rng: random.Random) -> tuple[dict[str, Any], np.ndarray, list[dict[str, Any]]]:
    """A scene, its picture and its questions; a scene that none can be asked about is drawn again."""
    while True:
        scene, image, _ = recipe.world.make(rng)
        asked = questions(scene, rng, recipe.questions, recipe.families, recipe.synonyms, recipe.longest)
        if asked or not recipe.questions:
            return scene, image, asked


def _make_edits(
    recipe: WorldRecipe, rng: random.Random, key: str, scene: Mapping[str, Any], members: Mapping[str, bytes]
) -> list[Files]:
    kept = members if recipe.edit_images else {"scene.json": members["scene.json"]}
    made = []
    for number in range(recipe.edits):
        edit = instruction(scene, recipe.world, rng, recipe.kinds, recipe.synonyms, recipe.move_step)
        if edit is not None:
            target = edit["target"]
            files = {"instruction.json": encode_json(edit["instruction"]), "target.scene.json": encode_json(target)}
            if recipe.edit_images:
                files["target.image.png"] = encode_png(recipe.world.render(target)[0])
            made.append((f"{key}-{number}", {**kept, **files}))
    return made
