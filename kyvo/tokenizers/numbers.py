"""Number tokens: which values there are, and which of them each quantity may take."""

import math
import warnings
from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import numpy as np

from kyvo.tokenizers.vocabulary import runs_of

Clip = Literal["error", "warn"]
ANY = "*"
"""Name of the grid of every quantity that has none of its own."""


@dataclass(frozen=True)
class NumberGrid:
    """The number tokens that one quantity may take.

    Args:
        indices: indices into the number tokens, ascending in value.
        values: the value of each.
        angle: whether the quantity is an angle in radians, where nearness is measured around the circle.
    """

    indices: tuple[int, ...]
    values: tuple[float, ...]
    angle: bool = False

    @cached_property
    def _middles(self) -> list[float]:
        return [(low + high) / 2 for low, high in zip(self.values, self.values[1:], strict=False)]

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest number that is not out of range: the outer values and half a step beyond."""
        low, high = self.values[0], self.values[-1]
        if len(self.values) == 1:
            return low, high
        return low - (self.values[1] - low) / 2, high + (high - self.values[-2]) / 2

    def nearest(self, value: float) -> int:
        """Index of the number token nearest to ``value``, whatever its size."""
        if not self.angle:
            return self.indices[bisect(self._middles, value)]
        value = math.remainder(value, math.tau)
        best = bisect(self._middles, value)
        # Around the circle the other end of the grid may be nearer than the end on this side.
        ends = {0: len(self.values) - 1, len(self.values) - 1: 0}
        other = ends.get(best, best)
        closer = _distance(self.values[other], value) < _distance(self.values[best], value)
        return self.indices[other if closer else best]


def _distance(first: float, second: float) -> float:
    return abs(math.remainder(first - second, math.tau))


@dataclass(frozen=True)
class Numbers:
    """All number tokens, in id order, and the grid of every quantity.

    Args:
        labels: one per token: the number, or ``quantity:number`` where quantities have families of their own.
        quantities: for each quantity the indices it may take; ``*`` stands for every quantity not named.
        families: (start, stop) spans of indices within which neighbours are neighbours in value.
        angles: quantities that are angles in radians.
    """

    labels: tuple[str, ...]
    quantities: Mapping[str, tuple[int, ...]]
    families: tuple[tuple[int, int], ...]
    angles: tuple[str, ...] = ("yaw",)

    @cached_property
    def values(self) -> np.ndarray:
        """Float64 [numbers], the value of every token."""
        return np.array([float(label.rpartition(":")[2]) for label in self.labels])

    @cached_property
    def _grids(self) -> dict[str, NumberGrid]:
        return {}

    def grid(self, quantity: str) -> NumberGrid:
        """The grid of a quantity; ValueError if it has none."""
        if quantity not in self._grids:
            indices = self.quantities.get(quantity, self.quantities.get(ANY))
            if indices is None:
                raise ValueError(f"no number grid for {quantity!r}, only for {', '.join(self.quantities)}")
            values = tuple(float(self.values[index]) for index in indices)
            self._grids[quantity] = NumberGrid(indices, values, quantity in self.angles)
        return self._grids[quantity]

    def encode(self, value: float, quantity: str, clip: Clip = "error") -> int:
        """Index of the nearest number token.

        Args:
            value: the number to write.
            quantity: what it measures.
            clip: what to do beyond half a step outside the grid: raise, or warn and take the outermost token.

        Raises:
            ValueError: if the value is not finite, or out of range and ``clip`` is ``error``.
        """
        grid = self.grid(quantity)
        low, high = grid.bounds
        if not (low <= value <= high or (grid.angle and math.isfinite(value))):
            self._refuse(value, quantity, grid, clip)
        return grid.nearest(value)

    def decode(self, index: int) -> float:
        """The value of a number token."""
        return float(self.values[index])

    @staticmethod
    def _refuse(value: float, quantity: str, grid: NumberGrid, clip: Clip) -> None:
        allowed = f"{grid.values[0]:g} to {grid.values[-1]:g}"
        if not math.isfinite(value) or clip == "error":
            raise ValueError(f"{quantity} = {value:g} is outside the number grid ({allowed})")
        # The text is the same for every value, so that Python shows it once.
        warnings.warn(f"values of {quantity} outside {allowed} are clipped", stacklevel=2)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return {
            "labels": list(self.labels),
            "quantities": {
                name: [[run.start, run.stop] for run in runs_of(indices)] for name, indices in self.quantities.items()
            },
            "families": [list(family) for family in self.families],
            "angles": list(self.angles),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Numbers":
        """Inverse of ``to_dict``."""
        return cls(
            tuple(raw["labels"]),
            {name: _indices(spans) for name, spans in raw["quantities"].items()},
            tuple((start, stop) for start, stop in raw["families"]),
            tuple(raw["angles"]),
        )


def _indices(spans: Iterable[Iterable[int]]) -> tuple[int, ...]:
    return tuple(index for start, stop in spans for index in range(start, stop))


def linear_labels(low: str, high: str, step: str) -> tuple[str, ...]:
    """Equally spaced numbers, both ends among them, with the decimals of the step (at least two).

    Decimal arithmetic: in binary 0.05 * 3 is not 0.15, and a grid built so has the same label twice.
    """
    start, stop, width = Decimal(low), Decimal(high), Decimal(step)
    count = (stop - start) / width
    if width <= 0 or count < 0 or count != int(count):
        raise ValueError(f"{low} to {high} is not a whole number of steps of {step}")
    decimals = max(2, -int(width.normalize().as_tuple().exponent))
    # Adding zero turns Decimal("-0.00") into "0.00".
    return tuple(f"{start + index * width + 0:.{decimals}f}" for index in range(int(count) + 1))


def shared(granularity: float = 0.05, extent: float = 3.0) -> Numbers:
    """One family for every quantity: -extent..extent; 0.05 gives the paper's 121 tokens, 0.005 the released 1,201."""
    labels = linear_labels(f"{-extent}", f"{extent}", f"{granularity}")
    everything = tuple(range(len(labels)))
    return Numbers(labels, {ANY: everything}, ((0, len(labels)),))


