"""Reading the `omni_instances_results.json` of Omni3D's detectors, such as Cube R-CNN.

D detections of an image.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kyvo.metrics.box_comparison import Detections
from kyvo.metrics.box_overlap import nearest_rotations
from kyvo.omni3d import CATEGORY_IDS
from kyvo.scene import Scene, SceneObject, SceneSchema
from kyvo.score.json_files import read_json

PUBLISHED_CUT = 0.05
"""The score from which on the paper counts a detection as a predicted object."""

_NAMES = {number: name for name, number in CATEGORY_IDS.items()}


@dataclass(frozen=True)
class Detection:
    """One record of the file; numbers that cannot be read are NaN.

    Args:
        place: Which record it is, from 0.
        image: Number of its image.
        category: Its name, or its number where that has no name.
        score: Finite; higher is surer.
        center: Metres in the camera's frame, 3.
        dimensions: Width, height, length in metres.
        pose: From the box's own axes into the camera's frame, 3 x 3.
        rectangle: Left, top, width, height in pixels.
    """

    place: int
    image: int
    category: str
    score: float
    center: tuple[float, ...]
    dimensions: tuple[float, ...]
    pose: tuple[float, ...]
    rectangle: tuple[float, ...]

    @property
    def object(self) -> SceneObject:
        """The detection as an object of a scene."""
        return SceneObject({"category": self.category, "center_cam": self.center, "dimensions": self.dimensions})


def read_detections(
    file: Path,
    schema: SceneSchema,
    images: Collection[int],
    cut: float = PUBLISHED_CUT,
    categories: Mapping[int, str] | None = None,
) -> dict[int, Scene]:
    """Read what a detector found as one scene for each image, the objects in the file's order.

    A detection that can match nothing still counts as a false positive: one of an unknown category keeps its number as
    the category's name ("999"), one whose numbers cannot be read has NaN in their place.

    Args:
        file: `omni_instances_results.json`: a list of records with `image_id`, `category_id`, `center_cam`,
            `dimensions`, `score` (and `pose`, `bbox` for boxes).
        schema: `objectron` or `arkitscenes`.
        images: Ids of all images of the ground truth; one without any detection has an empty scene.
        cut: Detections with a lower score are left out; 0 keeps all.
        categories: Names by id, of the ground truth's JSON; default is Omni3D's published table.

    Returns:
        The scenes by image id, in the order of `images`.

    Raises:
        ValueError: A schema without 3D boxes, not JSON, not such a list, a detection in an image that is not among
            `images`, or without a finite score.
    """
    check_boxes(schema)
    return scenes_above(load_detections(file, images, categories), cut)


def check_boxes(schema: SceneSchema) -> None:
    """Raise ValueError unless the objects of a schema have 3D boxes, as detections do."""
    for name in ("category", "center_cam", "dimensions"):
        if name not in schema:
            raise ValueError(f"detections have boxes, schema {schema.name!r} has no {name!r}")


def check_cut(cut: float) -> float:
    """Return a score to cut at; ValueError if it is no number."""
    if math.isnan(cut):
        raise ValueError(f"the score to cut at should be a number, got {cut}")
    return cut


def scenes_above(detections: Mapping[int, Sequence[Detection]], cut: float) -> dict[int, Scene]:
    """A scene for each image, of its detections from a score on."""
    return {image: _scene(found, cut) for image, found in detections.items()}


def read_boxes(
    file: Path, images: Collection[int], categories: Mapping[int, str] | None = None
) -> dict[int, Detections]:
    """Read what a detector found as boxes with scores, for every image, in the order of `images`.

    Args:
        file: See `read_detections`.
        images: Ids of all images of the ground truth.
        categories: See `read_detections`.

    Raises:
        ValueError: See `read_detections`; numbers of a box that are missing or not finite, or a `pose` that is no
            rotation, naming the record.
    """
    found = load_detections(file, images, categories)
    for one in (one for detections in found.values() for one in detections):
        for name in ("center", "dimensions", "pose", "rectangle"):
            if not all(map(math.isfinite, getattr(one, name))):
                key = {"center": "center_cam", "rectangle": "bbox"}.get(name, name)
                raise ValueError(f"{file}, detection {one.place}: {key!r} is missing or not all finite numbers")
    return {image: _boxes(detections, file) for image, detections in found.items()}


def load_detections(
    file: Path, images: Collection[int], categories: Mapping[int, str] | None = None
) -> dict[int, list[Detection]]:
    """Read the records of a file by image, in the order of `images`; see `read_detections`."""
    content = read_json(file)
    if not isinstance(content, list):
        raise ValueError(f"{file}: expected a list of detections, got {type(content).__name__}")
    names = _NAMES if categories is None else categories
    found: dict[int, list[Detection]] = {image: [] for image in images}
    for place, record in enumerate(content):
        one = _detection(record, place, names, file)
        if one.image not in found:
            raise ValueError(f"{file}, detection {place}: image {one.image} is not in the ground truth")
        found[one.image].append(one)
    return found


def _detection(record: Any, place: int, names: Mapping[int, str], file: Path) -> Detection:
    if not isinstance(record, dict):
        raise ValueError(f"{file}, detection {place}: expected an object, got {type(record).__name__}")
    if type(record.get("image_id")) is not int:
        raise ValueError(f"{file}, detection {place}: 'image_id' should be an integer, got {record.get('image_id')!r}")
    (score,) = _numbers([record.get("score")], 1)
    if math.isnan(score):
        raise ValueError(f"{file}, detection {place}: 'score' should be a finite number, got {record.get('score')!r}")
    number = record.get("category_id")
    category = names.get(number) if type(number) is int else None
    pose = record.get("pose")
    rows = pose if isinstance(pose, list) and all(isinstance(row, list) and len(row) == 3 for row in pose) else []
    return Detection(
        place,
        record["image_id"],
        str(number) if category is None else category,
        score,
        _numbers(record.get("center_cam"), 3),
        _numbers(record.get("dimensions"), 3),
        _numbers([value for row in rows for value in row], 9),
        _numbers(record.get("bbox"), 4),
    )


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """So many finite numbers of a JSON list; all NaN where it is anything else."""
    listed: list[Any] = value if isinstance(value, list) and len(value) == count else [None]
    if all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in listed):
        return tuple(float(x) for x in listed)
    return (math.nan,) * count


def _scene(detections: Sequence[Detection], cut: float) -> Scene:
    return Scene(tuple(one.object for one in detections if one.score >= cut))


def _boxes(detections: Sequence[Detection], file: Path) -> Detections:
    def column(values: Sequence[tuple[float, ...]], width: int) -> np.ndarray:
        return np.array(values, dtype=np.float64).reshape(-1, width)

    rotations = nearest_rotations(column([one.pose for one in detections], 9))
    for one, rotation in zip(detections, rotations, strict=True):
        if np.isnan(rotation).any():
            raise ValueError(f"{file}, detection {one.place}: 'pose' should be a rotation, got {one.pose}")
    rectangles = column([one.rectangle for one in detections], 4)
    rectangles[:, 2:] += rectangles[:, :2]
    return Detections(
        column([one.center for one in detections], 3),
        column([one.dimensions for one in detections], 3),
        [one.category for one in detections],
        np.array([one.score for one in detections], dtype=np.float64),
        rotations,
        rectangles,
    )
