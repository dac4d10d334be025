"""Entries of a long JSON array sorted to the images they are about, kept small in memory."""

import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from data_modules.faults import Fault
from data_modules.sources.json_arrays import read_array

Entry = tuple[int, dict[str, Any]]
"""Place in the array, and what is there."""


class ByImage:
    """The array's entries by their `image_index`, held as compressed JSON.

    CLEVR's 700,000 training questions are some gigabytes as Python objects and a tenth of a gigabyte here.

    Args:
        file: The JSON file; where there is none, there are no entries.
        name: Key of the array.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        self._packed: dict[int, list[bytes]] = {}

    def read(self) -> Iterator[Fault]:
        """Read the file, yielding what is wrong with entries that name no image; BadInputError if it is damaged."""
        if not self.file.is_file():
            return
        places = enumerate(read_array(self.file, self.name))
        for index, entries in groupby(places, key=lambda item: _image_index(item[1])):
            if index is None:
                yield from (
                    self.fault("", place, "expected an object with a whole 'image_index'") for place, _ in entries
                )
            else:
                packed = zlib.compress(json.dumps(list(entries), separators=(",", ":")).encode(), 1)
                self._packed.setdefault(index, []).append(packed)

    def pop(self, index: int) -> list[Entry]:
        """Take out an image's entries, in the order of the file."""
        packed = self._packed.pop(index, [])
        return [(place, entry) for part in packed for place, entry in json.loads(zlib.decompress(part))]

    def rest(self) -> Iterator[Fault]:
        """What was not taken out: entries about images that are not there."""
        for index in sorted(self._packed):
            for place, _ in self.pop(index):
                yield self.fault("", place, f"image_index {index} is that of no scene")

    def fault(self, key: str, place: int, reason: str) -> Fault:
        """What is wrong with the entry at a place of the array."""
        return Fault(str(self.file), key, f"{self.name}[{place}]", reason)


def _image_index(entry: Any) -> int | None:
    index = entry.get("image_index") if isinstance(entry, Mapping) else None
    return index if type(index) is int and index >= 0 else None
