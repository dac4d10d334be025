"""Example pictures to begin with: a folder of PNG files, each beside the JSON of what it shows."""

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kyvo.demo.upload import read_upload
from kyvo.scene import Scene, SceneSchema

SHIPPED = Path(__file__).parent / "examples"
"""Held-out scenes of the embedded CLEVR world."""


@dataclass(frozen=True)
class Example:
    """A picture and what it shows.

    Args:
        picture: RGB, of the model's size.
        scene: What it truly shows; None where there is no JSON beside it.
    """

    picture: Image.Image
    scene: Scene | None


def read_examples(folder: Path, schema: SceneSchema, size: tuple[int, int]) -> list[Example]:
    """The examples of a folder by the names of their files.

    Args:
        folder: With pictures (NAME.png) and, where they are known, their scenes (NAME.json).
        schema: Of the scenes.
        size: Height and width of the pictures that the model reads, in pixels.

    Raises:
        ValueError: Naming the file, if it is no such picture or scene; or there is no picture.
    """
    files = sorted(folder.glob("*.png"))
    if not files:
        raise ValueError(f"--examples takes a folder of PNG files, {folder} has none")
    return [_read(file, schema, size) for file in files]


def _read(file: Path, schema: SceneSchema, size: tuple[int, int]) -> Example:
    beside = file.with_suffix(".json")
    try:
        scene = schema.read(json.loads(beside.read_text(encoding="utf-8"))) if beside.is_file() else None
        return Example(read_upload(file, size).picture, scene)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
