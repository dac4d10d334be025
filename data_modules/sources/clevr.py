"""CLEVR v1.0's layout, as released and as its generator and `data_modules.raw.clevr` write it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from data_modules.faults import BadInputError, Fault
from data_modules.shards import UNREADABLE, decode_json, encode_json
from data_modules.sources.by_image import ByImage, Entry
from data_modules.sources.clevr_records import NAMES, read_question, read_scene
from data_modules.sources.json_arrays import read_array
from data_modules.sources.source import Picture, Source, SourceSample
from kyvo.scene import SCHEMAS, SceneSchema

_TOGETHER = re.compile(r"(.+)_([^_]+)_scenes\.json")
_APART = re.compile(r"(.+)_([^_]+)_(\d+)\.json")
_PICTURE = re.compile(r"(.+)_([^_]+)_(\d+)\.(?:png|jpg)")
_SPLITS = ("train", "val", "test")
_JOINING = (*NAMES, "instruction_index", "target")
"""What an entry of the instructions says beside the instruction."""


class ClevrSource(Source):
    """CLEVR scenes with their questions, pictures and, where there are any, edits.

    | file | holds |
    |---|---|
    | `scenes/PREFIX_SPLIT_scenes.json` | {"info", "scenes": [...]} |
    | or `scenes/PREFIX_SPLIT_000000.json` | a scene each, as the generator leaves them; also under `scenes/SPLIT` |
    | `questions/PREFIX_SPLIT_questions.json` | {"info", "questions": [...]} |
    | `images/SPLIT/PREFIX_SPLIT_000000.png` | the picture; also under `images` |
    | `instructions/...` | edits, as `data_modules.raw.clevr` writes them |

    Read alike: `function` or `type` of a program's nodes, `value_inputs` or `side_inputs`, answers "yes" and "2" or
    true and 2, `relationships` or `relations`. Where a scene lacks them, relations and directions are CLEVR's, and the
    camera is recovered from the `pixel_coords` of its objects. That takes two objects: of fewer, the scene names no
    camera, which stands for the base camera. Pixel coordinates, boxes and masks keep the size of the published picture.

    A split with pictures and no scenes, as CLEVR's test split, gives pictures alone, with those questions that have
    answers. A root without a folder `images` gives scenes alone.

    Args:
        root: The folder `CLEVR_v1.0`.
        prefix: What the names of files start with; needed only where the folder holds several.
    """

    def __init__(self, root: Path, prefix: str | None = None) -> None:
        self.root = Path(root)
        self._wanted = prefix

    @property
    def schema(self) -> SceneSchema:
        """CLEVR's."""
        return SCHEMAS["clevr"]

    @cached_property
    def prefix(self) -> str:
        """What the names of files start with; BadInputError if there is no such thing, or a choice."""
        found = sorted({prefix for prefix, _ in self._files})
        if self._wanted in found:
            return self._wanted
        if self._wanted is None and len(found) == 1:
            return found[0]
        wanted = repr(self._wanted) if self._wanted else "one prefix, or the one wanted to be named"
        names = (
            "scenes/PREFIX_SPLIT_scenes.json, scenes/PREFIX_SPLIT_000000.json or images/SPLIT/PREFIX_SPLIT_000000.png"
        )
        reason = f"expected {wanted} among the files {names}, found {', '.join(found) or 'none'}"
        raise BadInputError(Fault(str(self.root), "", "", reason))

    def splits(self) -> tuple[str, ...]:
        """The splits that are there: train, val, test, then others by name."""
        chosen = self.prefix
        found = sorted(split for prefix, split in self._files if prefix == chosen)
        return (*(split for split in _SPLITS if split in found), *(split for split in found if split not in _SPLITS))

    @cached_property
    def _files(self) -> Mapping[tuple[str, str], list[Path]]:
        """By prefix and split: the file of all scenes, else the files of each, else the pictures."""
        return {
            **_sorted_by_split(_PICTURE, self.root.glob("images/*/*")),
            **_sorted_by_split(_APART, self.root.glob("scenes/**/*.json")),
            **_sorted_by_split(_TOGETHER, self.root.glob("scenes/*.json")),
        }

    def samples(self, split: str) -> Iterator[SourceSample | Fault]:
        """Each scene and after it its edits, with keys SPLIT-INDEX and SPLIT-INDEX-NUMBER."""
        if split not in self.splits():
            raise ValueError(f"{self.root} has the splits {', '.join(self.splits())}, not {split!r}")
        yield from _SplitReader(self.root, self.prefix, split, self.schema).read(self._files[self.prefix, split])


