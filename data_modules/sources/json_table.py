"""JSON tables: large JSON files that are one object, read an entry at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.faults import BadInputError, Fault
from data_modules.sources.json_arrays import JsonText

Span = tuple[int, int]
"""First byte and the byte after the last."""


class JsonTable:
    """A file `{key: value, ...}`, of which memory holds the keys and where their values lie.

    Args:
        path: The file.

    Raises:
        BadInputError: If there is no such file, or it is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.duplicates: list[str] = []
        """Keys that occur more than once; the first value counts."""
        self._places: dict[str, Span] = {}
        if not path.is_file():
            raise BadInputError(Fault(str(path), "", "", "there is no such file"))
        # Bytes are taken for Latin-1 while they are passed over, so that places in the text are places in the file.
        with open(path, encoding="latin-1", newline="") as file:
            self._file = open(path, "rb")  # noqa: SIM115  (closed by close)
            for name, span, value in _scan(JsonText(path, file)):
                key = name if name.isascii() else str(self._read(span))
                if key in self._places:
                    self.duplicates.append(key)
                else:
                    self._places[key] = value

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: str) -> Any:
        return self._read(self._places[key])

    def _read(self, span: Span) -> Any:
        """The JSON that lies there; BadInputError if it is not UTF-8."""
        self._file.seek(span[0])
        try:
            return json.loads(self._file.read(span[1] - span[0]))
        except UnicodeDecodeError as error:
            raise BadInputError(Fault(str(self.path), "", "", f"not UTF-8 after byte {span[0]}: {error}")) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _scan(text: JsonText) -> Iterator[tuple[str, Span, Span]]:
    """Each key, as far as it is ASCII, and where it and its value lie, of the object that a file holds."""
    text.expect("{")
    while text.peek() != "}":
        start, key = text.position, text.value()
        if not isinstance(key, str):
            raise text.damage(f"a key should be text, not {key!r:.40}")
        stop = text.position
        text.expect(":")
        text.peek()
        first = text.position
        text.value()
        yield key, (start, stop), (first, text.position)
        if text.peek() != "}":
            text.expect(",")
