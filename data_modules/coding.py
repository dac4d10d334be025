"""Coding: the image codes that an image tokenizer adds to shards of pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from data_modules.index import Index, Shard
from data_modules.parallel import parallel_map
from data_modules.shards import RawSample, ShardWriter, encode_npy, read_shard

if TYPE_CHECKING:
    from kyvo.tokenizers.images import ImageTokenizer

PICTURES = {"image.png": "image.codes.npy", "target.image.png": "target.image.codes.npy"}
"""The members that are coded, and where their codes go."""


def code(root: Path, image_tokenizer: Path, batch_size: int = 64, workers: int = 2) -> None:
    """Add image codes to all shards of a folder, in place of older codes.

    Args:
        root: Folder of the shards.
        image_tokenizer: Folder of a trained image tokenizer.
        batch_size: Images encoded together.
        workers: Processes, each with one thread.
    """
    from kyvo.tokenizers.images import ImageTokenizer

    add_codes(root, ImageTokenizer.from_pretrained(image_tokenizer), batch_size, workers)


def add_codes(root: Path, tokenizer: "ImageTokenizer", batch_size: int = 64, workers: int = 2) -> None:
    """Add a tokenizer's codes to the shards that hold pixels; those it has coded already are left alone.

    Each shard is replaced in one step and then entered in the index, so an interrupted run can be repeated.

    Raises:
        ValueError: If the images don't have the tokenizer's size (named by shard and key).
    """
    index, mark = Index.read(root), fingerprint(tokenizer)
    jobs = [
        _Coding(Path(root), family, shard, tokenizer, mark, batch_size)
        for family, shards in index.families.items()
        for shard in shards
        if shard.has_images and shard.image_tokenizer != mark
    ]
    if not jobs:
        return
    # Work on a GPU stays in this process: a forked one cannot use it.
    processes = workers if tokenizer.device.type == "cpu" else 1
    coded = parallel_map(_code_shard, jobs, processes)
    for job, shard in zip(jobs, track(coded, "coding images", total=len(jobs)), strict=True):
        index = index.with_shard(job.family, shard)
        index.write(root)


def fingerprint(tokenizer: "ImageTokenizer") -> str:
    """Hash of the weights that decide an image's codes: 16 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tokenizer.model.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.", "quantize.embedding.")):
            digest.update(name.encode())
            digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Coding:
    """One shard to code, and all that this needs."""

    root: Path
    family: str
    shard: Shard
    tokenizer: "ImageTokenizer"
    mark: str
    batch_size: int


def _code_shard(job: _Coding) -> Shard:
    raws = list(read_shard(job.root / job.shard.name))
    for raw in raws:
        # A shard is written anew: what has gone missing must not become what the index says.
        raw.require(job.shard.complete_members)
    pictures = [(number, member) for number, raw in enumerate(raws) for member in PICTURES if member in raw.members]
    members = [dict(raw.members) for raw in raws]
    for first in range(0, len(pictures), job.batch_size):
        batch = pictures[first : first + job.batch_size]
        codes = _encode(job.tokenizer, [raws[number] for number, _ in batch], [member for _, member in batch])
        for (number, member), row in zip(batch, codes, strict=True):
            members[number][PICTURES[member]] = encode_npy(row)
    with ShardWriter(job.root / job.shard.name) as writer:
        for raw, fields in zip(raws, members, strict=True):
            writer.write(raw.key, fields)
    return replace(writer.shard, image_tokenizer=job.mark)


def _encode(tokenizer: "ImageTokenizer", raws: Sequence[RawSample], members: Sequence[str]) -> np.ndarray:
    """Codes uint16 [B, N] of one member of each sample."""
    from kyvo.tokenizers.pixels import image_batch

    pixels = [raw.decode(member) for raw, member in zip(raws, members, strict=True)]
    for raw, member, picture in zip(raws, members, pixels, strict=True):
        if picture.shape[:2] != tokenizer.size:
            where = f"{raw.shard}: key {raw.key!r}: member {member!r}"
            raise ValueError(f"{where} is {picture.shape[:2]} pixels, the image tokenizer codes {tokenizer.size}")
    return tokenizer.encode(image_batch(pixels)).cpu().numpy().astype(np.uint16)