def _sorted_by_split(pattern: re.Pattern[str], paths: Iterable[Path]) -> dict[tuple[str, str], list[Path]]:
    """Paths by the prefix and split in their names, in order; other names are passed over."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(paths):
        match = pattern.fullmatch(path.name)
        if match:
            found.setdefault((match[1], match[2]), []).append(path)
    return found


@dataclass(frozen=True)
class _SceneEntry:
    """A scene as published; the record of one that is known by its picture alone holds the picture's name."""

    file: Path
    place: str
    record: Any
    known: bool = True


@dataclass(frozen=True)
class _Shot:
    """A published picture: where it lies, and its height and width."""

    path: Path
    size: tuple[int, int]


class _BadMemberError(ValueError):
    """A member that cannot be read."""

    def __init__(self, member: str, reason: object) -> None:
        super().__init__(str(reason))
        self.member = member


class _SplitReader:
    """Joins the scenes of a split with what is said about them."""

    def __init__(self, root: Path, prefix: str, split: str, schema: SceneSchema) -> None:
        self._split, self._stem, self._schema = split, f"{prefix}_{split}", schema
        self._pictured = (root / "images").is_dir()
        self._images = [root / "images" / split, root / "images"]
        self._edited_images = [root / "instructions" / "images" / split]
        self._questions = ByImage(root / "questions" / f"{self._stem}_questions.json", "questions")
        self._edits = ByImage(root / "instructions" / f"{self._stem}_instructions.json", "instructions")
        self._seen: set[int] = set()

    def read(self, files: list[Path]) -> Iterator[SourceSample | Fault]:
        """The split's samples, given the files of its scenes."""
        yield from self._questions.read()
        yield from self._edits.read()
        for file in files:
            for entry in _entries(file):
                yield from self._samples(entry)
        yield from self._questions.rest()
        yield from self._edits.rest()

    def _samples(self, entry: _SceneEntry) -> Iterator[SourceSample | Fault]:
        """A scene and its edits, or what is wrong with them."""
        try:
            index = self._index(entry.record)
        except ValueError as error:
            yield Fault(str(entry.file), "", entry.place, str(error))
            return
        key = f"{self._split}-{index:06d}"
        asked, edits = self._questions.pop(index), self._edits.pop(index)
        try:
            shot = self._own_shot(entry.record, index)
            members = {"scene.json": self._scene(entry.record, shot, "scene.json")} if entry.known else {}
        except _BadMemberError as error:
            yield Fault(str(entry.file), key, error.member, str(error))
            yield from (self._edits.fault(key, place, "the scene it starts from is bad") for place, _ in edits)
            return
        questions: list[bytes] = []
        yield from self._ask(asked, key, entry.known, questions)
        # As `encode_json` writes a list.
        answered = {"question.json": b"[" + b",".join(questions) + b"]"} if questions else {}
        yield SourceSample(key, members | answered, {"image": Picture(shot.path)} if shot else {})
        for number, (place, edit) in enumerate(edits):
            try:
                yield self._edit(key, number, members, shot, edit)
            except _BadMemberError as error:
                yield self._edits.fault(key, place, f"{error.member}: {error}")

    def _index(self, record: Any) -> int:
        """The number of a scene; ValueError if it has none or another scene has it too."""
        index = record.get("image_index") if isinstance(record, Mapping) else None
        if type(index) is not int or index < 0:
            raise ValueError(f"a scene should be an object with a whole 'image_index', got {str(record)[:80]}")
        if index in self._seen:
            raise ValueError(f"image_index {index} occurs more than once")
        self._seen.add(index)
        return index

    def _own_shot(self, record: Mapping[str, Any], index: int) -> _Shot | None:
        if not self._pictured:
            return None
        return _shot(self._images, record.get("image_filename", f"{self._stem}_{index:06d}.png"), "image")

    def _scene(self, record: Any, shot: _Shot | None, member: str) -> bytes:
        try:
            return encode_json(read_scene(record, shot.size if shot else None, self._schema))
        except ValueError as error:
            raise _BadMemberError(member, error) from error

    def _ask(self, asked: list[Entry], key: str, known: bool, questions: list[bytes]) -> Iterator[Fault]:
        """Add the records of an image's questions; those without answers are as published where scenes are missing."""
        for place, question in asked:
            if known or "answer" in question:
                try:
                    questions.append(encode_json(read_question(question)))
                except ValueError as error:
                    yield self._questions.fault(key, place, str(error))

    def _edit(
        self, key: str, number: int, members: Mapping[str, bytes], shot: _Shot | None, edit: Mapping[str, Any]
    ) -> SourceSample:
        target = edit.get("target")
        if not members or not isinstance(target, Mapping):
            raise _BadMemberError("target.scene.json", "expected an edit of a scene, and the edited one under 'target'")
        pictures = {}
        if shot and "image_filename" in target:
            after = _shot(self._edited_images, target["image_filename"], "target.image")
            pictures = {"image": Picture(shot.path), "target.image": Picture(after.path)}
        changed = {
            "instruction.json": _instruction(edit),
            "target.scene.json": self._scene(target, shot, "target.scene.json"),
        }
        given = edit.get("instruction_index")
        key = f"{key}-{given if type(given) is int else number}"
        return SourceSample(key, {**members, **changed}, pictures, edit=True)


