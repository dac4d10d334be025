"""AP3D, the average precision of 3D boxes, as Omni3D's evaluation defines it.

C categories, R = 4 depth ranges, T = 10 overlap thresholds, I images, D predicted and G true boxes of one, N
predictions in all, K = 3 numbers of predictions that an image may have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from kyvo.metrics.bootstrap import drawn_counts, percentiles
from kyvo.metrics.box_comparison import BoxComparison
from kyvo.metrics.box_overlap import Floats

THRESHOLDS = np.linspace(0.05, 0.50, 10)
"""Overlaps from which on a prediction is right."""

RANGES = {"all": (0.0, 1e5), "near": (0.0, 10.0), "medium": (10.0, 35.0), "far": (35.0, 1e5)}
"""Depth of an object's centre in metres, both ends included."""

MOST = (1, 10, 100)
"""How many predictions of an image and category count, the surest; precision is measured with the last."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which precision is read."""

DRAWS = 200
"""Resamplings of the images for intervals: each takes the whole average precision again."""

ORACLE = "_oracle_r"
"""What results are called by where boxes were turned like the true ones."""

_WRONG, _RIGHT, _IGNORED = range(3)
_LOWER, _UPPER = np.array(list(RANGES.values())).T


@dataclass(frozen=True)
class DetectionScores:
    """Average precision and recall in all their parts; NaN where a category has no object in a depth range.

    Args:
        precision: float64 [C, R, T].
        recall: float64 [C, R, T, K].
    """

    precision: Floats
    recall: Floats


