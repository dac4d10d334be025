"""Jaccard index of predicted against true scenes (paper, Algorithm 1) and what explains it.

Shapes: T thresholds tau, P predicted objects, G true objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.bootstrap import gathered, interval
from kyvo.metrics.criteria import GUARD, Criterion, Span, agreement, criterion_of, distances, words_of, wrapped
from kyvo.metrics.matching import Pairs, official_pairs, optimal_assignment
from kyvo.scene import Scene, SceneObject, SceneSchema, get_schema

Rule = Literal["optimal", "official"]


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives of one scene at one threshold."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @classmethod
    def of(cls, pairs: Pairs, predictions: int, targets: int) -> "Counts":
        """Count what is left over of so many predictions and targets."""
        return cls(len(pairs), predictions - len(pairs), targets - len(pairs))

    def jaccard(self, empty: float = 1.0) -> float:
        """TP / (TP + FP + FN); `empty` where nothing is predicted and nothing is true."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / union if union else empty


class SceneMatcher:
    """Matches the objects of two scenes of one schema at any threshold.

    Args:
        schema: the schema or its name.
        rule: "optimal" matches as many objects as possible at the least total distance; "official" reproduces the
            order-dependent matching of the published scripts, bug for bug.
        criterion: when two objects may be matched; by default as `criteria.criterion_of` says for the schema.
    """

    def __init__(self, schema: SceneSchema | str, rule: Rule = "optimal", criterion: Criterion | None = None) -> None:
        if rule not in ("optimal", "official"):
            raise ValueError(f"rule should be 'optimal' or 'official', not {rule!r}")
        self.schema = get_schema(schema)
        self.criterion = criterion_of(self.schema) if criterion is None else criterion
        self.rule = rule
        self.empty = -1.0 if rule == "official" else 1.0
        self._place = Span.of(self.schema, self.criterion.distance)

    def distances(self, predictions: Sequence[SceneObject], targets: Sequence[SceneObject]) -> NDArray[np.float64]:
        """Return the distance that tau bounds for every pair, float64 [P, G]."""
        return distances(self._place.read(predictions), self._place.read(targets))

    def pairs(self, prediction: Scene, target: Scene, taus: Sequence[float]) -> list[Pairs]:
        """Return the matched indices (prediction, target) at each threshold."""
        ours, theirs = prediction.objects, target.objects
        if self.rule == "official":
            return [official_pairs(self.criterion, self.schema, ours, theirs, tau) for tau in taus]
        distance, agree = self.distances(ours, theirs), agreement(self.criterion, self.schema, ours, theirs)
        return [optimal_assignment(distance, agree & (distance < tau - GUARD)) for tau in taus]

    def nearest(self, prediction: Scene, target: Scene) -> tuple[Pairs, NDArray[np.float64]]:
        """Pair objects by distance alone, whatever they are; also return the distances [P, G]."""
        distance = self.distances(prediction.objects, target.objects)
        return optimal_assignment(distance, np.isfinite(distance)), distance

    def counts(self, prediction: Scene, target: Scene, taus: Sequence[float], malformed: int = 0) -> list[Counts]:
        """Count the outcomes at each threshold; malformed predicted objects are false positives."""
        predicted = len(prediction) + malformed
        return [Counts.of(pairs, predicted, len(target)) for pairs in self.pairs(prediction, target, taus)]

    def jaccard(self, prediction: Scene, target: Scene, taus: Sequence[float], malformed: int = 0) -> float:
        """Return the index of one scene, mean over the thresholds."""
        counts = self.counts(prediction, target, taus, malformed)
        return sum(count.jaccard(self.empty) for count in counts) / len(counts)


