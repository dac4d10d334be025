"""Inspection: a check of every member of every shard."""

from collections import Counter
from pathlib import Path

from data_modules.index import Index, Shard
from data_modules.records import decode_record
from data_modules.shards import read_shard
from kyvo.scene import SceneSchema


def check(root: Path) -> dict[str, int]:
    """Read every member of every shard and compare with the index.

    Args:
        root: Folder of the shards.

    Returns:
        Number of samples of each family of shards.

    Raises:
        ValueError: At the first fault, naming shard, key and member, and saying what is wrong.
        FileNotFoundError: If the index, or a shard it names, is missing.
    """
    root = Path(root)
    index = Index.read(root)
    schema = index.scene_schema
    keys: set[str] = set()
    for shards in index.families.values():
        for shard in shards:
            _check_shard(root, shard, schema, keys)
    for kind, coders in (("image", index.image_tokenizers()), ("shape", index.shape_tokenizers())):
        if len(coders) > 1:
            raise ValueError(f"{root}: shards are coded by different {kind} tokenizers: {coders}")
    return {family: sum(shard.samples for shard in shards) for family, shards in index.families.items()}


def _check_shard(root: Path, shard: Shard, schema: SceneSchema, keys: set[str]) -> None:
    path, samples, members = root / shard.name, 0, Counter[str]()
    for raw in read_shard(path):
        if raw.key in keys:
            raise ValueError(f"{path}: key {raw.key!r} occurs twice")
        raw.require(shard.complete_members)
        for member in raw.members:
            raw.decode(member)
        decode_record(raw, schema, pixels=True)
        keys.add(raw.key)
        samples += 1
        members.update(raw.members.keys())
    if (samples, dict(members)) != (shard.samples, dict(shard.members)):
        raise ValueError(
            f"{path} holds {samples} samples with {dict(members)} where index.json says {shard.samples} with "
            f"{dict(shard.members)}"
        )
