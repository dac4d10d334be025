"""Scores the pictures that rendering and editing write.

Letters: B batch, H and W height and width of a picture.
"""

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor
from torchmetrics import Metric

from callbacks.scoring import SampleScores, Scoring, one_by_one
from kyvo.metrics.images import PIXEL_SCORES, CodedRenderingMetrics
from kyvo.models.perceptual import perceptual_loss
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class Rendering(Scoring):
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

    def scores(self, task: Task) -> bool:
        """Tasks that write an image."""
        return "image" in task.outputs

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> CodedRenderingMetrics:
        """`CodedRenderingMetrics`."""
        return CodedRenderingMetrics(self.perceptual)

    def update(
        self, metric: Metric, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> SampleScores:
        """Decode and compare."""
        pictures = decode_pictures(module.tokenizer.image, [one.image for one in written])
        reconstructions = decode_pictures(module.tokenizer.image, [true_codes(sample) for sample in samples])
        columns = (pictures, true_pictures(samples), reconstructions, _masks(samples), _boxes(samples))
        return one_by_one(metric, self.means, *(column.to(module.device) for column in columns))


# ---- pictures -------------------------------------------------------------------------------------------------------


def true_picture(sample: Sample) -> np.ndarray:
    """The picture that a sample asks for, uint8 [H, W, 3]; ValueError if it has none."""
    if sample.written_pixels is None:
        raise ValueError(f"sample {sample.key!r} has no picture to compare with")
    return sample.written_pixels


def true_pictures(samples: Sequence[Sample]) -> Tensor:
    """The pictures that samples ask for, float [B, 3, H, W] in [0, 1]; ValueError if one has none."""
    return torch.from_numpy(np.stack([true_picture(sample) for sample in samples])).movedim(-1, 1).float() / 255


def true_codes(sample: Sample) -> np.ndarray:
    """The codes of the picture that a sample asks for, int64 [N]; ValueError if it has none."""
    codes = sample.write("image")
    assert isinstance(codes, np.ndarray)  # what a sample has under this name
    return codes


def decode_pictures(tokenizer: ImageTokenizer | None, codes: Sequence[np.ndarray | None]) -> Tensor:
    """Pictures of image codes, float [B, 3, H, W] in [0, 1]; black where there are no codes to decode.

    Raises:
        ValueError: Without an image tokenizer.
    """
    if tokenizer is None:
        raise ValueError("making pictures of codes needs an image tokenizer: set tokenizer.image")
    height, width = tokenizer.size
    pictures = torch.zeros(len(codes), 3, height, width)
    rows = [row for row, one in enumerate(codes) if one is not None]
    if rows:
        known = np.stack([one for one in codes if one is not None])
        pictures[rows] = (tokenizer.decode(torch.from_numpy(known)).cpu() + 1) / 2
    return pictures


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
