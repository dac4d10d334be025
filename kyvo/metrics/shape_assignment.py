"""Which known asset a written shape is, and the Jaccard index of scenes whose shapes are given by codes.

B shapes, R references, M codes of a shape, L voxels of one, N voxels along each side of the cube.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kyvo.metrics.jaccard import Rule, SceneJaccard
from kyvo.metrics.shapes import chamfer_l1, occupied, surface_points
from kyvo.scene import Attribute, Scene, SceneObject, SceneSchema
from kyvo.slat import Slat

Codes = tuple[int, ...]
"""The codes of one shape."""

UNKNOWN = "(unknown)"
"""What a shape is called that shares no voxel with any reference."""


@dataclass(frozen=True)
class _Decoded:
    """What is kept of a decoded shape.

    Args:
        overlap: With each reference, float64 [R].
        points: Of its surface, float32 [L, 3]: less than its latents take.
    """

    overlap: Tensor
    points: NDArray[np.float32]


class ShapeAssignment:
    """Gives shapes the name of the reference that they overlap most with, by voxels of both over voxels of either.

    Args:
        references: The known assets by name, all of one resolution.
        decode: Makes objects of codes int64 [B, M], as a `ShapeTokenizer` does.
        batch_size: Shapes decoded together, at most.

    Raises:
        ValueError: No reference, or references of different resolutions.
    """

    def __init__(
        self, references: Mapping[str, Slat], decode: Callable[[Tensor], Sequence[Slat]], batch_size: int = 16
    ) -> None:
        sizes = sorted({slat.resolution for slat in references.values()})
        if len(sizes) != 1:
            raise ValueError(f"expected reference shapes of one resolution, got {sizes or 'no reference'}")
        self.names = tuple(references)
        self.resolution = sizes[0]
        self.decode = decode
        self.batch_size = batch_size
        self._voxels = occupied([slat.to("cpu") for slat in references.values()]).flatten(1)
        # What a model writes repeats: a shape is decoded once however often it occurs.
        self._known: dict[Codes, _Decoded] = {}
        self._surfaces = {name: surface_points(slat) for name, slat in references.items()}
        self._distances: dict[tuple[Codes, str], float] = {}

    def overlaps(self, shapes: Iterable[Codes]) -> dict[Codes, Tensor]:
        """Overlap of shapes with each reference, float64 [R] in [0, 1] by codes."""
        wanted = list(dict.fromkeys(shapes))
        new = [codes for codes in wanted if codes not in self._known]
        for start in range(0, len(new), self.batch_size):
            some = new[start : start + self.batch_size]
            for codes, slat in zip(some, self.decode(torch.tensor(some)), strict=True):
                self._known[codes] = _Decoded(self._overlap(slat), surface_points(slat).astype(np.float32))
        return {codes: self._known[codes].overlap for codes in wanted}

    def distance(self, codes: Codes, name: str) -> float:
        """Chamfer-L1 between a shape that `overlaps` has seen and a reference, in sides of the cube."""
        if (codes, name) not in self._distances:
            self._distances[codes, name] = chamfer_l1(self._known[codes].points, self._surfaces[name])
        return self._distances[codes, name]

    def _overlap(self, slat: Slat) -> Tensor:
        if slat.resolution != self.resolution:
            raise ValueError(f"shapes decode to {slat.resolution}^3 voxels, references have {self.resolution}^3")
        both = self._voxels[:, slat.cells().cpu()].sum(1)
        return both.double() / (self._voxels.sum(1) + len(slat.coords) - both)

    def name(self, overlap: Tensor) -> str:
        """The reference of greatest overlap [R], of equals the first; `UNKNOWN` where there is none."""
        best = int(overlap.argmax())
        return self.names[best] if overlap[best] > 0 else UNKNOWN


def named_schema(schema: SceneSchema, names: Sequence[str]) -> SceneSchema:
    """The schema with a word, one of some names, in the place of its shape.

    Raises:
        ValueError: If it has no shape.
    """
    shape = _shape_of(schema)
    word = Attribute(shape.name, shape.marker, values=tuple(names))
    return replace(schema, attributes=tuple(word if one is shape else one for one in schema.attributes))


def named_scene(scene: Scene, attribute: str, names: Sequence[str]) -> Scene:
    """The scene with a name in the place of each shape, in the order of its objects; ValueError if not as many."""
    items = zip(scene, names, strict=True)
    return Scene(tuple(SceneObject({**item.values, attribute: name}) for item, name in items))


def _shape_of(schema: SceneSchema) -> Attribute:
    if schema.shape is None:
        raise ValueError(f"schema {schema.name!r} has no attribute with shape codes")
    return schema.shape


class ShapeJaccard(SceneJaccard):
    """How well predicted scenes agree with the true ones, where shapes are given by codes.

    A predicted shape is decoded and takes the name of the reference that it overlaps most with; from there on it is a
    word that has to equal the true name. The paper does not say how it compares shapes.

    ``compute`` returns the scalars of ``SceneJaccard`` (``shape_accuracy`` among them) and

    - ``shape_iou``: voxel IoU of a predicted shape and the true reference, mean over objects paired by distance alone;
      NaN without a pair
    - ``shape_chamfer``: Chamfer-L1 of these, in sides of the cube (see ``kyvo.metrics.shapes.SurfaceDistance``)
    - ``shape_unknown_rate``: predicted shapes that share no voxel with any reference

    Args:
        schema: a schema with a shape.
        assignment: the references, and what decodes codes.
        taus: distance thresholds; by default those published for the schema.
        rule: how objects are matched, see ``SceneJaccard``.
        kwargs: options of ``torchmetrics.Metric``.

    Raises:
        ValueError: for a schema without a shape, and as ``SceneJaccard``.
    """

    iou_sum: Tensor
    chamfer_sum: Tensor
    shapes: Tensor
    unknown: Tensor

    def __init__(
        self,
        schema: SceneSchema,
        assignment: ShapeAssignment,
        taus: Sequence[float] | None = None,
        rule: Rule = "optimal",
        **kwargs: Any,
    ) -> None:
        super().__init__(named_schema(schema, assignment.names), taus, rule, **kwargs)
        self.assignment = assignment
        self.shape = _shape_of(schema).name
        for name in ("iou_sum", "chamfer_sum"):
            self._add_sum(name, torch.tensor(0.0))
        for name in ("shapes", "unknown"):
            self._add_sum(name, torch.tensor(0))

    def update(
        self, predictions: Sequence[Scene], targets: Sequence[Scene], malformed: Sequence[int] | None = None
    ) -> None:
        """Add scenes.

        Args:
            predictions: what was read from the model, shapes as codes.
            targets: the true scenes, shapes by name, see `named_scene`.
            malformed: for each scene, how many predicted objects could not be read (none by default).

        Raises:
            ValueError: if the lengths differ, or a true shape is none of the references.
        """
        self._check_names(targets)
        codes = [[cast(Codes, item[self.shape]) for item in scene] for scene in predictions]
        found = self.assignment.overlaps(one for scene in codes for one in scene)
        names = [[self.assignment.name(found[one]) for one in scene] for scene in codes]
        named = [named_scene(scene, self.shape, words) for scene, words in zip(predictions, names, strict=True)]
        super().update(named, targets, malformed)
        for scene, target, shapes in zip(named, targets, codes, strict=True):
            for ours, theirs in self.matcher.nearest(scene, target)[0]:
                self._add_pair(shapes[ours], found[shapes[ours]], str(target.objects[theirs][self.shape]))
        self.shapes += sum(map(len, names))
        self.unknown += sum(words.count(UNKNOWN) for words in names)

    def _check_names(self, targets: Sequence[Scene]) -> None:
        strange = {item[self.shape] for scene in targets for item in scene} - set(self.assignment.names)
        if strange:
            known = ", ".join(self.assignment.names)
            raise ValueError(f"{sorted(map(str, strange))[0]!r} is none of the reference shapes {known}")

    def _add_pair(self, codes: Codes, overlap: Tensor, truth: str) -> None:
        self.iou_sum += float(overlap[self.assignment.names.index(truth)])
        self.chamfer_sum += self.assignment.distance(codes, truth)

    def assigned_names(self, prediction: Scene) -> list[str]:
        """The name of the reference that each predicted shape of a scene takes, in the order of its objects."""
        codes = [cast(Codes, item[self.shape]) for item in prediction]
        found = self.assignment.overlaps(codes)
        return [self.assignment.name(found[one]) for one in codes]

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description; NaN before any update."""
        return super().compute() | {
            "shape_iou": self.iou_sum / self.paired,
            "shape_chamfer": self.chamfer_sum / self.paired,
            "shape_unknown_rate": self.unknown / self.shapes,
        }