class SceneJaccard(Metric):
    """How well predicted scenes agree with the true ones.

    A predicted object matches a true one if all words are equal, the distance of their places is below tau and, where
    the data set asks for it, height, yaw or size agree. Per scene, J = TP / (TP + FP + FN), and J = 1 where both are
    empty (-1 by the official rule). The headline is the mean over scenes, then over the thresholds, as in the paper.

    ``compute`` returns scalars:

    - ``jaccard``; ``jaccard_low`` and ``jaccard_high``, its 95 % interval by bootstrap over scenes
    - ``jaccard_tau0_05``, ... at each threshold
    - ``micro_jaccard``, ``precision``, ``recall``, ``f1``: from the counts of all scenes, mean over the thresholds
    - ``exact_scene_rate``: scenes without a false positive or negative, mean over the thresholds
    - ``count_accuracy``: scenes with the right number of objects
    - ``location_error``: mean distance of objects paired by distance alone, in the data's unit; NaN without a pair
    - ``yaw_error``: mean angle between the yaws of those pairs, in radians, around the circle; only where objects turn
    - ``size_accuracy``, ``color_accuracy``, ... one per word of the schema: of those pairs, how many agree in it
    - ``jaccard_shape_cube``, ... one per value of the schema's last word, which says what an object is: TP / (TP + FP +
      FN) of the objects of that value in all scenes, mean over the thresholds; NaN without such an object
    - ``parse_failure_rate``: predicted objects that could not be read

    Args:
        schema: the schema or its name; one of your own is compared as `criteria.criterion_of` says.
        taus: distance thresholds; by default those published for the schema.
        rule: "optimal" matches as many objects as possible; "official" reproduces the published scripts bug for bug.
        criterion: when two objects may be matched; by default as published for the schema.
        kwargs: options of ``torchmetrics.Metric``.

    Raises:
        ValueError: for a schema without a rule, an unknown matching rule or thresholds that are not positive.

    Example:
        >>> from kyvo.scene import SCHEMAS
        >>> cube = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.0, 1.0, 0.7]}
        >>> target = SCHEMAS["clevr"].read({"objects": [cube]})
        >>> prediction = SCHEMAS["clevr"].read({"objects": [cube | {"3d_coords": [0.12, 1.0, 0.7]}]})
        >>> metric = SceneJaccard("clevr")
        >>> metric.update([prediction], [target])
        >>> round(metric.compute()["jaccard"].item(), 3)
        0.6
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    jaccard_sum: Tensor
    per_scene: list[Tensor]
    outcomes: Tensor
    by_category: Tensor
    exact: Tensor
    scenes: Tensor
    right_count: Tensor
    malformed: Tensor
    paired: Tensor
    distance_sum: Tensor
    yaw_sum: Tensor
    equal: Tensor

    def __init__(
        self,
        schema: SceneSchema | str = "clevr",
        taus: Sequence[float] | None = None,
        rule: Rule = "optimal",
        criterion: Criterion | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.matcher = SceneMatcher(schema, rule, criterion)
        self.taus = check_taus(self.matcher.criterion.taus if taus is None else taus)
        self.words = words_of(self.matcher.schema)
        self.categories = self.matcher.schema[self.words[-1]].values if self.words else ()
        self._yaw = None if self.matcher.schema.position("yaw") is None else Span.of(self.matcher.schema, ("yaw",))
        self._add_sum("jaccard_sum", torch.zeros(len(self.taus)))
        self.add_state("per_scene", [], dist_reduce_fx="cat")
        self._add_sum("outcomes", torch.zeros(len(self.taus), 3, dtype=torch.long))  # TP, FP, FN
        self._add_sum("by_category", torch.zeros(len(self.categories), len(self.taus), 3, dtype=torch.long))
        self._add_sum("exact", torch.zeros(len(self.taus), dtype=torch.long))
        self._add_sum("equal", torch.zeros(len(self.words), dtype=torch.long))
        for name in ("distance_sum", "yaw_sum"):
            self._add_sum(name, torch.tensor(0.0))
        for name in ("scenes", "right_count", "malformed", "paired"):
            self._add_sum(name, torch.tensor(0))

    def _add_sum(self, name: str, default: Tensor) -> None:
        self.add_state(name, default, dist_reduce_fx="sum")

    def update(
        self, predictions: Sequence[Scene], targets: Sequence[Scene], malformed: Sequence[int] | None = None
    ) -> None:
        """Add scenes.

        Args:
            predictions: what was read from the model; an empty ``Scene`` where nothing could be read.
            targets: the true scenes; every scene of the split has to come, whatever was predicted for it.
            malformed: for each scene, how many predicted objects could not be read (none by default).

        Raises:
            ValueError: if the lengths differ.
        """
        failures = [0] * len(targets) if malformed is None else malformed
        if not len(predictions) == len(targets) == len(failures):
            raise ValueError(
                f"{len(predictions)} predictions, {len(targets)} targets and {len(failures)} counts of malformed"
                " objects should be as many"
            )
        for prediction, target, failed in zip(predictions, targets, failures, strict=True):
            self._add_outcomes(prediction, target, int(failed))
            self._add_explanation(prediction, target)

    def _add_outcomes(self, prediction: Scene, target: Scene, failed: int) -> None:
        pairs = self.matcher.pairs(prediction, target, self.taus)
        counts = [Counts.of(one, len(prediction) + failed, len(target)) for one in pairs]
        table = [(c.true_positives, c.false_positives, c.false_negatives) for c in counts]
        indices = self.jaccard_sum.new_tensor([c.jaccard(self.matcher.empty) for c in counts])
        self.jaccard_sum += indices
        self.per_scene.append(indices.mean().reshape(1))
        self.outcomes += self.outcomes.new_tensor(table)
        self._add_categories(pairs, prediction, target)
        self.exact += self.exact.new_tensor([wrong == missed == 0 for _, wrong, missed in table])
        self.scenes += 1
        self.malformed += failed
        self.right_count += int(len(prediction) + failed == len(target))

    def _add_categories(self, pairs: Sequence[Pairs], prediction: Scene, target: Scene) -> None:
        """Add outcomes by category; objects of a category that the schema does not know count for none."""
        if not self.categories:
            return
        said, true = ([item[self.words[-1]] for item in scene] for scene in (prediction, target))
        for row, name in enumerate(self.categories):
            predictions, targets = said.count(name), true.count(name)
            if predictions or targets:
                hits = [sum(true[theirs] == name for _, theirs in one) for one in pairs]
                table = [(found, predictions - found, targets - found) for found in hits]
                self.by_category[row] += self.by_category.new_tensor(table)

    def _add_explanation(self, prediction: Scene, target: Scene) -> None:
        pairs, distance = self.matcher.nearest(prediction, target)
        for ours, theirs in pairs:
            guess, truth = prediction.objects[ours], target.objects[theirs]
            self.equal += self.equal.new_tensor([guess[name] == truth[name] for name in self.words])
            self.distance_sum += float(distance[ours, theirs])
            if self._yaw is not None:
                self.yaw_sum += float(wrapped(self._yaw.read([guess]) - self._yaw.read([truth]))[0, 0])
        self.paired += len(pairs)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description; NaN before any update."""
        per_tau = self.jaccard_sum / self.scenes
        low, high = interval(self.scene_scores.cpu().numpy())
        result = {"jaccard": per_tau.mean(), "jaccard_low": per_tau.new_tensor(low)}
        result["jaccard_high"] = per_tau.new_tensor(high)
        result |= {tau_name(tau): value for tau, value in zip(self.taus, per_tau, strict=True)}
        result |= pooled(self.outcomes)
        result["exact_scene_rate"] = (self.exact / self.scenes).mean()
        result["count_accuracy"] = self.right_count / self.scenes
        result["location_error"] = self.distance_sum / self.paired
        if self._yaw is not None:
            result["yaw_error"] = self.yaw_sum / self.paired
        result |= {f"{name}_accuracy": hits / self.paired for name, hits in zip(self.words, self.equal, strict=True)}
        result |= self._by_category()
        predicted = self.outcomes[0, :2].sum()
        result["parse_failure_rate"] = self.malformed / predicted.clamp(min=1)
        return result

    def _by_category(self) -> dict[str, Tensor]:
        indices = (self.by_category[..., 0] / self.by_category.sum(-1)).mean(-1)
        rows = zip(self.categories, indices, strict=True)
        return {f"jaccard_{self.words[-1]}_{name}".replace(" ", "_"): value for name, value in rows}

    @property
    def scene_scores(self) -> Tensor:
        """The index of each scene, mean over the thresholds, float32 [scenes], in the order in which they came."""
        return gathered(self.per_scene, self.device)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def check_taus(taus: Sequence[float]) -> tuple[float, ...]:
    """Return thresholds as a tuple; ValueError if there is none, one is not positive or one comes twice."""
    if not taus or not all(tau > 0 for tau in taus) or len(set(taus)) != len(taus):
        raise ValueError(f"thresholds should be different positive numbers, got {list(taus)}")
    return tuple(float(tau) for tau in taus)


