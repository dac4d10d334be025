"""Shapes on a page: scenes with the names of shapes in the place of their codes, which nobody reads."""

from collections.abc import Sequence
from dataclasses import replace

from kyvo.metrics.shape_assignment import UNKNOWN, named_scene, named_schema
from kyvo.report.page_examples import Example
from kyvo.scene import Scene, SceneSchema


def with_names(examples: Sequence[Example], schema: SceneSchema) -> tuple[list[Example], SceneSchema]:
    """The samples with names in the place of codes, and the schema of their scenes.

    Both as they are where the schema has no shape, or some shape of the samples has no name.
    """
    if schema.shape is None or not all(map(_is_named, examples)):
        return list(examples), schema
    used = {name for one in examples for names in one.shapes.values() for name in names}
    names = (*sorted(used - {UNKNOWN}), *({UNKNOWN} & used))
    if not names:
        return list(examples), schema
    return [_named(one, schema.shape.name) for one in examples], named_schema(schema, names)


def _scenes(example: Example) -> dict[str, Scene]:
    parts = {"read": example.read, "target": example.target, "generated": example.generated}
    scenes = {part: contents.get("scene") for part, contents in parts.items()}
    return {part: scene for part, scene in scenes.items() if isinstance(scene, Scene)}


def _is_named(example: Example) -> bool:
    return all(len(example.shapes.get(part, ())) == len(scene) for part, scene in _scenes(example).items())


def _named(example: Example, attribute: str) -> Example:
    contents = {"read": example.read, "target": example.target, "generated": example.generated}
    for part, scene in _scenes(example).items():
        contents[part] = {**contents[part], "scene": named_scene(scene, attribute, example.shapes.get(part, ()))}
    return replace(example, read=contents["read"], target=contents["target"], generated=contents["generated"])
