"""Packing: a published data set, read by its source, written as shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.progress import Progress
from rich.table import Table

from data_modules.faults import BadInputError, Fault, FaultCount
from data_modules.index import FILE_NAME, Index, Shard
from data_modules.parallel import parallel_map
from data_modules.records import decode_record
from data_modules.shards import UNREADABLE, RawSample, decode_json, encode_json, encode_png, shard_name, write_shard
from data_modules.sources.source import Picture, Source, SourceSample
from data_modules.worlds.masks import from_run_lengths, run_lengths
from kyvo.scene import SceneSchema


def pack(
    source: Source,
    out: Path,
    splits: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    max_bad_fraction: float = 0.0,
    samples_per_shard: int = 1000,
    workers: int = 2,
) -> dict[str, dict[str, int]]:
    """Write the samples of a source as shards.

    Args:
        source: Reads the published data set.
        out: Folder of the shards; created if need be. Splits that it holds already are left alone.
        splits: Those to pack; default is all that are there.
        size: Height and width to which pictures are scaled, without regard to their shape, as the paper does; by
            default they keep their size. Scene records keep speaking of the published size, but for masks.
        max_bad_fraction: Largest share of unreadable samples of a split that is left out; 0 makes the first one fatal.
        samples_per_shard: Samples of a shard.
        workers: Processes that read and scale pictures.

    Returns:
        For each split the number of good and of bad samples, and how often each reason occurred.

    Raises:
        BadInputError: If more is bad than may be, naming file, key, member and reason.
        ValueError: If the folder holds shards of another schema, or the source has no such split.
    """
    out.mkdir(parents=True, exist_ok=True)
    there = source.splits()
    unknown = sorted(set(splits or ()) - set(there))
    if unknown or not there:
        raise ValueError(f"no split {unknown or ''} in the source; it has {list(there)}")
    summaries = {}
    for split in splits or there:
        count = FaultCount(max_bad_fraction)
        _pack_split(source, out, split, _Settings(size, samples_per_shard, workers), count)
        summaries[split] = dict(count.summary)
    return summaries


@dataclass(frozen=True)
class _Settings:
    """How shards are written."""

    size: tuple[int, int] | None
    samples_per_shard: int
    workers: int


def _pack_split(source: Source, out: Path, split: str, settings: _Settings, count: FaultCount) -> None:
    index = _open(out, source)
    if index.families.get(split) or index.families.get(f"{split}-edits"):
        return
    writer = _FamilyWriter(out, split, settings.samples_per_shard)
    samples = source.samples(split)
    keys: set[str] = set()
    with Progress() as progress:
        bar = progress.add_task(f"packing {split}", total=None)
        while chunk := list(islice(samples, settings.samples_per_shard)):
            jobs = [_Reading(one, settings.size, source.schema) for one in chunk]
            for job, read in zip(jobs, parallel_map(_read, jobs, settings.workers), strict=True):
                fault = read if isinstance(read, Fault) else _repeated(job.sample, keys)
                if fault is not None:
                    count.add(fault)
                elif isinstance(job.sample, SourceSample) and not isinstance(read, Fault):
                    writer.add(job.sample, read)
                    count.good += 1
            progress.advance(bar, len(chunk))
    count.check()
    for family, shard in writer.finish():
        index = index.with_shard(family, shard)
    index.with_settings(split, {"source": type(source).__name__, **count.summary}).write(out)


def _open(out: Path, source: Source) -> Index:
    index = Index.read(out) if (out / FILE_NAME).exists() else Index.of_schema(source.schema)
    if index.scene_schema != source.schema:
        raise ValueError(f"{out} holds scenes of schema {index.schema!r}, the source has {source.schema.name!r}")
    return index


@dataclass(frozen=True)
class _Reading:
    """One sample to read, and all that this needs."""

    sample: SourceSample | Fault
    size: tuple[int, int] | None
    schema: SceneSchema


def _read(job: _Reading) -> dict[str, bytes] | Fault:
    """The members of a sample with its pictures encoded, or what is wrong with it."""
    sample = job.sample
    if isinstance(sample, Fault):
        return sample
    members = dict(sample.members)
    for stem, picture in sample.pictures.items():
        try:
            pixels, size = _scaled(picture, job.size)
        except UNREADABLE as error:
            return Fault(str(picture.path), sample.key, stem, f"not a readable picture: {error}")
        members[f"{stem}.png"] = encode_png(pixels)
        record = stem.replace("image", "scene.json")
        if job.size is not None and record in members:
            members[record] = _scaled_mask(members[record], size, job.size)
    try:
        decode_record(RawSample(str(job.sample.key), sample.key, members), job.schema, pixels=True)
    except BadInputError as error:
        return error.fault
    return members


def _scaled(picture: Picture, size: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels uint8 [H, W, 3], and the height and width that the file has."""
    with Image.open(picture.path) as image:
        rgb = image.convert("RGB")
    published = rgb.height, rgb.width
    if size is not None and published != size:
        rgb = rgb.resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.mirror(rgb) if picture.mirrored else rgb), published


def _scaled_mask(record: bytes, published: tuple[int, int], size: tuple[int, int]) -> bytes:
    """A scene's record with the mask of its objects, if it has one, at the size of the scaled picture."""
    scene = decode_json(record)
    if not isinstance(scene, dict) or scene.get("mask") is None or published == size:
        return record
    # The pixel that lies under the middle of each new one.
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, published, strict=True))
    mask = from_run_lengths(scene["mask"], published)[np.ix_(rows, columns)]
    return encode_json(scene | {"mask": run_lengths(mask)})


def _repeated(sample: SourceSample | Fault, keys: set[str]) -> Fault | None:
    """What is wrong if the key has occurred before."""
    if isinstance(sample, Fault):
        return sample
    if sample.key in keys:
        return Fault("", sample.key, "", "the key occurs twice")
    keys.add(sample.key)
    return None


class _FamilyWriter:
    """Writes the scenes and the edits of a split, a shard whenever there are enough of either."""

    def __init__(self, out: Path, split: str, samples_per_shard: int) -> None:
        self.out, self.split, self.samples_per_shard = out, split, samples_per_shard
        self._held: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self._written: list[tuple[str, Shard]] = []

    def add(self, sample: SourceSample, members: dict[str, bytes]) -> None:
        """Take a sample; a full shard is written."""
        family = f"{self.split}-edits" if sample.edit else self.split
        held = self._held.setdefault(family, [])
        held.append((sample.key, members))
        if len(held) == self.samples_per_shard:
            self._write(family)

    def finish(self) -> list[tuple[str, Shard]]:
        """Write what is left; all families and shards."""
        for family, held in self._held.items():
            if held:
                self._write(family)
        return self._written

    def _write(self, family: str) -> None:
        number = sum(name == family for name, _ in self._written)
        shard = write_shard(self.out / shard_name(family, number), self._held[family])
        self._written.append((family, shard))
        self._held[family] = []


def report(summaries: Mapping[str, Mapping[str, int]]) -> Table:
    """The summaries of `pack` as a table."""
    table = Table("split", "what", "samples")
    for split, summary in summaries.items():
        for what, number in summary.items():
            table.add_row(split, what, str(number))
    return table
