"""How near generated pictures come to the true ones, pixel by pixel, over the whole picture and over its objects.

Shapes: B pictures, H W height and width.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

LEAST_ERROR = 1e-10
"""Mean squared error of equal pictures, so that their PSNR is 100 dB rather than infinite."""


class RenderingMetrics(Metric):
    """Pixel metrics of generated against true pictures; each picture is scored, then the scores are averaged.

    ``compute`` returns scalars: ``psnr`` (dB, at most 100), ``ssim`` (Gaussian window, colour), ``l1`` and ``l2``
    (mean absolute and mean squared error at values in [0, 1]) and ``object_psnr`` (dB, over the pixels that the true
    objects cover; the background, easy to paint, dominates the others). ``object_psnr`` is NaN if no picture with
    objects came with a mask.

    Args:
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = RenderingMetrics()
        >>> metric.update(torch.full((1, 3, 16, 16), 0.6), torch.full((1, 3, 16, 16), 0.5))
        >>> round(metric.compute()["psnr"].item(), 2)
        20.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    pictures: Tensor
    object_pictures: Tensor

    SCORES = ("psnr", "ssim", "l1", "l2", "object_psnr")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.SCORES:
            self.add_state(f"{name}_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        for name in ("pictures", "object_pictures"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor, masks: Tensor | None = None) -> None:
        """Add pictures.

        Args:
            predictions: float [B, 3, H, W] in [0, 1].
            targets: float [B, 3, H, W] in [0, 1].
            masks: bool [B, H, W], the pixels that the objects of the targets cover.

        Raises:
            ValueError: if shapes or number types do not fit.
        """
        check_pictures(predictions, targets, masks)
        error = (predictions - targets).float()
        squared = error.square().mean(dim=1)
        self._add("psnr", psnr(squared.mean(dim=(1, 2))))
        self._add("ssim", ssim(predictions.float(), targets.float()))
        self._add("l1", error.abs().mean(dim=(1, 2, 3)))
        self._add("l2", squared.mean(dim=(1, 2)))
        self.pictures += len(targets)
        if masks is not None:
            self._add_objects(squared, masks)

    def _add_objects(self, squared: Tensor, masks: Tensor) -> None:
        pixels = masks.sum(dim=(1, 2))
        shown = pixels > 0
        error = (squared * masks).sum(dim=(1, 2))[shown] / pixels[shown]
        self._add("object_psnr", psnr(error))
        self.object_pictures += shown.sum()

    def _add(self, name: str, scores: Tensor) -> None:
        setattr(self, f"{name}_sum", getattr(self, f"{name}_sum") + scores.sum())

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        counts = dict.fromkeys(self.SCORES, self.pictures) | {"object_psnr": self.object_pictures}
        return {name: getattr(self, f"{name}_sum") / counts[name] for name in self.SCORES}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


def psnr(squared_error: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of mean squared errors at values in [0, 1]."""
    return -10 * squared_error.clamp(min=LEAST_ERROR).log10()


def ssim(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the structural similarity of each pair of pictures, [B, 3, H, W] twice -> [B]."""
    scores = structural_similarity_index_measure(predictions, targets, reduction="none", data_range=1.0)
    # The declared type allows a tuple, which only other options return.
    return torch.as_tensor(scores).reshape(-1)


def check_pictures(predictions: Tensor, targets: Tensor, masks: Tensor | None = None) -> None:
    """Raise ValueError unless the pictures are float [B, 3, H, W] alike and the masks bool [B, H, W]."""
    if predictions.shape != targets.shape or targets.ndim != 4:
        raise ValueError(
            f"pictures should be [B, 3, H, W] alike, got {list(predictions.shape)} against {list(targets.shape)}"
        )
    if not (predictions.is_floating_point() and targets.is_floating_point()):
        raise ValueError(f"pictures should be float in [0, 1], got {predictions.dtype} and {targets.dtype}")
    expected = targets[:, 0].shape
    if masks is not None and (masks.shape != expected or masks.dtype != torch.bool):
        raise ValueError(f"masks should be bool {list(expected)}, got {masks.dtype} {list(masks.shape)}")
