"""Pairing predicted with true objects: the best assignment, and the first come first served of the official code.

Shapes: P predicted objects, G true objects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from kyvo.metrics.criteria import Criterion, Span, words_of
from kyvo.scene import SceneObject, SceneSchema

Pairs = list[tuple[int, int]]
"""Matched indices (prediction, target); every index occurs at most once."""

FORBIDDEN = 1e6
"""Cost of a pair that must not be matched: above any sum of distances, so that cardinality comes first."""


def optimal_assignment(distance: NDArray[np.float64], eligible: NDArray[np.bool_]) -> Pairs:
    """Match as many eligible pairs as possible and, among those matchings, at the least total distance.

    Args:
        distance: float64 [P, G]; read only where eligible.
        eligible: bool [P, G].

    >>> import numpy as np
    >>> optimal_assignment(np.array([[0.1, 0.2], [0.1, 9.0]]), np.array([[True, True], [True, False]]))
    [(0, 1), (1, 0)]
    """
    rows, columns = linear_sum_assignment(np.where(eligible, distance, FORBIDDEN))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if eligible[row, column]]


def greedy_assignment(
    distance: Callable[[int, int], float | None], predictions: int, targets: int, choice: str = "first"
) -> Pairs:
    """Let each prediction in turn take a free target, as the official scripts do; the result depends on the order.

    Args:
        distance: gives the distance of prediction p and target g, or None where they may not be matched.
        predictions: how many predictions there are.
        targets: how many targets there are.
        choice: "first" takes the first free eligible target, "nearest" the nearest, of equals the first.
    """
    pairs: Pairs = []
    free = list(range(targets))
    for prediction in range(predictions):
        options = ((found, target) for target in free if (found := distance(prediction, target)) is not None)
        best = next(options, None) if choice == "first" else min(options, default=None)
        if best is not None:
            pairs.append((prediction, best[1]))
            free.remove(best[1])
    return pairs


def official_pairs(
    criterion: Criterion,
    schema: SceneSchema,
    predictions: Sequence[SceneObject],
    targets: Sequence[SceneObject],
    tau: float,
) -> Pairs:
    """Match two scenes as the official scripts do, bug for bug.

    Bare comparisons without a guard against rounding, angles that do not wrap, one number that broadcasts against
    two, and, for CLEVR and ObjaWorld, errors that read as "no match". Objects may therefore hold malformed values.

    Raises:
        KeyError, TypeError, ValueError, IndexError: for malformed objects of Objectron and ARKitScenes.
    """
    compare = _OfficialComparison(criterion, schema, tau)
    swallowed = (KeyError, TypeError, ValueError, IndexError) if criterion.official_swallows else ()

    def distance(prediction: int, target: int) -> float | None:
        try:
            return compare(predictions[prediction], targets[target])
        except swallowed:
            return None

    return greedy_assignment(distance, len(predictions), len(targets), criterion.official_choice)


class _OfficialComparison:
    """The distance of two objects if the official code would let them match, else None.

    All differences are taken before any is compared: where the official code does not swallow errors, two sizes that
    cannot be subtracted end it even if the objects are far apart.
    """

    def __init__(self, criterion: Criterion, schema: SceneSchema, tau: float) -> None:
        self.tau = tau
        self.words = words_of(schema)
        self.place = _Numbers.of(schema, criterion.distance)
        self.tolerances = [(one, _Numbers.of(schema, one.quantities)) for one in criterion.tolerances]

    def __call__(self, prediction: SceneObject, target: SceneObject) -> float | None:
        if any(prediction[name] != target[name] for name in self.words):
            return None
        places = [item[self.place.span.attribute] for item in (prediction, target)]
        if self.place.whole and any(np.ndim(place) != 1 for place in places):
            raise ValueError(f"places should be lists of numbers, got {places}")
        offset = self.place.difference(prediction, target)
        distance = float(np.linalg.norm(np.asarray_chkfinite(offset)))
        errors = [np.mean(np.abs(numbers.difference(prediction, target))) for _, numbers in self.tolerances]
        if not distance < self.tau:
            return None
        for (tolerance, _), error in zip(self.tolerances, errors, strict=True):
            if not (error <= tolerance.limit if tolerance.inclusive else error < tolerance.limit):
                return None
        return distance


@dataclass(frozen=True)
class _Numbers:
    """Which numbers of an attribute the official code compares: one, some of them, or all that are there."""

    span: Span
    whole: bool

    @classmethod
    def of(cls, schema: SceneSchema, quantities: tuple[str, ...]) -> "_Numbers":
        span = Span.of(schema, quantities)
        return cls(span, len(quantities) == len(schema[span.attribute].quantities))

    def difference(self, prediction: SceneObject, target: SceneObject) -> NDArray[np.float64]:
        """Subtract as the official code does: one number by its index, several as lists, which may broadcast."""
        # Nothing is made a number of here: texts that look like numbers cannot be subtracted.
        ours: Any = prediction[self.span.attribute]
        theirs: Any = target[self.span.attribute]
        if self.span.stop - self.span.start == 1:
            return np.asarray(ours[self.span.start] - theirs[self.span.start])
        if self.whole:
            return np.asarray(np.array(ours) - np.array(theirs))
        part = slice(self.span.start, self.span.stop)
        return np.asarray(np.array(ours[part]) - np.array(theirs[part]))
