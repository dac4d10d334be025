"""Scenes to ids and back, from the table of a schema."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from kyvo.clevr import DIRECTIONS
from kyvo.scene import Attribute, Scene, SceneObject, SceneSchema, Value
from kyvo.tokenizers.numbers import Clip, Numbers
from kyvo.tokenizers.text import TextTokenizer
from kyvo.tokenizers.vocabulary import Vocabulary

ObjectOrder = Literal["given", "left-to-right"]


@dataclass(frozen=True)
class WordField:
    """Words of an attribute as text ids, each with a leading space, so that " cube" is one id where text has it."""

    attribute: Attribute
    words: dict[str, tuple[int, ...]]

    @cached_property
    def _by_ids(self) -> dict[tuple[int, ...], str]:
        return {ids: word for word, ids in self.words.items()}

    def encode(self, value: Value) -> tuple[int, ...]:
        """Text ids of a word; ValueError lists the legal words."""
        ids = self.words.get(value) if isinstance(value, str) else None
        if ids is None:
            raise ValueError(f"{value!r} is none of {', '.join(self.words)}")
        return ids

    def decode(self, ids: Sequence[int]) -> Value | None:
        """The word, or None."""
        return self._by_ids.get(tuple(ids))


@dataclass(frozen=True)
class NumberField:
    """Numbers of an attribute, one id a quantity."""

    attribute: Attribute
    numbers: Numbers
    offset: int
    clip: Clip

    @cached_property
    def _values(self) -> list[dict[int, float]]:
        grids = [self.numbers.grid(quantity) for quantity in self.attribute.quantities]
        return [
            {self.offset + index: value for index, value in zip(grid.indices, grid.values, strict=True)}
            for grid in grids
        ]

    def encode(self, value: Value) -> list[int]:
        """Number ids; ValueError names the quantity and its range."""
        quantities = self.attribute.quantities
        if isinstance(value, str) or len(value) != len(quantities):
            raise ValueError(f"expected {len(quantities)} numbers ({', '.join(quantities)}), got {value!r}")
        encode, offset, clip = self.numbers.encode, self.offset, self.clip
        return [offset + encode(number, quantity, clip) for number, quantity in zip(value, quantities, strict=True)]

    def decode(self, ids: Sequence[int]) -> Value | None:
        """The numbers, or None if one is missing or not of its quantity's grid."""
        if len(ids) != len(self._values):
            return None
        found = [values.get(index) for values, index in zip(self._values, ids, strict=True)]
        return None if None in found else tuple(value for value in found if value is not None)


@dataclass(frozen=True)
class ShapeField:
    """Codes of a 3D shape, a fixed number of them."""

    attribute: Attribute
    codes: range

    def encode(self, value: Value) -> list[int]:
        """Shape ids; ValueError says how many codes of which range were expected."""
        count, size = self.attribute.codes, len(self.codes)
        if isinstance(value, str) or len(value) != count or not (min(value) >= 0 and max(value) < size):
            got = repr(value) if isinstance(value, str) else f"{len(value)} up to {max(value, default=0)}"
            raise ValueError(f"expected {count} shape codes from 0 to {size - 1}, got {got}")
        return [self.codes.start + int(code) for code in value]

    def decode(self, ids: Sequence[int]) -> Value | None:
        """The codes, or None if there are too few, too many or others."""
        if len(ids) != self.attribute.codes or not all(index in self.codes for index in ids):
            return None
        return tuple(index - self.codes.start for index in ids)


Field = WordField | NumberField | ShapeField


