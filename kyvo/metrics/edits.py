"""How well scenes follow instructions: against the target, and against leaving the scene as it is.

Shapes: K kinds of instruction, T thresholds tau.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.answers import check_types
from kyvo.metrics.jaccard import Rule, SceneMatcher, check_taus
from kyvo.scene import Scene, SceneObject, SceneSchema

EDIT_KINDS = ("appearance", "appearance_relation", "insert", "remove", "move")
"""Sub-tasks of the paper's instruction data (section A.1)."""


@dataclass(frozen=True)
class Edit:
    """What an instruction asks for, as indices: target objects that are new and kept, source objects that are gone.

    >>> from kyvo.scene import SCHEMAS
    >>> cube = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.0, 1.0, 0.7]}
    >>> before, after = [cube, cube | {"color": "blue"}], [cube, cube | {"color": "cyan"}]
    >>> Edit.between(*(SCHEMAS["clevr"].read({"objects": objects}) for objects in (before, after)))
    Edit(new=(1,), kept=(0,), gone=(1,))
    """

    new: tuple[int, ...]
    kept: tuple[int, ...]
    gone: tuple[int, ...]

    @classmethod
    def between(cls, source: Scene, target: Scene) -> "Edit":
        """Compare two scenes object by object; an object is kept if all its values are."""
        kept, new = _split(target, source)
        _, gone = _split(source, target)
        return cls(new, kept, gone)


def _split(scene: Scene, other: Scene) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of objects that the other scene also holds, and of those that it does not."""
    supply = Counter(_identity(obj) for obj in other)
    shared: list[int] = []
    alone: list[int] = []
    for index, obj in enumerate(scene):
        found = supply[_identity(obj)] > 0
        supply[_identity(obj)] -= int(found)
        (shared if found else alone).append(index)
    return tuple(shared), tuple(alone)


def _identity(obj: SceneObject) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(obj.values.items()))


class EditMetrics(Metric):
    """Agreement of edited scenes with their targets, and what the plain index hides.

    ``compute`` returns scalars, each also by kind as ``<name>_<kind>`` (NaN for a kind without scenes):

    - ``jaccard``: index of the prediction against the target, mean over scenes and thresholds, as in the paper
    - ``copy_jaccard``: the same of the input left as it is, the baseline to beat
    - ``edit_success``: scenes in which every new or changed object is found and none that should be gone is left
    - ``preservation``: of the objects that the instruction leaves alone, how many are still found

    Args:
        schema: the schema or its name.
        kinds: the kinds of instruction, in a fixed order.
        taus: distance thresholds; by default those published for the schema.
        rule: how objects are matched, see ``SceneJaccard``.
        kwargs: options of ``torchmetrics.Metric``.

    Raises:
        ValueError: for repeated kinds, and as ``SceneJaccard``.

    Example:
        >>> from kyvo.scene import SCHEMAS
        >>> cube = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.0, 1.0, 0.7]}
        >>> before, after = (SCHEMAS["clevr"].read({"objects": [cube | {"color": color}]}) for color in ("red", "blue"))
        >>> metric = EditMetrics("clevr", ["appearance"])
        >>> metric.update([after], [before], [after], ["appearance"])
        >>> metric.compute()["edit_success"].item(), metric.compute()["copy_jaccard"].item()
        (1.0, 0.0)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    scenes: Tensor
    jaccard_sum: Tensor
    copy_sum: Tensor
    successes: Tensor
    kept: Tensor
    preserved: Tensor

    def __init__(
        self,
        schema: SceneSchema | str = "clevr",
        kinds: Sequence[str] = EDIT_KINDS,
        taus: Sequence[float] | None = None,
        rule: Rule = "optimal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.matcher = SceneMatcher(schema, rule)
        self.taus = check_taus(self.matcher.criterion.taus if taus is None else taus)
        self.kinds = check_types(kinds)
        for name in ("scenes", "kept"):
            self.add_state(name, torch.zeros(len(kinds), dtype=torch.long), dist_reduce_fx="sum")
        # Means over the thresholds are taken before the sum over scenes.
        for name in ("jaccard_sum", "copy_sum", "successes", "preserved"):
            self.add_state(name, torch.zeros(len(kinds)), dist_reduce_fx="sum")

    def update(
        self,
        predictions: Sequence[Scene],
        sources: Sequence[Scene],
        targets: Sequence[Scene],
        kinds: Sequence[str],
        malformed: Sequence[int] | None = None,
    ) -> None:
        """Add edits.

        Args:
            predictions: the scenes that the model wrote; an empty ``Scene`` where nothing could be read.
            sources: the scenes before the edits.
            targets: the scenes that the instructions ask for.
            kinds: the kinds of the instructions.
            malformed: for each scene, how many predicted objects could not be read (none by default).

        Raises:
            ValueError: if the lengths differ, or for a kind that the constructor was not told.
        """
        failures = [0] * len(targets) if malformed is None else malformed
        columns = (predictions, sources, targets, kinds, failures)
        if len({len(column) for column in columns}) != 1:
            raise ValueError(
                f"predictions, sources, targets, kinds, malformed differ in length: {[*map(len, columns)]}"
            )
        if unknown := set(kinds) - set(self.kinds):
            raise ValueError(f"kinds of instruction should be among {self.kinds}, got {sorted(unknown)}")
        for prediction, source, target, kind, failed in zip(*columns, strict=True):
            self._add(prediction, source, target, self.kinds.index(kind), int(failed))

    def _add(self, prediction: Scene, source: Scene, target: Scene, row: int, failed: int) -> None:
        edit = Edit.between(source, target)
        outcomes = [self._follow(edit, prediction, source, target, tau) for tau in self.taus]
        self.scenes[row] += 1
        self.kept[row] += len(edit.kept)
        self.jaccard_sum[row] += self._jaccard(prediction, target, failed)
        self.copy_sum[row] += self._jaccard(source, target, 0)
        self.successes[row] += sum(success for success, _ in outcomes) / len(self.taus)
        self.preserved[row] += sum(preserved for _, preserved in outcomes) / len(self.taus)

    def _jaccard(self, prediction: Scene, target: Scene, failed: int) -> float:
        counts = self.matcher.counts(prediction, target, self.taus, failed)
        return sum(count.jaccard(self.matcher.empty) for count in counts) / len(counts)

    def _follow(self, edit: Edit, prediction: Scene, source: Scene, target: Scene, tau: float) -> tuple[bool, int]:
        """Return whether the edit was made at one threshold, and how many kept objects were found."""
        pairs = self.matcher.pairs(prediction, target, [tau])[0]
        explained = {ours for ours, _ in pairs}
        found = {theirs for _, theirs in pairs}
        # What matches no target may be an object that should have been removed or changed.
        rest = Scene(tuple(obj for index, obj in enumerate(prediction) if index not in explained))
        leftovers = self.matcher.pairs(rest, Scene(tuple(source.objects[index] for index in edit.gone)), [tau])[0]
        return found.issuperset(edit.new) and not leftovers, len(found.intersection(edit.kept))

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description; NaN before any update."""
        parts = {
            "jaccard": (self.jaccard_sum, self.scenes),
            "copy_jaccard": (self.copy_sum, self.scenes),
            "edit_success": (self.successes, self.scenes),
            "preservation": (self.preserved, self.kept),
        }
        result = {name: total.sum() / count.sum() for name, (total, count) in parts.items()}
        for name, (total, count) in parts.items():
            result |= {f"{name}_{kind}": value for kind, value in zip(self.kinds, total / count, strict=True)}
        return result

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)
