"""Average precision of predicted objects ranked by confidence, as set prediction on CLEVR is scored.

P predicted objects, G true objects, D distances, N predicted objects of all scenes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.bootstrap import gathered
from kyvo.metrics.criteria import Span, criterion_of, distances, equal_words, words_of
from kyvo.scene import Scene, SceneSchema, get_schema

DISTANCES = (math.inf, 1.0, 0.5, 0.25, 0.125)
"""Published distances (Slot Attention, arXiv 2006.15055), in units of the scene."""


class SlotPrecision(Metric):
    """Average precision of objects over all scenes, at several distances.

    Objects of all scenes are ranked by confidence. Each in turn is compared with the nearest true object of its scene
    that has the same words: it is right if that one is nearer than the distance and no object before it was right about
    it. ``compute`` returns the area under the curve of precision over recall, precision made to fall, as scalars
    ``ap_inf``, ``ap_1``, ``ap_0_5``, ``ap_0_25``, ``ap_0_125``; NaN without a true object. Objects of equal confidence
    come at once: with nothing to tell them apart the curve is a single point.

    Objects that could not be read have no confidence and would come last, where they change nothing.

    Args:
        schema: the schema or its name.
        distances: distances below which a place is right, in the data's unit; of x, y and z where there are such.
        kwargs: options of ``torchmetrics.Metric``.

    Raises:
        ValueError: for distances that are not positive.

    Example:
        >>> from kyvo.scene import SCHEMAS
        >>> cube = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0.0, 1.0, 0.7]}
        >>> truth = SCHEMAS["clevr"].read({"objects": [cube]})
        >>> guess = SCHEMAS["clevr"].read({"objects": [cube | {"color": "blue"}, cube]})
        >>> metric = SlotPrecision("clevr")
        >>> metric.update([guess], [truth], [[0.9, 0.4]])
        >>> metric.compute()["ap_inf"].item()
        0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    confidences: list[Tensor]
    hits: list[Tensor]
    targets: Tensor

    def __init__(
        self, schema: SceneSchema | str = "clevr", distances: Sequence[float] = DISTANCES, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not distances or not min(distances) > 0:
            raise ValueError(f"distances should be positive numbers, got {list(distances)}")
        self.schema = get_schema(schema)
        self.distances = tuple(distances)
        self.words = words_of(self.schema)
        self.place = _place(self.schema)
        self.add_state("confidences", [], dist_reduce_fx="cat")
        # Rows [P, D] one after the other: processes without an object share lists of one dimension.
        self.add_state("hits", [], dist_reduce_fx="cat")
        self.add_state("targets", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self, predictions: Sequence[Scene], targets: Sequence[Scene], confidences: Sequence[Sequence[float]]
    ) -> None:
        """Add scenes.

        Args:
            predictions: what was read from the model.
            targets: the true scenes.
            confidences: for each scene that of each predicted object; any numbers, higher is surer. Probabilities of
                the tokens of a written object serve, see ``kyvo.generation.confidence.object_confidences``.

        Raises:
            ValueError: if the lengths differ, or for a confidence that is no number.
        """
        if not len(predictions) == len(targets) == len(confidences):
            raise ValueError(
                f"{len(predictions)} predictions, {len(targets)} targets and {len(confidences)} lists of confidences "
                "should be as many"
            )
        for prediction, target, sure in zip(predictions, targets, confidences, strict=True):
            self._add(prediction, target, np.asarray(sure, dtype=np.float64))

    def _add(self, prediction: Scene, target: Scene, sure: NDArray[np.float64]) -> None:
        if sure.shape != (len(prediction),) or np.isnan(sure).any():
            raise ValueError(f"expected a confidence for each of {len(prediction)} objects, got {sure.tolist()}")
        distance = distances(self.place.read(prediction.objects), self.place.read(target.objects))
        distance[~equal_words(self.words, prediction.objects, target.objects)] = math.nan
        # Stable: of equals the one that was written first.
        order = np.argsort(-sure, kind="stable")
        columns = [first_hits(distance[order], limit) for limit in self.distances]
        self.confidences.append(torch.tensor(sure[order], dtype=torch.float32, device=self.device))
        self.hits.append(torch.tensor(np.stack(columns, 1), dtype=torch.float32, device=self.device).flatten())
        self.targets += len(target)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        sure = gathered(self.confidences, self.device).cpu().double().numpy()
        hits = gathered(self.hits, self.device).cpu().double().numpy().reshape(-1, len(self.distances))
        found = [average_precision(sure, column, int(self.targets)) for column in hits.T]
        names = [f"ap_{limit:g}".replace(".", "_") for limit in self.distances]
        return {name: torch.tensor(value, device=self.device) for name, value in zip(names, found, strict=True)}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def _place(schema: SceneSchema) -> Span:
    """Where an object lies: x, y and z where there are such, else what the schema's rule measures."""
    position = schema.position("z")
    if position is not None and schema[position[0]].quantities[:3] == ("x", "y", "z"):
        return Span.of(schema, ("x", "y", "z"))
    return Span.of(schema, criterion_of(schema).distance)


def first_hits(distance: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    """Which objects of a scene are the first to be right about their nearest true object.

    Args:
        distance: [P, G], of the surest object first; NaN where words differ.
        limit: below which a place is right; of infinity any is.

    Returns:
        bool [P].
    """
    taken: set[int] = set()
    hits = np.zeros(len(distance), dtype=bool)
    for index, row in enumerate(distance):
        if np.isnan(row).all():
            continue
        nearest = int(np.nanargmin(row))
        hits[index] = row[nearest] < limit and nearest not in taken
        # An object that was too far has not detected anything: another one still may.
        taken |= {nearest} if hits[index] else set()
    return hits


def average_precision(confidences: NDArray[np.float64], hits: NDArray[np.float64], targets: int) -> float:
    """Area under precision over recall, with precision replaced by the highest at this recall or a higher one.

    Args:
        confidences: of all predicted objects, [N].
        hits: 1 where one is right, else 0, [N].
        targets: true objects.

    Returns:
        From 0 to 1; NaN without a true object.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1.0, 0.0, 1.0]), 2)
    0.8333333333333333
    """
    if not targets:
        return math.nan
    order = np.argsort(-confidences, kind="stable")
    right, ranked = np.cumsum(hits[order]), confidences[order]
    # Where the next object is less sure; those of equal confidence are one point of the curve.
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    counts = np.arange(1, len(ranked) + 1)[last]
    precision = np.maximum.accumulate((right[last] / counts)[::-1])[::-1]
    return float((np.diff(right[last] / targets, prepend=0.0) * precision).sum())
