"""Question templates in CLEVR's own file format: reading, and telling what is wrong with one.

A file is a JSON list of templates, a family named by the file. A template has `params` (named, typed slots), `text`
(wordings with the slots, optional parts in square brackets), `nodes` (a program whose composite functions such as
`filter_unique` stand for several) and `constraints`: NULL (the slot stays empty), NEQ (two slots differ) and OUT_NEQ
(two nodes' outputs differ). Further keys are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_modules.worlds.clevr import ATTRIBUTES
from data_modules.worlds.placement import RELATIONS
from data_modules.worlds.programs import FILTERED

OWN = Path(__file__).with_name("question_templates")
"""The folder of the package's templates."""

ATTRIBUTE_TYPES = tuple(name.capitalize() for name in FILTERED)
"""Types of the four slots of a description, in the order in which composite functions take them."""

DOMAINS: dict[str, tuple[str, ...]] = {
    **{name.capitalize(): ATTRIBUTES[name] for name in FILTERED},
    "Relation": RELATIONS,
}
"""Values of the types that a slot can have."""

_SLOT = re.compile(r"<[^<>]+>")


@dataclass(frozen=True)
class Signature:
    """Types of a function's inputs, of the slots it takes its values from, and of its output."""

    inputs: tuple[str, ...]
    slots: tuple[str, ...]
    output: str


def _signatures() -> dict[str, Signature]:
    group, one = "ObjectSet", "Object"
    table = {
        "scene": Signature((), (), group),
        "unique": Signature((group,), (), one),
        "relate": Signature((one,), ("Relation",), group),
        "union": Signature((group, group), (), group),
        "intersect": Signature((group, group), (), group),
        "count": Signature((group,), (), "Integer"),
        "exist": Signature((group,), (), "Bool"),
        "equal_object": Signature((one, one), (), "Bool"),
        **{name: Signature(("Integer", "Integer"), (), "Bool") for name in ("equal_integer", "less_than")},
        "greater_than": Signature(("Integer", "Integer"), (), "Bool"),
    }
    for name, kind in zip(FILTERED, ATTRIBUTE_TYPES, strict=True):
        table[f"filter_{name}"] = Signature((group,), (kind,), group)
        table[f"query_{name}"] = Signature((one,), (), kind)
        table[f"same_{name}"] = Signature((one,), (), group)
        table[f"equal_{name}"] = Signature((kind, kind), (), "Bool")
    for ending, output in (("", group), ("_unique", one), ("_count", "Integer"), ("_exist", "Bool")):
        table[f"filter{ending}"] = Signature((group,), ATTRIBUTE_TYPES, output)
        table[f"relate_filter{ending}"] = Signature((one,), ("Relation", *ATTRIBUTE_TYPES), output)
    return table


SIGNATURES = _signatures()
"""All functions of a template's nodes."""


@dataclass(frozen=True)
class TemplateNode:
    """One node: its function, the nodes it reads, and the slots that its values fill."""

    function: str
    inputs: tuple[int, ...]
    slots: tuple[str, ...]

    @property
    def composite(self) -> bool:
        """Whether it stands for several functions, of which the filters may be absent."""
        return SIGNATURES[self.function].slots[-4:] == ATTRIBUTE_TYPES


@dataclass(frozen=True)
class Template:
    """A template that was found to be sound.

    Args:
        family: Name of its file.
        texts: Its wordings; the first one is the plainest.
        nodes: Its program, in topological order.
        types: Type of each slot.
        empty: Slots that stay empty (NULL).
        unequal: Pairs of slots that differ (NEQ).
        apart: Pairs of nodes whose outputs differ (OUT_NEQ).
    """

    family: str
    texts: tuple[str, ...]
    nodes: tuple[TemplateNode, ...]
    types: Mapping[str, str]
    empty: frozenset[str]
    unequal: tuple[tuple[str, str], ...]
    apart: tuple[tuple[int, int], ...]

    def answers(self, objects: int) -> tuple[str, ...]:
        """All answers that its questions can have about scenes of up to so many objects."""
        output = SIGNATURES[self.nodes[-1].function].output
        if output == "Integer":
            return tuple(str(number) for number in range(objects + 1))
        return ("False", "True") if output == "Bool" else DOMAINS[output]


