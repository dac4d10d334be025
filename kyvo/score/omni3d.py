"""Reading an Omni3D JSON as what predicted boxes are held against.

G true boxes of an image.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kyvo.metrics.box_comparison import Truths, View
from kyvo.metrics.box_overlap import Boxes, nearest_rotations
from kyvo.omni3d import EVALUATION, is_ignored, rectangle_of
from kyvo.scene import SceneSchema
from kyvo.score.json_files import read_json

Record = Mapping[str, Any]

_NUMBERS: Mapping[str, tuple[int, ...]] = {
    **{"center_cam": (3,), "dimensions": (3,), "R_cam": (3, 3)},
    **{"bbox2D_trunc": (4,), "bbox2D_proj": (4,)},
    **{"visibility": (), "truncation": (), "lidar_pts": (), "segmentation_pts": (), "depth_error": ()},
}
"""Numbers of an annotation that are looked at, and their shape; only the first two have to be there."""

_RECTANGLE_UNKNOWN = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TrueImage:
    """An image of the ground truth.

    Args:
        id: Its number.
        path: Its `file_path`.
        view: How it was taken.
        truths: Annotations of the schema's categories, those that Omni3D's evaluation ignores marked as such.
    """

    id: int
    path: str
    view: View
    truths: Truths


@dataclass(frozen=True)
class TrueSplit:
    """The ground truth of a split.

    Args:
        images: By number, in the order of the file.
        categories: Names by number, as the file has them.
    """

    images: Mapping[int, TrueImage]
    categories: Mapping[int, str]


def load_omni3d(file: Path) -> Record:
    """The content of an Omni3D JSON; ValueError if it lacks its lists of images, categories and annotations."""
    content = read_json(file)
    for name in ("images", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f"{file}: expected an Omni3D JSON with a list of {name}")
        if not all(isinstance(record, dict) for record in content[name]):
            raise ValueError(f"{file}: expected a list of objects under {name!r}")
    found: Record = content
    return found


def schema_name_of(content: Record, file: Path) -> str:
    """The schema of the data set that an Omni3D JSON says it comes from; ValueError if it names no data set of ours.

    >>> schema_name_of({"info": [{"source": "ARKitScenes"}]}, Path("truth.json"))
    'arkitscenes'
    """
    info = content.get("info")
    # The published loader also takes a list of one.
    info = info[0] if isinstance(info, list) and info else info
    source = info.get("source") if isinstance(info, dict) else None
    if str(source).lower() not in ("objectron", "arkitscenes"):
        raise ValueError(f"{file}: its info names no known data set (source {source!r}): give the schema")
    return str(source).lower()


def true_split(content: Record, schema: SceneSchema, file: Path, ignore: bool = True) -> TrueSplit:
    """Read images and annotations of a ground truth; annotations of other categories than the schema's are left out.

    Args:
        content: Of the JSON.
        schema: `objectron` or `arkitscenes`.
        file: Where it was read, for errors.
        ignore: Whether what Omni3D's evaluation ignores is ignored; without, only objects that have no valid box.

    Raises:
        ValueError: Numbers of images that come twice or are none, annotations of no image, or numbers that are missing
            or not finite, naming the record.
    """
    categories = {record.get("id"): str(record.get("name")) for record in content["categories"]}
    images = [_number(record, "id", f"{file}, image {place}") for place, record in enumerate(content["images"])]
    twice = [number for number, count in Counter(images).items() if count > 1]
    if twice:
        raise ValueError(f"{file}: two images have the id {twice[0]}")
    held: dict[int, list[Record]] = {number: [] for number in images}
    for place, record in enumerate(content["annotations"]):
        where = f"{file}, annotation {place}"
        number = _number(record, "image_id", where)
        if number not in held:
            raise ValueError(f"{where}: there is no image {number}")
        name = record.get("category_name") or categories.get(record.get("category_id"))
        if name in schema["category"].values:
            _check(record, where)
            held[number].append({**record, "category": name})
    pairs = zip(images, content["images"], strict=True)
    return TrueSplit({number: _image(record, held[number], file, ignore) for number, record in pairs}, categories)


def _image(record: Record, annotations: Sequence[Record], file: Path, ignore: bool) -> TrueImage:
    where = f"{file}, image {record['id']}"
    if not isinstance(record.get("file_path"), str):
        raise ValueError(f"{where}: 'file_path' should be a path, got {record.get('file_path')!r}")
    width, height = (_number(record, name, where) for name in ("width", "height"))
    if not _has_shape(record.get("K"), (3, 3)):
        raise ValueError(f"{where}: 'K' should be 3 x 3 finite numbers, got {record.get('K')}")
    view = View(np.array(record["K"], dtype=np.float64), width, height)
    left_out = [is_ignored(one, height, EVALUATION) if ignore else not _has_box(one) for one in annotations]
    return TrueImage(
        record["id"], record["file_path"], view, _truths(annotations, np.array(left_out, dtype=bool), where)
    )


def _has_box(annotation: Record) -> bool:
    valid = annotation.get("valid3D", True) and not annotation.get("behind_camera", False)
    return bool(valid) and min(annotation["dimensions"]) > 0


def _truths(annotations: Sequence[Record], ignored: NDArray[np.bool_], where: str) -> Truths:
    rotations = nearest_rotations([one.get("R_cam", np.full((3, 3), np.nan)) for one in annotations])
    lost = np.isnan(rotations).any((-1, -2))
    for one in (one for one, bad in zip(annotations, lost & ~ignored, strict=True) if bad):
        raise ValueError(f"{where}: 'R_cam' of a {one['category']} should be a rotation, got {one.get('R_cam')}")
    # An ignored object may have no rotation: then its other numbers are unknown as well, and it overlaps nothing.
    rotations[lost] = np.eye(3)
    boxes = Boxes.of([one["center_cam"] for one in annotations], [one["dimensions"] for one in annotations], rotations)
    rectangles = [rectangle_of(one) or _RECTANGLE_UNKNOWN for one in annotations]
    return Truths(boxes, [one["category"] for one in annotations], ignored, np.array(rectangles).reshape(-1, 4))


def _check(record: Record, where: str) -> None:
    for name, shape in _NUMBERS.items():
        if name in ("center_cam", "dimensions") and name not in record:
            raise ValueError(f"{where}: {name!r} is missing")
        if name in record and not _has_shape(record[name], shape):
            form = " x ".join(map(str, shape)) or "one"
            raise ValueError(f"{where}: {name!r} should be {form} finite number(s), got {record[name]}")


def _number(record: Record, name: str, where: str) -> int:
    value = record.get(name)
    if type(value) is not int:
        raise ValueError(f"{where}: {name!r} should be an integer, got {value!r}")
    return value


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether these are finite numbers in nested lists of that shape."""
    if not shape:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, list) and len(value) == shape[0] and all(_has_shape(item, shape[1:]) for item in value)
