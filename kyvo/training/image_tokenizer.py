"""Training of a small image tokenizer: errors of pixels, and of what a recogniser of its world sees.

B batch, H and W size of an image in pixels.
"""

from dataclasses import asdict, dataclass
from functools import partial

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from kyvo.metrics.codebook import usage_scores
from kyvo.models import image_vq
from kyvo.models.image_vq import ImageNetwork
from kyvo.models.quantizer import EMAVectorQuantizer
from kyvo.models.recognizer import Recognizer
from kyvo.models.recognizer_features import RecognizerFeatures
from kyvo.training.locality import locality_loss
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer
from kyvo.training.reconstruction import ReconstructionModule, check_pixels, reconstruct
from kyvo.training.starting_weights import load_weights


@dataclass
class QuantizerConfig:
    """How the codebook is learned; see `kyvo.models.quantizer.EMAVectorQuantizer`.

    Attributes:
        decay: Share of the running statistics that is kept at each step.
        commitment: Weight of the loss that pulls vectors to their codes.
        warmup_steps: Training steps without quantisation before k-means sets the codebook.
        pool: How many vectors k-means sees; at least 4 times the codes.
        revive_below: A code is dead if its running count is below this share of the mean count.
        revive_every: Steps between looks for dead codes.
    """

    decay: float = 0.99
    commitment: float = 0.25
    warmup_steps: int = 100
    pool: int = 32768
    revive_below: float = 0.03
    revive_every: int = 20

    def build(self, network: ImageNetwork) -> EMAVectorQuantizer:
        """The quantiser of a network."""
        return EMAVectorQuantizer(network.codes, network.code_dim, **asdict(self))


@dataclass
class PixelLoss:
    """Weighted error of pixels: the mean over pixels of weight * (l1 * |error| + l2 * error ** 2), values in [-1, 1].

    Attributes:
        l1: Factor of the absolute error.
        l2: Factor of the squared error.
        objects: Extra weight of pixels that differ from the background, the median of the data; it rises linearly
            with the difference and is reached at 0.25. 0 weighs all pixels alike, as fits photographs.
    """

    l1: float = 1.0
    l2: float = 2.0
    objects: float = 4.0

    def __call__(self, output: Tensor, images: Tensor, difference: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            output: Reconstructions, float [B, 3, H, W].
            images: What they should be, float [B, 3, H, W].
            difference: Largest difference of a pixel's channels from the background, float [B, 1, H, W].
        """
        error = output - images
        weight = 1 + self.objects * (4 * difference).clamp(max=1)
        return (weight * (self.l1 * error.abs() + self.l2 * error.square())).mean()


@dataclass
class RecognitionLoss:
    """How much it counts that a recogniser sees the same; see `kyvo.models.recognizer_features.RecognizerFeatures`.

    Attributes:
        recognizer: Folder of a recogniser of the world, trained on true pictures; default is none.
        weight: Factor of the loss, beside 1 for the errors of pixels.
        scales: How many times as large the pictures are made for it.
    """

    recognizer: str | None = None
    weight: float = 3.0
    scales: tuple[float, ...] = (1.0, 2.0)

    def build(self) -> RecognizerFeatures | None:
        """The loss, or None without a recogniser."""
        if self.recognizer is None:
            return None
        return RecognizerFeatures(Recognizer.from_pretrained(self.recognizer), self.scales)


class ImageTokenizerModule(ReconstructionModule):
    """Trains a `VQModel` to reconstruct images through a codebook; batches are float images [B, 3, H, W] in [-1, 1].

    Args:
        network: Sizes of the network.
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        optimizer: Optimiser and schedule.
        quantizer: How the codebook is learned.
        loss: What is minimised besides the commitment loss.
        recognition: What else is minimised: that a recogniser sees in reconstructions what it sees in pictures.
        locality: Weight of `locality_loss`, which keeps codes from depending on pixels beyond the neighbouring cells.
        init: `VQModel` folder or hub id, or the name of one that ships, whose weights training starts from, of the same
            sizes as `network` but for the number of codes; default is random weights.
        save_to: Folder that receives the tokenizer at the end of `fit`, for `ImageTokenizer.from_pretrained`;
            default is not to write one.
        half: Whether `save_to` gets float16 weights, half the size.

    Raises:
        ValueError: If there are no steps, or, in training, `init` has other sizes, or pixels that no image has.
    """

    def __init__(
        self,
        network: ImageNetwork = ImageNetwork(),  # noqa: B008
        total_steps: int = 1000,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        quantizer: QuantizerConfig = QuantizerConfig(),  # noqa: B008
        loss: PixelLoss = PixelLoss(),  # noqa: B008
        recognition: RecognitionLoss = RecognitionLoss(),  # noqa: B008
        locality: float = 0.0,
        init: str | None = None,
        save_to: str | None = None,
        half: bool = False,
    ) -> None:
        super().__init__(network, save_to, half)
        # The command line links its tokenizer to every model; pickled here, it would keep checkpoints from loading.
        self.save_hyperparameters(ignore=["tokenizer"])
        if total_steps <= 0:
            raise ValueError(f"total_steps should be positive, not {total_steps}: set trainer.max_steps")
        self.total_steps = total_steps
        self.model.quantize = quantizer.build(network)
        self.optimizer_config = optimizer
        self.loss = loss
        self.recognition = recognition
        self.recognizer: RecognizerFeatures | None = None
        self.locality = locality
        self.init = init

    def setup(self, stage: str) -> None:
        """Load what training alone needs: the recogniser, and the weights to start from."""
        if stage != "fit":
            return
        self.recognizer = self.recognition.build()
        if self.init is not None:
            load_weights(self.model, self.init)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of a batch of images."""
        check_pixels(batch)
        features = image_vq.latents(self.model, batch)
        output, commitment, codes = reconstruct(self.model, features)
        pixel_loss = self.loss(output, batch, self.difference(batch))
        perplexity = usage_scores(torch.bincount(codes))["perplexity"]
        self.log_dict({"train/pixel_loss": pixel_loss, "train/commitment": commitment, "train/perplexity": perplexity})
        total = pixel_loss + commitment
        if self.recognizer is not None:
            seen = self.recognizer(batch, output)
            self.log("train/recognition", seen)
            total = total + self.recognition.weight * seen
        if self.locality and len(batch) > 1:
            change = locality_loss(partial(image_vq.latents, self.model), batch, features)
            self.log("train/locality", change)
            total = total + self.locality * change
        return total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and a schedule that moves once per optimiser step."""
        return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)