@cache
def read_templates(folder: Path = OWN) -> dict[str, tuple[Template, ...]]:
    """The templates of each family, in order of their names.

    Args:
        folder: Folder of `FAMILY.json` files, such as `CLEVR_1.0_templates` of CLEVR's generator.

    Raises:
        ValueError: If there are none, or one is not sound; the message names file, template and node.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise ValueError(f"expected a folder with question templates (*.json), found none in {folder}")
    return {path.stem: _read_family(path) for path in paths}


def _read_family(path: Path) -> tuple[Template, ...]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path} must hold a list of templates, got {type(records).__name__}")
    return tuple(_Reader(f"{path}, template {k}", path.stem).read(record) for k, record in enumerate(records))


class _Reader:
    """Reads one template.

    Args:
        where: File and number of the template, for messages.
        family: Its family.
    """

    def __init__(self, where: str, family: str) -> None:
        self.where, self.family = where, family

    def error(self, message: str, node: int | None = None) -> ValueError:
        place = self.where if node is None else f"{self.where}, node {node}"
        return ValueError(f"{place}: {message}")

    def read(self, record: Any) -> Template:
        if not isinstance(record, dict):
            raise self.error(f"expected an object, got {type(record).__name__}")
        types = self._types(self._list(record, "params"))
        nodes = self._nodes(self._list(record, "nodes"), types)
        filled = {slot for node in nodes for slot in node.slots}
        optional = {slot for node in nodes if node.composite for slot in node.slots[-4:]}
        constraints = self._list({"constraints": [], **record}, "constraints")
        pairs = self._constraints(constraints, sorted(filled), sorted(optional), len(nodes))
        return Template(
            family=self.family,
            texts=self._texts(self._list(record, "text"), filled),
            nodes=nodes,
            types=types,
            empty=frozenset(names[0] for names in pairs["NULL"]),
            unequal=tuple((first, second) for first, second in pairs["NEQ"]),
            apart=tuple((first, second) for first, second in pairs["OUT_NEQ"]),
        )

    def _list(self, record: Mapping[str, Any], key: str, node: int | None = None) -> list[Any]:
        value = record.get(key)
        if not isinstance(value, list):
            raise self.error(f"`{key}` must be a list, got {value!r}", node)
        return value

    def _types(self, params: Sequence[Any]) -> dict[str, str]:
        types: dict[str, str] = {}
        for param in params:
            name, kind = (param.get(key) if isinstance(param, dict) else None for key in ("name", "type"))
            if not isinstance(name, str) or not _SLOT.fullmatch(name) or kind not in (*ATTRIBUTE_TYPES, "Relation"):
                raise self.error(
                    f"a param is a name such as <Z> and a type of {[*ATTRIBUTE_TYPES, 'Relation']}, got {param!r}"
                )
            types[name] = kind
        return types

    def _nodes(self, records: Sequence[Any], types: Mapping[str, str]) -> tuple[TemplateNode, ...]:
        nodes: list[TemplateNode] = []
        for k, record in enumerate(records):
            nodes.append(self._node(record, k, nodes, types))
        output = SIGNATURES[nodes[-1].function].output if nodes else None
        if output not in (*ATTRIBUTE_TYPES, "Bool", "Integer"):
            raise self.error(f"the last node must give an answer, it gives {output}", len(nodes) - 1)
        return tuple(nodes)

    def _node(self, record: Any, k: int, before: Sequence[TemplateNode], types: Mapping[str, str]) -> TemplateNode:
        function = record.get("type") if isinstance(record, dict) else None
        signature = SIGNATURES.get(function) if isinstance(function, str) else None
        if function is None or signature is None:
            raise self.error(f"unknown function {function!r}; there are {sorted(SIGNATURES)}", k)
        inputs, slots = (self._list({key: [], **record}, key, k) for key in ("inputs", "side_inputs"))
        found = [SIGNATURES[before[n].function].output if n in range(k) else f"no node {n!r} before it" for n in inputs]
        if tuple(found) != signature.inputs:
            raise self.error(f"`{function}` reads {list(signature.inputs)}, got {found}", k)
        kinds = [types.get(str(slot), f"undeclared {slot}") for slot in slots]
        if tuple(kinds) != signature.slots:
            raise self.error(f"`{function}` has side_inputs of types {list(signature.slots)}, got {kinds}", k)
        return TemplateNode(function, tuple(inputs), tuple(slots))

    def _constraints(
        self, records: Sequence[Any], filled: Sequence[str], optional: Sequence[str], nodes: int
    ) -> dict[str, list[list[Any]]]:
        known: dict[str, tuple[int, Sequence[Any], str]] = {
            "NULL": (1, optional, "params of descriptions"),
            "NEQ": (2, filled, "params"),
            "OUT_NEQ": (2, range(nodes), "node numbers"),
        }
        pairs: dict[str, list[list[Any]]] = {name: [] for name in known}
        for record in records:
            kind, names = (record.get(key) if isinstance(record, dict) else None for key in ("type", "params"))
            if kind not in known:
                raise self.error(f"a constraint's type is one of {list(known)}, got {record!r}")
            count, allowed, what = known[kind]
            if not isinstance(names, list) or len(names) != count or not all(name in allowed for name in names):
                raise self.error(f"constraint {kind} is about {count} of the {what} {list(allowed)}, got {names!r}")
            pairs[kind].append(names)
        return pairs

    def _texts(self, texts: Sequence[Any], filled: set[str]) -> tuple[str, ...]:
        if not texts or not all(isinstance(text, str) for text in texts):
            raise self.error(f"`text` must hold wordings, got {texts!r}")
        for text in texts:
            unknown = sorted(set(_SLOT.findall(text)) - filled)
            if unknown:
                raise self.error(f"no node fills {', '.join(unknown)} of the text {text!r}")
        return tuple(texts)