def objectron_release() -> Numbers:
    """The 103 numbers of the released Objectron tokenizer: one sorted pool, of which each quantity takes a part."""
    depth = linear_labels("0", "3", "0.05") + linear_labels("5", "17.5", "2.5")
    parts = {
        "camera_x": linear_labels("-0.20", "0.20", "0.01"),
        "camera_y": linear_labels("-0.20", "0.10", "0.01"),
        "depth": depth,
        "width": linear_labels("0", "1", "0.05"),
        "height": linear_labels("0", "1.2", "0.05"),
        "length": linear_labels("0", "1", "0.05"),
    }
    labels = tuple(sorted({label for part in parts.values() for label in part}, key=Decimal))
    place = {label: index for index, label in enumerate(labels)}
    quantities = {name: tuple(place[label] for label in part) for name, part in parts.items()}
    return Numbers(labels, quantities, ((0, len(labels)),))


def geometric_labels(low: float, high: float, count: int) -> tuple[str, ...]:
    """``count`` numbers from low to high > 0, each the same multiple of the one before, to five digits."""
    return tuple(f"{value:.5g}" for value in np.geomspace(low, high, count))


def circle_labels(count: int) -> tuple[str, ...]:
    """``count`` angles in radians, evenly around the circle from minus half a turn."""
    return tuple(f"{math.radians(360 * step / count - 180) + 0.0:.4f}" for step in range(count))


def unified(granularity: float = 0.05) -> Numbers:
    """One family a quantity, so that equal numbers of different meaning are different tokens.

    World coordinates and camera coordinates are linear, depth and sizes geometric (steps of 2.6 % and 4.4 %, so the
    relative error is at most half of that), image positions u and v are fractions of the picture with a margin
    around it, yaw goes around the circle in steps of 5 degrees.
    """
    world = linear_labels("-3", "3", f"{granularity}")
    sizes = geometric_labels(0.02, 5, 128)
    image = tuple(f"{value:.4f}" for value in np.linspace(-0.25, 1.25, 256))
    parts = {
        "x": world,
        "y": world,
        "z": world,
        "yaw": circle_labels(72),
        "camera_x": linear_labels("-3", "3", "0.02"),
        "camera_y": linear_labels("-3", "3", "0.02"),
        "u": image,
        "v": image,
        "depth": geometric_labels(0.15, 20, 192),
        "width": sizes,
        "height": sizes,
        "length": sizes,
    }
    return one_family_each(parts)


def one_family_each(parts: Mapping[str, tuple[str, ...]], angles: tuple[str, ...] = ("yaw",)) -> Numbers:
    """Number tokens of which each quantity has its own, so that equal numbers of two quantities are two tokens.

    Args:
        parts: the numbers of each quantity, ascending.
        angles: quantities that are angles in radians.
    """
    labels: list[str] = []
    quantities: dict[str, tuple[int, ...]] = {}
    for name, part in parts.items():
        quantities[name] = tuple(range(len(labels), len(labels) + len(part)))
        labels += [f"{name}:{label}" for label in part]
    families = tuple((indices[0], indices[-1] + 1) for indices in quantities.values())
    return Numbers(tuple(labels), quantities, families, angles)