def tau_name(tau: float) -> str:
    """Name the index at a threshold; a metric's name may not hold a dot.

    >>> tau_name(0.05), tau_name(1.5)
    ('jaccard_tau0_05', 'jaccard_tau1_50')
    """
    short = f"{tau:.2f}"
    return f"jaccard_tau{short if float(short) == tau else tau}".replace(".", "_")


def pooled(outcomes: Tensor) -> dict[str, Tensor]:
    """Turn counts [T, 3] (TP, FP, FN) into rates, mean over the thresholds; 1 where there is no object at all."""
    hits, wrong, missed = outcomes.unbind(-1)
    nothing = (outcomes.sum(-1) == 0).float()

    def rate(hits: Tensor, errors: Tensor) -> Tensor:
        total = hits + errors
        return torch.where(total > 0, hits / total.clamp(min=1), nothing).mean()

    return {
        "micro_jaccard": rate(hits, wrong + missed),
        "precision": rate(hits, wrong),
        "recall": rate(hits, missed),
        "f1": rate(2 * hits, wrong + missed),
    }


def scene_jaccard(
    predictions: Sequence[Scene],
    targets: Sequence[Scene],
    schema: SceneSchema | str = "clevr",
    taus: Sequence[float] | None = None,
    rule: Rule = "optimal",
    malformed: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Return the scalars of ``SceneJaccard`` for these scenes; arguments and errors are described there."""
    metric = SceneJaccard(schema, taus, rule)
    metric.update(predictions, targets, malformed)
    return metric.compute()
