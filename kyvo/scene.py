"""Structured 3D scenes: objects with attributes, and the schema that says which attributes there are."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kyvo import clevr

Value = str | tuple[float, ...] | tuple[int, ...]
"""A word, numbers, or the codes of a 3D shape."""


@dataclass(frozen=True)
class Attribute:
    """One column of a schema: how an attribute is marked, which values it takes, where it lies in the JSON.

    Args:
        name: key of the value in a ``SceneObject``.
        marker: token that opens it in a sequence, such as ``[SIZE]``.
        kind: ``word`` (one of ``values``), ``numbers`` (one per quantity) or ``shape`` (codes of a 3D shape).
        values: the legal words.
        quantities: what each number measures (``x``, ``yaw``, ``width``, ...); it selects the number grid.
        codes: how many codes make one shape; 512 = 8 x 8 x 8 (paper, section D.2). The shape tokenizer decides it, not
            the data set: schemas that differ in nothing else are equal.
        keys: where the values lie in a JSON object, as (key, how many numbers); by default one key, the name. All codes
            of a shape lie under one, whatever number is given.
    """

    name: str
    marker: str
    kind: Literal["word", "numbers", "shape"] = "word"
    values: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    codes: int = field(default=512, compare=False)
    keys: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "word") != bool(self.values) or (self.kind == "numbers") != bool(self.quantities):
            raise ValueError(f"attribute {self.name!r} ({self.kind}): words need values, numbers need quantities")
        if self.kind == "shape" and len(self.keys) > 1:
            raise ValueError(f"attribute {self.name!r}: the codes of a shape lie under one key, got {self.keys}")
        if self.kind != "shape" and self.keys and sum(count for _, count in self.keys) != self._length:
            raise ValueError(f"attribute {self.name!r}: keys {self.keys} do not add up to {self._length} values")

    @property
    def _length(self) -> int:
        return {"word": 1, "numbers": len(self.quantities), "shape": self.codes}[self.kind]

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """JSON keys and how many values each holds."""
        if self.kind == "shape" or not self.keys:
            return ((self.keys[0][0] if self.keys else self.name, self._length),)
        return self.keys

    def read(self, raw: Mapping[str, Any]) -> Value:
        """Take this attribute out of one object of a scene's JSON; ValueError says what was expected."""
        first = self.places[0][0]
        if first not in raw:
            raise ValueError(f"key {first!r} is missing; found {sorted(raw)}")
        if self.kind == "word":
            return self._read_word(raw[first])
        return self._read_numbers(raw) if self.kind == "numbers" else self._read_codes(raw[first])

    def write(self, value: Value) -> dict[str, Any]:
        """JSON entries of a value: a word, a number for a key that holds one, else a list."""
        if isinstance(value, str):
            return {self.places[0][0]: value}
        if len(value) != self._length:
            raise ValueError(f"attribute {self.name!r} has {self._length} values, not {len(value)}")
        rest, entries = list(value), {}
        for key, count in self.places:
            head, rest = rest[:count], rest[count:]
            entries[key] = head[0] if count == 1 else head
        return entries

    def _read_word(self, raw: Any) -> str:
        # Asset names carry a variant after a hyphen ("bench-01"); the schema names the asset only.
        word = raw if raw in self.values else str(raw).partition("-")[0]
        if word not in self.values:
            raise ValueError(f"{raw!r} is none of {', '.join(self.values)}")
        return word

    def _read_numbers(self, raw: Mapping[str, Any]) -> tuple[float, ...]:
        found: list[Any] = []
        for key, _ in self.places:
            # The first key may hold them all: ObjaWorld writes [x, y, z] and a rotation, or [x, y, z, yaw].
            if len(found) < len(self.quantities):
                value = raw.get(key, [])
                found += value if isinstance(value, list | tuple) else [value]
        if len(found) != len(self.quantities) or not all(_is_number(value) for value in found):
            raise ValueError(f"expected finite numbers {', '.join(self.quantities)}, got {found}")
        return tuple(float(value) for value in found)

    def _read_codes(self, raw: Any) -> tuple[int, ...]:
        if not isinstance(raw, list | tuple) or len(raw) != self.codes or not all(type(code) is int for code in raw):
            raise ValueError(f"expected a list of {self.codes} integer codes")
        return tuple(raw)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class SceneObject:
    """One object: the value of each attribute of its schema; ``obj["color"]`` reads one."""

    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        return self.values[name]


