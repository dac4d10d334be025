"""Reading JSON and JSON lines; what is wrong is said with the file's name and the line."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Content = TypeVar("Content")


def read_json(path: Path) -> Any:
    """The content of a JSON file, NaN and Infinity among it, as Python writes them.

    Raises:
        ValueError: Not JSON.
        OSError: The file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each after where it stands ("FILE, line 3"); empty lines are left out.

    Raises:
        ValueError: A line that is not a JSON object.
        OSError: The file cannot be read.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{place} is not JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("key"), str):
            raise ValueError(f"{place} should be an object with a 'key'")
        yield place, content


def line_files(path: Path) -> list[Path]:
    """The files of JSON lines that a path names: itself, those of a folder, or those that fit a pattern with "*".

    Raises:
        ValueError: There is none.
    """
    if "*" in path.name:
        found = sorted(path.parent.glob(path.name))
    else:
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not found:
        raise ValueError(f"there are no .jsonl files at {path}")
    return found


def by_key(found: Iterable[tuple[str, Content]], place: str, noun: str) -> dict[str, Content]:
    """What was read, by key.

    Args:
        found: Keys and contents.
        place: Where they were read.
        noun: What one of them is called.

    Raises:
        ValueError: Two have the same key, or there is none.
    """
    contents: dict[str, Content] = {}
    for key, content in found:
        if key in contents:
            raise ValueError(f"{place} holds two {noun}s with the key {key!r}")
        contents[key] = content
    if not contents:
        raise ValueError(f"{place} holds no {noun}")
    return contents
