"""Shards: webdataset tar files of samples, written byte for byte the same each time and read without unpickling."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import webdataset
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_modules.index import Shard


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
        """Raise ValueError, naming shard, key and member, if one of the members is absent."""
        for member in sorted(members):
            if member not in self.members:
                held = sorted(self.members)
                raise ValueError(f"{self.shard}: key {self.key!r}: member {member!r} is missing; the key holds {held}")

    def decode(self, member: str) -> Any:
        """The decoded value of a member; ValueError names shard, key and member if it's absent or corrupt."""
        self.require((member,))
        where = f"{self.shard}: key {self.key!r}: member {member!r}"
        decoder = DECODERS.get(member.rpartition(".")[2])
        if decoder is None:
            raise ValueError(f"{where} has a suffix that is not read; expected one of {sorted(DECODERS)}")
        try:
            return decoder(self.members[member])
        except UNREADABLE as error:
            raise ValueError(f"{where} is corrupt: {error}") from error


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


def read_shard(path: Path, members: Collection[str] | None = None) -> Iterator[RawSample]:
    """Yield the samples of a shard in order, undecoded.

    Args:
        path: The tar file. It is opened as a file whatever its name, so no name can start a shell or a download.
        members: The members wanted (default: all); a sample has those it holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no intact tar file.
    """

    def wanted(name: str) -> bool:
        return members is None or name.rpartition("/")[2].partition(".")[2] in members

    with open(path, "rb") as stream:
        files = tar_file_expander([{"url": str(path), "stream": stream}], select_files=wanted)
        try:
            for sample in group_by_keys(files):
                fields = {name: data for name, data in sample.items() if not name.startswith("__")}
                yield RawSample(str(path), sample["__key__"], fields)
        except tarfile.TarError as error:
            raise ValueError(f"{path}: not an intact tar file: {error}") from error
