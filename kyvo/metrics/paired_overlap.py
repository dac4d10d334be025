"""IoU3D: how much predicted boxes overlap the true objects that they are paired with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.bootstrap import gathered, ratio_interval
from kyvo.metrics.box_comparison import BoxComparison
from kyvo.metrics.detection import ORACLE
from kyvo.metrics.matching import optimal_assignment


class PairedOverlap(Metric):
    """Mean IoU3D of predicted and true boxes of one category, paired so that the sum of overlaps is greatest.

    Unlike average precision it needs no scores. Ignored true objects are left out.

    ``compute`` returns scalars; NaN where there is nothing to average. If boxes were turned like the true ones, names
    have ``_oracle_r`` after ``3d``: IoU3D-oracleR.

    - ``iou3d``: mean over pairs, of which each category has as many as the fewer of its two sides
    - ``iou3d_all``: mean over true objects, 0 for those without a partner
    - ``iou3d_low``, ``iou3d_high``, ``iou3d_all_low``, ``iou3d_all_high``: ends of their 95 % bootstrap intervals, in
      which images are resampled

    Args:
        oracle_rotation: Whether boxes were turned like the true ones.
        kwargs: Options of ``torchmetrics.Metric``.

    Example:
        >>> import numpy as np
        >>> from kyvo.metrics.box_comparison import Detections, Truths, compare_with_oracle
        >>> from kyvo.metrics.box_overlap import Boxes
        >>> cups = Boxes.of([[0, 0, 2], [1, 0, 2]], np.ones((2, 3)), np.stack([np.eye(3)] * 2))
        >>> found = Detections(np.array([[0.0, 0.0, 2.5]]), np.ones((1, 3)), ["cup"], np.ones(1))
        >>> metric = PairedOverlap(oracle_rotation=True)
        >>> metric.update([compare_with_oracle(found, Truths(cups, ["cup", "cup"]))])
        >>> found = metric.compute()
        >>> [round(found[name].item(), 3) for name in ("iou3d_oracle_r", "iou3d_oracle_r_all")]
        [0.333, 0.167]
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    overlap_sum: Tensor
    pairs: Tensor
    objects: Tensor
    images: list[Tensor] | Tensor

    def __init__(self, oracle_rotation: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.suffix = ORACLE if oracle_rotation else ""
        self.add_state("overlap_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        for name in ("pairs", "objects"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        # Of each image its sum of overlaps, its pairs and its objects: an interval cannot be had from sums.
        self.add_state("images", [], dist_reduce_fx="cat")

    def update(self, comparisons: Sequence[BoxComparison]) -> None:
        """Add the boxes of images."""
        for comparison in comparisons:
            counted = ~comparison.ignored
            overlaps = comparison.overlaps[:, counted]
            pairs = optimal_assignment(1 - overlaps, comparison.alike[:, counted])
            image = [float(sum(overlaps[pair] for pair in pairs)), len(pairs), int(counted.sum())]
            self.overlap_sum += image[0]
            self.pairs += image[1]
            self.objects += image[2]
            self.images.append(torch.tensor(image, device=self.device))  # type: ignore[union-attr]

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        name = f"iou3d{self.suffix}"
        found = {name: self.overlap_sum / self.pairs, f"{name}_all": self.overlap_sum / self.objects}
        images = gathered(self.images, self.device).reshape(-1, 3).cpu().double().numpy()
        for place, one in enumerate((name, f"{name}_all"), 1):
            low, high = ratio_interval(images[:, 0], images[:, place])
            found |= {f"{one}_low": torch.tensor(low), f"{one}_high": torch.tensor(high)}
        return found

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)
