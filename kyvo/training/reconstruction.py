"""What the trainings of image tokenizers share: the background, the scores of reconstructions, and saving.

B batch, H and W size of an image in pixels, N codes of a batch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from lightning import LightningModule
from torch import Tensor

from kyvo.metrics.codebook import CodeUsage
from kyvo.metrics.images import psnr
from kyvo.models import image_vq
from kyvo.models.image_vq import ImageNetwork
from kyvo.tokenizers.images import ImageTokenizer

if TYPE_CHECKING:
    from diffusers import VQModel

OBJECT_DIFFERENCE = 0.1
"""A pixel counts as one of an object if a channel differs this much (values in [-1, 1]) from the background."""

ROUNDING = 1e-3
"""How far beyond [-1, 1] rounding may bring a pixel."""


class ReconstructionModule(LightningModule):
    """A `VQModel` that learns to reconstruct images through a codebook; subclasses say by which losses and quantiser.

    Batches are float images [B, 3, H, W] in [-1, 1]. Logs `val/psnr` (dB), `val/object_psnr` (dB, over pixels that
    differ from the background); of the codes of the whole validation set `val/codes_used`, `val/usage` (the share of
    the codebook), `val/perplexity` and `val/top_code_share`.

    Args:
        network: Sizes of the network.
        save_to: Folder that receives the tokenizer at the end of `fit`, for `ImageTokenizer.from_pretrained`;
            default is not to write one.
        half: Whether `save_to` gets float16 weights, half the size.
    """

    background: Tensor

    def __init__(self, network: ImageNetwork, save_to: str | None = None, half: bool = False) -> None:
        super().__init__()
        self.save_to = save_to
        self.save_dtype = torch.float16 if half else torch.float32
        self.model = image_vq.build_vq_model(network).to(memory_format=torch.channels_last)
        self.register_buffer("background", torch.full((1, 3, *network.image_size), torch.nan))
        self.code_usage = CodeUsage(network.codes)

    @property
    def evaluated(self) -> "VQModel":
        """The network that is validated and saved."""
        return self.model

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

    def difference(self, images: Tensor) -> Tensor:
        """Largest difference of each pixel's channels from the background, float [B, 1, H, W]."""
        # Before there is a background (the check of validation before training), every pixel is one of an object.
        return (images - self.background).abs().amax(1, keepdim=True).nan_to_num(nan=2.0)

    # ---- validation -------------------------------------------------------------------------------------------

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log how near reconstructions come, and count codes."""
        output, _, codes = reconstruct(self.evaluated, image_vq.latents(self.evaluated, batch))
        squared = ((output.clamp(-1, 1) - batch) / 2).square().mean(1, keepdim=True)
        objects = self.difference(batch) > OBJECT_DIFFERENCE
        shown = objects.flatten(1).any(1)
        object_error = (squared * objects).flatten(1).sum(1)[shown] / objects.flatten(1).sum(1)[shown]
        self.log("val/psnr", psnr(squared.flatten(1).mean(1)).mean(), batch_size=len(batch), sync_dist=True)
        if shown.any():
            score = psnr(object_error).mean()
            self.log("val/object_psnr", score, batch_size=int(shown.sum()), sync_dist=True, prog_bar=True)
        self.code_usage.update(codes)

    def on_validation_epoch_end(self) -> None:
        """Log how evenly the codes of the validation set are used."""
        self.log_dict({f"val/{name}": score for name, score in self.code_usage.compute().items()})
        self.code_usage.reset()

    # ---- result -----------------------------------------------------------------------------------------------

    def on_train_end(self) -> None:
        """Write the tokenizer where `save_to` says."""
        if self.save_to is not None and self.trainer.is_global_zero:
            self.save_pretrained(self.save_to)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer as a plain `VQModel` folder, which `ImageTokenizer.from_pretrained` reads."""
        tokenizer = ImageTokenizer(image_vq.plain_vq_model(self.evaluated))
        tokenizer.save_pretrained(folder, self.save_dtype)


def reconstruct(model: "VQModel", features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images from features, through the codebook.

    Args:
        model: The network.
        features: What it made of images, [B, D, h, w].

    Returns:
        Reconstructions float32 [B, 3, H, W], the quantiser's loss (scalar) and the codes int64 [N].
    """
    quantized, loss, (_, _, codes) = model.quantize(features)
    return image_vq.pixels(model, quantized).float(), loss, codes


def check_pixels(images: Tensor) -> None:
    """Refuse pixels that no image has.

    Args:
        images: float [B, 3, H, W].

    Raises:
        ValueError: A pixel is not finite or outside [-1, 1].
    """
    low, high = (float(value) for value in images.aminmax())
    # Not the other way round: comparisons with NaN are false.
    if not (low >= -1 - ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(f"training images should have finite pixels in [-1, 1], got values from {low:g} to {high:g}")
