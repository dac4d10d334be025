"""When a predicted object may count as a true one: the published rule of each data set, as data.

Shapes: P predicted objects, G true objects, K numbers of a span.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kyvo.scene import SceneObject, SceneSchema

GUARD = 1e-6
"""Width of the band around a threshold in which binary rounding would decide: `x < t` is read as `x < t - GUARD`."""


@dataclass(frozen=True)
class Tolerance:
    """A bound on the mean absolute difference of some quantities, which must hold beside the distance's.

    Args:
        quantities: names of the schema's quantities, for example ("z",).
        limit: the bound, in the quantities' unit.
        inclusive: whether a difference equal to the limit passes.
        period: for an angle, the length of a full turn in its unit; differences wrap around it.
    """

    quantities: tuple[str, ...]
    limit: float
    inclusive: bool = False
    period: float | None = None


@dataclass(frozen=True)
class Criterion:
    """What makes a prediction eligible for a true object, besides equal words.

    Args:
        distance: the quantities whose Euclidean distance must be below tau.
        taus: the published thresholds; results are averaged over them.
        tolerances: bounds that do not depend on tau.
        official_choice: which eligible true object the published script takes: the "first" in the file's order or
            the "nearest".
        official_swallows: whether the published script reads an error while comparing two objects as "no match".
        surplus: whether an object in a file counts as readable with more numbers than it needs, as CLEVR's and
            ObjaWorld's published script lets it.
    """

    distance: tuple[str, ...]
    taus: tuple[float, ...]
    tolerances: tuple[Tolerance, ...] = ()
    official_choice: str = "first"
    official_swallows: bool = True
    surplus: bool = False

    def with_size_limit(self, limit: float) -> "Criterion":
        """The same rule with another bound on the mean error of sizes, in metres.

        Raises:
            ValueError: for a bound that is not a positive number, or a rule that does not compare sizes.
        """
        if not limit > 0:
            raise ValueError(f"the bound on the error of dimensions should be a positive number, got {limit}")
        if not any(tolerance.quantities == SIZE for tolerance in self.tolerances):
            raise ValueError("only boxes (objectron, arkitscenes) have dimensions to be compared")
        changed = (replace(one, limit=limit) if one.quantities == SIZE else one for one in self.tolerances)
        return replace(self, tolerances=tuple(changed))


FINE = (0.05, 0.10, 0.15, 0.20, 0.25)
LOOSE = (0.50, 0.75, 1.00, 1.25, 1.50)
COARSE = (1.25, 1.50, 1.75, 2.00, 2.25)
CENTER = ("camera_x", "camera_y", "depth")
SIZE = ("width", "height", "length")

_UPRIGHT = (Tolerance(("z",), 0.05), Tolerance(("yaw",), 0.15, period=2 * math.pi))
_POSED = Criterion(("x", "y"), FINE, _UPRIGHT, surplus=True)

CRITERIA = {
    "clevr": Criterion(("x", "y"), FINE, surplus=True),
    "objaworld": _POSED,
    "objaworld-pose": _POSED,
    # The paper has these thresholds and no rule for shapes: `kyvo.metrics.shape_assignment` puts names in their place.
    "objaworld-shapes": Criterion(("x", "y"), LOOSE),
    "objectron": Criterion(CENTER, FINE, (Tolerance(SIZE, 0.05, inclusive=True),), "nearest", False),
    "arkitscenes": Criterion(CENTER, COARSE, (Tolerance(SIZE, 1.00, inclusive=True),), "nearest", False),
}
"""The rules of the paper (Algorithm 1 and section 5) by schema name; metres and radians."""


def criterion_of(schema: SceneSchema) -> Criterion:
    """Return the rule of a schema: the published one, or for a schema of your own one that is made from its table.

    That one asks for equal words and for a distance below CLEVR's thresholds, over x and y where there are such, else
    over the quantities of the first attribute with numbers that are no yaw.

    Raises:
        ValueError: for a schema with shapes, which are not compared by their codes, or without a place to measure.
    """
    if schema.shape is not None:
        raise ValueError(
            f"scenes with shapes, as those of schema {schema.name!r}, are not compared by their codes, but by the "
            "names that `kyvo.metrics.shape_assignment` finds"
        )
    if schema.name in CRITERIA:
        return CRITERIA[schema.name]
    numbers = [attribute.quantities for attribute in schema.attributes if attribute.kind == "numbers"]
    flat = [quantities for quantities in numbers if quantities[:2] == ("x", "y")]
    measured = [tuple(name for name in quantities if name != "yaw") for quantities in numbers]
    if not flat and not any(measured):
        raise ValueError(f"schema {schema.name!r} has no numbers that say where an object is")
    return Criterion(("x", "y") if flat else next(filter(None, measured)), FINE)


@dataclass(frozen=True)
class Span:
    """Where quantities lie in an object: some neighbouring numbers of one attribute."""

    attribute: str
    start: int
    stop: int

    @classmethod
    def of(cls, schema: SceneSchema, quantities: tuple[str, ...]) -> "Span":
        """Find the quantities in a schema; ValueError if no attribute holds them side by side in this order."""
        for attribute in schema.attributes:
            for start in range(len(attribute.quantities) - len(quantities) + 1):
                stop = start + len(quantities)
                if tuple(attribute.quantities[start:stop]) == quantities:
                    return cls(attribute.name, start, stop)
        raise ValueError(f"schema {schema.name!r} has no attribute with the quantities {quantities} side by side")

    def read(self, objects: Sequence[SceneObject]) -> NDArray[np.float64]:
        """Return the numbers of all objects, float64 [N, K]."""
        rows = [obj[self.attribute][self.start : self.stop] for obj in objects]
        return np.array(rows, dtype=np.float64).reshape(len(objects), self.stop - self.start)


def words_of(schema: SceneSchema) -> tuple[str, ...]:
    """Return the names of the attributes that are words: these must be equal."""
    return tuple(attribute.name for attribute in schema.attributes if attribute.kind == "word")


def distances(predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Euclidean distances, [P, K] and [G, K] -> [P, G]; not finite where a coordinate is not."""
    return np.linalg.norm(predictions[:, None] - targets[None], axis=-1)


