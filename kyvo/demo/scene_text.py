"""Scenes as JSON that visitors read, change and save: one object a line."""

import json
from typing import Any

from kyvo.scene import Scene, SceneSchema
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

MOST_LETTERS = 100_000
"""Longest JSON that is read."""


def scene_text(scene: Scene, schema: SceneSchema) -> str:
    """The JSON of a scene, numbers rounded to three decimals.

    Args:
        scene: What to write.
        schema: Its schema.

    >>> from kyvo.scene import SCHEMAS, SceneObject
    >>> print(scene_text(Scene((SceneObject({"shape": "sofa", "location": (0.5, -1.0, 0.0, 1.57)}),)),
    ...                  SCHEMAS["objaworld"]))
    {"objects": [
      {"shape": "sofa", "3d_coords": [0.5, -1.0, 0.0], "rotation": 1.57}
    ]}
    """
    rows = ",\n".join(f"  {json.dumps(_rounded(one))}" for one in schema.write(scene)["objects"])
    return f'{{"objects": [\n{rows}\n]}}' if rows else '{"objects": []}'


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def read_scene_text(text: str, tokenizer: UnifiedTokenizer) -> Scene:
    """The scene that a JSON says.

    Args:
        text: As `scene_text` writes it.
        tokenizer: Whose schema, number grids and limit of objects the scene keeps to.

    Raises:
        ValueError: Saying what is wrong and where: no JSON, another layout, or a value outside schema or grid.
    """
    if len(text) > MOST_LETTERS:
        raise ValueError(f"expected a scene of {MOST_LETTERS:,} letters at most, got {len(text):,}")
    scene = tokenizer.schema.read(_parsed(text))
    check_scene(scene, tokenizer)
    return scene


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("this JSON is nested too deeply for a scene") from error
    if not isinstance(found, dict):
        raise ValueError(f'a scene is {{"objects": [...]}}, not a {type(found).__name__}')
    return found


def check_scene(scene: Scene, tokenizer: UnifiedTokenizer) -> None:
    """Refuse scenes that the model cannot read.

    Args:
        scene: Of the tokenizer's schema.
        tokenizer: Whose number grids and limit of objects count.

    Raises:
        ValueError: Naming object and attribute, or the limit.
    """
    most = tokenizer.layout.max_objects
    if len(scene) > most:
        raise ValueError(f"this model's scenes have {most} objects at most, got {len(scene)}")
    tokenizer.codec.encode(scene)
