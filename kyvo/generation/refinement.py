"""Numbers finer than their grid: the mean of the bin that was written and the bins around it.

Letters: T generated positions, Q numbers of a quantity's grid.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kyvo.generation.decode import NumberScores
from kyvo.scene import Attribute, Scene, SceneObject, Value
from kyvo.tokenizers.numbers import NumberGrid, Numbers
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

_SIZES = frozenset(("width", "height", "length"))
"""Quantities that stay on their grid: it is places and angles that scenes are compared by more finely."""

_CLOSED = 1.5
"""A grid of angles goes around the circle if its ends are less than so many steps apart."""


@dataclass(frozen=True)
class Refinement:
    """Replaces the numbers of a scene by expectations.

    Args:
        tokenizer: Of the scene's schema.
        bins: How many bins to either side of the one that was written count.
    """

    tokenizer: UnifiedTokenizer
    bins: int

    def refine(self, scene: Scene, ids: np.ndarray, row: int, scores: Sequence[NumberScores]) -> Scene:
        """The scene with its places and angles replaced.

        Args:
            scene: What the ids say.
            ids: What was generated, bound to the grammar: every number that it wrote is one of the scene, int64 [T].
            row: Which row of the scores is this scene's.
            scores: Of all rows.
        """
        numbers = self.tokenizer.vocabulary.number_range
        steps = np.flatnonzero((ids >= numbers.start) & (ids < numbers.stop))
        held = _probabilities(row, scores, numbers)
        found = iter([(int(ids[step]) - numbers.start, held[int(step)]) for step in steps])
        return replace(scene, objects=tuple(self._object(item, found) for item in scene))

    def _object(self, item: SceneObject, found: Iterator[tuple[int, np.ndarray]]) -> SceneObject:
        attributes = (one for one in self.tokenizer.schema.attributes if one.kind == "numbers")
        return SceneObject(dict(item.values) | {one.name: self._value(one, found) for one in attributes})

    def _value(self, attribute: Attribute, found: Iterator[tuple[int, np.ndarray]]) -> Value:
        return tuple(_refined(self.tokenizer.numbers, name, *next(found), self.bins) for name in attribute.quantities)


def _probabilities(row: int, scores: Sequence[NumberScores], numbers: range) -> dict[int, np.ndarray]:
    """Of every number token, by the step at which the row could have written one, float64 [all numbers]."""
    held = {}
    for one in scores:
        place = np.flatnonzero(one.rows.cpu().numpy() == row)
        if len(place):
            whole = np.zeros(len(numbers))
            whole[one.ids.numpy() - numbers.start] = one.probabilities[int(place[0])].cpu().numpy()
            held[one.step] = whole
    return held


def _refined(numbers: Numbers, quantity: str, index: int, held: np.ndarray, bins: int) -> float:
    if quantity in _SIZES:
        return numbers.decode(index)
    grid = numbers.grid(quantity)
    return expectation(grid, held[list(grid.indices)], grid.indices.index(index), bins)


def expectation(grid: NumberGrid, probabilities: np.ndarray, written: int, bins: int) -> float:
    """The mean of a bin and its neighbours by probability; of angles around the circle.

    Args:
        grid: Of the quantity.
        probabilities: Of each bin, float64 [Q]; they need not sum to 1.
        written: Which bin was written.
        bins: How many to either side count.

    Returns:
        A number between the outermost of these bins; of angles, in [-pi, pi].
    """
    values = np.asarray(grid.values)
    places = np.arange(written - bins, written + bins + 1)
    if grid.angle and _goes_around(values):
        places = np.unique(places % len(values))
    places = places[(places >= 0) & (places < len(values))]
    offsets, weights = values[places] - values[written], probabilities[places]
    if grid.angle:
        offsets = np.array([math.remainder(offset, math.tau) for offset in offsets])
    if not weights.sum() > 0:
        return float(values[written])
    mean = float(values[written] + (offsets * weights).sum() / weights.sum())
    return math.remainder(mean, math.tau) if grid.angle else mean


def _goes_around(values: np.ndarray) -> bool:
    step = float(values[1] - values[0]) if len(values) > 1 else math.tau
    return math.tau - float(values[-1] - values[0]) < _CLOSED * step
