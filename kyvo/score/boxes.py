"""`kyvo score boxes`: how well predicted 3D boxes agree with those that an Omni3D file annotates."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kyvo.metrics.box_comparison import Detections, compare, compare_with_oracle, near_pairs
from kyvo.metrics.detection import MOST, ORACLE, RANGES, THRESHOLDS, AveragePrecision3D, mean_of_known
from kyvo.metrics.paired_overlap import PairedOverlap
from kyvo.scene import SceneSchema, get_schema
from kyvo.score.cube_rcnn import PUBLISHED_CUT, check_cut, read_boxes
from kyvo.score.omni3d import TrueSplit, load_omni3d, schema_name_of, true_split
from kyvo.score.scene_files import Entry, read_entries, shard_key


def score(
    predictions: Path,
    ground_truth: Path,
    schema: str | None = None,
    format: Literal["kyvo", "cube-rcnn"] = "kyvo",
    cut: float = PUBLISHED_CUT,
    proximity: bool | None = None,
    ignore: bool = True,
    output: Path | None = None,
) -> dict[str, Any]:
    """Score 3D boxes by AP3D, as Omni3D's evaluation defines it, and by the overlap of pairs (IoU3D).

    Scenes of ours have no rotation: their boxes are turned like the true ones that they are compared with. Such numbers
    are an oracle's, have names that end in "_oracle_r", and are given for detectors as well, to compare the two.

    Annotations that Omni3D's evaluation ignores (cut off, hidden or small objects, or without a valid box) count
    neither for nor against anyone. Every image of the ground truth counts, whether something was predicted for it or
    not. Objects of a scene may have a `score`; without, all have 1, and precision is that of one point, not of a curve.

    Args:
        predictions: Scenes ({"scenes": [{"key": ..., "objects": [...]}]}, or the JSON lines that the callback
            Predictions writes), or a detector's omni_instances_results.json.
        ground_truth: Omni3D's JSON of the split.
        schema: objectron or arkitscenes; default is what the ground truth's info says.
        format: Whose predictions these are, ours (kyvo) or those of a detector of Omni3D (cube-rcnn).
        cut: Detections with a lower score count for no pair. AP3D ranks all detections, as published.
        proximity: Whether predictions that are near no annotated object in the picture do not count for AP3D, because
            not all objects are annotated; default is as published: in Objectron.
        ignore: Whether annotations that Omni3D's evaluation ignores are ignored; without, only those that have no valid
            box.
        output: JSON file to write the result to as well.

    Returns:
        How many `images`, `objects`, `ignored` objects, `predictions`, and `malformed` ones there are; `ap3d` and
        `ap3d_oracle_r`, each with `mean`, `interval`, `per_iou`, `per_category`, `per_depth` and `recall`; `iou3d` and
        `iou3d_oracle_r`, each with `pairs` (mean over pairs), `pairs_interval`, `all` (over true objects, 0 without a
        partner) and `all_interval`. Intervals are [low, high], of 95 % by bootstrap over images. None where there is
        nothing to average.

    Raises:
        ValueError: Files of another form, predictions for unknown images or two for one, numbers that are missing or
            not finite: with file, record and reason; or a cut that is no number.
    """
    content = load_omni3d(ground_truth)
    table = get_schema(schema_name_of(content, ground_truth) if schema is None else schema)
    if table.name not in ("objectron", "arkitscenes"):
        raise ValueError(f"schema should be objectron or arkitscenes, got {table.name!r}")
    truth = true_split(content, table, ground_truth, ignore)
    if format == "cube-rcnn":
        found = PredictedSplit(read_boxes(predictions, truth.images, truth.categories))
    else:
        found = read_scenes(predictions, truth, table)
    result = {
        "schema": table.name,
        "format": format,
        "proximity": table.name == "objectron" if proximity is None else proximity,
        **_counts(found, truth),
    }
    result |= box_scores(found, truth, table["category"].values, bool(result["proximity"]), check_cut(cut))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


@dataclass(frozen=True)
class PredictedSplit:
    """What was predicted for a split.

    Args:
        images: Detections of every image by its number.
        malformed: How many objects a model wrote that could not be read.
    """

    images: Mapping[int, Detections]
    malformed: int = 0


def read_scenes(file: Path, truth: TrueSplit, schema: SceneSchema) -> PredictedSplit:
    """Predicted scenes as boxes without rotation, for every image of the ground truth.

    Args:
        file: See `kyvo.score.scene_files.read_entries`.
        truth: The images; keys of scenes are their paths, or what these are called in shards.
        schema: How scenes are read.

    Raises:
        ValueError: See `read_entries`; an unknown key, two scenes of one image, or numbers that are missing or not
            finite.
    """
    numbers = {name: one.id for one in truth.images.values() for name in (one.path, shard_key(one.path))}
    entries: dict[int, Entry] = {}
    for entry in read_entries(str(file), schema):
        if entry.key not in numbers:
            raise ValueError(f"{file}: the ground truth has no image {entry.key!r}")
        if numbers[entry.key] in entries:
            raise ValueError(f"{file}: two scenes for image {entry.key!r}")
        entries[numbers[entry.key]] = entry
    found = {number: _boxes(entries[number].objects if number in entries else [], file) for number in truth.images}
    return PredictedSplit(found, sum(entry.malformed for entry in entries.values()))


def _boxes(objects: Sequence[Any], file: Path) -> Detections:
    return Detections(
        np.array([_numbers(one, "center_cam", file) for one in objects], dtype=np.float64).reshape(-1, 3),
        np.array([_numbers(one, "dimensions", file) for one in objects], dtype=np.float64).reshape(-1, 3),
        [str(one.get("category")) for one in objects],
        np.array([_score(one, file) for one in objects], dtype=np.float64),
    )


def _numbers(raw: Any, name: str, file: Path) -> list[float]:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
        raise ValueError(f"{file}: {name!r} of an object should be 3 finite numbers, got {value!r}")
    return value


def _score(raw: Mapping[str, Any], file: Path) -> float:
    value = raw.get("score", 1.0)
    if not _is_number(value):
        raise ValueError(f"{file}: 'score' of an object should be a finite number, got {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ---- scores ---------------------------------------------------------------------------------------------------------


def box_scores(
    found: PredictedSplit, truth: TrueSplit, categories: Sequence[str], proximity: bool, cut: float
) -> dict[str, dict[str, Any]]:
    """`ap3d`, `iou3d` and the same with the oracle, as `score` returns them; without, only of boxes with rotations.

    Args:
        found: Predictions for every image of the ground truth.
        truth: The ground truth.
        categories: Those that are scored.
        proximity: Whether predictions that are near no true object do not count for AP3D.
        cut: Least score of a prediction that counts for pairs.
    """
    turned = all(one.rotations is not None for one in found.images.values())
    ways = ((compare, False), (compare_with_oracle, True)) if turned else ((compare_with_oracle, True),)
    result: dict[str, dict[str, Any]] = {}
    for way, oracle in ways:
        precision, overlap = AveragePrecision3D(categories, oracle), PairedOverlap(oracle)
        for number, detections in found.images.items():
            image = truth.images[number]
            near = near_pairs(detections, image.truths, image.view) if proximity else None
            precision.update([way(detections, image.truths, near)], [number])
            overlap.update([way(detections.cut(cut), image.truths)])
        suffix = ORACLE if oracle else ""
        result[f"ap3d{suffix}"] = _precision_table(precision)
        result[f"iou3d{suffix}"] = _overlap_table(overlap, suffix)
    return result


def _precision_table(metric: AveragePrecision3D) -> dict[str, Any]:
    tables = metric.tables()
    precision, recall = tables.precision, tables.recall
    return {
        "mean": _known(mean_of_known(precision[:, 0])),
        "interval": [_known(end) for end in metric.interval()],
        "per_iou": {f"{t:.2f}": _known(mean_of_known(precision[:, 0, k])) for k, t in enumerate(THRESHOLDS)},
        "per_category": {name: _known(mean_of_known(precision[k, 0])) for k, name in enumerate(metric.categories)},
        "per_depth": {name: _known(mean_of_known(precision[:, k])) for k, name in enumerate(RANGES) if k},
        "recall": {str(most): _known(mean_of_known(recall[:, 0, :, k])) for k, most in enumerate(MOST)},
    }


def _overlap_table(metric: PairedOverlap, suffix: str) -> dict[str, Any]:
    values = {name: value.item() for name, value in metric.compute().items()}
    found: dict[str, Any] = {}
    for key, name in (("pairs", f"iou3d{suffix}"), ("all", f"iou3d{suffix}_all")):
        found[key] = _known(values[name])
        found[f"{key}_interval"] = [_known(values[f"{name}_{end}"]) for end in ("low", "high")]
    return found


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _counts(found: PredictedSplit, truth: TrueSplit) -> dict[str, int]:
    ignored = sum(0 if one.truths.ignored is None else int(one.truths.ignored.sum()) for one in truth.images.values())
    return {
        "images": len(truth.images),
        "objects": sum(len(one.truths) for one in truth.images.values()) - ignored,
        "ignored": ignored,
        "predictions": sum(map(len, found.images.values())),
        "malformed": found.malformed,
    }
