"""Omni3D's Objectron and ARKitScenes: COCO-like JSON of boxes in the camera frame (x right, y down, z forward)."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from data_modules.faults import BadInputError, Fault
from data_modules.shards import decode_json, encode_json
from data_modules.sources.source import Picture, Source, SourceSample
from kyvo.omni3d import EVALUATION, TRAINING, Limits, is_ignored
from kyvo.scene import SCHEMAS, SceneSchema

Record = Mapping[str, Any]

_SPLITS = ("train", "val", "test")

_SHAPES: Mapping[str, tuple[int, ...]] = {
    "center_cam": (3,),
    "dimensions": (3,),
    "R_cam": (3, 3),
    "bbox3D_cam": (8, 3),
    "bbox2D_tight": (4,),
    "bbox2D_proj": (4,),
    "bbox2D_trunc": (4,),
    "visibility": (),
    "truncation": (),
    "lidar_pts": (),
    "segmentation_pts": (),
    "depth_error": (),
}
"""Numbers of an annotation and their shape; all but the first two may be missing, and -1 says unknown."""

_FLAGS = ("valid3D", "behind_camera")

_MIRRORED_CORNERS = (4, 5, 6, 7, 0, 1, 2, 3)
"""Which corner of a box becomes each corner of its mirror image: the box's own z axis, along its width, turns round."""


class Omni3DSource(Source):
    """`root/Omni3D/DATASET_SPLIT.json` and the pictures that it names, relative to root.

    What is and isn't kept, as Omni3D's own loader does it: categories go by name, and annotations of others than the
    schema's (ARKitScenes' fireplace, "dontcare") are left out. Of the rest those are left out that the loader ignores,
    with its thresholds for training in `train` and those for evaluation in `val` and `test`. Scenes without any object
    left are kept, but not in `train`. Pictures that Omni3D turned upright (`src_90_rotate`) have K and boxes to match,
    and nothing here needs to know which way is up (`src_flagged`).

    `scene.json` holds `objects` (category, center_cam, dimensions and what else is known: R_cam, bbox3D_cam, bbox2D_*,
    visibility, truncation, ...), `K`, `width` and `height` of the published picture, `file_path` and `image_id`.

    Args:
        root: Omni3D's folder `datasets`.
        dataset: Which of the two.
        flip: Whether each training sample has a mirrored copy, its key with "-flip" at the end.
        ignore: Whether ignored annotations are left out; without, every annotation of a category counts, even those
            whose numbers are all -1.
    """

    def __init__(
        self, root: Path, dataset: Literal["Objectron", "ARKitScenes"], flip: bool = False, ignore: bool = True
    ) -> None:
        if dataset not in ("Objectron", "ARKitScenes"):
            raise ValueError(f"dataset should be Objectron or ARKitScenes, got {dataset!r}")
        self.root = Path(root)
        self.dataset = dataset
        self.flip = flip
        self.ignore = ignore

    @property
    def schema(self) -> SceneSchema:
        """`objectron` or `arkitscenes`."""
        return SCHEMAS[self.dataset.lower()]

    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""
        return tuple(split for split in _SPLITS if self._file(split).is_file())

    def _file(self, split: str) -> Path:
        return self.root / "Omni3D" / f"{self.dataset}_{split}.json"

    def samples(self, split: str) -> Iterator[SourceSample | Fault]:
        """Samples in the order of the file's images; keys are their paths with other signs for "/" and "."."""
        if split not in self.splits():
            raise ValueError(f"{self.root / 'Omni3D'} has the splits {', '.join(self.splits())}, not {split!r}")
        file = self._file(split)
        content = _load(file)
        ids = Counter(_field(image, "id") for image in content["images"])
        keys = Counter(_key(image) for image in content["images"])
        annotations, strays = _by_image(content, set(ids))
        yield from (Fault(str(file), "", "annotations", reason) for reason in strays)
        for image in content["images"]:
            try:
                _check_image(image)
                if ids[image["id"]] > 1 or keys[_key(image)] > 1:
                    raise ValueError(f"another image has its id {image['id']} or its path {image['file_path']!r}")
                scene = self._scene(image, annotations[image["id"]], TRAINING if split == "train" else EVALUATION)
            except ValueError as error:
                yield Fault(str(file), _key(image), "scene.json", str(error))
                continue
            if scene["objects"] or split != "train":
                yield from self._samples(_key(image), scene, self.flip and split == "train")

    def _scene(self, image: Record, annotations: list[Any], limits: Limits) -> dict[str, Any]:
        """The scene of a checked image; ValueError if an annotation of its cannot be read."""
        of_schema = [record for record in annotations if record["category"] in self.schema["category"].values]
        for record in of_schema:
            _check_annotation(record)
        kept = [o for o in of_schema if not (self.ignore and is_ignored(o, image["height"], limits))]
        names = ("width", "height", "K", "file_path", "id")
        about = {"image_id" if name == "id" else name: image[name] for name in names}
        wanted = ("category", *_SHAPES, *_FLAGS)
        return {"objects": [{name: o[name] for name in wanted if name in o} for o in kept], **about}

    def _samples(self, key: str, scene: Record, flip: bool) -> Iterator[SourceSample | Fault]:
        picture = Picture(self.root / scene["file_path"])
        if not picture.path.is_file():
            yield Fault(str(picture.path), key, "image", "the picture is not there")
            return
        yield SourceSample(key, {"scene.json": encode_json(scene)}, {"image": picture})
        if flip:
            members = {"scene.json": encode_json(mirrored(scene))}
            yield SourceSample(f"{key}-flip", members, {"image": Picture(picture.path, mirrored=True)})


