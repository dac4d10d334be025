"""The data commands: `kyvo data make` and `kyvo data pack`, whose flat arguments become recipes and sources."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from data_modules.make import make, make_raw
from data_modules.pack import pack, report
from data_modules.recipes.clevr import ClevrRecipe
from data_modules.recipes.objaworld import ObjaWorldRecipe
from data_modules.recipes.objectron import ObjectronRecipe
from data_modules.recipes.recipe import WorldRecipe
from data_modules.sources.clevr import ClevrSource
from data_modules.sources.folder import FolderSource
from data_modules.sources.kyvo_release import KyvoReleaseSource, ReleaseName
from data_modules.sources.objaworld import ObjaWorldSource
from data_modules.sources.omni3d import Omni3DSource
from data_modules.sources.source import Source
from data_modules.worlds.blender import BlenderRenderer
from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.objaworld import ObjaWorld
from data_modules.worlds.objectron import ObjectronWorld

Setup = Literal["park", "living_room", "shapes"]


def make_world(
    world: Literal["clevr", "objaworld", "objectron"],
    out: Path,
    split: str = "train",
    scenes: int = 1000,
    seed: int = 0,
    size: str | None = None,
    workers: int = 2,
    raw: bool = False,
    profile: Literal["clevr", "kyvo"] = "kyvo",
    questions: int = 10,
    edits: int = 3,
    edit_images: bool = False,
    templates: Path | None = None,
    setups: list[Setup] = ["park", "living_room"],  # noqa: B006 (never changed)
    assets: Path | None = None,
    renderer: Literal["tracer", "blender"] = "tracer",
    clevr_assets: Path | None = None,
    samples: int = 16,
    scenes_per_shard: int = 250,
) -> None:
    """Make a world: scenes, pictures and, for CLEVR, questions and edits.

    The bytes are a function of all arguments but `workers`. What is there already is kept: an interrupted run is
    finished by the same command.

    Args:
        world: clevr, objaworld (assets with a yaw) or objectron (things before a phone's camera).
        out: Folder of the shards; created if need be.
        split: Name of the split.
        scenes: Number of scenes.
        seed: Seed of everything.
        size: Width x height of the pictures (320x240), or one number for both; default is 256, for objectron 240x320.
        workers: Processes, each with one thread.
        raw: Write the layout in which such data is published (CLEVR v1.0, ObjaWorld's folders, Omni3D) and no shards.
        profile: Of clevr: `clevr` lets the camera move by 0.5 as in CLEVR v1.0, `kyvo` keeps it where it is.
        questions: Of clevr: questions about each scene.
        edits: Of clevr: instructions for each scene.
        edit_images: Of clevr: whether edits have pictures, before and after.
        templates: Of clevr: folder of question templates in CLEVR's format, instead of our own.
        setups: Of objaworld: which worlds take turns.
        assets: Of objaworld: folder of meshes (GLB, OBJ, PLY) beside the procedural assets.
        renderer: Of clevr: our ray tracer, or Blender (extra `blender`).
        clevr_assets: Of clevr, with blender: CLEVR's own folder of .blend files.
        samples: Of clevr, with blender: paths through each pixel.
        scenes_per_shard: Scenes of a shard.

    Raises:
        ValueError: If the folder holds another world, or an argument does not fit the world.
    """
    given = {"templates": templates, "assets": assets, "clevr_assets": clevr_assets}
    _refuse(world, {name: value for name, value in given.items() if value is not None})
    recipe: WorldRecipe
    if world == "clevr":
        view = ClevrWorld(camera_jitter=0.5 if profile == "clevr" else 0.0)
        recipe = ClevrRecipe(
            world=view if size is None else replace(view, image_size=image_size(size)),
            questions=questions,
            edits=edits,
            edit_images=edit_images,
            templates=templates,
            synonyms=True,
            blender=BlenderRenderer(samples, clevr_assets, threads=1) if renderer == "blender" else None,
        )
    elif world == "objaworld":
        places = [ObjaWorld(setup=setup, assets=assets) for setup in setups]
        sized = places if size is None else [replace(one, image_size=image_size(size)) for one in places]
        recipe = ObjaWorldRecipe(worlds=tuple(sized))
    else:
        scene = ObjectronWorld()
        recipe = ObjectronRecipe(world=scene if size is None else replace(scene, image_size=image_size(size)))
    recipe = replace(recipe, scenes={split: scenes}, seed=seed, scenes_per_shard=scenes_per_shard)
    (make_raw if raw else make)(out, recipe, workers)


_OF = {"templates": "clevr", "clevr_assets": "clevr", "assets": "objaworld"}


def _refuse(world: str, given: dict[str, Path]) -> None:
    """Raise ValueError for an argument of another world."""
    for name in given:
        if _OF[name] != world:
            raise ValueError(f"{name} is an argument of world {_OF[name]}, not of {world}")


def image_size(text: str) -> tuple[int, int]:
    """Height and width of "WIDTHxHEIGHT", or of one number for both.

    Raises:
        ValueError: For anything else.
    """
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise ValueError(f"size should look like 256 or 320x240 (width x height), got {text!r}")
    return int(numbers[-1]), int(numbers[0])


SourceName = Literal["clevr", "objaworld", "objectron", "arkitscenes", "kyvo-release", "folder"]


def pack_source(
    source: SourceName,
    root: Path,
    out: Path,
    splits: list[str] | None = None,
    size: str | None = None,
    max_bad_fraction: float = 0.0,
    samples_per_shard: int = 1000,
    workers: int = 2,
    schema: str | None = None,
    text: str | None = None,
    flip: bool = False,
) -> None:
    """Pack a published data set into shards, and say how much of it could be read.

    Args:
        source: clevr (CLEVR v1.0 and what its generator writes), objaworld (folders as the official evaluation lays
            them out), objectron or arkitscenes (Omni3D's JSON and pictures), kyvo-release (the released pre-tokenised
            JSON files), or folder (your own, see data_modules/README.md).
        root: Folder of the published data.
        out: Folder of the shards; created if need be. Splits that it holds already are left alone.
        splits: Those to pack; default is all that are there.
        size: Width x height to which pictures are scaled (256, 320x240); by default they keep their size.
        max_bad_fraction: Largest share of unreadable samples of a split that is left out; 0 makes the first one fatal.
        samples_per_shard: Samples of a shard.
        workers: Processes that read and scale pictures.
        schema: Of folder: the YAML file of its schema. Of kyvo-release: clevr (default), objaworld or objectron.
        text: Of kyvo-release: folder or hub id of the Llama 3 tokenizer.
        flip: Of objectron and arkitscenes: add mirrored copies to the training split, as the paper does.

    Raises:
        BadInputError: If more is bad than may be, naming file, key, member and reason.
    """
    made = _SOURCES[source](_Given(root, schema, text, flip))
    scaled = None if size is None else image_size(size)
    summaries = pack(made, out, splits, scaled, max_bad_fraction, samples_per_shard, workers)
    Console().print(report(summaries))


@dataclass(frozen=True)
class _Given:
    """What `kyvo data pack` was given beside the name of the source."""

    root: Path
    schema: str | None
    text: str | None
    flip: bool


def _folder(given: _Given) -> Source:
    if given.schema is None:
        raise ValueError("source folder needs --schema, the YAML file that says what its scenes are made of")
    return FolderSource(given.root, Path(given.schema))


def _release(given: _Given) -> Source:
    if given.text is None:
        raise ValueError("source kyvo-release needs --text, folder or hub id of the Llama 3 tokenizer")
    names: dict[str, ReleaseName] = {"clevr": "clevr", "objaworld": "objaworld", "objectron": "objectron"}
    name = given.schema or "clevr"
    if name not in names:
        raise ValueError(f"the release has schemas {', '.join(names)}, not {name!r}")
    return KyvoReleaseSource(given.root, given.text, names[name])


_SOURCES: dict[SourceName, Callable[[_Given], Source]] = {
    "clevr": lambda given: ClevrSource(given.root),
    "objaworld": lambda given: ObjaWorldSource(given.root),
    "objectron": lambda given: Omni3DSource(given.root, "Objectron", given.flip),
    "arkitscenes": lambda given: Omni3DSource(given.root, "ARKitScenes", given.flip),
    "kyvo-release": _release,
    "folder": _folder,
}
