"""Schema files: the attributes of a data set's objects and its number grids, written by a user in YAML."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kyvo.scene import Attribute, SceneSchema
from kyvo.tokenizers.numbers import Numbers, circle_labels, geometric_labels, linear_labels, one_family_each
from kyvo.tokenizers.presets import STRUCTURE

_MARKER = re.compile(r"\[[A-Z][A-Z0-9_-]*\]")
_ATTRIBUTE_KEYS = ("name", "marker", "kind", "values", "quantities", "codes", "keys")
_GRIDS: dict[frozenset[str], Callable[..., tuple[str, ...]]] = {
    frozenset(("low", "high", "step")): lambda low, high, step: linear_labels(f"{low}", f"{high}", f"{step}"),
    frozenset(("low", "high", "count")): geometric_labels,
    frozenset(("count",)): circle_labels,
}
_EXPECTED = "{low, high, step}, {low, high, count} for equal ratios, or {count, angle: true} around the circle"


@dataclass(frozen=True)
class SchemaFile:
    """What a schema file says.

    Args:
        schema: the attributes of an object.
        numbers: the number tokens, one family a quantity; None where no attribute holds numbers.
    """

    schema: SceneSchema
    numbers: Numbers | None


def read_schema_file(path: str | Path) -> SchemaFile:
    """Read a schema from YAML: ``name``, ``attributes`` and, for each quantity of theirs, a grid under ``numbers``.

    ``{low, high, step}`` is a linear grid, ``{low, high, count}`` one of equal ratios, ``{count, angle: true}`` goes
    around the circle in radians; ``angle: true`` also wraps a linear one.

    Raises:
        ValueError: naming the file, the attribute or quantity, what was expected and what came.
    """
    import yaml

    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such schema file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    try:
        return _schema_file(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _schema_file(raw: Any) -> SchemaFile:
    entries = _mapping(raw, "the file", required=("name", "attributes"), optional=("numbers",))
    if not isinstance(entries["name"], str) or not isinstance(entries["attributes"], list) or not entries["attributes"]:
        raise ValueError("expected name: a word, and attributes: a list of at least one")
    attributes = tuple(_attribute(place, one) for place, one in enumerate(entries["attributes"]))
    for what in ("name", "marker"):
        _all_differ([getattr(one, what) for one in attributes], f"the {what}s of attributes")
    quantities = [quantity for one in attributes for quantity in one.quantities]
    _all_differ(quantities, "the quantities of attributes")
    return SchemaFile(SceneSchema(entries["name"], attributes), _numbers(entries.get("numbers", {}), quantities))


def _attribute(place: int, raw: Any) -> Attribute:
    where = f"attribute {raw['name']!r}" if isinstance(raw, dict) and "name" in raw else f"attribute number {place + 1}"
    entries = _mapping(raw, where, required=("name", "marker"), optional=_ATTRIBUTE_KEYS[2:])
    name, marker = entries["name"], entries["marker"]
    if not isinstance(name, str) or not isinstance(marker, str) or not _MARKER.fullmatch(marker):
        raise ValueError(f'{where}: expected a word as name and a marker like "[SIZE]", got {name!r} and {marker!r}')
    if marker in STRUCTURE:
        raise ValueError(f"{where}: the marker {marker} has a meaning of its own; these have: {' '.join(STRUCTURE)}")
    kind = entries.get("kind", "numbers" if "quantities" in entries else "word")
    if kind not in ("word", "numbers", "shape"):
        raise ValueError(f"{where}: kind is word, numbers or shape, not {kind!r}")
    checks = {"values": _words, "quantities": _words, "codes": _codes, "keys": _keys}
    given: dict[str, Any] = {key: check(entries[key], where) for key, check in checks.items() if key in entries}
    return Attribute(name, marker, kind, **given)


def _mapping(raw: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    """The mapping itself, if its keys are as they should be."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected a mapping with {', '.join(required)}, got {type(raw).__name__}")
    unknown = [key for key in raw if key not in (*required, *optional)]
    missing = [key for key in required if key not in raw]
    if unknown or missing:
        found = f"unknown key {unknown[0]!r}" if unknown else f"key {missing[0]!r} is missing"
        raise ValueError(f"{where}: {found}; expected {', '.join(required)} and perhaps {', '.join(optional)}")
    return raw


def _words(raw: Any, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(word, str) and word.strip() for word in raw):
        # YAML reads a bare yes, no, on, off or 12 as something else than a word.
        strange = [word for word in raw if not isinstance(word, str)] if isinstance(raw, list) else [raw]
        raise ValueError(f"{where}: expected a list of words, got {strange[0] if strange else raw!r} (quotes may help)")
    _all_differ(raw, where)
    return tuple(raw)


def _codes(raw: Any, where: str) -> int:
    if type(raw) is not int or raw < 1:
        raise ValueError(f"{where}: codes is how many codes make a shape, got {raw!r}")
    return raw


def _keys(raw: Any, where: str) -> tuple[tuple[str, int], ...]:
    if not isinstance(raw, dict) or not all(isinstance(key, str) and type(raw[key]) is int for key in raw):
        raise ValueError(f"{where}: keys says how many values lie under which JSON keys, {{name: count}}, got {raw!r}")
    return tuple(raw.items())


def _all_differ(entries: list[str], where: str) -> None:
    twice = [entry for place, entry in enumerate(entries) if entry in entries[:place]]
    if twice:
        raise ValueError(f"{where} should differ from each other; {twice[0]!r} occurs twice")


def _numbers(raw: Any, quantities: list[str]) -> Numbers | None:
    grids = _mapping(raw, "numbers", required=tuple(quantities), optional=())
    if not quantities:
        return None
    parts = {quantity: _labels(quantity, grids[quantity]) for quantity in quantities}
    return one_family_each(parts, tuple(quantity for quantity in quantities if grids[quantity].get("angle")))


def _labels(quantity: str, raw: Any) -> tuple[str, ...]:
    """The numbers of a quantity, as labels."""
    where = f"numbers of {quantity!r}"
    grid: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    limits = {key: value for key, value in grid.items() if key != "angle"}
    maker = _GRIDS.get(frozenset(limits))
    if maker is None or not isinstance(grid.get("angle", False), bool) or (len(limits) == 1 and not grid.get("angle")):
        raise ValueError(f"{where}: expected {_EXPECTED}, got {raw!r}")
    for key, value in limits.items():
        whole = key == "count"
        if type(value) not in ((int,) if whole else (int, float)) or not math.isfinite(value):
            raise ValueError(f"{where}: {key} should be a{' whole' if whole else ''} number, got {value!r}")
    return _ascending(maker, limits, where)


def _ascending(maker: Callable[..., tuple[str, ...]], limits: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if "count" in limits and (limits["count"] < 2 or not 0 < limits.get("low", 1) < limits.get("high", 2)):
        raise ValueError(f"{where}: expected 0 < low < high and a count of at least 2, got {dict(limits)}")
    try:
        labels = maker(**limits)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{where}: {error}") from error
    if not all(low < high for low, high in pairwise(map(float, labels))):
        raise ValueError(f"{where}: neighbours differ by less than the digits they are written with: {dict(limits)}")
    return labels