@dataclass(frozen=True)
class Scene:
    """The objects of a scene, in the order of its JSON; numbers are as annotated, not rounded to any grid."""

    objects: tuple[SceneObject, ...] = ()

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[SceneObject]:
        return iter(self.objects)


@dataclass(frozen=True)
class SceneSchema:
    """The attributes that every object of a data set has, in the order in which they are written.

    Args:
        name: what the schema is called.
        attributes: the table from which serialiser, parser, grammar and metric keys are made.
    """

    name: str
    attributes: tuple[Attribute, ...]

    def __getitem__(self, name: str) -> Attribute:
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(f"schema {self.name!r} has no attribute {name!r}, only {[a.name for a in self.attributes]}")

    def __contains__(self, name: str) -> bool:
        return any(attribute.name == name for attribute in self.attributes)

    @property
    def markers(self) -> tuple[str, ...]:
        """Attribute markers in order."""
        return tuple(attribute.marker for attribute in self.attributes)

    @property
    def shape(self) -> Attribute | None:
        """The attribute that holds codes of a 3D shape; None where objects are told apart by words alone."""
        return next((attribute for attribute in self.attributes if attribute.kind == "shape"), None)

    def with_shape_length(self, codes: int | None) -> "SceneSchema":
        """The same schema with so many codes to a shape; itself for None."""
        if codes is None or self.shape is None or self.shape.codes == codes:
            return self
        return replace(self, attributes=tuple(replace(one, codes=codes) for one in self.attributes))

    def position(self, quantity: str) -> tuple[str, int] | None:
        """Attribute name and index of a quantity among its numbers; None where the schema lacks it."""
        for attribute in self.attributes:
            if quantity in attribute.quantities:
                return attribute.name, attribute.quantities.index(quantity)
        return None

    def read(self, raw: Mapping[str, Any]) -> Scene:
        """Read CLEVR-style JSON, ``{"objects": [{...}]}``; other keys are ignored.

        Raises:
            ValueError: naming the object, the attribute and what was allowed.
        """
        if not isinstance(raw.get("objects"), list):
            raise ValueError(f"a scene of schema {self.name!r} needs a list under 'objects'; found keys {sorted(raw)}")
        return Scene(tuple(self._read_object(index, item) for index, item in enumerate(raw["objects"])))

    def write(self, scene: Scene) -> dict[str, Any]:
        """The JSON that ``read`` reads."""
        return {"objects": [self._write_object(item) for item in scene]}

    def _read_object(self, index: int, raw: Any) -> SceneObject:
        if not isinstance(raw, Mapping):
            raise ValueError(f"object {index} of a {self.name!r} scene should be a mapping, not {type(raw).__name__}")
        values: dict[str, Value] = {}
        for attribute in self.attributes:
            try:
                values[attribute.name] = attribute.read(raw)
            except ValueError as error:
                raise ValueError(f"object {index}, attribute {attribute.name!r} ({self.name}): {error}") from error
        return SceneObject(values)

    def _write_object(self, item: SceneObject) -> dict[str, Any]:
        return {
            key: value for attribute in self.attributes for key, value in attribute.write(item[attribute.name]).items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON-ready values."""
        return {"name": self.name, "attributes": [vars(attribute).copy() for attribute in self.attributes]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "SceneSchema":
        """Inverse of ``to_dict``; lists are taken for tuples."""
        return cls(raw["name"], tuple(_attribute(entry) for entry in raw["attributes"]))


def _attribute(raw: Mapping[str, Any]) -> Attribute:
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return Attribute(**fields | {"keys": tuple((key, count) for key, count in raw.get("keys", ()))})


def is_schema_file(schema: SceneSchema | str | Path) -> bool:
    """Whether a schema is given as the path of a YAML file."""
    return not isinstance(schema, SceneSchema) and Path(schema).suffix in (".yaml", ".yml")


def get_schema(schema: SceneSchema | str | Path) -> SceneSchema:
    """A schema by name or from a YAML file, or the given schema itself; ValueError lists the known names."""
    if isinstance(schema, SceneSchema):
        return schema
    if is_schema_file(schema):
        from kyvo.schema_file import read_schema_file

        return read_schema_file(schema).schema
    if str(schema) not in SCHEMAS:
        raise ValueError(f"no schema is called {str(schema)!r}; there are {', '.join(SCHEMAS)}, or give a .yaml file")
    return SCHEMAS[str(schema)]


_ASSETS = ("person", "bench", "lamppost", "bird", "sofa", "table")
_OBJECTRON = ("bicycle", "books", "bottle", "camera", "cereal box", "chair", "cup", "laptop", "shoes")
_ARKITSCENES = (
    *("table", "bed", "sofa", "television", "refrigerator", "chair", "oven"),
    *("machine", "stove", "shelves", "sink", "cabinet", "bathtub", "toilet"),
)
_POSED = Attribute(
    "location", "[LOCATION]", "numbers", quantities=("x", "y", "z", "yaw"), keys=(("3d_coords", 3), ("rotation", 1))
)


def _omni3d(name: str, categories: tuple[str, ...]) -> SceneSchema:
    """Boxes in the camera frame (x right, y down, depth forward), metres, without rotation (paper, section A.2)."""
    center, sizes = ("camera_x", "camera_y", "depth"), ("width", "height", "length")
    return SceneSchema(
        name,
        (
            Attribute("category", "[CATEGORY]", values=categories),
            Attribute("center_cam", "[CENTER_CAM]", "numbers", quantities=center),
            Attribute("dimensions", "[DIMENSIONS]", "numbers", quantities=sizes),
        ),
    )


SCHEMAS: dict[str, SceneSchema] = {
    schema.name: schema
    for schema in (
        SceneSchema(
            "clevr",
            (
                Attribute("size", "[SIZE]", values=tuple(clevr.SIZES)),
                Attribute("color", "[COLOR]", values=tuple(clevr.COLORS)),
                Attribute("material", "[MATERIAL]", values=clevr.MATERIALS),
                Attribute("shape", "[SHAPE]", values=clevr.SHAPES),
                Attribute("location", "[LOCATION]", "numbers", quantities=("x", "y", "z"), keys=(("3d_coords", 3),)),
            ),
        ),
        # Yaw (radians) is the fourth number after [LOCATION]: no [POSE] among the published markers.
        SceneSchema("objaworld", (Attribute("shape", "[SHAPE]", values=_ASSETS), _POSED)),
        # The same as the paper prints it, with a marker of its own for the pose.
        SceneSchema(
            "objaworld-pose",
            (
                Attribute("shape", "[SHAPE]", values=_ASSETS),
                Attribute("location", "[LOCATION]", "numbers", quantities=("x", "y", "z"), keys=(("3d_coords", 3),)),
                Attribute("pose", "[POSE]", "numbers", quantities=("yaw",), keys=(("rotation", 1),)),
            ),
        ),
        SceneSchema("objaworld-shapes", (Attribute("shape", "[SHAPE]", "shape", keys=(("shape_codes", 512),)), _POSED)),
        _omni3d("objectron", _OBJECTRON),
        _omni3d("arkitscenes", _ARKITSCENES),
    )
}
"""Attributes of the data sets of the paper (sections A.1, A.2), by name."""
