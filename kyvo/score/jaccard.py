"""The Jaccard index of scenes in files: predictions of ours, of the published code, of detectors or of chat models.

S scenes, T thresholds tau.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kyvo.metrics.bootstrap import interval
from kyvo.metrics.criteria import CRITERIA, Criterion, criterion_of
from kyvo.metrics.jaccard import Rule, SceneJaccard, SceneMatcher, check_taus
from kyvo.metrics.shape_assignment import named_schema
from kyvo.scene import SceneSchema, get_schema
from kyvo.score.chat import scene_entries
from kyvo.score.cube_rcnn import PUBLISHED_CUT, check_boxes, check_cut, load_detections, scenes_above
from kyvo.score.official_scenes import ERRORS, official_pairs_of
from kyvo.score.scene_files import (
    ObjectReader,
    ScenePair,
    Truths,
    pair_scenes,
    published_file,
    read_entries,
    read_truths,
)

Format = Literal["kyvo", "cube-rcnn", "chat"]

_CUTS = tuple(step / 20 for step in range(1, 20))
"""Scores that are tried for the best one on validation data."""


def score(
    schema: str,
    predictions: str,
    ground_truth: str | None = None,
    taus: list[float] | None = None,
    dimensions_tau: float | None = None,
    rule: Rule = "optimal",
    format: Format = "kyvo",
    score_cut: float | None = None,
    validation_predictions: str | None = None,
    validation_ground_truth: str | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Score predicted scenes against true ones.

    By the rule `optimal` every true scene counts, also one without a prediction. By the rule `official` files are read
    and scenes compared as the published scripts do, bug for bug; where these raise, so does this.

    Args:
        schema: clevr, objaworld, objaworld-shapes (shapes by name), objectron, arkitscenes, or a .yaml file.
        predictions: Folder with `predicted_scenes_FOLDER.json`, or that file; lines of `predictions/` of a run (a
            .jsonl file, a folder of them, a pattern); `omni_instances_results.json` (cube-rcnn); replies (chat).
        ground_truth: Folder of CLEVR scenes, ObjaWorld's root, a JSON of Omni3D, or lines of a run's predictions, which
            hold the true scenes too; default is the file of the predictions.
        taus: Distances below which places agree; default is those published for the schema.
        dimensions_tau: Mean error up to which the sizes of boxes agree, in metres; default is the published one.
        rule: `optimal`, or `official`, the published scripts.
        format: What the predictions are: `kyvo`, `cube-rcnn` or `chat`.
        score_cut: Detections with a lower score are left out; default is 0.05, as in the paper, and none by the
            official rule, whose script knows no scores.
        validation_predictions: A detector's boxes for other images, on which the best cut is looked for.
        validation_ground_truth: The true boxes of those images.
        output: JSON file to write everything into, the index of each scene too.

    Returns:
        `mean` over scenes and thresholds, `per_tau`, `scenes` (how many), `interval` (95 %, by bootstrap over scenes);
        by the rule `optimal` also `unreadable` (scenes of which there was nothing to read), `score_cut` of detections
        and `scores`, those of `kyvo.metrics.jaccard.SceneJaccard`.

    Raises:
        ValueError: For files that are not as expected, predictions of unknown scenes, two predictions of one scene,
            arguments that do not fit together, or where a published script raises.
    """
    table = get_schema(schema)
    if ground_truth is None and (format != "kyvo" or published_file(predictions) is not None):
        raise ValueError(f"{predictions} holds no true scenes: give the ground truth")
    truth = ground_truth or predictions
    if (validation_predictions is None) != (validation_ground_truth is None):
        raise ValueError("looking for the best cut takes validation_predictions and validation_ground_truth")
    if format != "cube-rcnn" and (score_cut is not None or validation_predictions is not None):
        raise ValueError("only detections (format cube-rcnn) have scores to cut at")
    if score_cut is not None and validation_predictions is not None:
        raise ValueError("the cut is either given (score_cut) or looked for (validation_predictions), not both")
    if rule == "official" and format != "chat" and (format == "cube-rcnn" or published_file(predictions) is not None):
        if score_cut is not None or validation_predictions is not None:
            raise ValueError("the published script compares all detections: leave out the cut, or the official rule")
        found = _official(predictions, truth, _comparison(table, taus, dimensions_tau, rule), format == "cube-rcnn")
    else:
        truths = read_truths(truth)
        comparison = _comparison(_named(table, truths), taus, dimensions_tau, rule)
        if format == "cube-rcnn":
            cut = PUBLISHED_CUT if score_cut is None else check_cut(score_cut)
            if validation_predictions is not None and validation_ground_truth is not None:
                cut = best_cut(comparison, validation_predictions, read_truths(validation_ground_truth))
            [pairs] = detected(comparison, predictions, truths, [cut])
            found = {**comparison.score(pairs), "score_cut": cut}
        else:
            read = scene_entries if format == "chat" else read_entries
            entries = read(predictions, comparison.matcher.schema)
            found = comparison.score(pair_scenes(entries, truths, comparison.reader, predictions))
            found["unreadable"] = sum(entry.unreadable for entry in entries)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return {name: value for name, value in found.items() if name != "per_scene"}


