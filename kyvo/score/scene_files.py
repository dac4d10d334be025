"""Scenes in files: ours, and those of the published code, of CLEVR, ObjaWorld and Omni3D, each as it is.

A scene in a file is its key and its objects as JSON; only when both are known to belong together are they read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyvo.metrics.criteria import Criterion, Span
from kyvo.scene import Attribute, Scene, SceneObject, SceneSchema, Value
from kyvo.score.json_files import by_key, line_files, read_json, read_json_lines
from kyvo.score.scene_text import written_objects


@dataclass(frozen=True)
class Entry:
    """What was predicted for a scene.

    Args:
        key: of the scene, as the file has it.
        objects: as JSON, well-formed or not.
        malformed: further objects of which nothing could be read.
        unreadable: whether there was no scene to read at all.
    """

    key: str
    objects: list[Any]
    malformed: int = 0
    unreadable: bool = False


@dataclass(frozen=True)
class Truths:
    """The true scenes of a split.

    Args:
        place: the file or folder, for messages.
        scenes: objects as JSON by key, in the order of the keys or of the file.
        aliases: other names of keys, such as those of our shards.
        images: keys by the numbers of Omni3D's images; empty for other data.
        categories: names by the numbers of Omni3D's categories.
    """

    place: str
    scenes: dict[str, list[Any]]
    aliases: dict[str, str] = field(default_factory=dict)
    images: dict[int, str] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)

    def key(self, name: str, place: str) -> str:
        """The key that a prediction's key stands for; ValueError, with the place it came from, if there is none."""
        for key in (name, name.removesuffix(".png"), self.aliases.get(name)):
            if key in self.scenes:
                return key
        raise ValueError(f"{place} has a prediction for {name!r}, which is no scene of {self.place}")


# ---- predictions ----------------------------------------------------------------------------------------------------


def read_entries(path: str, schema: SceneSchema) -> list[Entry]:
    """Read predicted scenes, in the order of the file.

    Args:
        path: `FOLDER` with `predicted_scenes_FOLDER.json`, that file, or lines that `callbacks.Predictions` wrote: one
            file, a folder of them or a pattern with "*".
        schema: what written-out scenes (a `text` in the place of `objects`) are read by.

    Raises:
        ValueError: with the file and what is wrong with it.
    """
    file = published_file(path)
    if file is None:
        return [_own_entry(*line, schema) for one in line_files(Path(path)) for line in read_json_lines(one)]
    return [_entry(raw, f"{file}, scene {number}", schema) for number, raw in enumerate(_scenes(read_json(file), file))]


def published_file(path: str) -> Path | None:
    """The JSON file of the published code that a file's or folder's name stands for; None if it has another format.

    Raises:
        ValueError: a folder without predictions.
    """
    folder = Path(path)
    inside = folder / f"predicted_scenes_{folder.name}.json"
    if folder.is_dir():
        if not inside.is_file() and not any(folder.glob("*.jsonl")):
            raise ValueError(f"{path} should hold {inside.name}, or lines of predictions (.jsonl)")
        return inside if inside.is_file() else None
    return None if folder.suffix == ".jsonl" or "*" in folder.name else folder


def _scenes(content: Any, file: Path) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get("scenes"), list):
        raise ValueError(f"{file} should hold a list under 'scenes'")
    return list(content["scenes"])


def _entry(raw: Any, place: str, schema: SceneSchema) -> Entry:
    if not isinstance(raw, dict) or not isinstance(raw.get("key"), str):
        raise ValueError(f"{place} should be an object with a 'key'")
    if isinstance(raw.get("text"), str):
        return Entry(raw["key"], *written_objects(raw["text"], schema))
    objects = raw.get("objects")
    if objects is not None and not isinstance(objects, list):
        raise ValueError(f"{place}, key {raw['key']!r}: 'objects' should be a list, not {type(objects).__name__}")
    return Entry(raw["key"], objects or [], unreadable=objects is None)


def _own_entry(place: str, line: Mapping[str, Any], schema: SceneSchema) -> Entry:
    generated, malformed = line.get("generated"), line.get("malformed", 0)
    if not isinstance(generated, dict) or "scene" not in generated:
        raise ValueError(f"{place}, key {line['key']!r}: nothing was to be 'generated' under 'scene'")
    if type(malformed) is not int or malformed < 0:
        raise ValueError(f"{place}, key {line['key']!r}: 'malformed' should be a count, not {malformed!r}")
    scene = generated["scene"]
    if scene is None:
        return Entry(line["key"], [], malformed, unreadable=True)
    return Entry(line["key"], _objects(scene, place, line["key"]), malformed)


