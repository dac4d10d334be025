"""The common part of callbacks that score pictures: what was generated is decoded once for all of them.

Letters: B batch, H and W height and width of a picture, N codes of a picture.
"""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from callbacks.scoring import Scoring
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule


@dataclass(frozen=True)
class BatchPictures:
    """The pictures of a batch, float [B, 3, H, W] in [0, 1].

    Args:
        generated: What was written; black where no picture could be read.
        true: What should have been written.
        reconstructed: What the image tokenizer makes of that.
    """

    generated: Tensor
    true: Tensor
    reconstructed: Tensor


class PictureScoring(Scoring, ABC):
    """Scoring of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self._decoded: tuple[Sequence[Generation], BatchPictures] | None = None

    def scores(self, task: Task) -> bool:
        """Tasks that write an image."""
        return "image" in task.outputs

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Make fresh metrics and forget the pictures of an earlier stage."""
        super().start(trainer, module, stage)
        self._decoded = None

    def pictures(
        self, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> BatchPictures:
        """The pictures of a batch; the trainer's first callback of this kind keeps them for the others.

        Raises:
            ValueError: Without an image tokenizer, or for a sample without a picture.
        """
        callbacks = module.trainer.callbacks  # type: ignore[attr-defined]
        keeper = next(one for one in callbacks if isinstance(one, PictureScoring))
        if keeper._decoded is None or keeper._decoded[0] is not written:
            keeper._decoded = written, batch_pictures(module.tokenizer.image, samples, written)
        return keeper._decoded[1]


def batch_pictures(
    tokenizer: ImageTokenizer | None, samples: Sequence[Sample], written: Sequence[Generation]
) -> BatchPictures:
    """The pictures of samples and of what was written for them; see `PictureScoring.pictures`."""
    return BatchPictures(
        decode_pictures(tokenizer, [one.image for one in written]),
        true_pictures(samples),
        decode_pictures(tokenizer, [true_codes(sample) for sample in samples]),
    )


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