def within(tolerance: Tolerance, predictions: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which pairs keep a tolerance, [P, K] and [G, K] -> bool [P, G]."""
    error = np.abs(predictions[:, None] - targets[None])
    if tolerance.period is not None:
        error = wrapped(error, tolerance.period)
    guard = GUARD if tolerance.inclusive else -GUARD
    return error.mean(axis=-1) < tolerance.limit + guard


def wrapped(difference: NDArray[np.float64], period: float = 2 * math.pi) -> NDArray[np.float64]:
    """Return how far angles are apart on the circle, from 0 to half a turn, given their differences.

    >>> float(wrapped(np.array(6.0), 360.0)), float(wrapped(np.array(-354.0), 360.0))
    (6.0, 6.0)
    """
    return np.abs((difference + period / 2) % period - period / 2)


def equal_words(
    names: Sequence[str], predictions: Sequence[SceneObject], targets: Sequence[SceneObject]
) -> NDArray[np.bool_]:
    """Tell which pairs agree in every named attribute, bool [P, G]."""
    columns = [tuple(obj[name] for name in names) for obj in targets]
    rows = [[tuple(obj[name] for name in names) == column for column in columns] for obj in predictions]
    return np.array(rows, dtype=bool).reshape(len(predictions), len(targets))


def agreement(
    criterion: Criterion, schema: SceneSchema, predictions: Sequence[SceneObject], targets: Sequence[SceneObject]
) -> NDArray[np.bool_]:
    """Tell which pairs have equal words and keep every tolerance, whatever their distance: bool [P, G]."""
    result = equal_words(words_of(schema), predictions, targets)
    for tolerance in criterion.tolerances:
        span = Span.of(schema, tolerance.quantities)
        result &= within(tolerance, span.read(predictions), span.read(targets))
    return result
