"""How well scenes follow instructions: against the target, and against leaving the scene as it is.

Shapes: K kinds of instruction, T thresholds tau.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kyvo.clevr import DIRECTIONS
from kyvo.metrics.answers import check_types
from kyvo.metrics.bootstrap import gathered, interval
from kyvo.metrics.criteria import Span, words_of
from kyvo.metrics.jaccard import Rule, SceneMatcher, check_taus
from kyvo.scene import Scene, SceneObject, SceneSchema

EDIT_KINDS = ("appearance", "appearance_relation", "insert", "remove", "move")
"""Sub-tasks of the paper's instruction data (section A.1)."""

RELATION_EPSILON = 0.2
"""How far along a direction an object has to lie to count as lying there, as in CLEVR."""


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


@dataclass(frozen=True)
class Relation:
    """Where an instruction wants a new or moved object, which leaves its place open: in all directions of a place.

    Args:
        directions: some of ``kyvo.clevr.DIRECTIONS``.
        place: x and y of the anchor; of a moved object those from which it was moved.
    """

    directions: tuple[str, ...]
    place: tuple[float, float]

    @classmethod
    def of(cls, instruction: Mapping[str, Any], source: Mapping[str, Any]) -> "Relation | None":
        """The relation that a record asks for; None where it says nothing of where an object has to come.

        Args:
            instruction: the record of an ``instruction.json``; of its ``edit`` it is ``op``, ``directions`` and
                ``anchor``, an index into the source's objects, that count.
            source: the JSON of the scene before the edit.

        Raises:
            ValueError: for an edit that names no anchor of the source, or a direction that there isn't.
        """
        edit = instruction.get("edit", {})
        # Of other edits the directions say which object is meant.
        if edit.get("op") not in ("insert", "move"):
            return None
        anchor, objects, directions = edit.get("anchor"), source["objects"], tuple(edit.get("directions", ()))
        if not isinstance(anchor, int) or not 0 <= anchor < len(objects) or set(directions) - set(DIRECTIONS):
            raise ValueError(
                f"expected an anchor below {len(objects)} and directions of {list(DIRECTIONS)}, got {edit}"
            )
        x, y = objects[anchor]["3d_coords"][:2]
        return cls(directions, (float(x), float(y)))

    def holds(self, x: float, y: float) -> bool:
        """Whether something that stands there is in all the directions.

        >>> relation = Relation(("left",), (0.0, 0.0))
        >>> relation.holds(-1.0, -1.0), relation.holds(1.0, 1.0), relation.holds(0.0, 0.0)
        (True, False, False)
        """
        step = x - self.place[0], y - self.place[1]
        ways = (DIRECTIONS[name] for name in self.directions)
        return all(step[0] * way[0] + step[1] * way[1] > RELATION_EPSILON for way in ways)


