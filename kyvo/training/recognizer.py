"""Training of the recogniser: the attributes of objects from crops of true pictures.

N objects of a batch, H and W size of a picture in pixels, A attributes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from kyvo.metrics.rerecognition import AttributeAccuracy
from kyvo.models.recognizer import Recognizer, RecognizerNetwork, crop, crop_squares, word_attributes
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer


class ObjectBatch(NamedTuple):
    """Objects in pictures.

    Args:
        images: float32 [N, 3, H, W] in [-1, 1], the picture of each object.
        boxes: float32 [N, 4] of x0, y0, x1, y1 in pixels.
        values: int64 [N, A], the number of each attribute's value.
    """

    images: Tensor
    boxes: Tensor
    values: Tensor


@dataclass
class CropJitter:
    """How the crops of training differ from those that boxes give of true pictures; each crop draws its own.

    What is to be read later, of pictures made from codes, is less sharp and less even than what is learned from.

    Attributes:
        shift: Largest shift along each axis, as a share of the crop's side.
        closest: Least side of a crop, as a share of the one that fits the box.
        farthest: Greatest side.
        blur: Largest share that is put in of the crop's mean over squares of 5 pixels, in [0, 1].
        noise: Largest standard deviation of noise that is added, even over about 2 pixels.
    """

    shift: float = 0.1
    closest: float = 0.85
    farthest: float = 1.3
    blur: float = 1.0
    noise: float = 0.12

    def __post_init__(self) -> None:
        if not (self.shift >= 0 <= self.noise and 0 < self.closest <= self.farthest and 0 <= self.blur <= 1):
            raise ValueError(f"expected shift, noise >= 0, 0 < closest <= farthest and blur in [0, 1], got {self}")

    def move(self, squares: Tensor) -> Tensor:
        """Squares float [N, 3] (see `kyvo.models.recognizer.crop_squares`) moved and scaled at random."""
        middle, side = squares[:, :2], squares[:, 2:]
        # Twice as large is as likely as half as large.
        scale = (self.farthest / self.closest) ** torch.rand_like(side) * self.closest
        moved = middle + (2 * torch.rand_like(middle) - 1) * self.shift * side
        return torch.cat([moved, side * scale], 1)

    def spoil(self, crops: Tensor) -> Tensor:
        """Crops float [N, 3, S, S] blurred and made noisy at random."""
        blur, noise = torch.rand(2, len(crops), 1, 1, 1, device=crops.device)
        mean = F.avg_pool2d(crops, 5, stride=1, padding=2, count_include_pad=False)
        spots = F.interpolate(torch.randn_like(crops[..., ::2, ::2]), crops.shape[2:], mode="bilinear")
        return crops + self.blur * blur * (mean - crops) + self.noise * noise * spots


class RecognizerModule(LightningModule):
    """Trains a `Recognizer` on objects of true pictures; batches are `ObjectBatch`.

    Logs `train/loss`, and of the whole validation set, its boxes as they are, the accuracies of `AttributeAccuracy`:
    `val/shape`, `val/shape_small` and so on.

    Args:
        schema: Name of the schema whose words are recognised, or its YAML file.
        network: Sizes of the network.
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        optimizer: Optimiser and schedule.
        jitter: How crops are changed in training.
        save_to: Folder that receives the recogniser at the end of `fit`, for `Recognizer.from_pretrained`; default is
            not to write one.
        half: Whether `save_to` gets float16 weights, half the size.

    Raises:
        ValueError: If there are no steps.
    """

    def __init__(
        self,
        schema: str = "clevr",
        network: RecognizerNetwork = RecognizerNetwork(),  # noqa: B008 (never changed)
        total_steps: int = 1000,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 (never changed)
        jitter: CropJitter = CropJitter(),  # noqa: B008 (never changed)
        save_to: str | None = None,
        half: bool = False,
    ) -> None:
        super().__init__()
        # The command line links its tokenizer to every model; pickled here, it would keep checkpoints from loading.
        self.save_hyperparameters(ignore=["tokenizer"])
        if total_steps <= 0:
            raise ValueError(f"total_steps should be positive, not {total_steps}: set trainer.max_steps")
        self.total_steps = total_steps
        self.optimizer_config = optimizer
        self.jitter = jitter
        self.save_to = save_to
        self.save_dtype = torch.float16 if half else torch.float32
        model = Recognizer(word_attributes(schema), network)
        # Convolutions on a CPU are then about twice as fast; the declared types of `to` lack the argument.
        self.model: Recognizer = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.accuracy = AttributeAccuracy(self.model.attributes)

    def forward(self, batch: ObjectBatch) -> tuple[Tensor, ...]:
        """Scores of each attribute's values, a tensor [N, values] for each; in training of jittered crops."""
        network = self.model.network
        squares = crop_squares(batch.boxes, network.margin)
        if self.training:
            squares = self.jitter.move(squares)
        crops = crop(batch.images, squares, network.side)
        if self.training:
            crops = self.jitter.spoil(crops)
        scores: tuple[Tensor, ...] = self.model(crops, squares[:, 2] / batch.images.shape[2])
        return scores

    def training_step(self, batch: ObjectBatch, batch_idx: int) -> Tensor:
        """The cross-entropies of the attributes, summed."""
        scores = self(batch)
        losses = [F.cross_entropy(one.float(), batch.values[:, column]) for column, one in enumerate(scores)]
        loss = torch.stack(losses).sum()
        self.log("train/loss", loss, batch_size=len(batch.images), prog_bar=True)
        return loss

    def validation_step(self, batch: ObjectBatch, batch_idx: int) -> None:
        """Count what is read rightly."""
        self.accuracy.update(torch.stack([one.argmax(1) for one in self(batch)], 1), batch.values)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies of the validation set."""
        for name, value in self.accuracy.compute().items():
            self.log(f"val/{name}", value, prog_bar=name in self.model.attributes)
        self.accuracy.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and a schedule that moves once per optimiser step."""
        return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)

    def on_train_end(self) -> None:
        """Write the recogniser where `save_to` says."""
        if self.save_to is not None and self.trainer.is_global_zero:
            self.model.save_pretrained(self.save_to, self.save_dtype)