class SceneCodec:
    """Writes scenes as ids and reads them back.

    Args:
        schema: the attributes of an object.
        vocabulary: ids of markers, numbers and shape codes.
        numbers: the number grids.
        text: the text tokenizer, for words.
        object_order: as in the scene, or from left to right as a camera without jitter sees them.
        clip: what to do with numbers outside their grid.
    """

    def __init__(
        self,
        schema: SceneSchema,
        vocabulary: Vocabulary,
        numbers: Numbers,
        text: TextTokenizer,
        object_order: ObjectOrder,
        clip: Clip,
    ) -> None:
        self.schema, self.object_order = schema, object_order
        self._markers = vocabulary.marker_range
        self.start, self.end = vocabulary.marker("[SCENE-START]"), vocabulary.marker("[SCENE-END]")
        self.open, self.close = vocabulary.marker("[OBJECT-START]"), vocabulary.marker("[OBJECT-END]")
        self.fields: list[tuple[int, Field]] = [
            (vocabulary.marker(attribute.marker), _field(attribute, vocabulary, numbers, text, clip))
            for attribute in schema.attributes
        ]

    def encode(self, scene: Scene) -> list[int]:
        """Ids of a scene between its markers.

        Raises:
            ValueError: naming the object (counted as in the scene), the attribute and what is allowed.
        """
        ids = [self.start]
        for item in self._ordered(scene):
            ids.append(self.open)
            for marker, field in self.fields:
                ids.append(marker)
                try:
                    ids += field.encode(item[field.attribute.name])
                except (KeyError, ValueError) as error:
                    raise ValueError(self._fault(scene, item, field, error)) from error
            ids.append(self.close)
        ids.append(self.end)
        return ids

    def decode(self, ids: Sequence[int]) -> tuple[Scene, int]:
        """Scene and number of faults of the ids between the scene's markers; objects with a fault are left out."""
        objects: list[SceneObject] = []
        bodies, faults = self._bodies(ids)
        for body in bodies:
            item = self._object(body)
            if item is None:
                faults += 1
            else:
                objects.append(item)
        return Scene(tuple(objects)), faults

    def _bodies(self, ids: Sequence[int]) -> tuple[list[list[int]], int]:
        """What lies between object markers, and the number of unclosed objects and of runs of stray ids."""
        bodies: list[list[int]] = []
        current: list[int] | None = None
        faults, stray = 0, False
        for index in ids:
            if index == self.open:
                faults += current is not None
                current, stray = [], False
            elif current is None:
                faults += not stray
                stray = True
            elif index == self.close:
                bodies.append(current)
                current = None
            else:
                current.append(index)
        return bodies, faults + (current is not None)

    def _object(self, body: Sequence[int]) -> SceneObject | None:
        starts = [place for place, index in enumerate(body) if index in self._markers]
        if [body[place] for place in starts] != [marker for marker, _ in self.fields] or starts[0] != 0:
            return None
        values: dict[str, Value] = {}
        for (_, field), start, stop in zip(self.fields, starts, [*starts[1:], len(body)], strict=True):
            value = field.decode(body[start + 1 : stop])
            if value is None:
                return None
            values[field.attribute.name] = value
        return SceneObject(values)

    def _ordered(self, scene: Scene) -> Sequence[SceneObject]:
        if self.object_order == "given":
            return scene.objects
        return sorted(scene.objects, key=self._column)

    def _column(self, item: SceneObject) -> float:
        """Grows from the left of the picture to its right."""
        if self.schema.position("camera_x"):
            return self._number(item, "camera_x") / max(self._number(item, "depth"), 1e-6)
        x, y, _ = DIRECTIONS["right"]
        return x * self._number(item, "x") + y * self._number(item, "y")

    def _number(self, item: SceneObject, quantity: str) -> float:
        place = self.schema.position(quantity)
        if place is None:
            raise ValueError(f"schema {self.schema.name!r} has no {quantity!r} to order objects from left to right by")
        return float(item[place[0]][place[1]])

    def _fault(self, scene: Scene, item: SceneObject, field: Field, error: Exception) -> str:
        number = next(index for index, other in enumerate(scene.objects) if other is item)
        reason = "is missing" if isinstance(error, KeyError) else str(error)
        return f"object {number}, attribute {field.attribute.name!r} ({self.schema.name}): {reason}"


def _field(attribute: Attribute, vocabulary: Vocabulary, numbers: Numbers, text: TextTokenizer, clip: Clip) -> Field:
    if attribute.kind == "word":
        return WordField(attribute, {word: tuple(text.encode(f" {word}")) for word in attribute.values})
    if attribute.kind == "numbers":
        return NumberField(attribute, numbers, vocabulary.number_range.start, clip)
    if not vocabulary.shape_codes:
        raise ValueError(f"attribute {attribute.name!r} holds shape codes, of which the vocabulary has none")
    return ShapeField(attribute, vocabulary.shape_range)
