"""The controls of an object: a choice for each attribute of words, a range for each number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from kyvo.clevr import SIZES
from kyvo.scene import Attribute, Scene, SceneObject, Value
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


@dataclass(frozen=True)
class Choice:
    """One of some words.

    Args:
        attribute: Name of the attribute.
        values: The words.
    """

    attribute: str
    values: tuple[str, ...]

    def read(self, one: SceneObject) -> str:
        """The word of an object."""
        return str(one[self.attribute])

    def write(self, one: SceneObject, value: str) -> SceneObject:
        """The object with another word.

        Raises:
            ValueError: If it is none of the words.
        """
        if value not in self.values:
            raise ValueError(f"{self.attribute}: {value!r} is none of {', '.join(self.values)}")
        return _with(one, self.attribute, value)


@dataclass(frozen=True)
class Range:
    """A number between two others.

    Args:
        attribute: Name of the attribute.
        index: Which of its numbers.
        quantity: What it measures.
        low: Least number of the grid.
        high: Greatest.
        step: Its first step.
    """

    attribute: str
    index: int
    quantity: str
    low: float
    high: float
    step: float

    def read(self, one: SceneObject) -> float:
        """The number of an object, at most as far outside as the grid's ends."""
        return min(max(float(one[self.attribute][self.index]), self.low), self.high)

    def write(self, one: SceneObject, value: float) -> SceneObject:
        """The object with another number.

        Raises:
            ValueError: If it is none, or outside of the range.
        """
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{self.quantity}: expected a number from {self.low:g} to {self.high:g}, got {value!r}")
        numbers = [float(number) for number in one[self.attribute]]
        numbers[self.index] = float(value)
        return _with(one, self.attribute, tuple(numbers))


Control = Choice | Range


def _with(one: SceneObject, name: str, value: Value) -> SceneObject:
    return replace(one, values={**one.values, name: value})


class ObjectForm:
    """The controls of the objects of a tokenizer's schema, in its order; codes of shapes have none.

    Args:
        tokenizer: Its number grids bound the numbers.
    """

    def __init__(self, tokenizer: UnifiedTokenizer) -> None:
        self.tokenizer = tokenizer
        self.controls = [one for attribute in tokenizer.schema.attributes for one in self._of(attribute)]

    def _of(self, attribute: Attribute) -> list[Control]:
        if attribute.kind == "word":
            return [Choice(attribute.name, attribute.values)]
        return [self._range(attribute.name, index, quantity) for index, quantity in enumerate(attribute.quantities)]

    def _range(self, name: str, index: int, quantity: str) -> Range:
        values = self.tokenizer.numbers.grid(quantity).values
        return Range(name, index, quantity, values[0], values[-1], round(values[1] - values[0], 6))

    def read(self, one: SceneObject) -> list[str | float]:
        """The value of each control."""
        return [control.read(one) for control in self.controls]

    def change(self, one: SceneObject, control: Control, value: str | float) -> SceneObject:
        """The object after one control was moved; in CLEVR a new size lifts or lowers it to stand on the floor.

        Args:
            one: The object.
            control: One of `controls`.
            value: Its new value.

        Raises:
            ValueError: If the value is none of the control's.
        """
        changed = control.write(one, value)  # type: ignore[arg-type]
        if control.attribute == "size" and self._on_floor(one):
            return self._stood(changed)
        return changed

    def new(self, scene: Scene) -> SceneObject:
        """An object of the first words, where there is most room; its shape is that of the last object.

        Args:
            scene: What is there already.

        Raises:
            ValueError: If its objects have shapes that are codes, and there is none to take one from.
        """
        values: dict[str, Value] = {}
        for attribute in self.tokenizer.schema.attributes:
            if attribute.kind == "shape" and not scene.objects:
                raise ValueError("an object with an explicit shape can be added to a scene that has one already")
            values[attribute.name] = (
                scene.objects[-1][attribute.name] if attribute.kind == "shape" else self._first(attribute)
            )
        return self._stood(self._placed(SceneObject(values), scene))

    def _first(self, attribute: Attribute) -> Value:
        if attribute.kind == "word":
            return attribute.values[0]
        grids = [self.tokenizer.numbers.grid(quantity).values for quantity in attribute.quantities]
        return tuple(0.0 if grid[0] <= 0 <= grid[-1] else grid[len(grid) // 2] for grid in grids)

    def _placed(self, one: SceneObject, scene: Scene) -> SceneObject:
        """The object on the place of a coarse raster that is furthest from all others."""
        axes = [control for control in self.controls if isinstance(control, Range) and control.quantity in ("x", "y")]
        if len(axes) < 2 or not scene.objects:
            return one
        taken = [[axis.read(other) for axis in axes] for other in scene]
        spots = product((0.0, -1.2, 1.2), repeat=2)
        best = max(spots, key=lambda spot: min(_squared(spot, other) for other in taken))
        for axis, value in zip(axes, best, strict=True):
            one = axis.write(one, min(max(value, axis.low), axis.high))
        return one

    def _on_floor(self, one: SceneObject) -> bool:
        """Whether an object of CLEVR stands on the floor."""
        height = self._height
        return height is not None and abs(height.read(one) - SIZES.get(str(one["size"]), -1.0)) < 0.1

    def _stood(self, one: SceneObject) -> SceneObject:
        """An object of CLEVR on the floor, others as they are."""
        height = self._height
        return one if height is None else height.write(one, SIZES[str(one["size"])])

    @property
    def _height(self) -> Range | None:
        """The control of the height of a centre, where the size alone decides how high it stands."""
        schema = self.tokenizer.schema
        if "size" not in schema or set(schema["size"].values) != set(SIZES):
            return None
        return next((one for one in self.controls if isinstance(one, Range) and one.quantity == "z"), None)


def _squared(first: Sequence[float], second: Sequence[float]) -> float:
    return sum((one - other) ** 2 for one, other in zip(first, second, strict=True))
