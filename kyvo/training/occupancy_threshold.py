"""Where to cut decoded vectors, so that as many voxels are there as in the data: for grids without occupancy channel.

B objects, N voxels along each side of the cube.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

_BINS, _LONGEST = 4096, 16.0


class OccupancyThreshold(Metric):
    """The length above which there are as many decoded vectors as there are true voxels, over all objects seen.

    Lengths are counted in 4,096 bins up to 16, which normalised vectors do not reach.

    Args:
        kwargs: Options of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = OccupancyThreshold()
        >>> metric.update(torch.tensor([0.1, 0.2, 0.9, 1.5]), torch.tensor([0, 0, 1, 1]))
        >>> 0.2 < metric.compute().item() < 0.9
        True
    """

    is_differentiable = False
    full_state_update = False

    lengths: Tensor
    voxels: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("lengths", torch.zeros(_BINS, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("voxels", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, lengths: Tensor, there: Tensor) -> None:
        """Count.

        Args:
            lengths: Those of decoded vectors, float of any shape.
            there: 1 for each true voxel, of any shape.
        """
        bins = (lengths.flatten() * (_BINS / _LONGEST)).long().clamp(0, _BINS - 1)
        self.lengths += torch.bincount(bins, minlength=_BINS)
        self.voxels += there.long().sum()

    def compute(self) -> Tensor:
        """The threshold, a scalar; in the middle of those that are as good."""
        at_least = self.lengths.flip(0).cumsum(0).flip(0)
        wrong = (at_least - self.voxels).abs()
        best = (wrong == wrong.min()).nonzero()[:, 0]
        return best.float().mean() * (_LONGEST / _BINS)
