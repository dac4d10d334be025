"""Predicted boxes of an image held against the true ones: what scores of boxes are computed from.

D predicted boxes, G true boxes of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kyvo.metrics.box_overlap import Boxes, Floats, iou3d_matrix, oracle_iou3d_matrix

NEAR = 0.3
"""Overlap in the picture above which a prediction is near a true object (Omni3D's proximity mode)."""

_LEAST_DEPTH = 0.01
"""Metres before the camera: what lies behind is projected as if it lay here."""


@dataclass(frozen=True)
class Detections:
    """What was predicted for an image.

    Args:
        centers: float64 [D, 3], metres in the camera's frame.
        dimensions: float64 [D, 3], width, height, length, metres.
        labels: Categories, D words.
        scores: float64 [D], higher is surer; all 1 for a model that does not say how sure it is.
        rotations: float64 [D, 3, 3]; None where no rotation is predicted.
        rectangles: float64 [D, 4], left, top, right, bottom in pixels; None where they are to be projected.
    """

    centers: Floats
    dimensions: Floats
    labels: Sequence[str]
    scores: Floats
    rotations: Floats | None = None
    rectangles: Floats | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, least: float) -> "Detections":
        """Those with at least this score."""
        kept = self.scores >= least
        return Detections(
            self.centers[kept],
            self.dimensions[kept],
            [label for label, keep in zip(self.labels, kept, strict=True) if keep],
            self.scores[kept],
            None if self.rotations is None else self.rotations[kept],
            None if self.rectangles is None else self.rectangles[kept],
        )


@dataclass(frozen=True)
class Truths:
    """What is annotated in an image.

    Args:
        boxes: G boxes.
        labels: Categories, G words.
        ignored: bool [G], what neither has to be found nor is a mistake to find; None for nothing.
        rectangles: float64 [G, 4], left, top, right, bottom in pixels; None where they are not known.
    """

    boxes: Boxes
    labels: Sequence[str]
    ignored: NDArray[np.bool_] | None = None
    rectangles: Floats | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class BoxComparison:
    """The boxes of an image, reduced to what decides which of them match.

    Args:
        labels: Categories of predictions, D words.
        scores: float64 [D].
        depths: float64 [D], metres before the camera.
        true_labels: Categories of true objects, G words.
        true_depths: float64 [G].
        ignored: bool [G].
        overlaps: float64 [D, G] in [0, 1]; 0 where categories differ.
        near: bool [D, G], pairs near each other in the picture; None where that does not matter.
    """

    labels: Sequence[str]
    scores: Floats
    depths: Floats
    true_labels: Sequence[str]
    true_depths: Floats
    ignored: NDArray[np.bool_]
    overlaps: Floats
    near: NDArray[np.bool_] | None = None

    @property
    def alike(self) -> NDArray[np.bool_]:
        """Pairs of one category, bool [D, G]."""
        return _alike(self.labels, self.true_labels)


def compare(found: Detections, truths: Truths, near: NDArray[np.bool_] | None = None) -> BoxComparison:
    """Hold predictions with rotations of their own against the truth.

    Args:
        found: Predictions.
        truths: True objects.
        near: Pairs near each other in the picture, bool [D, G]; see `near_pairs`.

    Raises:
        ValueError: The predictions have no rotations.
    """
    if found.rotations is None:
        raise ValueError("boxes without rotations overlap nothing by themselves; see compare_with_oracle")
    boxes = Boxes(found.centers, found.dimensions, found.rotations)
    return _comparison(found, truths, iou3d_matrix(boxes, truths.boxes, _alike(found.labels, truths.labels)), near)


def compare_with_oracle(found: Detections, truths: Truths, near: NDArray[np.bool_] | None = None) -> BoxComparison:
    """Hold predictions against the truth, each turned like the true object that it is compared with: an oracle.

    Args:
        found: Predictions; rotations of their own are not looked at.
        truths: True objects.
        near: Pairs near each other in the picture, bool [D, G]; see `near_pairs`.
    """
    overlaps = oracle_iou3d_matrix(found.centers, found.dimensions, truths.boxes)
    return _comparison(found, truths, np.where(_alike(found.labels, truths.labels), overlaps, 0.0), near)


def _comparison(found: Detections, truths: Truths, overlaps: Floats, near: NDArray[np.bool_] | None) -> BoxComparison:
    ignored = np.zeros(len(truths), dtype=bool) if truths.ignored is None else truths.ignored
    return BoxComparison(
        found.labels,
        found.scores,
        found.centers[:, 2],
        truths.labels,
        truths.boxes.centers[:, 2],
        ignored,
        overlaps,
        near,
    )


def _alike(labels: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    rows = np.array(labels, dtype=object).reshape(-1, 1)
    return np.equal(rows, np.array(others, dtype=object).reshape(1, -1)).astype(bool)


# ---- in the picture -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """How a picture was taken.

    Args:
        intrinsics: float64 [3, 3], the camera's matrix K.
        width: Pixels.
        height: Pixels.
    """

    intrinsics: Floats
    width: int
    height: int

    def rectangles(self, boxes: Boxes) -> Floats:
        """What boxes cover of the picture: left, top, right, bottom in pixels, float64 [N, 4]."""
        corners = boxes.corners
        depths = corners[..., 2:].clip(min=_LEAST_DEPTH)
        points = (np.concatenate([corners[..., :2], depths], -1) @ self.intrinsics.T)[..., :2] / depths
        points = points.clip(0, [self.width, self.height])
        return np.concatenate([points.min(1), points.max(1)], -1)


def near_pairs(found: Detections, truths: Truths, view: View) -> NDArray[np.bool_]:
    """Tell which predictions are near which true objects in the picture, as Omni3D's proximity mode asks.

    Predictions without rectangles get those of their boxes, turned like the true object that they are compared with.

    Args:
        found: Predictions.
        truths: True objects with rectangles.
        view: How the picture was taken.

    Returns:
        bool [D, G].

    Raises:
        ValueError: The true objects have no rectangles.
    """
    if truths.rectangles is None:
        raise ValueError("proximity needs the rectangles of true objects in the picture")
    rows, columns = (grid.ravel() for grid in np.indices((len(found), len(truths))))
    if found.rectangles is not None:
        ours = found.rectangles[rows]
    else:
        turned = Boxes(found.centers[rows], found.dimensions[rows], truths.boxes.rotations[columns])
        ours = view.rectangles(turned)
    return (rectangle_iou(ours, truths.rectangles[columns]) > NEAR).reshape(len(found), len(truths))


def rectangle_iou(first: Floats, second: Floats) -> Floats:
    """Overlap of rectangles pair by pair, [N, 4] and [N, 4] (left, top, right, bottom) -> [N] in [0, 1]."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = sides.clip(min=0).prod(-1)
    areas = [(one[:, 2:] - one[:, :2]).clip(min=0).prod(-1) for one in (first, second)]
    both = areas[0] + areas[1] - shared
    return np.where(both > 0, shared / np.where(both > 0, both, 1.0), 0.0)
