"""How often a recogniser reads the attributes of objects rightly, overall and by one of the attributes.

N objects, A attributes, G values of the attribute that splits them.
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
