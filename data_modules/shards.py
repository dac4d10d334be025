"""Shards: webdataset tar files of samples, written byte for byte the same each time and read without unpickling."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import webdataset
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_modules.faults import BadInputError, Fault
from data_modules.index import Shard
from data_modules.storage import open_stream

Files = tuple[str, dict[str, bytes]]
"""Key and encoded members of one sample."""


def encode_json(value: Any) -> bytes:
    """JSON without spaces, in the order of the dictionary's keys."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG of pixels uint8 [H, W, 3]; the lightest compression, for a world is made faster than a disk is filled."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def encode_npy(array: np.ndarray) -> bytes:
    """NumPy's own format; an array of objects is refused (ValueError)."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode_json(data: bytes) -> Any:
    """The value a JSON member holds."""
    return json.loads(data)


def decode_pixels(data: bytes) -> np.ndarray:
    """Pixels uint8 [H, W, 3] of a PNG or JPEG."""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        return np.asarray(image.convert("RGB"))


def decode_npy(data: bytes) -> np.ndarray:
    """The array an npy member holds; pickled objects are refused (ValueError)."""
    return np.load(io.BytesIO(data), allow_pickle=False)


# The whole of what a shard may hold. webdataset's own `.decode()` unpickles some suffixes and is never used.
DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    "json": decode_json,
    "npy": decode_npy,
    "png": decode_pixels,
    "jpg": decode_pixels,
}
UNREADABLE = (ValueError, OSError, SyntaxError, EOFError, KeyError, TypeError)


@dataclass(frozen=True)
class RawSample:
    """The undecoded files of one key of a shard.

    Args:
        shard: Path of the tar file.
        key: What the names of the files share.
        members: Bytes by the rest of the name ("image.png").
    """

    shard: str
    key: str
    members: Mapping[str, bytes]

    def require(self, members: Collection[str]) -> None:
        """Raise BadInputError, naming shard, key and member, if one of the members is absent."""
        for member in sorted(members):
            if member not in self.members:
                raise self.fault(member, f"missing; the key holds {sorted(self.members)}")

    def decode(self, member: str) -> Any:
        """The decoded value of a member; BadInputError names shard, key and member if it's absent or corrupt."""
        self.require((member,))
        decoder = DECODERS.get(member.rpartition(".")[2])
        if decoder is None:
            raise self.fault(member, f"suffix is not read; expected one of {sorted(DECODERS)}")
        try:
            return decoder(self.members[member])
        except UNREADABLE as error:
            raise self.fault(member, f"corrupt: {error}") from error

    def fault(self, member: str, reason: str) -> BadInputError:
        """The error that names this sample and one of its members."""
        return BadInputError(Fault(self.shard, self.key, member, reason))


class ShardWriter:
    """Writes one shard under a temporary name and gives it its own name only when complete.

    The bytes depend on the samples alone: no times and no owner are recorded.

    >>> with ShardWriter(root / "train-000000.tar") as writer:
    ...     writer.write("train-000000", {"scene.json": encode_json(scene)})
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: Counter[str] = Counter()
        self.samples = 0
        self._partial = path.with_name(path.name + ".partial")
        self._file: BinaryIO = open(self._partial, "wb")  # noqa: SIM115  (closed by close and discard)
        self._tar = webdataset.TarWriter(self._file, user="kyvo", group="kyvo", encoder=False, mtime=0)

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample; ValueError if the key would be read back as another one."""
        if not key or "." in key:
            raise ValueError(f"{self.path}: a key must be non-empty and hold no dot, got {key!r}")
        self._tar.write({"__key__": key, **members})
        self.members.update(members.keys())
        self.samples += 1

    @property
    def shard(self) -> Shard:
        """What was written so far, as an entry for the index."""
        return Shard(self.path.name, self.samples, dict(sorted(self.members.items())))

    def close(self) -> None:
        """Finish the file and move it into place."""
        self._tar.close()
        self._file.close()
        os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Drop what was written so far."""
        self._tar.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file.closed:
            return
        if kind is None:
            self.close()
        else:
            self.discard()


def read_shard(location: str | Path, members: Collection[str] | None = None) -> Iterator[RawSample]:
    """Yield the samples of a shard in order, undecoded.

    Args:
        location: Path or http(s) URL of the tar file.
        members: The members wanted (default: all); a sample has those it holds.

    Raises:
        FileNotFoundError: If there is no such file.
        BadInputError: If the file is no intact tar file, or has a member outside of the folder it lies in.
    """

    def wanted(name: str) -> bool:
        if name.startswith("/") or ".." in name.split("/"):
            raise BadInputError(Fault(str(location), "", name, "a member may have no absolute path and none with `..`"))
        return members is None or name.rpartition("/")[2].partition(".")[2] in members

    with open_stream(str(location)) as stream:
        files = tar_file_expander([{"url": str(location), "stream": stream}], select_files=wanted)
        try:
            keys: set[str] = set()
            for sample in group_by_keys(files):
                if sample["__key__"] in keys:
                    raise BadInputError(Fault(str(location), sample["__key__"], "", "the key occurs twice"))
                keys.add(sample["__key__"])
                fields = {name: data for name, data in sample.items() if not name.startswith("__")}
                yield RawSample(str(location), sample["__key__"], fields)
        except (tarfile.TarError, EOFError, HTTPException) as error:
            raise BadInputError(Fault(str(location), "", "", f"not an intact tar file: {error}")) from error
        except ValueError as error:
            if isinstance(error, BadInputError):
                raise
            # webdataset refuses two files of one key with one suffix.
            raise BadInputError(Fault(str(location), "", "", str(error).partition(", tarfile:")[0])) from error


def shard_name(family: str, number: int) -> str:
    """File name of a shard."""
    return f"{family}-{number:06d}.tar"


def write_shard(path: Path, samples: Sequence[Files]) -> Shard:
    """Write the samples of one shard; its entry for the index."""
    with ShardWriter(path) as writer:
        for key, members in samples:
            writer.write(key, members)
    return writer.shard


def rewrite_shard(root: Path, shard: Shard, raws: Sequence[RawSample], members: Sequence[Mapping[str, bytes]]) -> Shard:
    """Write a shard anew, in one step as seen by readers, with other members for its samples.

    Args:
        root: Folder of the shards.
        shard: The shard as the index has it.
        raws: All its samples.
        members: The members each is to have.

    Raises:
        ValueError: If a sample lacks a member that the index promises: what went missing must not become what it says.
    """
    for raw in raws:
        raw.require(shard.complete_members)
    samples = [(raw.key, dict(fields)) for raw, fields in zip(raws, members, strict=True)]
    written = write_shard(root / shard.name, samples)
    return replace(written, image_tokenizer=shard.image_tokenizer, shape_tokenizer=shard.shape_tokenizer)
