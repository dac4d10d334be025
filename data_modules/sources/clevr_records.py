"""CLEVR's records in their dialects, checked and brought into one form: scenes, questions, edits."""

import math
from collections.abc import Mapping
from typing import Any

from data_modules.worlds.camera_recovery import recover_camera
from data_modules.worlds.placement import RELATIONS, relationships
from data_modules.worlds.programs import normalize_answer, question_type
from kyvo.clevr import DIRECTIONS
from kyvo.scene import SceneSchema

NAMES = ("image_index", "image_filename", "split")
"""What a record says about the files it belongs to."""

Record = Mapping[str, Any]


def read_scene(record: Any, size: tuple[int, int] | None, schema: SceneSchema) -> dict[str, Any]:
    """A scene with relations, directions and, if it can be known, camera; without `NAMES`.

    Args:
        record: As published.
        size: Height and width of the picture, for the camera; None if there is none.
        schema: What every object must have.

    Raises:
        ValueError: Saying what is missing, of the wrong type, not finite or outside the schema.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"a scene should be an object, not {type(record).__name__}")
    scene = {name: value for name, value in record.items() if name not in NAMES}
    _check_finite(scene, "")
    schema.read(scene)
    _check_places(scene["objects"])
    if "relations" in scene:
        scene["relationships"] = scene.pop("relations")
    scene.setdefault("relationships", relationships(scene["objects"]))
    _check_relationships(scene["relationships"], len(scene["objects"]))
    scene.setdefault("directions", {name: list(vector) for name, vector in DIRECTIONS.items()})
    return scene | ({} if "camera" in scene else _camera(scene["objects"], size))


def read_question(record: Any) -> dict[str, Any]:
    """{question, answer, type, program}: answers "True", "3", "red", nodes {function, inputs, value_inputs}.

    Raises:
        ValueError: Saying what is missing or of the wrong type.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("question"), str):
        raise ValueError("a question should be an object with words under 'question'")
    answer = record.get("answer")
    if not isinstance(answer, str | int) or not str(answer):
        raise ValueError(f"an answer should be a word, a number or a bool, got {answer!r}")
    program = read_program(record.get("program"))
    ours = {"family": record["family"]} if "family" in record else {}
    return {
        "question": record["question"],
        "answer": normalize_answer(answer),
        "program": program,
        "type": question_type(program),
        **ours,
    }


def read_program(program: Any) -> list[dict[str, Any]]:
    """The nodes {function, inputs, value_inputs}, each reading from earlier ones; ValueError if they are not."""
    if not isinstance(program, list) or not program:
        raise ValueError(f"a program should be a list of nodes, got {program!r}")
    return [_node(node, place) for place, node in enumerate(program)]


def _node(node: Any, place: int) -> dict[str, Any]:
    where = f"node {place} of the program"
    if not isinstance(node, Mapping):
        raise ValueError(f"{where} should be an object, not {type(node).__name__}")
    function = node.get("function", node.get("type"))
    values = node.get("value_inputs", node.get("side_inputs", []))
    inputs = node.get("inputs")
    if not isinstance(function, str) or not isinstance(values, list):
        raise ValueError(f"{where} needs a name under 'function' or 'type' and a list of values, found {sorted(node)}")
    if not isinstance(inputs, list) or not all(type(k) is int and 0 <= k < place for k in inputs):
        raise ValueError(f"{where} should read from earlier nodes, got inputs {inputs!r}")
    return {"function": function, "inputs": inputs, "value_inputs": values}


def _check_finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where.lstrip('.')} is {value}, not a finite number")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_finite(item, f"{where}.{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _check_finite(item, f"{where}[{place}]")


def _check_places(objects: list[Record]) -> None:
    """What the schema does not read but rendering and the camera do."""
    for number, record in enumerate(objects):
        if "pixel_coords" in record and not _are_numbers(record["pixel_coords"], 3):
            raise ValueError(f"objects[{number}].pixel_coords should be 3 numbers, got {record['pixel_coords']!r}")
        if "rotation" in record and not _are_numbers([record["rotation"]], 1):
            raise ValueError(f"objects[{number}].rotation should be a number, got {record['rotation']!r}")


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    )


def _check_relationships(relations: Any, count: int) -> None:
    """For each direction a list of indices for each object."""
    for name in RELATIONS:
        lists = relations.get(name) if isinstance(relations, Mapping) else None
        if not isinstance(lists, list) or len(lists) != count or not all(_are_indices(row, count) for row in lists):
            raise ValueError(f"relationships.{name} should be {count} lists of indices of objects, got {lists!r}")


def _are_indices(row: Any, count: int) -> bool:
    return isinstance(row, list) and all(type(k) is int and 0 <= k < count for k in row)


def _camera(objects: list[Record], size: tuple[int, int] | None) -> dict[str, Any]:
    """The entry `camera` as recovered; empty where it does not follow from the objects."""
    if size is None or not all("pixel_coords" in record for record in objects):
        return {}
    try:
        camera = recover_camera(objects, *size)
    except ValueError:
        return {}
    # The shape of the published picture, which may be packed at another one.
    return {"camera": {"location": list(camera.location), "focal": camera.focal, "size": list(size)}}