class EditMetrics(Metric):
    """Agreement of edited scenes with their targets, and what the plain index hides.

    ``compute`` returns scalars, each also by kind as ``<name>_<kind>`` (NaN for a kind without scenes):

    - ``jaccard``: index of the prediction against the target, mean over scenes and thresholds, as in the paper
    - ``copy_jaccard``: the same of the input left as it is, the baseline to beat
    - ``edit_success``: scenes in which every new or changed object is found and none that should be gone is left
    - ``preservation``: of the objects that the instruction leaves alone, how many are still found
    - ``relation_satisfied``: of the scenes with a relation, those in which an object with the looks of the new or moved
      one lies where the text says; text and scene leave open where exactly, so that ``edit_success`` asks for luck

    and without kinds ``jaccard_low`` and ``jaccard_high``, the 95 % interval of ``jaccard`` by bootstrap over scenes.

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
    related: Tensor
    satisfied: Tensor
    per_scene: list[Tensor]

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
        self.words = words_of(self.matcher.schema)
        for name in ("scenes", "kept", "related", "satisfied"):
            self.add_state(name, torch.zeros(len(kinds), dtype=torch.long), dist_reduce_fx="sum")
        # Means over the thresholds are taken before the sum over scenes.
        for name in ("jaccard_sum", "copy_sum", "successes", "preserved"):
            self.add_state(name, torch.zeros(len(kinds)), dist_reduce_fx="sum")
        self.add_state("per_scene", [], dist_reduce_fx="cat")

    def update(
        self,
        predictions: Sequence[Scene],
        sources: Sequence[Scene],
        targets: Sequence[Scene],
        kinds: Sequence[str],
        malformed: Sequence[int] | None = None,
        relations: Sequence[Relation | None] | None = None,
    ) -> None:
        """Add edits.

        Args:
            predictions: the scenes that the model wrote; an empty ``Scene`` where nothing could be read.
            sources: the scenes before the edits.
            targets: the scenes that the instructions ask for.
            kinds: the kinds of the instructions.
            malformed: for each scene, how many predicted objects could not be read (none by default).
            relations: for each scene, where the text wants the new or moved object; None where it does not say.

        Raises:
            ValueError: if the lengths differ, or for a kind that the constructor was not told.
        """
        failures = [0] * len(targets) if malformed is None else malformed
        wanted: Sequence[Relation | None] = [None] * len(targets) if relations is None else relations
        columns = (predictions, sources, targets, kinds, failures, wanted)
        if len({len(column) for column in columns}) != 1:
            raise ValueError(
                f"predictions, sources, targets, kinds, malformed, relations differ in length: {[*map(len, columns)]}"
            )
        if unknown := set(kinds) - set(self.kinds):
            raise ValueError(f"kinds of instruction should be among {self.kinds}, got {sorted(unknown)}")
        for prediction, source, target, kind, failed, relation in zip(*columns, strict=True):
            row = self.kinds.index(kind)
            self._add(prediction, source, target, row, int(failed))
            if relation is not None:
                self.related[row] += 1
                self.satisfied[row] += int(self._is_satisfied(relation, prediction, source, target))

    def _add(self, prediction: Scene, source: Scene, target: Scene, row: int, failed: int) -> None:
        edit = Edit.between(source, target)
        outcomes = [self._follow(edit, prediction, source, target, tau) for tau in self.taus]
        self.scenes[row] += 1
        self.kept[row] += len(edit.kept)
        index = self.matcher.jaccard(prediction, target, self.taus, failed)
        self.per_scene.append(self.jaccard_sum.new_tensor([index]))
        self.jaccard_sum[row] += index
        self.copy_sum[row] += self.matcher.jaccard(source, target, self.taus)
        self.successes[row] += sum(success for success, _ in outcomes) / len(self.taus)
        self.preserved[row] += sum(preserved for _, preserved in outcomes) / len(self.taus)

    def _follow(self, edit: Edit, prediction: Scene, source: Scene, target: Scene, tau: float) -> tuple[bool, int]:
        """Return whether the edit was made at one threshold, and how many kept objects were found."""
        pairs = self.matcher.pairs(prediction, target, [tau])[0]
        explained = {ours for ours, _ in pairs}
        found = {theirs for _, theirs in pairs}
        # What matches no target may be an object that should have been removed or changed.
        rest = Scene(tuple(obj for index, obj in enumerate(prediction) if index not in explained))
        leftovers = self.matcher.pairs(rest, Scene(tuple(source.objects[index] for index in edit.gone)), [tau])[0]
        return found.issuperset(edit.new) and not leftovers, len(found.intersection(edit.kept))

    def _is_satisfied(self, relation: Relation, prediction: Scene, source: Scene, target: Scene) -> bool:
        """Whether one of the objects that explain no kept one looks like a new one and lies where it should."""
        edit = Edit.between(source, target)
        kept = Scene(tuple(target.objects[index] for index in edit.kept))
        explained = {ours for ours, _ in self.matcher.pairs(prediction, kept, [max(self.taus)])[0]}
        looks = [tuple(target.objects[index][name] for name in self.words) for index in edit.new]
        return any(
            tuple(item[name] for name in self.words) in looks and relation.holds(*self._place(item))
            for index, item in enumerate(prediction)
            if index not in explained
        )

    def _place(self, item: SceneObject) -> tuple[float, float]:
        x, y = Span.of(self.matcher.schema, ("x", "y")).read([item])[0]
        return float(x), float(y)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description; NaN before any update."""
        parts = {
            "jaccard": (self.jaccard_sum, self.scenes),
            "copy_jaccard": (self.copy_sum, self.scenes),
            "edit_success": (self.successes, self.scenes),
            "preservation": (self.preserved, self.kept),
            "relation_satisfied": (self.satisfied, self.related),
        }
        result = {name: total.sum() / count.sum() for name, (total, count) in parts.items()}
        low, high = interval(self.scene_scores.cpu().numpy())
        result |= {"jaccard_low": self.jaccard_sum.new_tensor(low), "jaccard_high": self.jaccard_sum.new_tensor(high)}
        for name, (total, count) in parts.items():
            result |= {f"{name}_{kind}": value for kind, value in zip(self.kinds, total / count, strict=True)}
        return result

    @property
    def scene_scores(self) -> Tensor:
        """The index of each scene, mean over the thresholds, float32 [scenes], in the order in which they came."""
        return gathered(self.per_scene, self.device)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)