def mirrored(scene: Record) -> dict[str, Any]:
    """The scene as the picture with left and right exchanged shows it; doing so twice gives the scene back.

    The camera frame's x is negated, the principal point and boxes in the image move to `width - x`. A rotation stays
    one because the box's own z axis turns round with it (boxes are symmetric); dimensions stay as they are.
    """
    width = scene["width"]
    (fx, skew, cx), *rest = scene["K"]
    objects = [{name: _mirrored_value(name, value, width) for name, value in o.items()} for o in scene["objects"]]
    return {**scene, "objects": objects, "K": [[fx, 0.0 - skew, width - cx], *rest]}


def _mirrored_value(name: str, value: Any, width: float) -> Any:
    if name not in _SHAPES or not _is_known(value):
        return value
    if name == "center_cam":
        return _mirrored_point(value)
    if name == "R_cam":
        signs = ((-1, -1, 1), (1, 1, -1), (1, 1, -1))
        return [[0.0 + sign * x for sign, x in zip(*pair, strict=True)] for pair in zip(signs, value, strict=True)]
    if name == "bbox3D_cam":
        return [_mirrored_point(value[corner]) for corner in _MIRRORED_CORNERS]
    if name.startswith("bbox2D"):
        left, top, right, bottom = value
        return [width - right, top, width - left, bottom]
    return value


def _mirrored_point(point: list[float]) -> list[float]:
    # 0 - x and not -x: a negative zero would be written "-0.0".
    return [0.0 - point[0], *point[1:]]


def _is_known(value: Any) -> bool:
    """Whether a number, or any of nested ones, is something else than -1."""
    return any(map(_is_known, value)) if isinstance(value, list) else value != -1


def _load(file: Path) -> dict[str, Any]:
    """The file's content with lists of images, categories and annotations; `info`, an object or a list, is not read."""
    try:
        content = decode_json(file.read_bytes())
    except ValueError as error:
        raise BadInputError(Fault(str(file), "", "", f"not JSON: {error}")) from error
    for name in ("images", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise BadInputError(Fault(str(file), "", name, "expected a list"))
    return content


def _by_image(content: Record, ids: set[Any]) -> tuple[Mapping[Any, list[Record]], list[str]]:
    """Annotations with their category's name by image, and what is wrong with those that belong to none."""
    names = {_field(record, "id"): _field(record, "name") for record in content["categories"]}
    annotations: dict[Any, list[Record]] = defaultdict(list)
    strays = []
    for annotation in content["annotations"]:
        image = _field(annotation, "image_id")
        if image is None or image not in ids:
            strays.append(f"expected an annotation with the id of an image, got {image!r}")
            continue
        name = _field(annotation, "category_name") or names.get(_field(annotation, "category_id"))
        annotations[image].append({**annotation, "category": name})
    return annotations, strays


def _field(record: Any, name: str) -> str | int | None:
    """A word or whole number of a JSON object; None for anything else."""
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, str | int) else None


def _key(image: Any) -> str:
    """A key of the image's path: without its suffix, "-" for "/" and "_" for "."; "" where it has none."""
    path = _field(image, "file_path")
    return path.rpartition(".")[0].replace("/", "-").replace(".", "_") if isinstance(path, str) else ""


def _check_image(image: Any) -> None:
    if not isinstance(image, dict):
        raise ValueError(f"expected an image's record, got {type(image).__name__}")
    if type(image.get("id")) is not int or not isinstance(image.get("file_path"), str):
        raise ValueError("an image needs an integer 'id' and a 'file_path'")
    if PurePosixPath(image["file_path"]).is_absolute() or ".." in PurePosixPath(image["file_path"]).parts:
        raise ValueError(f"'file_path' should lie below the data set's folder, got {image['file_path']!r}")
    for name in ("width", "height"):
        if type(image.get(name)) is not int or image[name] < 1:
            raise ValueError(f"{name!r} should be a positive integer, got {image.get(name)!r}")
    if not _has_shape(image.get("K"), (3, 3)):
        raise ValueError(f"'K' should be 3 x 3 finite numbers, got {image.get('K')}")


def _check_annotation(record: Record) -> None:
    for name in ("center_cam", "dimensions"):
        if name not in record:
            raise ValueError(f"annotation {record.get('id')} ({record['category']}): {name!r} is missing")
    for name, shape in _SHAPES.items():
        if name in record and not _has_shape(record[name], shape):
            form = " x ".join(map(str, shape)) or "one"
            where = f"annotation {record.get('id')} ({record['category']})"
            raise ValueError(f"{where}: {name!r} should be {form} finite number(s), got {record[name]}")
    for name in _FLAGS:
        if not isinstance(record.get(name, False), bool):
            raise ValueError(f"annotation {record.get('id')}: {name!r} should be true or false, got {record[name]!r}")


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether these are finite numbers in nested lists of that shape."""
    if not shape:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, list) and len(value) == shape[0] and all(_has_shape(item, shape[1:]) for item in value)
