"""Records: one key of a shard decoded, a sample together with the questions that may be asked about it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_modules.faults import BadInputError, Fault
from data_modules.shards import RawSample, read_shard
from data_modules.viewpoint import projection
from data_modules.worlds.masks import from_run_lengths
from kyvo.sample import Sample, Seen
from kyvo.scene import Attribute, Scene, SceneSchema

if TYPE_CHECKING:
    from kyvo.metrics.edits import Relation

CODED = (
    *("image.codes.npy", "scene.json", "question.json"),
    *("instruction.json", "target.image.codes.npy", "target.scene.json"),
    *("shapes.codes.npy", "target.shapes.codes.npy"),
)
"""The members that training on coded shards reads: everything but pixels."""

SHAPE_CODES = "shapes.codes.npy"
"""The member with the codes of a scene's shapes, uint16 [objects, N]; that of the target scene begins `target.`."""

CODES = {"image": "image.codes.npy", "target.image": "target.image.codes.npy"}
"""Where the codes of a picture lie, by the stem of its member."""

PICTURES = tuple(f"{stem}.{suffix}" for stem in CODES for suffix in ("png", "jpg"))


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
        pixels: Whether to decode also the pictures, their cameras, the masks and boxes of their objects, the names of
            their shapes and what relations instructions ask for (for evaluation).

    Raises:
        BadInputError: Naming shard, key and member, if a member is corrupt.
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
            shapes=None if schema.shape is None else shape_names(raw, "scene.json", schema.shape),
            target_shapes=None if schema.shape is None else shape_names(raw, "target.scene.json", schema.shape),
            camera=_camera(raw, "scene.json", image),
            target_camera=_camera(raw, "target.scene.json", target),
            rotations=_member(raw, "scene.json", _rotations),
            seen=_member(raw, "scene.json", _seen),
            target_seen=_member(raw, "target.scene.json", _seen),
            relation=_relation(raw),
        )
    return Record(sample, _member(raw, "question.json", _questions) or ())


def load_records(
    location: str | Path,
    samples: int,
    schema: SceneSchema,
    required: frozenset[str] = frozenset(),
    pixels: bool = False,
) -> list[Record | Fault]:
    """Decode the first samples of a shard; in the place of each that cannot be read stands what is wrong with it.

    Args:
        location: Path or URL of the tar file.
        samples: How many to decode.
        schema: How scenes are read.
        required: Members that every key must hold.
        pixels: Whether to decode pictures.
    """
    members = (*CODED, *PICTURES) if pixels else CODED
    records: list[Record | Fault] = []
    try:
        for raw in islice(read_shard(location, members), samples):
            records.append(read_record(raw, schema, required.intersection(members), pixels))
    except BadInputError as error:
        damage = error.fault
    else:
        damage = Fault(str(location), "", "", f"holds {len(records)} samples where index.json says {samples}")
    # A tar file cannot be read on behind its damage: all that should have come is lost, and each sample counts.
    return records + [damage] * (samples - len(records))


def read_record(raw: RawSample, schema: SceneSchema, required: Collection[str], pixels: bool) -> Record | Fault:
    """A key of a shard decoded, or what is wrong with it; see `decode_record`."""
    try:
        raw.require(required)
        return decode_record(raw, schema, pixels)
    except BadInputError as error:
        return error.fault


def _member(raw: RawSample, member: str, convert: Callable[[Any], Any]) -> Any:
    """The decoded and converted member; None if the sample has none."""
    if member not in raw.members:
        return None
    value = raw.decode(member)
    try:
        return convert(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise raw.fault(member, f"not as expected: {type(error).__name__}: {error}") from error


def _scene(raw: RawSample, member: str, schema: SceneSchema) -> tuple[Scene | None, list[int] | None]:
    """A scene and the run lengths of its mask; no scene as long as its shapes have no codes."""
    if schema.shape is None:
        return _member(raw, member, lambda value: (schema.read(value), value.get("mask"))) or (None, None)
    codes: np.ndarray | None = _member(raw, shape_codes_of(member), _shape_codes)
    if codes is None:
        return None, _member(raw, member, lambda value: value.get("mask"))
    key, rows = schema.shape.places[0][0], codes.tolist()
    # As many codes to a shape as there are: the tokenizer, which the schema knows nothing of, has its own number.
    coded = schema.with_shape_length(codes.shape[1])
    return _member(
        raw,
        member,
        lambda value: (
            coded.read({"objects": [o | {key: row} for o, row in zip(value["objects"], rows, strict=True)]}),
            value.get("mask"),
        ),
    ) or (None, None)


def shape_codes_of(member: str) -> str:
    """The member with the codes of the shapes of a scene's member."""
    return member.replace("scene.json", SHAPE_CODES)


def shape_names(raw: RawSample, member: str, attribute: Attribute) -> tuple[str, ...] | None:
    """What the shapes of a scene are called; None where the sample has no such scene, or its shapes no names.

    Args:
        raw: The sample.
        member: The scene's, `scene.json` or `target.scene.json`.
        attribute: The shape of the schema; its name is the key under which an object says what it is called.

    Raises:
        BadInputError: The scene is corrupt.
    """
    names = _member(raw, member, lambda value: tuple(item.get(attribute.name) for item in value["objects"]))
    return names if names is not None and all(isinstance(name, str) for name in names) else None


def _seen(scene: Mapping[str, Any]) -> tuple[Seen | None, ...] | None:
    """Where the objects of a scene show in its picture; None where the data does not say."""
    if not all("bbox" in one and "visible_pixels" in one for one in scene["objects"]):
        return None
    return tuple(None if one["bbox"] is None else _seen_object(one) for one in scene["objects"])


def _seen_object(raw: Mapping[str, Any]) -> Seen:
    x0, y0, x1, y1 = map(float, raw["bbox"])
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"bbox should be [x0, y0, x1, y1] with x0 < x1 and y0 < y1, got {raw['bbox']}")
    return Seen((x0, y0, x1, y1), float(raw["visible_pixels"]))


def _relation(raw: RawSample) -> "Relation | None":
    """Where an instruction wants a new or moved object."""
    if not {"instruction.json", "scene.json"} <= raw.members.keys():
        return None
    # Metrics take longer to import than shards to be made.
    from kyvo.metrics.edits import Relation

    source = raw.decode("scene.json")
    found: Relation | None = _member(raw, "instruction.json", lambda value: Relation.of(value, source))
    return found


def _camera(raw: RawSample, member: str, image: np.ndarray | None) -> np.ndarray | None:
    size = None if image is None else (image.shape[0], image.shape[1])
    return _member(raw, member, lambda scene: projection(scene, size))


def _rotations(scene: Mapping[str, Any]) -> np.ndarray | None:
    """How the boxes of a scene are turned, float64 [objects, 3, 3]; None where the data does not say."""
    found = [one.get("R_cam") for one in scene["objects"]]
    if any(one is None for one in found):
        return None
    rotations = np.array(found, dtype=np.float64).reshape(-1, 3, 3)
    if not np.isfinite(rotations).all():
        raise ValueError("R_cam should be 3 x 3 finite numbers")
    return rotations


def _shape_codes(value: np.ndarray) -> np.ndarray:
    if value.ndim != 2 or value.dtype != np.uint16:
        raise ValueError(f"expected codes uint16 [objects, N], got {value.dtype} {list(value.shape)}")
    return value


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
