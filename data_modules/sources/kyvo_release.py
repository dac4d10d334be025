"""The released Kyvo data: scenes, text and image codes as ids, decoded through the released vocabularies."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_modules.faults import Fault
from data_modules.shards import encode_json, encode_npy
from data_modules.sources.json_table import JsonTable
from data_modules.sources.source import Source, SourceSample
from data_modules.spelling import spell
from kyvo.scene import Scene, SceneSchema
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

ReleaseName = Literal["clevr", "objaworld", "objectron"]
ReleasePreset = Literal["kyvo-release", "kyvo-release-objectron"]

ROUNDING = 0.05
"""How far a number of a scene's string may be from its token: the step of the paper's grid."""

_KINDS = {
    "appearance_no_relation": "appearance",
    "appearance_with_relation": "appearance_relation",
    "insertion_with_relation": "insert",
    "moving_with_relation": "move",
    "removal_with_relation": "remove",
}
"""Names of the files of test instructions, and what our worlds call these kinds."""

_TOKEN = re.compile(r"\[[A-Z_-]+\]|-?\d+\.\d{2,3}|[^\W\d]+")


@dataclass(frozen=True)
class ReleasePart:
    """Files of the release that are joined on their keys; an empty name is a file that there is none of.

    Args:
        name: What the part is called; its samples' keys begin with it.
        scenes: Scenes, before the edit where there is one: `{key: {"token_ids": [...], "string": ...}}`.
        images: Codes of their pictures in raster order: `{key: [256 integers from 0 to 1023]}`.
        texts: Questions or instructions, in the form of the scenes.
        answers: Answers to the questions.
        target_scenes: Scenes after the edit; they make the texts instructions.
        target_images: Codes of the pictures after the edit.
        kind: Type of the instructions.
    """

    name: str
    scenes: str
    images: str = ""
    texts: str = ""
    answers: str = ""
    target_scenes: str = ""
    target_images: str = ""
    kind: str = "edit"

    @property
    def files(self) -> dict[str, str]:
        """The files by field."""
        fields = ("scenes", "images", "texts", "answers", "target_scenes", "target_images")
        return {field: getattr(self, field) for field in fields if getattr(self, field)}


def clevr_parts(split: str) -> dict[str, tuple[ReleasePart, ...]]:
    """The published files of a split of CLEVR: scenes and edits, and by themselves the questions."""
    pairs = "merged_for_rendering_and_recognition"
    scenes = ReleasePart(
        "scenes", f"3d-scenes/{split}_tokenized_scenes_{pairs}.json", f"images/{split}_vqgan_indices_{pairs}.json"
    )
    questions = ReleasePart(
        "questions",
        f"3d-scenes/{split}_tokenized_scenes_for_vqa.json",
        f"images/{split}_vqgan_indices_for_vqa.json",
        f"text/{split}_vqa_questions.json",
        f"text/{split}_vqa_answers.json",
    )
    edits = [_edits("edits", split, ("", "_source", "_target"), "edit")] if split == "train" else []
    if split == "test":
        edits = [_test_edits(name, kind) for name, kind in _KINDS.items()]
    return {split: (scenes, *edits), f"{split}-questions": (questions,)}


def _edits(name: str, split: str, suffixes: tuple[str, str, str], kind: str) -> ReleasePart:
    text, source, target = suffixes
    return ReleasePart(
        name,
        f"3d-scenes/{split}_tokenized_scenes{source}.json",
        f"images/{split}_vqgan_indices{source}.json",
        f"text/{split}_text_instructions{text}.json",
        target_scenes=f"3d-scenes/{split}_tokenized_scenes{target}.json",
        target_images=f"images/{split}_vqgan_indices{target}.json",
        kind=kind,
    )


def _test_edits(name: str, kind: str) -> ReleasePart:
    folder = "instruction-following-eval"
    return ReleasePart(
        name,
        f"3d-scenes/{folder}-source/test_tokenized_scenes_{name}.json",
        f"images/{folder}-source/test_vqgan_indices_{name}.json",
        f"text/{folder}/test_text_instructions_{name}.json",
        target_scenes=f"3d-scenes/{folder}-target/test_tokenized_scenes_{name}.json",
        target_images=f"images/{folder}-target/test_vqgan_indices_{name}.json",
        kind=kind,
    )


def plain_parts(split: str) -> dict[str, tuple[ReleasePart, ...]]:
    """The published files of a split of ObjaWorld or Objectron."""
    scenes, images = f"3d-scenes/{split}_tokenized_scenes.json", f"images/{split}_vqgan_indices.json"
    return {split: (ReleasePart("scenes", scenes, images),)}


class KyvoReleaseSource(Source):
    """One data set of the release, such as `pretokenized-data/clevr`.

    Questions are splits of their own (`train-questions`), as they are about other scenes than the bulk of a split.

    Args:
        root: Folder of the data set, which holds `3d-scenes`, `images` and `text`.
        text: Folder or Hub id of the Llama 3 tokenizer, by which words and text are decoded.
        schema: Which data set it is.
        preset: The vocabulary; by default that with which the data set was released.
        parts: Files of each split, relative to the root; by default those of the release that are there.
        check_strings: Whether the published strings have to say the same as the ids. Only the ids are packed.
    """

    def __init__(
        self,
        root: Path,
        text: str | Path,
        schema: ReleaseName = "clevr",
        preset: ReleasePreset | None = None,
        parts: Mapping[str, Sequence[ReleasePart]] | None = None,
        check_strings: bool = True,
    ) -> None:
        self.root = Path(root)
        name: ReleasePreset = "kyvo-release-objectron" if schema == "objectron" else "kyvo-release"
        self.tokenizer = UnifiedTokenizer.from_preset(preset or name, text=text, schema=schema, clip="error")
        self.parts = dict(parts) if parts is not None else self._published(schema)
        self.check_strings = check_strings

    @property
    def schema(self) -> SceneSchema:
        """That of the data set."""
        return self.tokenizer.schema

    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""
        return tuple(self.parts)

    def samples(self, split: str) -> Iterator[SourceSample | Fault]:
        """Samples of the parts of a split, in the order of their scenes."""
        if split not in self.parts:
            raise ValueError(f"{self.root} has no split {split!r}, only {', '.join(self.parts) or 'none'}")
        for part in self.parts[split]:
            yield from _PartReader(self, split, part).samples()

    def _published(self, schema: ReleaseName) -> dict[str, tuple[ReleasePart, ...]]:
        """The published parts whose scenes are there."""
        maker = clevr_parts if schema == "clevr" else plain_parts
        found = {}
        for split in ("train", "test"):
            for name, parts in maker(split).items():
                here = tuple(part for part in parts if (self.root / part.scenes).is_file())
                found.update({name: here} if here else {})
        return found


class _UnreadableError(ValueError):
    """An entry of a file that is not as it should be."""

    def __init__(self, field: str, member: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.member = field, member


class _PartReader:
    """Joins the files of a part and decodes their ids."""

    def __init__(self, source: KyvoReleaseSource, split: str, part: ReleasePart) -> None:
        self.tokenizer, self.check_strings = source.tokenizer, source.check_strings
        self.part, self.prefix = part, f"{split}-{part.name}"
        self.tables = {field: JsonTable(source.root / name) for field, name in part.files.items()}

    def samples(self) -> Iterator[SourceSample | Fault]:
        """A sample or a fault for every key that one of the files has."""
        taken: set[str] = set()
        for table in self.tables.values():
            for key in table.duplicates:
                yield Fault(str(table.path), key, "", "the key occurs twice")
        for key in dict.fromkeys(key for table in self.tables.values() for key in table):
            name = f"{self.prefix}-{_clean(key)}"
            try:
                if name in taken:
                    raise _UnreadableError("scenes", "", f"another key is written {name!r} too")
                taken.add(name)
                yield self._sample(key, name)
            except _UnreadableError as error:
                yield Fault(str(self.tables[error.field].path), key, error.member, str(error))
        for table in self.tables.values():
            table.close()

    def _sample(self, key: str, name: str) -> SourceSample:
        entries = {field: self._entry(field, key) for field in self.tables}
        members = {"scene.json": self._scene_json("scenes", key, entries["scenes"])}
        edit = bool(self.part.target_scenes)
        if edit:
            members["target.scene.json"] = self._scene_json("target_scenes", key, entries["target_scenes"])
            instruction = {"text": self._text("texts", entries["texts"]), "type": self.part.kind}
            members["instruction.json"] = encode_json(instruction)
        elif "answers" in entries:
            question, answer = (self._text(field, entries[field]) for field in ("texts", "answers"))
            asked = {"question": question, "answer": answer, "type": answer_type(answer, self.tokenizer.schema)}
            members["question.json"] = encode_json([asked])
        for field, member in (("images", "image.codes.npy"), ("target_images", "target.image.codes.npy")):
            if field in entries:
                members[member] = encode_npy(self._codes(field, entries[field]))
        return SourceSample(name, members, edit=edit)

    def _entry(self, field: str, key: str) -> Any:
        if key not in self.tables[field]:
            having = next(table.path.name for table in self.tables.values() if key in table)
            raise _UnreadableError(field, "", f"the key is missing here; {having} has it")
        return self.tables[field][key]

    def _codes(self, field: str, entry: Any) -> np.ndarray:
        """Codes uint16 [256] of a picture."""
        length, size = self.tokenizer.image_length, self.tokenizer.vocabulary.image_codes
        if not isinstance(entry, list) or len(entry) != length:
            found = f"{len(entry)} entries" if isinstance(entry, list) else type(entry).__name__
            raise _UnreadableError(field, "", f"expected a list of {length} codes, got {found}")
        strange = next((code for code in entry if type(code) is not int or not 0 <= code < size), None)
        if strange is not None:
            raise _UnreadableError(field, "", f"codes are integers from 0 to {size - 1}, got {strange!r}")
        return np.array(entry, dtype=np.uint16)

    def _ids(self, field: str, entry: Any, modality: str) -> list[int]:
        """The ids between the markers of a modality."""
        ids = entry.get("token_ids") if isinstance(entry, dict) else None
        size = self.tokenizer.vocabulary.size
        if not isinstance(ids, list) or not all(type(index) is int and 0 <= index < size for index in ids):
            raise _UnreadableError(
                field, "token_ids", f"expected a list of integers from 0 to {size - 1} under token_ids"
            )
        bounds = [self.tokenizer.vocabulary.marker(f"[{modality}-{end}]") for end in ("START", "END")]
        if len(ids) < 2 or [ids[0], ids[-1]] != bounds:
            raise _UnreadableError(
                field, "token_ids", f"expected ids from {bounds[0]} to {bounds[1]}, got {_ends(ids)}"
            )
        return ids[1:-1]

    def _text(self, field: str, entry: Any) -> str:
        """Decoded text, which gives the same ids when it is encoded."""
        ids = self._ids(field, entry, "TEXT")
        if not all(index in self.tokenizer.vocabulary.text_range for index in ids):
            raise _UnreadableError(field, "token_ids", "there are ids of other things than text between the markers")
        text = self.tokenizer.text.decode(ids)
        if self.tokenizer.text.encode(text) != ids:
            raise _UnreadableError(field, "token_ids", f"{text!r} would be written with other ids")
        string = entry.get("string")
        if self.check_strings and isinstance(string, str):
            plain = string.replace("[TEXT-START]", "").replace("[TEXT-END]", "")
            if plain.split() != text.split():
                raise _UnreadableError(field, "string", f"the ids say {text!r}, the string {string!r}")
        return text

    def _scene_json(self, field: str, key: str, entry: Any) -> bytes:
        """A scene as JSON, with the key as the name of its picture."""
        scene, string = self._scene(field, entry), entry.get("string")
        if isinstance(string, dict):
            if not isinstance(string.get("file_path"), str):
                raise _UnreadableError(field, "string", "expected the picture's path under file_path")
            key = string["file_path"]
        return encode_json({"image_filename": key, **self.tokenizer.schema.write(scene)})

    def _scene(self, field: str, entry: Any) -> Scene:
        """A decoded scene, which gives the same ids when it is encoded."""
        ids = self._ids(field, entry, "SCENE")
        codec = self.tokenizer.codec
        scene, faults = codec.decode(ids)
        if faults:
            expected = " ".join(self.tokenizer.schema.markers)
            reason = f"{faults} of {len(scene) + faults} objects are not {expected}, each with its values"
            raise _UnreadableError(field, "token_ids", reason)
        if codec.encode(scene)[1:-1] != ids:
            raise _UnreadableError(field, "token_ids", "the decoded scene would be written with other ids")
        if self.check_strings and isinstance(entry.get("string"), str):
            self._compare(field, spell(self.tokenizer, ids), entry["string"])
        return scene

    def _compare(self, field: str, spelled: str, string: str) -> None:
        said, written = (
            [token for token in _TOKEN.findall(text) if "SCENE" not in token] for text in (spelled, string)
        )
        for first, second in zip(said, written, strict=False):
            if not _agree(first, second):
                raise _UnreadableError(field, "string", f"the ids say {first!r} where the string says {second!r}")
        if len(said) != len(written):
            reason = f"the ids say {len(said)} words, numbers and markers, the string {len(written)}"
            raise _UnreadableError(field, "string", reason)


def answer_type(answer: str, schema: SceneSchema) -> str:
    """What an answer is: ``boolean``, ``number``, the attribute whose value it is, or ``text``."""
    word = answer.strip()
    if word in ("True", "False"):
        return "boolean"
    if word.isdecimal():
        return "number"
    return next((attribute.name for attribute in schema.attributes if word in attribute.values), "text")


def _agree(first: str, second: str) -> bool:
    try:
        return abs(float(first) - float(second)) <= ROUNDING + 1e-9
    except ValueError:
        return first == second


def _ends(ids: Sequence[int]) -> str:
    return f"{ids[0]} to {ids[-1]}" if ids else "none"


def _clean(key: str) -> str:
    """A key without what the name of a file in a shard may not have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", re.sub(r"\.(png|jpg)$", "", key))
