"""The index of a folder of shards: what was made or packed, which shards hold it, which tokenizer coded it."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_modules.storage import Root, is_remote, locate, open_stream
from kyvo.scene import SCHEMAS, SceneSchema, get_schema

FILE_NAME = "index.json"
FORMAT = "kyvo-shards-1"


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Args:
        name: File name, beside the index.
        samples: Number of keys.
        members: How many keys hold each member.
        image_tokenizer: Hash of the image tokenizer that made the codes; None if there are none.
        shape_tokenizer: Hash of the shape tokenizer that made the codes of shapes; None if there are none.
    """

    name: str
    samples: int
    members: Mapping[str, int]
    image_tokenizer: str | None = None
    shape_tokenizer: str | None = None

    @property
    def complete_members(self) -> frozenset[str]:
        """The members that every key holds."""
        # A limit on samples cuts `samples`, not the counts, which stay those of the whole file.
        return frozenset(name for name, count in self.members.items() if count >= max(self.members.values()))

    @property
    def has_images(self) -> bool:
        """Whether the shard holds pixels, which can be coded."""
        return any(name.endswith((".png", ".jpg")) for name in self.members)

    @property
    def has_scenes(self) -> bool:
        """Whether the shard holds scenes, whose shapes can be coded."""
        return any(name.endswith("scene.json") for name in self.members)


@dataclass(frozen=True)
class Index:
    """What `index.json` says; immutable, changed by `with_...` and written whole.

    Args:
        schema: Name of the scene schema ("clevr").
        settings: For each split what it was made from: seed, number of scenes, the world.
        families: Shards by family: a split ("train"), or its edits ("train-edits").
        table: The schema itself, where it is a user's own.
    """

    schema: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    families: Mapping[str, tuple[Shard, ...]] = field(default_factory=dict)
    table: Mapping[str, Any] | None = None

    @classmethod
    def of_schema(cls, schema: SceneSchema) -> "Index":
        """An empty index for scenes of a schema."""
        return cls(schema.name, table=None if SCHEMAS.get(schema.name) == schema else schema.to_dict())

    @property
    def scene_schema(self) -> SceneSchema:
        """How the scenes are read."""
        return get_schema(self.schema) if self.table is None else SceneSchema.from_dict(self.table)

    @classmethod
    def read(cls, root: Root) -> "Index":
        """Read the index of a folder.

        Args:
            root: Path or http(s) URL of the folder.

        Raises:
            FileNotFoundError: If the folder has none.
            ValueError: If it is not of this format.
        """
        location = locate(root, FILE_NAME)
        try:
            with open_stream(location) as stream:
                text = stream.read()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{location} is missing: no folder of shards (`kyvo data make` makes one)"
            ) from error
        try:
            raw = json.loads(text)
            families = {name: tuple(Shard(**shard) for shard in shards) for name, shards in raw["families"].items()}
            form, index = raw["format"], cls(raw["schema"], raw["settings"], families, raw.get("table"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{location} is not an index of shards: {type(error).__name__}: {error}") from error
        if form != FORMAT:
            raise ValueError(f"{location} has format {form!r}, expected {FORMAT!r}")
        return index

    @classmethod
    def is_packed(cls, root: Root) -> bool:
        """Whether a folder holds what was packed from a source, and so is not to be made."""
        if is_remote(root) or not (Path(root) / FILE_NAME).is_file():
            return is_remote(root)
        return any("source" in settings for settings in cls.read(root).settings.values())

    def write(self, root: Path) -> None:
        """Write `index.json`, in one step as seen by readers."""
        path = Path(root) / FILE_NAME
        partial = path.with_name(FILE_NAME + ".partial")
        partial.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")
        os.replace(partial, path)

    @classmethod
    def enter(cls, root: Path, family: str, shard: Shard) -> None:
        """Enter a shard in the index of a folder, while other processes may be entering theirs."""
        with FileLock(Path(root) / ".index.lock"):
            cls.read(root).with_shard(family, shard).write(root)

    def with_settings(self, split: str, settings: Mapping[str, Any]) -> "Index":
        """The index with what a split is made from."""
        return replace(self, settings={**self.settings, split: settings})

    def with_shard(self, family: str, shard: Shard) -> "Index":
        """The index with a shard added to its family, or put in the place of the one of that name."""
        others = [old for old in self.families.get(family, ()) if old.name != shard.name]
        shards = tuple(sorted([*others, shard], key=lambda one: one.name))
        return replace(self, families={**self.families, family: shards})

    def shards(self, family: str, limit: int | None = None) -> tuple[Shard, ...]:
        """The shards that hold the first `limit` samples of a family (default: all); the last one may be cut.

        Raises:
            ValueError: If there is no such family.
        """
        if not self.families.get(family):
            raise ValueError(f"no shards {family!r}; the index has {sorted(self.families)}")
        kept: list[Shard] = []
        left = sum(shard.samples for shard in self.families[family]) if limit is None else limit
        for shard in self.families[family]:
            if left > 0:
                kept.append(replace(shard, samples=min(shard.samples, left)))
                left -= shard.samples
        return tuple(kept)

    def image_tokenizers(self) -> set[str | None]:
        """Hashes of the tokenizers that coded the shards with images; None stands for shards not coded yet."""
        shards = (shard for family in self.families.values() for shard in family)
        return {shard.image_tokenizer for shard in shards if shard.has_images}

    def shape_tokenizers(self) -> set[str | None]:
        """Hashes of the tokenizers that coded the shapes of scenes; None stands for shards not coded yet."""
        if self.scene_schema.shape is None:
            return set()
        shards = (shard for family in self.families.values() for shard in family)
        return {shard.shape_tokenizer for shard in shards if shard.has_scenes}
