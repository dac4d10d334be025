"""Scores the pictures that rendering and editing write.

Letters: B batch, H and W height and width of a picture.
"""

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor
from torchmetrics import Metric

from callbacks.picture_scoring import PictureScoring, true_picture
from callbacks.scoring import SampleScores, one_by_one
from kyvo.metrics.images import PIXEL_SCORES, CodedRenderingMetrics
from kyvo.models.perceptual import perceptual_loss
from kyvo.sample import Sample
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class Rendering(PictureScoring):
    """PSNR, SSIM, L1, L2 and PSNR over objects of generated pictures against the true ones.

    Each also against what the image tokenizer makes of the true picture (`psnr_against_vq`), and, beside it, how near
    that comes itself (`psnr_ceiling`): what writing the true codes would reach.

    Args:
        perceptual: Whether to measure a perceptual distance too: LPIPS where its weights are at hand, else what stands
            in for it, under its own name (see `kyvo.models.perceptual`).
    """

    def __init__(self, perceptual: bool = False) -> None:
        super().__init__()
        self.perceptual = perceptual_loss() if perceptual else None
        named = (*PIXEL_SCORES, "psnr_against_vq")
        self.means = named if self.perceptual is None else (*named, self.perceptual.name)

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> CodedRenderingMetrics:
        """`CodedRenderingMetrics`."""
        return CodedRenderingMetrics(self.perceptual)

    def update(
        self, metric: Metric, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> SampleScores:
        """Decode and compare."""
        shown = self.pictures(module, samples, written)
        columns = (shown.generated, shown.true, shown.reconstructed, _masks(samples), _boxes(samples))
        return one_by_one(metric, self.means, *(column.to(module.device) for column in columns))


# ---- regions --------------------------------------------------------------------------------------------------------


def _masks(samples: Sequence[Sample]) -> Tensor:
    """Pixels that objects cover, bool [B, H, W]; nothing where that is not known, which counts for no score."""
    masks = [_nothing(one) if one.written_mask is None else one.written_mask for one in samples]
    return torch.from_numpy(np.stack(masks))


def _boxes(samples: Sequence[Sample]) -> Tensor:
    """Pixels inside the boxes of objects, bool [B, H, W]; nothing where these are not known."""
    filled = [_nothing(one) for one in samples]
    for mask, sample in zip(filled, samples, strict=True):
        for seen in sample.written_seen or ():
            if seen is not None:
                x0, y0, x1, y1 = (round(max(edge, 0.0)) for edge in seen.box)
                mask[y0:y1, x0:x1] = True
    return torch.from_numpy(np.stack(filled))


def _nothing(sample: Sample) -> np.ndarray:
    return np.zeros(true_picture(sample).shape[:2], dtype=bool)
