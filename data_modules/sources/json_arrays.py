"""Reading the elements of one long array in a JSON file without holding the file in memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from data_modules.faults import BadInputError, Fault

_CHUNK = 1 << 20
_LONGEST = 1 << 27
"""Characters after which a value that has not ended is taken for damage."""

_ENDS = tuple(",:]} \t\r\n")
"""What can follow a value."""

_NO_SPACE = re.compile(r"\S")


def read_array(path: Path, name: str) -> Iterator[Any]:
    """The elements of an array in a JSON file `{..., name: [...], ...}`, decoded one by one.

    Args:
        path: The file, whose top level is an object.
        name: Key of the array; values of keys before it are skipped, what follows it is not read.

    Raises:
        BadInputError: Where the file is cut off, is no JSON or has no such array.
    """
    with open(path, encoding="utf-8") as file:
        text = JsonText(path, file)
        try:
            _seek(text, name)
            yield from _elements(text)
        except UnicodeDecodeError as error:
            raise text.damage(f"not UTF-8: {error}") from error


def _seek(text: "JsonText", name: str) -> None:
    """Move behind the bracket that opens the array."""
    text.expect("{")
    while text.peek() != "}":
        key = text.value()
        text.expect(":")
        if key == name:
            return text.expect("[")
        text.value()
        if text.peek() != "}":
            text.expect(",")
    raise text.damage(f"expected an object with an array {name!r}, found no such key")


def _elements(text: "JsonText") -> Iterator[Any]:
    """The values up to the bracket that closes the array."""
    if text.peek() == "]":
        return
    yield text.value()
    while text.peek() != "]":
        text.expect(",")
        yield text.value()


class JsonText:
    """A window that moves over a file's text."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._text, self._place, self._before = "", 0, 0
        self._decode = json.JSONDecoder().raw_decode

    @property
    def position(self) -> int:
        """How many characters were passed."""
        return self._before + self._place

    def damage(self, reason: str) -> BadInputError:
        """The error that says what is wrong here."""
        return BadInputError(Fault(str(self._path), "", "", f"{reason} (character {self.position})"))

    def peek(self) -> str:
        """Move to the next character that is no space and return it; "" at the end."""
        while True:
            found = _NO_SPACE.search(self._text, self._place)
            self._place = found.start() if found else len(self._text)
            if found or not self._more(_CHUNK):
                return self._text[self._place : self._place + 1]

    def expect(self, character: str) -> None:
        """Pass a character; it's damage if there is another one."""
        found = self.peek()
        if found != character:
            raise self.damage(f"no JSON as expected: {character!r} should follow, found {found or 'the end'!r}")
        self._place += 1

    def value(self) -> Any:
        """Decode and pass the next value."""
        self.peek()
        wanted = _CHUNK
        while True:
            try:
                value, end = self._decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._place > _LONGEST or not self._more(wanted):
                    raise self.damage(f"no JSON: {getattr(error, 'msg', error)}") from error
            else:
                # A number that the end of the window cuts, as in "0.", reads as a shorter one.
                if self._text[end : end + 1] in _ENDS or not self._more(wanted):
                    self._place = end
                    return value
            wanted *= 2

    def _more(self, characters: int) -> bool:
        """Drop what was passed and read on; False, with nothing changed, at the end of the file."""
        ahead = self._file.read(characters)
        if ahead:
            self._before += self._place
            self._text, self._place = self._text[self._place :] + ahead, 0
        return bool(ahead)
