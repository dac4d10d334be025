"""CLEVR v1.0's layout, written; `data_modules.sources.clevr` reads it."""

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from data_modules.shards import decode_json, encode_json
from data_modules.worlds.questions import FAMILIES

_SPELLED = {"True": "yes", "False": "no"}
_SUFFIXES = ("png", "jpg")

Members = Mapping[str, bytes]


def write(
    out: Path,
    split: str,
    scenes: Iterable[tuple[str, Members]],
    edits: Iterable[tuple[str, Members]] = (),
    prefix: str = "CLEVR",
) -> None:
    """Write a split of a world in CLEVR v1.0's layout.

    | file | holds |
    |---|---|
    | `images/SPLIT/PREFIX_SPLIT_000000.png` | the pictures, byte for byte as they come |
    | `scenes/PREFIX_SPLIT_scenes.json` | {"info", "scenes"}: v1.0's keys, and all others that the scenes have |
    | `questions/PREFIX_SPLIT_questions.json` | {"info", "questions"}: v1.0's keys and spelling, and `type`, `family` |
    | `instructions/PREFIX_SPLIT_instructions.json` | {"info", "instructions"}, see below |
    | `instructions/images/SPLIT/PREFIX_SPLIT_000000-0.png` | the pictures of edited scenes, if the edits have any |

    An instruction is its own record with three more keys: `image_index` of the scene it starts from, its number among
    that scene's (`instruction_index`), and the edited scene (`target`).

    The bytes depend on what is written alone. The JSON files appear under their names only once the split is complete.

    Args:
        out: The folder; created if need be.
        split: Name of the split, without underscores.
        scenes: Keys ending in the number of the scene ("train-000012") and members `scene.json`, `image.png` or
            `image.jpg`, and perhaps `question.json`.
        edits: Keys of scenes with the number of the edit ("train-000012-0") and members `scene.json`,
            `instruction.json`, `target.scene.json`, and perhaps `target.image.png`; consumed after all scenes.
        prefix: What the names of files start with.

    Raises:
        ValueError: If a scene has no picture or number, or an edit starts from no scene that was written.
    """
    if not split or "_" in split:
        raise ValueError(f"a split in CLEVR's layout has a name without underscores, got {split!r}")
    with ExitStack() as files:
        writer = _SplitWriter(out, split, prefix, files)
        for key, members in scenes:
            writer.scene(key, members)
        for key, members in edits:
            writer.edit(key, members)


class _Array:
    """A JSON file {"info": ..., NAME: [...]} that grows by one element a line."""

    def __init__(self, file: BinaryIO, info: Mapping[str, Any], name: str) -> None:
        self._file, self.length = file, 0
        file.write(b'{"info":' + encode_json(info) + b',"' + name.encode() + b'":[')

    def append(self, element: Mapping[str, Any]) -> None:
        """Add an element."""
        self._file.write((b",\n" if self.length else b"\n") + encode_json(element))
        self.length += 1

    def end(self) -> None:
        """Close the brackets."""
        self._file.write(b"\n]}\n")


@contextmanager
def _array(path: Path, info: Mapping[str, Any], name: str) -> Iterator[_Array]:
    """A growing array, whose file has its name once all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        array = _Array(file, info, name)
        yield array
        array.end()
    os.replace(partial, path)


class _SplitWriter:
    def __init__(self, out: Path, split: str, prefix: str, files: ExitStack) -> None:
        self._out, self._split, self._stem, self._files = out, split, f"{prefix}_{split}", files
        self._arrays: dict[str, _Array] = {}
        self._written: dict[str, tuple[int, int]] = {}
        self._to("scenes")

    def _to(self, name: str) -> _Array:
        """The file of scenes, questions or instructions, begun if need be."""
        if name not in self._arrays:
            path = self._out / name / f"{self._stem}_{name}.json"
            info = {"split": self._split, "version": "1.0", "generator": "kyvo"}
            self._arrays[name] = self._files.enter_context(_array(path, info, name))
        return self._arrays[name]

    def scene(self, key: str, members: Members) -> None:
        """A scene, its picture and its questions."""
        index = _number(key)
        name = self._picture(self._out / "images" / self._split, f"{self._stem}_{index:06d}", "image", members)
        if name is None:
            raise ValueError(f"{key}: CLEVR's layout needs image.png or image.jpg, found {sorted(members)}")
        self._written[key] = (index, zlib.crc32(members["scene.json"]))
        names = {"split": self._split, "image_index": index, "image_filename": name}
        self._to("scenes").append(names | decode_json(members["scene.json"]))
        for record in decode_json(members.get("question.json", b"[]")):
            questions = self._to("questions")
            questions.append({**names, "question_index": questions.length, **_question(record)})

    def edit(self, key: str, members: Members) -> None:
        """An instruction and the scene that it leads to."""
        source, _, number = key.rpartition("-")
        index, checksum = self._written.get(source, (-1, 0))
        if checksum != zlib.crc32(members["scene.json"]):
            raise ValueError(f"{key}: an edit should start from a scene of the split, {source!r} is another or none")
        target = decode_json(members["target.scene.json"])
        folder = self._out / "instructions" / "images" / self._split
        name = self._picture(folder, f"{self._stem}_{index:06d}-{number}", "target.image", members)
        if name is not None:
            target = {"image_filename": name, **target}
        names = {"split": self._split, "image_index": index, "instruction_index": int(number)}
        self._to("instructions").append(names | decode_json(members["instruction.json"]) | {"target": target})

    @staticmethod
    def _picture(folder: Path, stem: str, member: str, members: Members) -> str | None:
        """Write a member's picture; its name, None if there is none."""
        suffix = next((suffix for suffix in _SUFFIXES if f"{member}.{suffix}" in members), None)
        if suffix is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}.{suffix}"
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(members[f"{member}.{suffix}"])
        os.replace(partial, path)
        return path.name


def _number(key: str) -> int:
    number = key.rpartition("-")[2]
    if not number.isdecimal():
        raise ValueError(f"a scene's key should end in its number, as train-000012 does, got {key!r}")
    return int(number)


def _question(record: Mapping[str, Any]) -> dict[str, Any]:
    """A question's record in v1.0's spelling; its family has the place among ours for a number."""
    family = record.get("family")
    numbered = {"question_family_index": FAMILIES.index(family)} if family in FAMILIES else {}
    return {**record, **numbered, "answer": _SPELLED.get(record["answer"], record["answer"])}
