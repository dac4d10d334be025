"""Which objects the published scripts compare with which, read from the same files in the same way, flaws and all.

Missing predictions at the end of CLEVR's scenes are dropped, as are Omni3D's images without predictions or without
boxes; whatever ends a script ends this too.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kyvo.scene import Scene, SceneObject, SceneSchema, Value
from kyvo.score.json_files import read_json
from kyvo.score.scene_text import official_objects

ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError)
"""What the published scripts end with; a wrong key (AssertionError) and no scene (ZeroDivisionError) come as
ValueError."""

RawPair = tuple[str, Sequence[Any], Sequence[Any]]
"""Key, predicted and true objects as JSON."""


@dataclass(frozen=True)
class OfficialPair:
    """A scene that counts; objects hold what the files hold, also what is malformed."""

    key: str
    prediction: Scene
    target: Scene


def official_pairs_of(
    predictions: str, ground_truth: str, schema: SceneSchema, detector: bool = False
) -> list[OfficialPair]:
    """Read and pair scenes as the script of a schema's data set does.

    Args:
        predictions: folder with `predicted_scenes_FOLDER.json`, or a JSON file.
        ground_truth: folder of CLEVR scenes, ObjaWorld's root or a JSON of Omni3D.
        schema: that of clevr, objaworld, objectron or arkitscenes.
        detector: whether the predictions are a detector's.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError, OSError: where the script raises.
    """
    readers: Mapping[str, Callable[[str, str, SceneSchema], list[RawPair]]] = {
        "clevr": _clevr,
        "objaworld": _objaworld,
        "objectron": _detections if detector else _omni3d,
        "arkitscenes": _detections if detector else _omni3d,
    }
    if schema.name not in readers:
        raise ValueError(f"there is no published script for schema {schema.name!r}, only for {', '.join(readers)}")
    pairs = readers[schema.name](predictions, ground_truth, schema)
    if not pairs:
        raise ValueError("no scene is left to be compared")
    return [OfficialPair(key, *(_scene(objects, schema) for objects in sides)) for key, *sides in pairs]


def _scene(objects: Sequence[Any], schema: SceneSchema) -> Scene:
    return Scene(tuple(_object(raw, schema) for raw in objects))


def _object(raw: Any, schema: SceneSchema) -> SceneObject:
    """Whatever is there under the keys of the schema."""
    values: dict[str, Value] = {}
    for attribute in schema.attributes:
        key = attribute.places[0][0]
        if isinstance(raw, dict) and key in raw:
            values[attribute.name] = raw[key]
    return SceneObject(values)


# ---- CLEVR and ObjaWorld --------------------------------------------------------------------------------------------


def _predicted(path: str, schema: SceneSchema) -> list[Any]:
    # As text: the script does not find its file where the folder's name ends in a slash.
    file = f"{path}/predicted_scenes_{os.path.basename(path)}.json" if os.path.isdir(path) else path
    return [_with_objects(scene, schema) for scene in read_json(Path(file))["scenes"]]


def _with_objects(scene: Any, schema: SceneSchema) -> Any:
    """A predicted scene; one that is written out as text is read as the published code does."""
    text = scene.get("text") if isinstance(scene, dict) else None
    return {**scene, "objects": official_objects(text, schema)} if isinstance(text, str) else scene


def _clevr(predictions: str, ground_truth: str, schema: SceneSchema) -> list[RawPair]:
    predicted = _predicted(predictions, schema)
    # Whatever lies in the folder; what comes after the last prediction is dropped.
    true = [read_json(Path(ground_truth, name)) for name in sorted(os.listdir(ground_truth))]
    if len(predicted) > len(true):
        raise ValueError(f"{len(predicted)} predicted scenes for {len(true)} true ones")
    pairs: list[RawPair] = []
    for scene, truth in zip(predicted, true, strict=False):
        name, key = truth["image_filename"], scene["key"]
        if name != key and name.split(".png")[0] != key.split(".png")[0]:
            raise ValueError(f"the prediction for {key!r} stands where that for {name!r} should")
        pairs.append((str(key), list(scene["objects"]), list(truth["objects"])))
    return pairs


def _objaworld(predictions: str, ground_truth: str, schema: SceneSchema) -> list[RawPair]:
    pairs: list[RawPair] = []
    for scene in _predicted(predictions, schema):
        key = scene["key"]
        setup, name = key.split("png_")[1], key.split(".png_")[0]
        truth = read_json(Path(ground_truth, f"output-{setup}-large-10K-6", "scenes", f"{name}.json"))
        if truth["image_filename"].split(".png")[0] != name:
            raise ValueError(f"the prediction for {key!r} is compared with {truth['image_filename']!r}")
        pairs.append((key, list(scene["objects"]), [_asset(raw) for raw in truth["objects"]]))
    return pairs


def _asset(raw: Any) -> Any:
    """A true object with its yaw beside its place and its variant cut off, as far as that can be done."""
    if not isinstance(raw, dict):
        return raw
    plain = dict(raw)
    coordinates = raw.get("3d_coords")
    if isinstance(coordinates, list) and len(coordinates) >= 3 and "rotation" in raw:
        plain["3d_coords"] = [*coordinates[:3], raw["rotation"]]
    elif isinstance(coordinates, list):
        # Without a fourth number no object matches, as without a rotation in the script.
        plain["3d_coords"] = coordinates[:3]
    shape = plain.pop("shape", None)
    return plain | ({"shape": shape.split("-")[0]} if isinstance(shape, str) else {})


# ---- Omni3D ---------------------------------------------------------------------------------------------------------


def _omni3d(predictions: str, ground_truth: str, schema: SceneSchema) -> list[RawPair]:
    true, content = _true_boxes(ground_truth)
    ids = {image["file_path"]: image["id"] for image in content["images"]}
    found: dict[Any, list[Any]] = {}
    for scene in _predicted(predictions, schema):
        boxes = found.setdefault(ids[scene["key"]], [])
        boxes += [_box(raw, raw["category"]) for raw in scene["objects"]]
    return _common(found, true)


def _detections(predictions: str, ground_truth: str, schema: SceneSchema) -> list[RawPair]:
    true, content = _true_boxes(ground_truth)
    names = {category["id"]: category["name"] for category in content["categories"]}
    found: dict[Any, list[Any]] = {}
    for raw in read_json(Path(predictions)):
        found.setdefault(raw["image_id"], []).append(_box(raw, names[raw["category_id"]]))
    return _common(found, true)


def _true_boxes(ground_truth: str) -> tuple[Mapping[Any, list[Any]], Any]:
    """Boxes by image, for those images that have any, and the whole file."""
    content = read_json(Path(ground_truth))
    true: dict[Any, list[Any]] = defaultdict(list)
    for raw in content["annotations"]:
        true[raw["image_id"]].append(_box(raw, raw["category_name"]))
    paths = [image["file_path"] for image in content["images"]]
    if len(set(paths)) != len(paths):
        raise ValueError(f"{ground_truth} holds two images with the same file_path")
    return true, content


def _box(raw: Any, category: Any) -> dict[str, Any]:
    """What the script takes of a box; lists that make no array end it, whether they are compared or not."""
    box = {"category": category, "center_cam": raw["center_cam"], "dimensions": raw["dimensions"]}
    for name in ("center_cam", "dimensions"):
        np.array(box[name])
    return box


def _common(found: Mapping[Any, list[Any]], true: Mapping[Any, list[Any]]) -> list[RawPair]:
    return [(str(key), found[key], boxes) for key, boxes in true.items() if key in found]
