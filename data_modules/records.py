"""Records: one key of a shard decoded, a sample together with the questions that may be asked about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.shards import RawSample, read_shard
from data_modules.worlds.masks import from_run_lengths
from kyvo.sample import Sample
from kyvo.scene import Scene, SceneSchema

CODED = (
    *("image.codes.npy", "scene.json", "question.json"),
    *("instruction.json", "target.image.codes.npy", "target.scene.json"),
)
"""The members that training reads: everything but pixels."""


@dataclass(frozen=True)
class Question:
    """A question about a scene, its answer ("True", "3", "red") and its type ("exist", "count", "query_color")."""

    text: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Record:
    """A sample of a shard and the questions about it (none for an edit).

    Args:
        sample: All but the questions; the text of an edit is its instruction.
        questions: In the order of the shard.
    """

    sample: Sample
    questions: tuple[Question, ...] = ()

    def ask(self, number: int) -> Sample:
        """The sample with one of its questions as text and the answer as target."""
        question = self.questions[number]
        key = f"{self.sample.key}-q{number}"
        return replace(self.sample, key=key, text=question.text, target_text=question.answer, kind=question.kind)


def decode_record(raw: RawSample, schema: SceneSchema, pixels: bool = False) -> Record:
    """Decode a key of a shard.

    Args:
        raw: The undecoded files. Each kind of member may be absent.
        schema: How `scene.json` is read.
        pixels: Whether to decode the pictures and the masks of their objects too (for evaluation).

    Raises:
        ValueError: Naming shard, key and member, if a member is corrupt.
    """
    scene, mask = _scene(raw, "scene.json", schema)
    target_scene, target_mask = _scene(raw, "target.scene.json", schema)
    text, kind = _member(raw, "instruction.json", _instruction) or (None, "")
    sample = Sample(
        key=raw.key,
        image=_member(raw, "image.codes.npy", _codes),
        scene=scene,
        text=text,
        target_image=_member(raw, "target.image.codes.npy", _codes),
        target_scene=target_scene,
        kind=kind,
    )
    if pixels:
        image, target = _pixels(raw, "image"), _pixels(raw, "target.image")
        sample = replace(
            sample,
            pixels=image,
            target_pixels=target,
            mask=_mask(raw, "scene.json", mask, image),
            target_mask=_mask(raw, "target.scene.json", target_mask, target),
        )
    return Record(sample, _member(raw, "question.json", _questions) or ())


def load_records(path: Path, samples: int, schema: SceneSchema, required: frozenset[str] = frozenset()) -> list[Record]:
    """Decode the first samples of a shard without their pictures.

    Args:
        path: The tar file.
        samples: How many to decode.
        schema: How scenes are read.
        required: Members that every key must hold, of those that training reads.

    Raises:
        ValueError: If the shard holds fewer samples, or one of them is corrupt or lacks a member.
    """
    records: list[Record] = []
    for raw in read_shard(path, CODED):
        if len(records) == samples:
            break
        raw.require(required.intersection(CODED))
        records.append(decode_record(raw, schema))
    if len(records) < samples:
        raise ValueError(f"{path} holds {len(records)} samples where index.json says {samples}")
    return records


def _member(raw: RawSample, member: str, convert: Callable[[Any], Any]) -> Any:
    """The decoded and converted member; None if the sample has none."""
    if member not in raw.members:
        return None
    value = raw.decode(member)
    try:
        return convert(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{raw.shard}: key {raw.key!r}: member {member!r} is not as expected: {reason}") from error


def _scene(raw: RawSample, member: str, schema: SceneSchema) -> tuple[Scene | None, list[int] | None]:
    return _member(raw, member, lambda value: (schema.read(value), value.get("mask"))) or (None, None)


def _codes(value: np.ndarray) -> np.ndarray:
    if value.ndim != 1 or value.dtype != np.uint16:
        raise ValueError(f"expected codes uint16 [N], got {value.dtype} {list(value.shape)}")
    return value.astype(np.int64)


def _instruction(value: Mapping[str, Any]) -> tuple[str, str]:
    return str(value["text"]), str(value["type"])


def _questions(value: list[Mapping[str, Any]]) -> tuple[Question, ...]:
    return tuple(Question(str(one["question"]), str(one["answer"]), str(one["type"])) for one in value)


def _pixels(raw: RawSample, name: str) -> np.ndarray | None:
    member = next((f"{name}.{suffix}" for suffix in ("png", "jpg") if f"{name}.{suffix}" in raw.members), None)
    return None if member is None else raw.decode(member)


def _mask(raw: RawSample, member: str, runs: list[int] | None, image: np.ndarray | None) -> np.ndarray | None:
    if runs is None or image is None:
        return None
    height, width = image.shape[:2]
    return _member(raw, member, lambda _: from_run_lengths(runs, (height, width)))