def _objects(scene: Any, place: str, key: str) -> list[Any]:
    objects = scene.get("objects") if isinstance(scene, dict) else None
    if not isinstance(objects, list):
        raise ValueError(f"{place}, key {key!r}: a scene needs a list under 'objects'")
    return objects


# ---- true scenes ----------------------------------------------------------------------------------------------------


def read_truths(path: str) -> Truths:
    """Read true scenes.

    Args:
        path: a folder of CLEVR scenes, a JSON file each or a split; ObjaWorld's root, with folders
            `output-SETUP-large-10K-6`; a JSON file of Omni3D, or of CLEVR with a list under `scenes`; or lines that
            `callbacks.Predictions` wrote.

    Raises:
        ValueError: with the file and what is wrong with it.
    """
    place = Path(path)
    if place.is_dir() and (roots := sorted(place.glob("output-*-large-10K-6"))):
        files = [(root.name.split("-")[1], file) for root in roots for file in sorted(root.glob("scenes/*.json"))]
        named = [(f"{file.stem}.png_{setup}", _read_scene(file)[1]) for setup, file in files]
        return Truths(path, by_key(sorted(named, key=lambda one: one[0]), path, "scene"))
    if place.is_dir() and (scenes := sorted(place.glob("*.json"))):
        return Truths(path, by_key([one for file in scenes for one in _read_file(file)], path, "scene"))
    if place.is_dir() and not any(place.glob("*.jsonl")):
        raise ValueError(f"{path} should hold scenes (.json), output-SETUP-large-10K-6 folders, or lines (.jsonl)")
    if place.suffix == ".jsonl" or place.is_dir() or "*" in place.name:
        lines = (line for file in line_files(place) for line in read_json_lines(file))
        return Truths(path, by_key([_own_truth(*line) for line in lines], path, "scene"))
    content = read_json(place)
    if isinstance(content, dict) and "annotations" in content:
        return _omni3d(content, place)
    return Truths(path, by_key([_scene_of(raw, place, "") for raw in _scenes(content, place)], path, "scene"))


def _read_file(file: Path) -> list[tuple[str, list[Any]]]:
    """The scene that a file is, or those of a split, as CLEVR's download has them."""
    content = read_json(file)
    if isinstance(content, dict) and isinstance(content.get("scenes"), list):
        return [_scene_of(raw, file, "") for raw in content["scenes"]]
    return [_scene_of(content, file, file.stem)]


def _read_scene(file: Path) -> tuple[str, list[Any]]:
    return _scene_of(read_json(file), file, file.stem)


def _scene_of(raw: Any, file: Path, default: str) -> tuple[str, list[Any]]:
    name = raw.get("image_filename", default) if isinstance(raw, dict) else default
    if not isinstance(name, str) or not name:
        raise ValueError(f"{file} holds a scene without an 'image_filename'")
    return name.removesuffix(".png"), _objects(raw, str(file), name)


def _own_truth(place: str, line: Mapping[str, Any]) -> tuple[str, list[Any]]:
    scene = line["target"].get("scene") if isinstance(line.get("target"), dict) else None
    if scene is None:
        raise ValueError(f"{place}, key {line['key']!r}: no scene was to be written: take the lines of other tasks")
    return line["key"], _objects(scene, f"{place}, target", line["key"])


def _omni3d(content: Mapping[str, Any], file: Path) -> Truths:
    """Boxes by image, without those that cannot be seen or have no size."""
    try:
        images = {image["id"]: image["file_path"] for image in content["images"]}
        categories = {category["id"]: category["name"] for category in content["categories"]}
        scenes: dict[str, list[Any]] = {path: [] for path in images.values()}
        for box in content["annotations"]:
            # Not `min`: a number that is none is no reason to leave a box out in silence.
            flat = any(size <= 0 for size in box["dimensions"])
            if box.get("valid3D", True) and not box.get("behind_camera", False) and not flat:
                name = box.get("category_name", categories.get(box["category_id"]))
                scenes[images[box["image_id"]]].append({**box, "category": name})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not as Omni3D's files are: {type(error).__name__}: {error}") from error
    if len(scenes) != len(content["images"]):
        raise ValueError(f"{file} holds two images with the same id or file_path")
    return Truths(str(file), scenes, {shard_key(path): path for path in scenes}, images, categories)


def shard_key(file_path: str) -> str:
    """What an image of Omni3D is called in shards.

    >>> shard_key("objectron/test/chair_1.5.jpg")
    'objectron-test-chair_1_5'
    """
    return file_path.rpartition(".")[0].replace("/", "-").replace(".", "_")


