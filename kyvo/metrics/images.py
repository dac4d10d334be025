"""How near generated pictures come to the true ones, pixel by pixel, over the whole picture and over its objects.

Shapes: B pictures, H W height and width, K scores.
"""

from abc import ABC
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from kyvo.models.perceptual import PerceptualLoss

LEAST_ERROR = 1e-10
"""Mean squared error of equal pictures, so that their PSNR is 100 dB rather than infinite."""

PIXEL_SCORES = ("psnr", "ssim", "l1", "l2", "object_psnr", "box_psnr")
"""Names of what `pixel_scores` gives."""

_REGIONAL = ("object_psnr", "box_psnr")

_AT_ONCE = 8
"""Pictures that a perceptual distance compares together; 24 of 512 x 512 would take it gigabytes."""


class _PictureMeans(Metric, ABC):
    """Means over pictures of scores by name; for those over regions, pictures without such a region do not count.

    Args:
        perceptual: A perceptual distance to measure too, under its own name.
        kwargs: options of ``torchmetrics.Metric``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    sums: Tensor
    counts: Tensor

    SUFFIXES: tuple[str, ...] = ("",)

    def __init__(self, perceptual: PerceptualLoss | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.perceptual = perceptual
        names = PIXEL_SCORES if perceptual is None else (*PIXEL_SCORES, perceptual.name)
        self.names = tuple(f"{name}{suffix}" for suffix in self.SUFFIXES for name in names)
        self.add_state("sums", torch.zeros(len(self.names)), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(self.names), dtype=torch.long), dist_reduce_fx="sum")

    def _score(
        self, predictions: Tensor, targets: Tensor, masks: Tensor | None, boxes: Tensor | None, suffix: str = ""
    ) -> dict[str, Tensor]:
        """Scores [B] by name, the suffix after each."""
        scores = pixel_scores(predictions, targets, masks, boxes)
        if self.perceptual is not None:
            scores[self.perceptual.name] = perceptual_scores(predictions, targets, self.perceptual)
        return {f"{name}{suffix}": values for name, values in scores.items()}

    def _add(self, scores: Mapping[str, Tensor]) -> None:
        table = torch.stack([scores[name] for name in self.names]).to(self.sums)
        regional = torch.tensor([name.startswith(_REGIONAL) for name in self.names], device=table.device)
        # Over a whole picture NaN is no gap but a fault of the picture, which the mean has to show.
        missing = table.isnan() & regional[:, None]
        self.sums += table.masked_fill(missing, 0).sum(1)
        self.counts += (~missing).sum(1)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        return dict(zip(self.names, self.sums / self.counts, strict=True))

    @property
    def pictures(self) -> int:
        """How many pictures came."""
        return int(self.counts[self.names.index("psnr")])

    @property
    def object_pictures(self) -> int:
        """How many of them show objects, by a mask."""
        return int(self.counts[self.names.index("object_psnr")])

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)


class RenderingMetrics(_PictureMeans):
    """Pixel metrics of generated against true pictures; each picture is scored, then the scores are averaged.

    ``compute`` returns scalars: ``psnr`` (dB, at most 100), ``ssim`` (Gaussian window, colour), ``l1`` and ``l2``
    (mean absolute and mean squared error at values in [0, 1]), ``object_psnr`` (dB, over the pixels that the true
    objects cover; the background, easy to paint, dominates the others), ``box_psnr`` (dB, over the pixels inside their
    boxes) and the perceptual distance under its own name, if one is given. ``object_psnr`` and ``box_psnr`` are NaN if
    no picture with objects came with a mask or with boxes.

    Args:
        perceptual: a perceptual distance to measure too.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = RenderingMetrics()
        >>> metric.update(torch.full((1, 3, 16, 16), 0.6), torch.full((1, 3, 16, 16), 0.5))
        >>> round(metric.compute()["psnr"].item(), 2)
        20.0
    """

    def update(
        self, predictions: Tensor, targets: Tensor, masks: Tensor | None = None, boxes: Tensor | None = None
    ) -> None:
        """Add pictures.

        Args:
            predictions: float [B, 3, H, W] in [0, 1].
            targets: float [B, 3, H, W] in [0, 1].
            masks: bool [B, H, W], the pixels that the objects of the targets cover.
            boxes: bool [B, H, W], the pixels inside their boxes.

        Raises:
            ValueError: if shapes or number types do not fit.
        """
        self._add(self._score(predictions, targets, masks, boxes))


class CodedRenderingMetrics(_PictureMeans):
    """Pixel metrics of pictures that were generated as codes, which sets a bound to how near they can come.

    ``compute`` returns the scalars of `RenderingMetrics`, each also as ``<name>_against_vq``, against what the image
    tokenizer makes of the true picture, and as ``<name>_ceiling``, that of the tokenizer's picture against the true
    one: what a model that writes the true codes would reach (a floor for errors and distances).

    Args:
        perceptual: a perceptual distance to measure too.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = CodedRenderingMetrics()
        >>> metric.update(*(torch.full((1, 3, 16, 16), level) for level in (0.6, 0.5, 0.51)))
        >>> found = metric.compute()
        >>> [round(found[name].item()) for name in ("psnr", "psnr_against_vq", "psnr_ceiling")]
        [20, 21, 40]
    """

    SUFFIXES = ("", "_against_vq", "_ceiling")

    def update(
        self,
        predictions: Tensor,
        targets: Tensor,
        reconstructions: Tensor,
        masks: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> None:
        """Add pictures.

        Args:
            predictions: float [B, 3, H, W] in [0, 1].
            targets: float [B, 3, H, W] in [0, 1], the true pictures.
            reconstructions: float [B, 3, H, W] in [0, 1], decoded from the codes of the true pictures.
            masks: bool [B, H, W], the pixels that the objects of the targets cover.
            boxes: bool [B, H, W], the pixels inside their boxes.

        Raises:
            ValueError: if shapes or number types do not fit.
        """
        self._add(
            self._score(predictions, targets, masks, boxes)
            | self._score(predictions, reconstructions, masks, boxes, "_against_vq")
            | self._score(reconstructions, targets, masks, boxes, "_ceiling")
        )


# ---- scores of pictures ---------------------------------------------------------------------------------------------


def pixel_scores(
    predictions: Tensor, targets: Tensor, masks: Tensor | None = None, boxes: Tensor | None = None
) -> dict[str, Tensor]:
    """Scores of each picture by name, as `RenderingMetrics` lists them; float32 [B] each, NaN over no pixels.

    Args:
        predictions: float [B, 3, H, W] in [0, 1].
        targets: float [B, 3, H, W] in [0, 1].
        masks: bool [B, H, W], the pixels that the objects of the targets cover.
        boxes: bool [B, H, W], the pixels inside their boxes.

    Raises:
        ValueError: if shapes or number types do not fit.
    """
    check_pictures(predictions, targets, masks)
    check_pictures(predictions, targets, boxes)
    first, second = predictions.float(), targets.float()
    error = first - second
    squared = error.square().mean(1)
    whole = squared.mean((1, 2))
    return {
        "psnr": psnr(whole),
        "ssim": ssim(first, second),
        "l1": error.abs().mean((1, 2, 3)),
        "l2": whole,
        "object_psnr": region_psnr(squared, masks),
        "box_psnr": region_psnr(squared, boxes),
    }


def region_psnr(squared: Tensor, regions: Tensor | None) -> Tensor:
    """PSNR over the pixels of regions, [B]; NaN where there are none.

    Args:
        squared: squared errors, mean over colours, float [B, H, W].
        regions: bool [B, H, W].
    """
    if regions is None:
        return squared.new_full((len(squared),), torch.nan)
    pixels = regions.sum((1, 2))
    error = (squared * regions).sum((1, 2)) / pixels.clamp(min=1)
    return torch.where(pixels > 0, psnr(error), torch.nan)


@torch.no_grad()
def perceptual_scores(predictions: Tensor, targets: Tensor, perceptual: PerceptualLoss) -> Tensor:
    """Perceptual distance of each pair of pictures float [B, 3, H, W] in [0, 1], float32 [B]."""
    pairs = zip(predictions.float().split(_AT_ONCE), targets.float().split(_AT_ONCE), strict=True)
    return torch.cat([perceptual(2 * one - 1, 2 * other - 1) for one, other in pairs])


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