def _instruction(edit: Mapping[str, Any]) -> bytes:
    """The record of an instruction without the scenes."""
    if not all(isinstance(edit.get(name), str) for name in ("text", "type")):
        raise _BadMemberError("instruction.json", f"expected words under 'text' and 'type', found {sorted(edit)}")
    try:
        return encode_json({name: value for name, value in edit.items() if name not in _JOINING})
    except ValueError as error:
        raise _BadMemberError("instruction.json", error) from error


def _entries(file: Path) -> Iterator[_SceneEntry]:
    """The scenes of a file: many, one, or a picture's."""
    picture = _PICTURE.fullmatch(file.name)
    if picture:
        yield _SceneEntry(file, "", {"image_index": int(picture[3]), "image_filename": file.name}, known=False)
    elif _TOGETHER.fullmatch(file.name):
        for place, record in enumerate(read_array(file, "scenes")):
            yield _SceneEntry(file, f"scenes[{place}]", record)
    else:
        yield _SceneEntry(file, "scene.json", _lone_scene(file))


def _lone_scene(file: Path) -> Any:
    """A scene with a file of its own; damage is one bad sample, so it's told by a text in the record's place."""
    try:
        return decode_json(file.read_bytes())
    except ValueError as error:
        return f"no JSON: {error}"


def _shot(folders: list[Path], name: Any, member: str) -> _Shot:
    """A picture by its name, of which only the header is read."""
    if not isinstance(name, str) or Path(name).name != name:
        raise _BadMemberError(member, f"'image_filename' should be the name of a file, got {name!r}")
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise _BadMemberError(member, f"there is no picture {name} in {folders[0]}")
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return _Shot(path, (image.height, image.width))
    except UNREADABLE as error:
        raise _BadMemberError(member, f"{path} is no picture: {error}") from error
