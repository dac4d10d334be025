"""Training of latents for voxels by rendering: what they are rendered to should look like what they were made of.

B objects, n voxels along each side of the cube in the grid of latents, C channels of a latent, V views, S side of a
picture in pixels.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from kyvo.cameras import Cameras
from kyvo.metrics.images import psnr
from kyvo.models.learned_decoder import LearnedDecoder, SlatAutoencoder, SlatNetwork
from kyvo.models.perceptual import NO_PERCEPTUAL
from kyvo.models.voxel_renderer import VoxelDecoder, one_each, render_volumes
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer
from kyvo.training.render_loss import (
    RenderLoss,
    RenderWeights,
    composite,
    draw_background,
    draw_cameras,
    render_targets,
)
from kyvo.training.shape_tokenizer import ShapeBatch

COUNTED = 1000
"""Of how many training objects the mean and deviation of latents are taken."""

# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([SlatNetwork, RenderWeights, OptimizerConfig])


class SlatAutoencoderModule(LightningModule):
    """Trains a `SlatAutoencoder`; batches are `ShapeBatch` of `voxel8` grids [B, 9, 2n, 2n, 2n].

    Latents are drawn from the encoder's distributions, decoded, and rendered before black or white. The targets are
    the batch's pictures where it has some, and else renderings of its grids by `VoxelDecoder` from the same cameras.

    Logs `train/loss`, `train/l1`, `train/ssim` (1 - SSIM), `train/perceptual` and `train/kl`, in validation
    `val/psnr` and `val/object_psnr` (dB, before white; the second over pixels that the object covers), of the means,
    from `val_views` cameras against renderings of the grids. Checkpoints hold the name of the perceptual loss as
    `perceptual_loss`, and loggers get it among the hyperparameters.

    Args:
        network: Sizes of the network.
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        optimizer: Optimiser and schedule.
        render: What counts how much in the comparison of pictures.
        kl: Factor of the divergence of latents from a standard normal distribution, TRELLIS' by default.
        views: From where objects are seen that come without pictures: each from its own side, at random, or all
            from the same, always.
        size: Side S of the pictures that are rendered as targets, in pixels.
        val_views: Cameras V of validation.
        save_to: Folder that receives encoder and decoder at the end of `fit`, for `LearnedDecoder.from_pretrained`;
            default is not to write one.
        half: Whether `save_to` gets float16 weights, half the size.

    Raises:
        ValueError: If there are no steps.
    """

    def __init__(
        self,
        network: SlatNetwork = SlatNetwork(),  # noqa: B008 (never changed)
        total_steps: int = 1000,
        optimizer: OptimizerConfig = OptimizerConfig(lr=2e-3, weight_decay=0.0),  # noqa: B008 (never changed)
        render: RenderWeights = RenderWeights(weight=1.0),  # noqa: B008 (never changed)
        kl: float = 1e-6,
        views: Literal["single-view", "multi-view"] = "multi-view",
        size: int = 48,
        val_views: int = 4,
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
        self.render_weights = render
        self.render_loss: RenderLoss | None = None
        self.kl = kl
        self.views = views
        self.size = size
        self.val_cameras = Cameras.sphere(val_views, (0.5, 0.1))
        self.save_to = save_to
        self.save_dtype = torch.float16 if half else torch.float32
        self.model = SlatAutoencoder(network)
        self.source = VoxelDecoder(network.density, network.steps)

    @property
    def perceptual_name(self) -> str:
        """What the perceptual loss in use is called."""
        return NO_PERCEPTUAL if self.render_loss is None else self.render_loss.perceptual_name

    def setup(self, stage: str) -> None:
        """Load what training alone needs: the perceptual loss."""
        if stage == "fit":
            self.render_loss = RenderLoss(self.render_weights)

    def on_fit_start(self) -> None:
        """Log which perceptual loss is in use."""
        for logger in self.loggers:
            logger.log_hyperparams({"perceptual_loss": self.perceptual_name})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the name of the perceptual loss."""
        checkpoint["perceptual_loss"] = self.perceptual_name

    # ---- steps --------------------------------------------------------------------------------------------------

    def training_step(self, batch: ShapeBatch, batch_idx: int) -> Tensor:
        """The loss of a batch of objects, each seen once."""
        if self.render_loss is None:
            raise RuntimeError("the loss of renderings is made in setup, for fitting")
        background = draw_background()
        cameras = batch.cameras or draw_cameras(self.views, len(batch))
        targets = self._targets(batch, cameras, background)
        latents, log_variance = self.model.encode(batch.grid)
        drawn = latents[:, 1:] + torch.randn_like(log_variance) * (log_variance / 2).exp()
        volumes = self.model.decode(torch.cat([latents[:, :1], drawn], 1))
        size, steps = targets.shape[-1], self.model.network.steps
        terms = self.render_loss(render_volumes(volumes, one_each(cameras), size, background, steps).rgb[:, 0], targets)
        divergence = kl_divergence(latents, log_variance)
        values = {"l1": terms.l1, "ssim": terms.ssim, "perceptual": terms.perceptual, "kl": divergence}
        self.log_dict({f"train/{name}": value.detach() for name, value in values.items()}, batch_size=len(batch))
        loss = terms.total + self.kl * divergence
        self.log("train/loss", loss, batch_size=len(batch), prog_bar=True)
        return loss

    def _targets(self, batch: ShapeBatch, cameras: Cameras, background: float) -> Tensor:
        if batch.images is not None:
            return composite(batch.images, batch.alphas, background)
        return render_targets(self.source, batch.grid, cameras, self.size, background)

    def validation_step(self, batch: ShapeBatch, batch_idx: int) -> None:
        """Log how near the renderings of latents come to those of what they were made of."""
        targets = self.source.render(batch.grid, self.val_cameras, self.size)
        volumes = self.model.decode(self.model.encode(batch.grid)[0])
        cameras = [self.val_cameras] * len(batch)
        found = render_volumes(volumes, cameras, self.size, steps=self.model.network.steps)
        squared = (found.rgb - targets.rgb).square().mean(2)
        # Of a transparent object no pixel counts.
        covered = targets.alpha > 0.5
        on_object = (squared * covered).flatten(1).sum(1) / covered.flatten(1).sum(1).clamp(min=1)
        scores = {"val/psnr": psnr(squared.flatten(1).mean(1)), "val/object_psnr": psnr(on_object)}
        means = {name: score.mean() for name, score in scores.items()}
        self.log_dict(means, batch_size=len(batch), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and a schedule that moves once per optimiser step."""
        return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)

    # ---- result -----------------------------------------------------------------------------------------------

    def on_train_end(self) -> None:
        """Write encoder and decoder where `save_to` says."""
        if self.save_to is not None and self.trainer.is_global_zero:
            self.save_pretrained(self.save_to, self.trainer.train_dataloader or ())

    def save_pretrained(self, folder: str, batches: Iterable[ShapeBatch]) -> None:
        """Write what `LearnedDecoder.from_pretrained` reads.

        Args:
            folder: Where to write; created if absent.
            batches: Objects to take the mean and deviation of latents of, at least one; the first 1000 count.
        """
        statistics = latent_statistics(self.model, batches)
        LearnedDecoder(_copy(self.model), *statistics).save_pretrained(folder, self.save_dtype)


def kl_divergence(latents: Tensor, log_variance: Tensor) -> Tensor:
    """Mean divergence of a channel of a latent from a standard normal distribution, a scalar in nats.

    Args:
        latents: Means with their occupancy, float [B, 1 + C, n, n, n].
        log_variance: float [B, C, n, n, n].
    """
    there = latents[:, :1] > 0
    each = (latents[:, 1:].square() + log_variance.exp() - log_variance - 1) / 2
    return (each * there).sum() / (there.sum() * log_variance.shape[1]).clamp(min=1)


@torch.no_grad()
def latent_statistics(model: SlatAutoencoder, batches: Iterable[ShapeBatch]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of latents over the voxels of objects, two float32 [C].

    Args:
        model: The encoder.
        batches: Objects, at least one; the first 1000 count.
    """
    device = next(model.parameters()).device
    objects, count = 0, 0
    total = squares = torch.zeros(model.network.channels, dtype=torch.float64)
    for batch in batches:
        latents = model.encode(batch.grid.to(device))[0].movedim(1, -1).flatten(0, 3).cpu().double()
        found = latents[latents[:, 0] > 0, 1:]
        count, total, squares = count + len(found), total + found.sum(0), squares + found.square().sum(0)
        objects += len(batch)
        if objects >= COUNTED:
            break
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=0).sqrt().float()


def _copy(model: SlatAutoencoder) -> SlatAutoencoder:
    # What a decoder holds is frozen, and training may go on.
    copy = SlatAutoencoder(model.network)
    copy.load_state_dict(model.state_dict())
    return copy