# ---- objects --------------------------------------------------------------------------------------------------------


class ObjectReader:
    """Makes objects of JSON for comparison by a criterion; unlike a schema, it lets any word pass.

    Args:
        schema: the attributes.
        criterion: which numbers have to be there, and whether there may be more.
    """

    def __init__(self, schema: SceneSchema, criterion: Criterion) -> None:
        self.schema, self.surplus = schema, criterion.surplus
        quantities = (criterion.distance, *(tolerance.quantities for tolerance in criterion.tolerances))
        spans = [Span.of(schema, names) for names in quantities]
        self._least = {
            attribute.name: max((span.stop for span in spans if span.attribute == attribute.name), default=0)
            for attribute in schema.attributes
        }

    def read(self, raw: Any) -> SceneObject | None:
        """The object; None if a word is missing, or a number is missing or not finite."""
        if not isinstance(raw, dict):
            return None
        values: dict[str, Value] = {}
        for attribute in self.schema.attributes:
            value = self._value(attribute, raw)
            if value is None:
                return None
            values[attribute.name] = value
        return SceneObject(values)

    def _value(self, attribute: Attribute, raw: Mapping[str, Any]) -> Value | None:
        if attribute.kind == "word":
            word = raw.get(attribute.places[0][0])
            return word if isinstance(word, str) else None
        numbers = gather(attribute, raw)
        exact = len(numbers) == len(attribute.quantities)
        enough = len(numbers) >= self._least[attribute.name] if self.surplus else exact
        if not enough or not all(_is_number(number) for number in numbers):
            return None
        return tuple(float(number) for number in numbers)

    def read_all(self, objects: Sequence[Any]) -> tuple[Scene, int]:
        """The scene of what can be read, and how many objects cannot."""
        found = [item for raw in objects if (item := self.read(raw)) is not None]
        return Scene(tuple(found)), len(objects) - len(found)

    def read_truth(self, objects: Sequence[Any], place: str, key: str) -> Scene:
        """A true scene, variants of assets ("bench-01") called by the asset's name.

        Raises:
            ValueError: with place, key and number of an object that cannot be read.
        """
        found = [self.read(self._plain(raw)) for raw in objects]
        if None in found:
            raise ValueError(f"{place}: object {found.index(None)} of the true scene {key!r} is malformed")
        return Scene(tuple(item for item in found if item is not None))

    def _plain(self, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        plain = dict(raw)
        for attribute in self.schema.attributes:
            key = attribute.places[0][0]
            word = raw.get(key)
            if attribute.kind == "word" and isinstance(word, str) and word not in attribute.values:
                asset = word.partition("-")[0]
                plain[key] = asset if asset in attribute.values else word
        return plain


def gather(attribute: Attribute, raw: Mapping[str, Any]) -> list[Any]:
    """The numbers of an attribute in a JSON object; the first of its keys may hold all of them."""
    found: list[Any] = []
    for key, _ in attribute.places:
        if len(found) < len(attribute.quantities):
            value = raw.get(key, [])
            found += value if isinstance(value, list) else [value]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ---- pairs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScenePair:
    """A true scene and what was predicted for it.

    Args:
        key: of the scene.
        prediction: what could be read; empty where there was nothing.
        target: the true scene.
        malformed: predicted objects that could not be read.
    """

    key: str
    prediction: Scene
    target: Scene
    malformed: int = 0


def pair_scenes(entries: Sequence[Entry], truths: Truths, reader: ObjectReader, place: str) -> list[ScenePair]:
    """Every true scene with what was predicted for it; without a prediction it is an empty scene that is compared.

    Args:
        entries: the predictions.
        truths: all true scenes.
        reader: reads objects.
        place: where the predictions came from, for messages.

    Raises:
        ValueError: for a prediction of an unknown scene, two of one scene (those of Omni3D's images are put together,
            as the published script does), or a true object that cannot be read.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        key = truths.key(entry.key, place)
        if key in found and not truths.images:
            raise ValueError(f"{place} has two predictions for the scene {key!r}")
        found.setdefault(key, []).append(entry)
    return [_pair(key, found.get(key, []), objects, truths.place, reader) for key, objects in truths.scenes.items()]


def _pair(key: str, entries: Sequence[Entry], truth: Sequence[Any], place: str, reader: ObjectReader) -> ScenePair:
    prediction, malformed = reader.read_all([raw for entry in entries for raw in entry.objects])
    malformed += sum(entry.malformed for entry in entries)
    return ScenePair(key, prediction, reader.read_truth(truth, place, key), malformed)
