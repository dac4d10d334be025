"""CLEVR's functional programs: questions as small graphs of functions over a scene, and their executor.

A program is a list of nodes {function, inputs, value_inputs} in topological order; the last one gives the answer. Two
spellings are in circulation and both are read: the release's `function` with answers "yes"/"no", and the generator's
`type` with answers true/false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_modules.worlds.placement import relationships

Node = dict[str, Any]
Program = list[Node]
Filters = tuple[str | None, str | None, str | None, str | None]
"""What is said of an object: size, color, material, shape; None where nothing is."""

FILTERED = ("size", "color", "material", "shape")
ANYTHING: Filters = (None, None, None, None)


class IllPosedError(ValueError):
    """A program asks for the one object of a set that has none or several."""


class ProgramBuilder:
    """Writes a program node by node; each method returns the index of the node it added."""

    def __init__(self) -> None:
        self.program: Program = []

    def add(self, function: str, *inputs: int, value: str | None = None) -> int:
        """Any function."""
        self.program.append(
            {"function": function, "inputs": list(inputs), "value_inputs": [] if value is None else [value]}
        )
        return len(self.program) - 1

    def scene(self) -> int:
        """All objects."""
        return self.add("scene")

    def filter(self, source: int, filters: Filters) -> int:
        """Those of a set that have all the attributes."""
        for name, value in zip(FILTERED, filters, strict=True):
            if value is not None:
                source = self.add(f"filter_{name}", source, value=value)
        return source

    def the(self, source: int, filters: Filters) -> int:
        """The one of a set that has all the attributes."""
        return self.add("unique", self.filter(source, filters))


def normalize_answer(answer: Any) -> str:
    """Any spelling of an answer as "True", "False", "0".."10" or an attribute's word."""
    return {"yes": "True", "no": "False"}.get(str(answer), str(answer))


def question_type(program: Sequence[Mapping[str, Any]]) -> str:
    """exist, count, query_ATTRIBUTE, compare_integer or compare_attribute, after the last function."""
    function = _function(program[-1])
    if function in ("less_than", "greater_than", "equal_integer"):
        return "compare_integer"
    return "compare_attribute" if function.startswith("equal_") else function


def answer(program: Sequence[Mapping[str, Any]], scene: Mapping[str, Any]) -> str:
    """The normalised answer to a program about a scene.

    Raises:
        IllPosedError: If `unique` meets a set of another size than one.
        ValueError: If the program holds a function that CLEVR does not have.
    """
    return normalize_answer(execute(program, scene)[-1])


def execute(program: Sequence[Mapping[str, Any]], scene: Mapping[str, Any]) -> list[Any]:
    """What every node yields: sorted object indices, an index, a number, a bool or a word; errors as `answer`."""
    objects = scene["objects"]
    relations = scene.get("relationships") or relationships(objects)
    out: list[Any] = []
    for node in program:
        values = node.get("value_inputs") or node.get("side_inputs") or [None]
        arguments = [out[k] for k in node["inputs"]]
        out.append(apply(_function(node), arguments, values[0], objects, relations))
    return out


def _function(node: Mapping[str, Any]) -> str:
    return node.get("function") or node["type"]


def apply(
    function: str,
    arguments: Sequence[Any],
    value: str | None,
    objects: Sequence[Mapping[str, Any]],
    relations: Mapping[str, Sequence[Sequence[int]]],
) -> Any:
    """What one function makes of its inputs' outputs; types and errors as in `execute`."""
    verb, _, attribute = function.partition("_")
    match verb, arguments:
        case "scene", []:
            return list(range(len(objects)))
        case "filter", [group]:
            return [k for k in group if objects[k][attribute] == value]
        case "unique", [group]:
            if len(group) != 1:
                raise IllPosedError(f"`unique` needs a set of one object, got {len(group)}")
            return group[0]
        case "relate", [k] if value is not None:
            return sorted(relations[value][k])
        case "same", [k]:
            return [j for j, o in enumerate(objects) if j != k and o[attribute] == objects[k][attribute]]
        case "query", [k]:
            return objects[k][attribute]
        case "count", [group]:
            return len(group)
        case "exist", [group]:
            return bool(group)
        case _, [first, second]:
            return _combine(function, first, second)
    raise ValueError(f"no function `{function}` of {len(arguments)} inputs in CLEVR's programs")


def _combine(function: str, first: Any, second: Any) -> Any:
    match function:
        case "union":
            return sorted({*first, *second})
        case "intersect":
            return sorted({*first} & {*second})
        case "less_than":
            return first < second
        case "greater_than":
            return first > second
        case _ if function.startswith("equal_"):
            return first == second
    raise ValueError(f"no function `{function}` of 2 inputs in CLEVR's programs")
