"""How often a recogniser reads the attributes of objects rightly: by attribute, by object and by scene.

N objects, A attributes, G values of the attribute that splits them, P kinds of picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class AttributeAccuracy(Metric):
    """Share of objects of which an attribute was read rightly.

    ``compute`` returns a scalar for each attribute by its name ("shape"), and for each value of the splitting attribute
    the same over the objects that truly have it ("shape_large", "shape_small"); NaN without such objects.

    Args:
        attributes: attributes and their values, in the order of the columns and of the numbers in them.
        split: the attribute by whose true value objects are split; one that is not among them splits nothing.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> metric = AttributeAccuracy({"size": ["large", "small"], "shape": ["cube", "sphere"]})
        >>> metric.update(torch.tensor([[0, 0], [1, 0]]), torch.tensor([[0, 0], [1, 1]]))
        >>> {name: value.item() for name, value in metric.compute().items() if "shape" in name}
        {'shape': 0.5, 'shape_large': 1.0, 'shape_small': 0.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    right: Tensor
    objects: Tensor

    def __init__(self, attributes: Mapping[str, Sequence[str]], split: str = "size", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(attributes)
        self.column = self.names.index(split) if split in attributes else None
        self.groups = tuple(attributes.get(split, ("all",)))
        self.add_state("right", torch.zeros(len(self.groups), len(attributes)), dist_reduce_fx="sum")
        self.add_state("objects", torch.zeros(len(self.groups)), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add objects.

        Args:
            predictions: int64 [N, A], for each attribute the number of the value that was read.
            targets: int64 [N, A], the true ones.

        Raises:
            ValueError: for other shapes.
        """
        expected = (len(targets), len(self.names))
        if predictions.shape != expected or targets.shape != expected:
            raise ValueError(
                f"values should be [N, {len(self.names)}] alike, got {list(predictions.shape)} against "
                f"{list(targets.shape)}"
            )
        group = targets.new_zeros(len(targets)) if self.column is None else targets[:, self.column]
        self.right.index_add_(0, group, (predictions == targets).to(self.right))
        self.objects.index_add_(0, group, torch.ones_like(group).to(self.objects))

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        return self._by_name(self.right.sum(0) / self.objects.sum(), (self.right.T / self.objects).T)

    @property
    def counts(self) -> dict[str, int]:
        """How many objects each scalar of ``compute`` is a share of."""
        total = self.objects.sum().expand(len(self.names))
        groups = self.objects[:, None].expand(-1, len(self.names))
        return {name: int(count) for name, count in self._by_name(total, groups).items()}

    def _by_name(self, whole: Tensor, split: Tensor) -> dict[str, Tensor]:
        """Scalars by name, of [A] values over all objects and [G, A] over those of each group."""
        named: dict[str, Tensor] = {}
        for index, name in enumerate(self.names):
            named[name] = whole[index]
            if self.column is not None:
                named |= {f"{name}_{value}": split[row, index] for row, value in enumerate(self.groups)}
        return named

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


PICTURES = {"generated": "", "true": "_true", "reconstructed": "_vq", "shuffled": "_shuffled"}
"""Kinds of picture that a recogniser reads a scene from, and what the names of their scores end in."""


class Rerecognition(Metric):
    """Whether pictures show what a scene asks for, as a recogniser sees it that had no part in making them.

    ``compute`` returns scalars for each kind of picture: ``recognized_<attribute>``, the share of objects of which it
    is read rightly, ``recognized_object``, of which every attribute is, and ``scene_success`` (success@scene), the
    share of scenes with every object right. Those of generated pictures bear these names; what they are to be read
    against has endings: ``_true``, the true pictures, is what the recogniser can do; ``_vq``, the true pictures as the
    image tokenizer reconstructs them, is what the model can reach; ``_shuffled``, true pictures of other scenes, is
    chance. NaN for kinds that never came. Scenes without objects count for nothing.

    Args:
        attributes: the attributes, in the order of the columns.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> metric = Rerecognition(["color", "shape"])
        >>> metric.update([{"generated": torch.tensor([[0, 1], [2, 0]])}], [torch.tensor([[0, 1], [2, 1]])])
        >>> {name: value.item() for name, value in metric.compute().items() if not value.isnan()}
        {'recognized_color': 1.0, 'recognized_shape': 0.5, 'recognized_object': 0.5, 'scene_success': 0.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    right: Tensor
    objects: Tensor
    successes: Tensor
    scenes: Tensor

    def __init__(self, attributes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = (*attributes, "object")
        self.add_state("right", torch.zeros(len(PICTURES), len(self.columns)), dist_reduce_fx="sum")
        for name in ("objects", "successes", "scenes"):
            self.add_state(name, torch.zeros(len(PICTURES)), dist_reduce_fx="sum")

    def update(self, readings: Sequence[Mapping[str, Tensor]], targets: Sequence[Tensor]) -> None:
        """Add scenes.

        Args:
            readings: for each scene, by kind of picture, int64 [N, A], the numbers of the values that were read; a
                value that cannot be had is -1.
            targets: for each scene int64 [N, A], the true ones.

        Raises:
            ValueError: for an unknown kind of picture, other shapes, or other numbers of readings and targets.
        """
        if len(readings) != len(targets):
            raise ValueError(f"{len(readings)} readings and {len(targets)} targets should be as many")
        for by_picture, target in zip(readings, targets, strict=True):
            for picture, read in by_picture.items():
                self._add(picture, read, target)

    def _add(self, picture: str, read: Tensor, target: Tensor) -> None:
        if picture not in PICTURES:
            raise ValueError(f"kinds of picture are {', '.join(PICTURES)}, got {picture!r}")
        expected = (len(target), len(self.columns) - 1)
        if read.shape != expected or target.shape != expected:
            raise ValueError(
                f"values should be [N, {expected[1]}] alike, got {list(read.shape)} against {list(target.shape)}"
            )
        if not len(target):
            return
        row, equal = list(PICTURES).index(picture), read.to(target.device) == target
        whole = equal.all(1, keepdim=True)
        self.right[row] += torch.cat([equal, whole], 1).sum(0).to(self.right)
        self.objects[row] += len(target)
        self.successes[row] += whole.all().to(self.successes)
        self.scenes[row] += 1

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        found: dict[str, Tensor] = {}
        for row, ending in enumerate(PICTURES.values()):
            shares = self.right[row] / self.objects[row]
            found |= {f"recognized_{name}{ending}": share for name, share in zip(self.columns, shares, strict=True)}
            found[f"scene_success{ending}"] = self.successes[row] / self.scenes[row]
        return found

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)
