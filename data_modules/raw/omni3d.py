"""Omni3D's published layout: a COCO-like JSON file for each split, and the pictures of Objectron beside it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_modules.shards import decode_json, encode_json
from kyvo.omni3d import CATEGORY_IDS
from kyvo.scene import SCHEMAS

DATASET_IDS: Mapping[str, int] = {"train": 6, "val": 7, "test": 8}
"""Omni3D's number of each of Objectron's splits."""

_FILE_WORDS = {"bicycle": "bike", "books": "book", "cereal box": "cereal_box", "shoes": "shoe"}
"""Objectron's own words in the names of files, where they are not Omni3D's categories."""

_BATCH = 1000
"""Pictures of a batch: the names count batches and pictures."""

_UNAVAILABLE: Mapping[str, int] = {"segmentation_pts": -1, "lidar_pts": -1, "depth_error": -1}
"""What Omni3D knows of some other data sets' objects only."""


def write(out: Path, split: str, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write a split of an Objectron-like world as Omni3D's `datasets` folder holds Objectron.

    There will be `out/Omni3D/Objectron_SPLIT.json` and `out/objectron/SPLIT/WORD_batch_B_N_0000000.png`, the pictures
    as they come (the published ones are JPEG); `file_path` in the JSON is relative to `out`.

    Args:
        out: The folder; created if need be.
        split: `train`, `val` or `test`.
        samples: Keys and members `scene.json` (of `ObjectronWorld`) and `image.png`.

    Raises:
        ValueError: If the split is none of the three.
    """
    if split not in DATASET_IDS:
        raise ValueError(f"Omni3D has the splits {', '.join(DATASET_IDS)}, not {split!r}")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (out / "objectron" / split).mkdir(parents=True, exist_ok=True)
    for number, (_, members) in enumerate(samples):
        scene = decode_json(members["scene.json"])
        image = _image(scene, split, number)
        images.append(image)
        annotations += [_annotation(o, image["id"], len(annotations) + k) for k, o in enumerate(scene["objects"])]
        (out / image["file_path"]).write_bytes(members["image.png"])
    (out / "Omni3D").mkdir(exist_ok=True)
    record = {"info": _info(split), "images": images, "categories": _categories(), "annotations": annotations}
    (out / "Omni3D" / f"Objectron_{split}.json").write_bytes(encode_json(record))


def _info(split: str) -> dict[str, Any]:
    title = split.title()
    return {
        "id": DATASET_IDS[split],
        "source": "Objectron",
        "name": f"Objectron {title}",
        "split": title,
        "version": "0.1",
        "url": "",
    }


def _categories() -> list[dict[str, Any]]:
    names = SCHEMAS["objectron"]["category"].values
    return [{"id": CATEGORY_IDS[name], "name": name, "supercategory": ""} for name in names]


def _image(scene: Mapping[str, Any], split: str, number: int) -> dict[str, Any]:
    first = scene["objects"][0]["category"] if scene["objects"] else "empty"
    batch, place = divmod(number, _BATCH)
    return {
        "id": number,
        "dataset_id": DATASET_IDS[split],
        "width": scene["width"],
        "height": scene["height"],
        "file_path": f"objectron/{split}/{_FILE_WORDS.get(first, first)}_batch_{batch}_{place}_0000000.png",
        "K": scene["K"],
        "src_90_rotate": 0,
        "src_flagged": False,
    }


def _annotation(record: Mapping[str, Any], image: int, number: int) -> dict[str, Any]:
    names = (
        *("valid3D", "bbox2D_tight", "bbox2D_proj", "bbox2D_trunc", "bbox3D_cam", "center_cam", "dimensions"),
        *("R_cam", "behind_camera", "visibility", "truncation"),
    )
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORY_IDS[record["category"]],
        "category_name": record["category"],
        **{name: record[name] for name in names},
        **_UNAVAILABLE,
    }