class Comparison:
    """Compares scenes by a rule, at some thresholds.

    Args:
        matcher: Matches objects.
        taus: The thresholds.
    """

    def __init__(self, matcher: SceneMatcher, taus: Sequence[float]) -> None:
        self.matcher, self.taus = matcher, check_taus(taus)
        self.reader = ObjectReader(matcher.schema, matcher.criterion)

    def table(self, pairs: Sequence[ScenePair]) -> NDArray[np.float64]:
        """The index of each scene at each threshold, float64 [S, T]."""
        rows = [self.matcher.counts(one.prediction, one.target, self.taus, one.malformed) for one in pairs]
        return np.array([[count.jaccard(self.matcher.empty) for count in row] for row in rows])

    def score(self, pairs: Sequence[ScenePair]) -> dict[str, Any]:
        """All that there is to say about well-formed scenes, see `score`."""
        metric = SceneJaccard(self.matcher.schema, self.taus, self.matcher.rule, self.matcher.criterion)
        metric.update(
            [one.prediction for one in pairs], [one.target for one in pairs], [one.malformed for one in pairs]
        )
        scores = {name: value.item() for name, value in metric.compute().items()}
        known = {name: value for name, value in scores.items() if not math.isnan(value)}
        return {**self.summary([one.key for one in pairs], self.table(pairs)), "scores": known}

    def summary(self, keys: Sequence[str], table: NDArray[np.float64]) -> dict[str, Any]:
        """Mean, mean at each threshold, number of scenes, interval and the index of each scene."""
        per_tau, per_scene = table.mean(0), table.mean(1)
        return {
            "mean": float(per_tau.mean()),
            "per_tau": {str(tau): float(value) for tau, value in zip(self.taus, per_tau, strict=True)},
            "scenes": len(table),
            "interval": list(interval(per_scene)),
            "schema": self.matcher.schema.name,
            "rule": self.matcher.rule,
            "per_scene": [[key, float(value)] for key, value in zip(keys, per_scene, strict=True)],
        }


def _comparison(
    schema: SceneSchema, taus: Sequence[float] | None, dimensions_tau: float | None, rule: Rule
) -> Comparison:
    criterion = _criterion(schema)
    if dimensions_tau is not None:
        criterion = criterion.with_size_limit(dimensions_tau)
    return Comparison(SceneMatcher(schema, rule, criterion), criterion.taus if taus is None else taus)


def _criterion(schema: SceneSchema) -> Criterion:
    # Names of shapes in the place of shapes, and more numbers than needed: as ObjaWorld's files have them.
    return replace(CRITERIA[schema.name], surplus=True) if schema.name == "objaworld-shapes" else criterion_of(schema)


def _named(schema: SceneSchema, truths: Truths) -> SceneSchema:
    """The schema with names in the place of shapes, those that the true scenes have."""
    if schema.shape is None:
        return schema
    key = schema.shape.name
    raw = [item.get(key) for objects in truths.scenes.values() for item in objects if isinstance(item, dict)]
    names = [name for name in raw if isinstance(name, str)]
    if not names or len(names) != len(raw):
        raise ValueError(f"{truths.place} should give the shape of every object by name, under {key!r}")
    return named_schema(schema, sorted(set(names)))


def _official(predictions: str, ground_truth: str, comparison: Comparison, detector: bool) -> dict[str, Any]:
    """Scores as the published scripts compute them; ValueError where they end with an error."""
    try:
        pairs = official_pairs_of(predictions, ground_truth, comparison.matcher.schema, detector)
        table = comparison.table([ScenePair(one.key, one.prediction, one.target) for one in pairs])
    except ERRORS as error:
        raise ValueError(
            f"the published script ends with an error on {predictions}: {type(error).__name__}: {error}"
        ) from error
    return comparison.summary([one.key for one in pairs], table)


# ---- detections -----------------------------------------------------------------------------------------------------


def detected(
    comparison: Comparison, predictions: str, truths: Truths, cuts: Sequence[float]
) -> Iterator[list[ScenePair]]:
    """For each cut every image with the boxes of a detector from that score on; files are read once.

    Raises:
        ValueError: If the true scenes are not Omni3D's, and as `read_detections`.
    """
    if not truths.images:
        raise ValueError(f"{truths.place} is no JSON of Omni3D, whose images a detector's boxes refer to")
    check_boxes(comparison.matcher.schema)
    found = load_detections(Path(predictions), list(truths.images), truths.categories)
    true = {key: comparison.reader.read_truth(truths.scenes[key], truths.place, key) for key in truths.images.values()}
    for cut in cuts:
        scenes = scenes_above(found, cut)
        yield [ScenePair(key, scenes[image], true[key]) for image, key in truths.images.items()]


def best_cut(comparison: Comparison, predictions: str, truths: Truths) -> float:
    """The score at which to cut for the highest mean index; of equals the lowest."""
    means = [float(comparison.table(pairs).mean()) for pairs in detected(comparison, predictions, truths, _CUTS)]
    return _CUTS[int(np.argmax(means))]
