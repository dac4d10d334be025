"""Training of the image tokenizer: reconstruction through a codebook.

B batch, H and W size of an image in pixels, N codes of a batch, K codes of the codebook.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from kyvo.metrics.images import psnr
from kyvo.models import image_vq
from kyvo.models.image_vq import ImageNetwork
from kyvo.models.quantizer import EMAVectorQuantizer
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.training.locality import locality_loss
from kyvo.training.optimizer import OptimizerConfig, build_optimizer, learning_rate_factor

OBJECT_DIFFERENCE = 0.1
"""A pixel counts as one of an object if a channel differs this much (values in [-1, 1]) from the background."""


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


class ImageTokenizerModule(LightningModule):
    """Trains a `VQModel` to reconstruct images through a codebook; batches are float images [B, 3, H, W] in [-1, 1].

    Logs `val/psnr` (dB), `val/object_psnr` (dB, over pixels that differ from the background), `val/codes_used` and
    `val/perplexity` of the codes of the whole validation set.

    Args:
        network: Sizes of the network.
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        optimizer: Optimiser and schedule.
        quantizer: How the codebook is learned.
        loss: What is minimised besides the commitment loss.
        locality: Weight of `locality_loss`, which keeps codes from depending on pixels beyond the neighbouring cells.
        save_to: Folder that receives the tokenizer at the end of `fit`, for `ImageTokenizer.from_pretrained`;
            default is not to write one.
        half: Whether `save_to` gets float16 weights, half the size.

    Raises:
        ValueError: If there are no steps.
    """

    background: Tensor
    code_counts: Tensor

    def __init__(
        self,
        network: ImageNetwork = ImageNetwork(),  # noqa: B008
        total_steps: int = 1000,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        quantizer: QuantizerConfig = QuantizerConfig(),  # noqa: B008
        loss: PixelLoss = PixelLoss(),  # noqa: B008
        locality: float = 0.0,
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
        self.loss = loss
        self.locality = locality
        self.save_to = save_to
        self.save_dtype = torch.float16 if half else torch.float32
        self.model = image_vq.build_vq_model(network).to(memory_format=torch.channels_last)
        self.model.quantize = EMAVectorQuantizer(network.codes, network.code_dim, **asdict(quantizer))
        self.register_buffer("background", torch.full((1, 3, *network.image_size), torch.nan))
        self.register_buffer("code_counts", torch.zeros(network.codes), persistent=False)

    # ---- background -------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Take the median of up to 512 training images as the background, unless a checkpoint brought one."""
        if not self.background.isnan().any():
            return
        images: list[Tensor] = []
        for batch in self.trainer.train_dataloader or ():
            images.append(batch.cpu())
            if sum(map(len, images)) >= 512:
                break
        self.background.copy_(torch.cat(images).median(0, keepdim=True).values)
        if self.trainer.world_size > 1:
            dist.broadcast(self.background, 0)

    def _difference(self, images: Tensor) -> Tensor:
        # Before there is a background (the check of validation before training), every pixel is one of an object.
        return (images - self.background).abs().amax(1, keepdim=True).nan_to_num(nan=2.0)

    # ---- steps ------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstruct images.

        Args:
            images: Float [B, 3, H, W] in [-1, 1].

        Returns:
            Reconstructions float32 [B, 3, H, W], commitment loss (scalar), perplexity of the codes (scalar) and the
            codes int64 [N].
        """
        return self._reconstruct(image_vq.latents(self.model, images))

    def _reconstruct(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quantized, commitment, (perplexity, _, codes) = self.model.quantize(features)
        return image_vq.pixels(self.model, quantized).float(), commitment, perplexity, codes

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of a batch of images."""
        features = image_vq.latents(self.model, batch)
        output, commitment, perplexity, _ = self._reconstruct(features)
        pixel_loss = self.loss(output, batch, self._difference(batch))
        self.log_dict({"train/pixel_loss": pixel_loss, "train/commitment": commitment, "train/perplexity": perplexity})
        total = pixel_loss + commitment
        if self.locality and len(batch) > 1:
            change = locality_loss(partial(image_vq.latents, self.model), batch, features)
            self.log("train/locality", change)
            total = total + self.locality * change
        return total

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log how near reconstructions come, and count codes."""
        output, _, _, codes = self(batch)
        squared = ((output.clamp(-1, 1) - batch) / 2).square().mean(1, keepdim=True)
        objects = self._difference(batch) > OBJECT_DIFFERENCE
        shown = objects.flatten(1).any(1)
        object_error = (squared * objects).flatten(1).sum(1)[shown] / objects.flatten(1).sum(1)[shown]
        self.log("val/psnr", psnr(squared.flatten(1).mean(1)).mean(), batch_size=len(batch), sync_dist=True)
        if shown.any():
            score = psnr(object_error).mean()
            self.log("val/object_psnr", score, batch_size=int(shown.sum()), sync_dist=True, prog_bar=True)
        self.code_counts += torch.bincount(codes, minlength=len(self.code_counts))

    def on_validation_epoch_end(self) -> None:
        """Log how evenly the codes of the validation set are used."""
        counts = self.trainer.strategy.reduce(self.code_counts.clone(), reduce_op="sum")
        share = counts / counts.sum()
        self.log("val/codes_used", (counts > 0).sum().float())
        self.log("val/perplexity", torch.special.entr(share).sum().exp())
        self.code_counts.zero_()

    # ---- optimiser and result -----------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and a schedule that moves once per optimiser step."""
        optimizer = build_optimizer(self.model, self.optimizer_config)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.total_steps, self.optimizer_config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_end(self) -> None:
        """Write the tokenizer where `save_to` says."""
        if self.save_to is not None and self.trainer.is_global_zero:
            self.save_pretrained(self.save_to)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer as a plain `VQModel` folder, which `ImageTokenizer.from_pretrained` reads."""
        tokenizer = ImageTokenizer(image_vq.plain_vq_model(self.model))
        tokenizer.save_pretrained(folder, self.save_dtype)
