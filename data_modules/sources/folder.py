"""A user's own data: folders of pictures and JSON files, with a schema in YAML."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_modules.faults import Fault
from data_modules.shards import decode_json, encode_json
from data_modules.sources.source import Picture, Source, SourceSample
from kyvo.scene import SceneSchema
from kyvo.schema_file import read_schema_file
from kyvo.tokenizers.scenes import NumberField

_FOLDERS = ("images", "scenes", "questions", "instructions", "target_images", "target_scenes")
_PICTURES = (".png", ".jpg", ".jpeg")


class FolderSource(Source):
    """Samples in `ROOT/SPLIT/`, each in files of its own whose name, without the suffix, is its key.

    `images/KEY.png` or `.jpg` and `scenes/KEY.json`: where one of the two folders is, each sample has its file in it.
    `questions/KEY.json`, a list of {question, answer, type}, for samples about which questions are asked.
    `instructions/KEY.json`, {text, type}, makes a further sample: the edit that leads from the picture and the scene to
    `target_images/KEY.png` and `target_scenes/KEY.json`, again one or both.

    Args:
        root: Folder of the splits.
        schema: YAML file of the attributes of an object and the number grids.

    Raises:
        ValueError: If there is no such folder, or the schema is not as it should be.
    """

    def __init__(self, root: Path, schema: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"{self.root} is no folder; expected one with a folder for each split")
        self._file = read_schema_file(schema)

    @property
    def schema(self) -> SceneSchema:
        """That of the YAML file."""
        return self._file.schema

    def splits(self) -> tuple[str, ...]:
        """Folders with pictures or scenes, by name."""
        folders = (path for path in sorted(self.root.iterdir()) if path.is_dir())
        return tuple(path.name for path in folders if (path / "images").is_dir() or (path / "scenes").is_dir())

    def samples(self, split: str) -> Iterator[SourceSample | Fault]:
        """Samples in the order of their keys, each edit after the sample it starts from."""
        if split not in self.splits():
            raise ValueError(f"{self.root} has no split {split!r}, only {', '.join(self.splits()) or 'none'}")
        folder = _SplitFolder(self.root / split)
        for key in folder.keys:
            edits = [self._edit] if folder.file("instructions", key) else []
            for make in (self._sample, *edits):
                try:
                    yield make(folder, key)
                except _BadFileError as error:
                    yield Fault(str(error.path), key, error.member, str(error))

    def _sample(self, folder: "_SplitFolder", key: str) -> SourceSample:
        members, pictures = self._state(folder, key)
        if folder.file("questions", key):
            members["question.json"] = folder.json("questions", key, "question.json", _check_questions)
        return SourceSample(key, members, pictures)

    def _edit(self, folder: "_SplitFolder", key: str) -> SourceSample:
        before, after = self._state(folder, key), self._state(folder, key, "target_")
        instruction = folder.json("instructions", key, "instruction.json", _check_instruction)
        members = {**before[0], "instruction.json": instruction, **after[0]}
        return SourceSample(f"{key}-edit", members, {**before[1], **after[1]}, edit=True)

    def _state(self, folder: "_SplitFolder", key: str, prefix: str = "") -> tuple[dict[str, bytes], dict[str, Picture]]:
        """Scene and picture, before or after an edit."""
        members, pictures, name = {}, {}, prefix.replace("_", ".")
        if not key or "." in key:
            raise _BadFileError(folder.root, "", "the name of a sample's files must hold no dot but that of the suffix")
        if not any(f"{prefix}{kind}" in folder.files for kind in ("images", "scenes")):
            raise _BadFileError(folder.root, "", f"expected a folder {prefix}scenes, {prefix}images or both")
        if f"{prefix}images" in folder.files:
            pictures[f"{name}image"] = Picture(folder.picture(f"{prefix}images", key, f"{name}image"))
        if f"{prefix}scenes" in folder.files:
            members[f"{name}scene.json"] = folder.json(f"{prefix}scenes", key, f"{name}scene.json", self._check_scene)
        return members, pictures

    def _check_scene(self, raw: Any) -> None:
        """ValueError if the JSON is no scene of the schema, or a number of it lies outside its grid.

        Shapes are not looked at: scenes name them, a shape tokenizer adds their codes.
        """
        if not isinstance(raw, dict):
            raise ValueError(f"expected a mapping with a list under 'objects', got {type(raw).__name__}")
        plain = replace(self.schema, attributes=tuple(one for one in self.schema.attributes if one.kind != "shape"))
        for place, item in enumerate(plain.read(raw)):
            for field in self._fields:
                try:
                    field.encode(item[field.attribute.name])
                except ValueError as error:
                    raise ValueError(f"object {place}, attribute {field.attribute.name!r}: {error}") from error

    @cached_property
    def _fields(self) -> list[NumberField]:
        numbers = self._file.numbers
        attributes = [attribute for attribute in self.schema.attributes if attribute.kind == "numbers"]
        return [] if numbers is None else [NumberField(attribute, numbers, 0, "error") for attribute in attributes]


class _BadFileError(ValueError):
    """A file that is not as it should be."""

    def __init__(self, path: Path, member: str, reason: str) -> None:
        super().__init__(reason)
        self.path, self.member = path, member


class _SplitFolder:
    """The files of a split, by key, in each of the folders that are there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {name: _by_key(root / name) for name in _FOLDERS if (root / name).is_dir()}

    @cached_property
    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted({key for files in self.files.values() for key in files})

    def file(self, folder: str, key: str) -> Path | None:
        """The file of a key; None if there is none."""
        return next(iter(self.files.get(folder, {}).get(key, ())), None)

    def picture(self, folder: str, key: str, member: str) -> Path:
        """The picture of a key."""
        found = self.files[folder].get(key, [])
        if len(found) != 1 or found[0].suffix.lower() not in _PICTURES:
            held = ", ".join(path.name for path in found) or "no file"
            raise _BadFileError(self.root / folder, member, f"expected {key}.png or {key}.jpg, found {held}")
        return found[0]

    def json(self, folder: str, key: str, member: str, check: Callable[[Any], None]) -> bytes:
        """The JSON file of a key, as it goes into a shard, once it is checked."""
        path = self.file(folder, key)
        if path is None or path.name != f"{key}.json":
            raise _BadFileError(self.root / folder / f"{key}.json", member, "there is no such file")
        try:
            value = decode_json(path.read_bytes())
            check(value)
        except ValueError as error:
            raise _BadFileError(path, member, str(error)) from error
        return encode_json(value)


def _by_key(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    return files


def _check_questions(raw: Any) -> None:
    if not isinstance(raw, list) or not raw:
        raise ValueError("expected a list of questions, [{question, answer, type}]")
    for place, one in enumerate(raw):
        _check_words(one, ("question", "answer", "type"), f"question {place}")


def _check_instruction(raw: Any) -> None:
    _check_words(raw, ("text", "type"), "an instruction")


def _check_words(raw: Any, names: tuple[str, ...], what: str) -> None:
    for name in names:
        if not isinstance(raw, dict) or not isinstance(raw.get(name), str) or not raw[name].strip():
            found = repr(raw.get(name)) if isinstance(raw, dict) else type(raw).__name__
            raise ValueError(f"{what} needs words under {', '.join(names)}; {name!r}: {found}")