class AveragePrecision3D(Metric):
    """AP3D of predicted boxes (Brazil et al., Omni3D, arXiv 2207.10660), equal to the published evaluation.

    In each image and category predictions take, the surest first, the free true object that they overlap most, if
    enough; of equal ones the later. One that takes an ignored object, or that has none and lies outside of the depth
    range, does not count. Where pairs near each other in the picture are given, only these may match, and a prediction
    that is near no object of an image that has some of its category does not count either: not all is annotated there.
    Precision is read at 101 recalls and averaged over these, thresholds, and categories that have objects.

    Equal scores come in the order of the images' numbers and, in an image, of its predictions.

    ``compute`` returns scalars; NaN where there is no object. If boxes were turned like the true ones, all names have
    ``_oracle_r`` after ``3d``.

    - ``ap3d``, ``ap3d_low`` and ``ap3d_high``, the ends of its 95 % bootstrap interval, in which images are resampled
    - ``ap3d_iou05``, ..., ``ap3d_iou50`` at each threshold
    - ``ap3d_near``, ``ap3d_medium``, ``ap3d_far``: by depth
    - ``ap3d_cup``, ``ap3d_cereal_box``, ...: by category
    - ``ar3d_1``, ``ar3d_10``, ``ar3d_100``: recall with so many predictions of an image and category

    Args:
        categories: Those that are scored; others are left out, whether predicted or true.
        oracle_rotation: Whether boxes were turned like the true ones.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: No category.

    Example:
        >>> import numpy as np
        >>> from kyvo.metrics.box_comparison import Detections, Truths, compare
        >>> from kyvo.metrics.box_overlap import Boxes
        >>> cups = Boxes.of([[0, 0, 2], [1, 0, 2]], np.ones((2, 3)), np.stack([np.eye(3)] * 2))
        >>> found = Detections(cups.centers[:1], cups.dimensions[:1], ["cup"], np.array([0.9]), cups.rotations[:1])
        >>> metric = AveragePrecision3D(["cup", "chair"])
        >>> metric.update([compare(found, Truths(cups, ["cup", "cup"]))], [7])
        >>> round(metric.compute()["ap3d"].item(), 3)  # all that is found is right, half of it is found
        0.505
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    scores: list[Tensor] | Tensor
    images: list[Tensor] | Tensor
    ranks: list[Tensor] | Tensor
    labels: list[Tensor] | Tensor
    outcomes: list[Tensor] | Tensor
    seen: list[Tensor] | Tensor
    truths: list[Tensor] | Tensor

    def __init__(self, categories: Sequence[str], oracle_rotation: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not categories:
            raise ValueError("average precision needs at least one category")
        self.categories = tuple(categories)
        self.suffix = ORACLE if oracle_rotation else ""
        for name in ("scores", "images", "ranks", "labels", "outcomes", "seen", "truths"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all boxes."""
        super().reset()
        # A process without any image would gather an empty list as float32, whatever the others have.
        nothing = np.zeros(0, dtype=np.int64)
        self._append(np.zeros(0), nothing, nothing, nothing, np.zeros((0, *_shape()), dtype=np.int8))
        self._append_image(nothing, np.zeros((0, len(self.categories), len(RANGES)), dtype=np.int64))

    def update(self, comparisons: Sequence[BoxComparison], images: Sequence[int]) -> None:
        """Add images.

        Args:
            comparisons: The boxes of each image; every image of the split has to come, whatever was predicted for it.
            images: A number of each image, by which equal scores are put in order; each comes once.

        Raises:
            ValueError: The lengths differ, or a score is not finite.
        """
        if len(comparisons) != len(images):
            raise ValueError(f"{len(comparisons)} images and {len(images)} numbers of images should be as many")
        for comparison, image in zip(comparisons, images, strict=True):
            if not np.isfinite(comparison.scores).all():
                raise ValueError(f"scores should be finite numbers, got {comparison.scores.tolist()}")
            truths = [self._add(comparison, int(image), *one) for one in enumerate(self.categories)]
            self._append_image(np.array([image], dtype=np.int64), np.stack(truths)[None])

    def _add(self, comparison: BoxComparison, image: int, number: int, category: str) -> NDArray[np.int64]:
        """Add the predictions of a category; returns how many objects of it there are to find, int64 [R]."""
        ours, theirs = (_where(labels, category) for labels in (comparison.labels, comparison.true_labels))
        if not len(ours) and not len(theirs):
            return np.zeros(len(RANGES), dtype=np.int64)
        # Stable, so that equal scores stay in the order of the predictions.
        ours = ours[np.argsort(-comparison.scores[ours], kind="stable")][: MOST[-1]]
        ignored = _ignored_by_range(comparison, theirs)
        count, known = len(ours), np.full(len(ours), image, dtype=np.int64)
        outcomes = image_outcomes(comparison, ours, theirs, ignored)
        self._append(comparison.scores[ours], known, np.arange(count), np.full(count, number), outcomes)
        return (~ignored).sum(1)

    def _append(
        self,
        scores: Floats,
        images: NDArray[np.int64],
        ranks: NDArray[np.int64],
        labels: NDArray[np.int64],
        outcomes: NDArray[np.int8],
    ) -> None:
        added = {"scores": scores, "images": images, "ranks": ranks, "labels": labels, "outcomes": outcomes}
        for name, values in added.items():
            getattr(self, name).append(torch.from_numpy(values).to(self.device))

    def _append_image(self, image: NDArray[np.int64], truths: NDArray[np.int64]) -> None:
        """Add the numbers of I images and how many objects there are to find in them, int64 [I, C, R]."""
        self.seen.append(torch.from_numpy(image).to(self.device))  # type: ignore[union-attr]
        self.truths.append(torch.from_numpy(truths).to(self.device))  # type: ignore[union-attr]

    def _rankings(self) -> list["_Ranking"]:
        """What this process has seen, by category."""
        gathered = (self.scores, self.images, self.ranks, self.labels, self.outcomes, self.seen, self.truths)
        scores, images, ranks, labels, outcomes, seen, truths = (dim_zero_cat(one).cpu().numpy() for one in gathered)
        order = np.lexsort((ranks, images, -scores))
        # By number: several processes gather images in another order than one has them in.
        by_number = np.argsort(seen)
        rows, truths = np.searchsorted(seen[by_number], images), truths[by_number]
        mine = [order[labels[order] == number] for number in range(len(self.categories))]
        return [_Ranking(outcomes[one], ranks[one], rows[one], truths[:, k]) for k, one in enumerate(mine)]

    def tables(self) -> DetectionScores:
        """Average precision and recall by category, depth range and threshold, of what this process has seen."""
        rows = [_category_scores(one) for one in self._rankings()]
        return DetectionScores(np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows]))

    def interval(self, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
        """Percentile interval of ``ap3d`` by bootstrap over images, of what this process has seen.

        Args:
            level: Share of resampled values that lie inside, between 0 and 1.
            draws: Resamplings, each of as many images as there are.
            seed: Of the random draws.

        Returns:
            The lower and the upper end; NaN both where there is no object.
        """
        rankings = self._rankings()
        images = len(rankings[0].truths)
        blocks = drawn_counts(images, draws, seed) if images else ()
        values = np.array([_mean_precision(rankings, weights) for block in blocks for weights in block])
        known = values[~np.isnan(values)]
        return percentiles(known, level) if len(known) else (float("nan"), float("nan"))

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        tables = self.tables()
        precision, recall = tables.precision, tables.recall
        name = f"ap3d{self.suffix}"
        found = {name: precision[:, 0]}
        found |= {f"{name}_iou{round(100 * t):02}": precision[:, 0, place] for place, t in enumerate(THRESHOLDS)}
        found |= {f"{name}_{depth}": precision[:, place] for place, depth in enumerate(RANGES) if place}
        found |= {f"{name}_{label.replace(' ', '_')}": precision[k, 0] for k, label in enumerate(self.categories)}
        found |= {f"ar3d{self.suffix}_{most}": recall[:, 0, :, place] for place, most in enumerate(MOST)}
        scalars = {key: mean_of_known(values) for key, values in found.items()}
        scalars[f"{name}_low"], scalars[f"{name}_high"] = self.interval()
        return {key: torch.tensor(value, device=self.device) for key, value in scalars.items()}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def mean_of_known(values: Floats) -> float:
    """Mean of what is not NaN; NaN where nothing else is there."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def image_outcomes(
    comparison: BoxComparison, ours: NDArray[np.int64], theirs: NDArray[np.int64], ignored: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """What becomes of the predictions of one category in one image.

    Args:
        comparison: The boxes of the image.
        ours: Numbers of D predictions, the surest first.
        theirs: Numbers of G true objects.
        ignored: bool [R, G], which of these are ignored in a depth range.

    Returns:
        int8 [D, R, T]: 0 wrong, 1 right, 2 does not count.
    """
    overlaps = comparison.overlaps[np.ix_(ours, theirs)]
    near = None if comparison.near is None else comparison.near[np.ix_(ours, theirs)]
    outside = (comparison.depths[ours, None] < _LOWER) | (comparison.depths[ours, None] > _UPPER)
    if near is not None:
        overlaps = np.where(near, overlaps, 0.0)
        # Only where the image has objects of the category: so does the published evaluation.
        outside |= (len(theirs) > 0) & ~near.any(1, keepdims=True)
    outcomes = np.where(outside, _IGNORED, _WRONG).astype(np.int8)[..., None].repeat(len(THRESHOLDS), -1)
    free = np.ones((*outcomes.shape[1:], len(theirs)), dtype=bool)
    for place in np.flatnonzero((overlaps >= THRESHOLDS[0]).any(1)):
        _take(overlaps[place], free, ignored, outcomes[place])
    return outcomes


def _take(overlaps: Floats, free: NDArray[np.bool_], ignored: NDArray[np.bool_], outcomes: NDArray[np.int8]) -> None:
    """Let a prediction take an object at each depth range and threshold, in place.

    Args:
        overlaps: float64 [G], of the prediction.
        free: bool [R, T, G], which objects nobody has taken.
        ignored: bool [R, G].
        outcomes: int8 [R, T], of the prediction.
    """
    eligible = free & (overlaps >= THRESHOLDS[:, None])
    regular = eligible & ~ignored[:, None]
    # An ignored object is taken only by those who find no other.
    options = np.where(regular.any(-1, keepdims=True), regular, eligible)
    # From behind, as argmax finds the first of equals and the last is wanted.
    best = len(overlaps) - 1 - np.where(options, overlaps, -1.0)[..., ::-1].argmax(-1)
    taken = np.nonzero(options.any(-1))
    free[(*taken, best[taken])] = False
    outcomes[taken] = np.where(ignored[taken[0], best[taken]], _IGNORED, _RIGHT)


def _shape() -> tuple[int, int]:
    return len(RANGES), len(THRESHOLDS)


def _where(labels: Sequence[str], category: str) -> NDArray[np.int64]:
    return np.array([place for place, label in enumerate(labels) if label == category], dtype=np.int64)


def _ignored_by_range(comparison: BoxComparison, theirs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which true objects are ignored, or lie outside of a depth range: bool [R, G]."""
    depths = comparison.true_depths[theirs]
    outside = (depths < _LOWER[:, None]) | (depths > _UPPER[:, None])
    return comparison.ignored[theirs] | outside


@dataclass(frozen=True)
class _Ranking:
    """The predictions of one category in all images.

    Args:
        outcomes: int8 [N, R, T], the surest prediction first.
        ranks: int64 [N], place of each prediction among those of its image.
        images: int64 [N], which image each prediction is for, as its place in `truths`.
        truths: int64 [I, R], how many objects there are to find in each image.
    """

    outcomes: NDArray[np.int8]
    ranks: NDArray[np.int64]
    images: NDArray[np.int64]
    truths: NDArray[np.int64]


def _category_scores(ranking: _Ranking) -> tuple[Floats, Floats]:
    """Average precision [R, T] and recall [R, T, K] of one category."""
    truths = ranking.truths.sum(0)
    total = np.where(truths > 0, truths, np.nan)[:, None]
    average = np.full(_shape(), np.nan)
    once = np.ones(len(ranking.outcomes), dtype=np.int64)
    for depth, threshold in np.ndindex(*_shape()):
        if truths[depth]:
            average[depth, threshold] = _average(ranking.outcomes[:, depth, threshold], once, truths[depth])
    most = [(ranking.outcomes[ranking.ranks < count] == _RIGHT).sum(0) / total for count in MOST]
    return average, np.stack(most, -1)


def _mean_precision(rankings: Sequence[_Ranking], weights: NDArray[np.int64]) -> float:
    """AP3D over all depths of images that come so many times each, int64 [I]; NaN where there is no object."""
    found = []
    for one in rankings:
        times, total = weights[one.images], int(weights @ one.truths[:, 0])
        if total:
            found += [_average(one.outcomes[:, 0, place], times, total) for place in range(len(THRESHOLDS))]
    return float(np.mean(found)) if found else float("nan")


def _average(outcomes: NDArray[np.int8], times: NDArray[np.int64], total: int) -> float:
    """Average precision at one depth range and threshold.

    A prediction that comes several times in a row makes no other curve than one that counts as much: of right ones the
    last has the highest precision, of wrong ones the first starts from that of the right one before.

    Args:
        outcomes: int8 [N], the surest prediction first.
        times: int64 [N], how often each comes.
        total: How many objects there are to find.
    """
    right = ((outcomes == _RIGHT) * times).cumsum()
    precision = right / (right + ((outcomes == _WRONG) * times).cumsum() + np.spacing(1))
    return _read(np.maximum.accumulate(precision[::-1])[::-1], right / total)


def _read(precision: Floats, recall: Floats) -> float:
    """Mean precision at the 101 recalls; 0 at those that are not reached."""
    places = np.searchsorted(recall, RECALLS)
    return float(np.append(precision, 0.0)[places].mean())
