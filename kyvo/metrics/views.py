"""How near pictures of decoded shapes come to those of the true ones.

B objects, V views of one, P pictures, S side of a square picture in pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kyvo.metrics.images import check_pictures, perceptual_scores, psnr, region_psnr, ssim
from kyvo.models.perceptual import PerceptualLoss
from kyvo.models.shape_decoder import Views


class ViewMetrics(Metric):
    """Metrics of views of decoded against true shapes; each view is scored, then the scores are averaged.

    ``compute`` returns scalars: ``psnr`` (dB, at most 100), ``ssim``, the perceptual distance under its own name
    (``lpips``, or what stands in for it), ``object_psnr`` (dB, over the pixels that the true shape covers; NaN if none
    is seen in any view) and ``alpha_iou`` (pixels that both cover over pixels that either covers, 1 if there are none).
    A pixel is covered where alpha is above 0.5.

    Args:
        perceptual: The perceptual distance.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    is_differentiable = False
    full_state_update = False

    sums: Tensor
    counts: Tensor

    def __init__(self, perceptual: PerceptualLoss, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.perceptual = perceptual
        self.names = ("psnr", "ssim", perceptual.name, "object_psnr", "alpha_iou")
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(len(self.names)), dist_reduce_fx="sum")

    def update(self, predictions: Views, targets: Views) -> None:
        """Add the views of objects.

        Args:
            predictions: rgb [B, V, 3, S, S] and alpha [B, V, S, S], over the background of the targets.
            targets: The true ones, of the same shapes.

        Raises:
            ValueError: If shapes or number types do not fit.
        """
        rgb, true_rgb = predictions.rgb.flatten(0, 1), targets.rgb.flatten(0, 1)
        covered, true_covered = (views.alpha.flatten(0, 1) > 0.5 for views in (predictions, targets))
        check_pictures(rgb, true_rgb, true_covered)
        scores = picture_scores(rgb, true_rgb, self.perceptual)
        scores["object_psnr"] = region_psnr((rgb - true_rgb).float().square().mean(1), true_covered)
        scores["alpha_iou"] = _overlap(covered, true_covered)
        table = torch.stack([scores[name] for name in self.names]).to(self.sums)
        self.sums += table.nan_to_num().sum(1)
        self.counts += (~table.isnan()).sum(1)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        return dict(zip(self.names, self.sums / self.counts, strict=True))

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


@torch.no_grad()
def picture_scores(predictions: Tensor, targets: Tensor, perceptual: PerceptualLoss) -> dict[str, Tensor]:
    """Scores of each picture by name: ``psnr``, ``ssim`` and the perceptual distance's own name.

    Args:
        predictions: float [P, 3, S, S] in [0, 1].
        targets: float [P, 3, S, S] in [0, 1].
        perceptual: The perceptual distance.

    Returns:
        float32 [P] each.
    """
    first, second = predictions.float(), targets.float()
    return {
        "psnr": psnr((first - second).square().mean((1, 2, 3))),
        "ssim": ssim(first, second),
        perceptual.name: perceptual_scores(first, second, perceptual),
    }


def _overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of masks bool [P, S, S], [P]."""
    either = (first | second).sum((1, 2))
    return torch.where(either > 0, (first & second).sum((1, 2)) / either.clamp(min=1), 1.0)
