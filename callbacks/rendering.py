"""Scores the pictures that rendering and editing write.

Letters: B batch, H and W height and width of a picture.
"""

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor
from torchmetrics import Metric

from callbacks.scoring import Scoring
from kyvo.metrics.images import RenderingMetrics
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class Rendering(Scoring):
    """PSNR, SSIM, L1, L2 and PSNR over object pixels of generated pictures against the true ones, not their codes."""

    def scores(self, task: Task) -> bool:
        """Tasks that write an image."""
        return "image" in task.outputs

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> Metric:
        """`RenderingMetrics`."""
        return RenderingMetrics()

    def update(
        self, metric: Metric, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Decode and compare."""
        pictures = decode_pictures(module.tokenizer.image, [one.image for one in written]).to(module.device)
        targets = torch.from_numpy(np.stack([true_picture(sample) for sample in samples])).to(module.device)
        masks = [sample.written_mask for sample in samples]
        known = [mask for mask in masks if mask is not None]
        stacked = torch.from_numpy(np.stack(known)).to(module.device) if len(known) == len(masks) else None
        metric.update(pictures, targets.movedim(-1, 1).float() / 255, stacked)


def true_picture(sample: Sample) -> np.ndarray:
    """The picture that a sample asks for, uint8 [H, W, 3]; ValueError if it has none."""
    if sample.written_pixels is None:
        raise ValueError(f"sample {sample.key!r} has no picture to compare with")
    return sample.written_pixels


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
