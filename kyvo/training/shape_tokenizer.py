"""Training of the 3D shape tokenizer: voxels and their vectors through a codebook, and back.

B objects, C channels of a vector, N voxels along each side of the cube, n codes along each side, S side of an image in
pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from kyvo.cameras import Cameras
from kyvo.metrics.codebook import CodeUsage, usage_scores
from kyvo.metrics.images import psnr
from kyvo.metrics.shapes import VoxelOverlap
from kyvo.models.finite_quantizer import FiniteQuantizerConfig
from kyvo.models.library_quantizer import LibraryQuantizerConfig
from kyvo.models.perceptual import NO_PERCEPTUAL
from kyvo.models.shape_decoder import ShapeDecoder
from kyvo.models.shape_vq import SHARPNESS, TRELLIS_MEAN, TRELLIS_STD, ShapeNetwork, ShapeVQ
from kyvo.slat import densify, sparsify
from kyvo.tokenizers.shapes import ShapeTokenizer
from kyvo.training.adaptive_clipping import AdaptiveClipping, ClippingConfig
from kyvo.training.ema import WeightAverage
from kyvo.training.image_tokenizer import QuantizerConfig
from kyvo.training.occupancy_threshold import OccupancyThreshold
from kyvo.training.optimizer import OptimizerConfig, scheduled_optimizer
from kyvo.training.render_loss import (
    RenderLoss,
    RenderWeights,
    ViewMode,
    composite,
    draw_background,
    draw_cameras,
    render_targets,
)
from kyvo.training.shape_loss import ShapeLoss, ShapeTerms, divergence, weighted_mean
from kyvo.training.vqgan import GradientQuantizerConfig

STATISTICS_OBJECTS = 512
"""How many training objects at most the statistics of vectors are taken from."""


@dataclass(frozen=True)
class ShapeBatch:
    """Objects, and a picture of each where there are pictures.

    Args:
        grid: Occupancy 0 or 1 and raw vectors, float32 [B, 1 + C, N, N, N], see `kyvo.slat.densify`.
        images: One picture of each object, not multiplied by `alphas`, float32 [B, 3, S, S] in [0, 1].
        alphas: How opaque the object is in them, float32 [B, S, S] in [0, 1].
        cameras: The camera of each picture; as many as objects.
    """

    grid: Tensor
    images: Tensor | None = None
    alphas: Tensor | None = None
    cameras: Cameras | None = None

    def __len__(self) -> int:
        return len(self.grid)

    def to(self, device: torch.device | str) -> "ShapeBatch":
        """The same on another device."""
        images, alphas = (None if one is None else one.to(device) for one in (self.images, self.alphas))
        cameras = None if self.cameras is None else self.cameras.to(device)
        return ShapeBatch(self.grid.to(device), images, alphas, cameras)


@dataclass
class Rendering:
    """How much it counts that decoded objects look alike; it takes a decoder.

    Attributes:
        views: From where objects are seen: `none`, not at all; `single-view`, always from the same side; `multi-view`,
            from one of 150 sides, drawn for each object and step.
        size: Side S of a picture in pixels, where pictures do not come with the data.
        objects: How many objects of a batch are rendered; default is all.
        teacher_steps: Optimiser steps for which the true voxels are rendered with decoded vectors, before the
            predicted ones are.
        weights: What counts how much.
        val_views: Views of `val/view_psnr`; 0 for none.
    """

    views: ViewMode = "none"
    size: int = 64
    objects: int | None = None
    teacher_steps: int = 1000
    weights: RenderWeights = field(default_factory=RenderWeights)
    val_views: int = 4


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals(
    [ShapeNetwork, ShapeLoss, Rendering, RenderWeights, ClippingConfig, OptimizerConfig, QuantizerConfig]
)


class ShapeTokenizerModule(LightningModule):
    """Trains a `ShapeVQ` to reconstruct voxels and their vectors through a codebook; batches are `ShapeBatch`.

    Where the data brings pictures, these are what decoded objects should look like; else what the decoder makes of the
    true objects is. Pictures and codebook draw from the run's seed and the step alone, so that a resumed run equals an
    unbroken one from the end of an epoch on, once the codebook is set.

    Logs `train/latent`, `train/occupancy`, `train/dice`, `train/commitment`, `train/perplexity`,
    `train/gradient_norm`, where they count `train/divergence` and `train/render`; of the whole validation set, by
    predicted occupancy, `val/iou` and `val/f1`, `val/feature_mse` (of normalised vectors, at true voxels),
    `val/codes_used`, `val/usage`, `val/perplexity` and `val/top_code_share`, the same of cells that are not empty as
    `val/filled_codes_used` and so on, and with a decoder `val/view_psnr` (dB).

    The network is built in `configure_model`, when processes have found each other.

    Args:
        space: Space of the vectors, see `kyvo.slat.Slat`.
        network: Sizes of the network.
        quantizer: How the codebook is learned: as running means (the default), by gradients, not at all (`levels`), or
            as a class of vector-quantize-pytorch does (`name`).
        total_steps: Optimiser steps of the whole run, which set the schedule (linked to `trainer.max_steps`).
        loss: What reconstructions cost.
        divergence: Weight of the divergence of a variational encoder from the normal distribution; the paper's is 1e-6.
        statistics: What vectors are normalised by: `space`, the constants of ``trellis``, nothing for ``voxel8``, and
            of other spaces the data's; `data`, the data's; or `none`.
        decoder: Renders the space, for `rendering` and `val/view_psnr`; default is none.
        rendering: Loss of looks.
        optimizer: Optimiser and schedule; default is AdamW, constant.
        clipping: How large gradients may be; `trainer.gradient_clip_val` stays unset.
        ema: Decay of the running means of the weights that are validated and saved; 0 takes the weights themselves.
        save_to: Folder that receives the tokenizer at the end of `fit`, for `ShapeTokenizer.from_pretrained`;
            default is not to write one.
        half: Whether `save_to` gets float16 weights, half the size.

    Raises:
        ValueError: If there are no steps, the decoder reads another space, or, in `fit`, views but no decoder, a
            limit of gradients given twice, or batches of other sizes or with numbers that are not finite.
    """

    model: ShapeVQ
    average: WeightAverage | None

    def __init__(
        self,
        space: str = "voxel8",
        network: ShapeNetwork = ShapeNetwork(),  # noqa: B008 (never changed)
        quantizer: QuantizerConfig
        | GradientQuantizerConfig
        | FiniteQuantizerConfig
        | LibraryQuantizerConfig
        | None = None,
        total_steps: int = 1000,
        loss: ShapeLoss = ShapeLoss(),  # noqa: B008 (never changed)
        divergence: float = 0.0,
        statistics: Literal["space", "data", "none"] = "space",
        decoder: ShapeDecoder | None = None,
        rendering: Rendering = Rendering(),  # noqa: B008 (never changed)
        optimizer: OptimizerConfig = OptimizerConfig(  # noqa: B008 (never changed)
            lr=3e-4, weight_decay=0.0, beta2=0.999, warmup_steps=0, schedule="constant"
        ),
        clipping: ClippingConfig = ClippingConfig(),  # noqa: B008 (never changed)
        ema: float = 0.999,
        save_to: str | None = None,
        half: bool = False,
    ) -> None:
        super().__init__()
        # The command line links its tokenizer to every model; pickled here, it would keep checkpoints from loading.
        self.save_hyperparameters(ignore=["tokenizer", "decoder"])
        if total_steps <= 0:
            raise ValueError(f"total_steps should be positive, not {total_steps}: set trainer.max_steps")
        if decoder is not None and decoder.space != space:
            raise ValueError(f"the space of the data is {space}, the decoder reads {decoder.space}")
        self.space, self.network, self.statistics = space, network, statistics
        # No default of one class: where a checkpoint is loaded, jsonargparse would take another for it.
        self.quantizer_config = quantizer or QuantizerConfig()
        self.total_steps, self.optimizer_config, self.ema = total_steps, optimizer, ema
        self.loss, self.divergence, self.rendering = loss, divergence, rendering
        self.save_to, self.save_dtype = save_to, torch.float16 if half else torch.float32
        # In a tuple it is no part of this module: frozen, it belongs into no checkpoint and to no other process.
        self._decoder = (decoder,)
        self.render_loss: RenderLoss | None = None
        self.clipping = AdaptiveClipping(clipping)
        self.overlap = VoxelOverlap()
        self.code_usage, self.filled_usage = CodeUsage(network.codes), CodeUsage(network.codes)
        self.threshold = OccupancyThreshold()

    @property
    def decoder(self) -> ShapeDecoder | None:
        """What renders the space, on this module's device."""
        (decoder,) = self._decoder
        return None if decoder is None else decoder.to(self.device)

    @property
    def evaluated(self) -> ShapeVQ:
        """The network that is validated and saved: the running means, where there are any."""
        average: Any = self.average
        network: ShapeVQ = self.model if average is None else average.module
        return network

    # ---- start ------------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Build the network, once."""
        if hasattr(self, "model"):
            return
        config: Any = self.quantizer_config
        self.model = ShapeVQ(self.network, config.build(self.network))
        constants = [0.0] * self.network.features, [1.0] * self.network.features
        if self.statistics == "space" and self.space == "trellis":
            self.model.set_statistics(TRELLIS_MEAN, TRELLIS_STD)
        elif self.statistics == "none" or (self.statistics == "space" and self.space == "voxel8"):
            self.model.set_statistics(*constants)
        self.average = WeightAverage(self.model, self.ema) if self.ema else None

    def setup(self, stage: str) -> None:
        """Load what training alone needs: the loss of looks."""
        if stage != "fit":
            return
        if self.trainer.gradient_clip_val is not None:
            raise ValueError("gradients are clipped as model.clipping says: leave trainer.gradient_clip_val unset")
        if self.divergence and not self.network.variational:
            raise ValueError(f"a divergence of weight {self.divergence} needs network.variational: true")
        if self.rendering.views != "none":
            if self.decoder is None:
                raise ValueError(f"views ({self.rendering.views}) need a decoder of the space {self.space}")
            self.render_loss = RenderLoss(self.rendering.weights)

    @property
    def perceptual_name(self) -> str:
        """What the perceptual loss in use is called."""
        return NO_PERCEPTUAL if self.render_loss is None else self.render_loss.perceptual_name

    def on_fit_start(self) -> None:
        """Log which perceptual loss is in use."""
        for logger in self.loggers:
            logger.log_hyperparams({"perceptual_loss": self.perceptual_name})

    def on_train_start(self) -> None:
        """Take the statistics of vectors from training objects, unless they are known."""
        if not self.model.mean.isnan().any():
            return
        mean, std = vector_statistics(self.trainer.train_dataloader or ())
        mean, std = mean.to(self.model.mean), std.to(self.model.std)
        if self.trainer.world_size > 1:
            dist.broadcast(mean, 0)
            dist.broadcast(std, 0)
        self.model.set_statistics(mean, std)
        if self.average is not None:
            self.average.restart(self.model)

    # ---- training ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: ShapeBatch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        self._check(batch)
        with self._own_random_numbers(batch_idx):
            target = self.model.normalise(batch.grid)
            features, spread = self._features(target)
            quantized, commitment, (_, _, codes) = self.model.quantize(features)
            output = self.model.decode(quantized).float()
            terms = self._reconstruction(output, target)
            looks = self._looks(batch, output)
        perplexity = usage_scores(torch.bincount(codes))["perplexity"]
        self._log_training(
            batch, latent=terms.latent, occupancy=terms.occupancy, dice=terms.dice, commitment=commitment,
            perplexity=perplexity, divergence=spread, render=looks,
        )  # fmt: skip
        total = terms.total + commitment
        for further in (spread, looks):
            total = total if further is None else total + further
        return total

    def _reconstruction(self, output: Tensor, target: Tensor) -> ShapeTerms:
        return self.loss(output, target) if self.network.occupancy else self.loss.dense(output, target)

    def _features(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is quantised, and the weighted divergence of a variational encoder."""
        if not self.network.variational:
            return self.model.encode(target), None
        mean, log_variance = self.model.posterior(target)
        drawn = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return drawn, self.divergence * divergence(mean, log_variance)

    def _looks(self, batch: ShapeBatch, output: Tensor) -> Tensor | None:
        """The weighted loss of looks, if there is one."""
        decoder, loss = self.decoder, self.render_loss
        if decoder is None or loss is None:
            return None
        shown = slice(self.rendering.objects)
        true, grid, background = batch.grid[shown], self.model.denormalise(output[shown]), draw_background()
        if self.global_step < self.rendering.teacher_steps:
            grid = torch.cat([true[:, :1], grid[:, 1:]], 1)
        if batch.images is None or batch.alphas is None or batch.cameras is None:
            cameras = draw_cameras(self.rendering.views, len(true)).to(self.device)
            targets = render_targets(decoder, true, cameras, self.rendering.size, background)
        else:
            if self.rendering.views == "single-view":
                raise ValueError("pictures of the data are of any view: single-view needs data without pictures")
            cameras = batch.cameras[shown]
            targets = composite(batch.images[shown], batch.alphas[shown], background)
        pictures = decoder.render_each(grid, cameras, targets.shape[-1], background).rgb[:, 0]
        return loss(pictures, targets).total

    def _log_training(self, batch: ShapeBatch, **values: Tensor | None) -> None:
        present = {f"train/{name}": value.detach() for name, value in values.items() if value is not None}
        self.log_dict(present, batch_size=len(batch))

    @contextmanager
    def _own_random_numbers(self, batch_idx: int) -> Iterator[None]:
        """Draw from the run's seed, the step and the process alone: a resumed run draws what an unbroken one does."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(hash((torch.initial_seed(), self.global_step, batch_idx, self.global_rank)) % 2**63)
            yield

    def _check(self, batch: ShapeBatch) -> None:
        expected = (1 + self.network.features, *[self.network.resolution] * 3)
        if batch.grid.shape[1:] != expected:
            raise ValueError(f"expected grids [B, {', '.join(map(str, expected))}], got {list(batch.grid.shape)}")
        if not batch.grid.isfinite().all():
            raise ValueError("grids should hold finite numbers, got some that are not")

    # ---- optimiser --------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and a schedule that moves once per optimiser step."""
        return scheduled_optimizer(self.model, self.optimizer_config, self.total_steps)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as `clipping` says; the trainer's own values are not used."""
        norm = self.clipping(parameter for group in optimizer.param_groups for parameter in group["params"])
        self.log("train/gradient_norm", norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and draw the running means of the weights along."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.follow(self.model, self.model.quantize)

    # ---- validation -------------------------------------------------------------------------------------------------

    def validation_step(self, batch: ShapeBatch, batch_idx: int) -> None:
        """Compare decoded objects with true ones, and count codes."""
        self._check(batch)
        model = self.evaluated
        target = model.normalise(batch.grid)
        quantized, _, (_, _, codes) = model.quantize(model.encode(target))
        output = model.decode(quantized).float()
        grid = model.denormalise(output)
        self.overlap.update(grid, batch.grid)
        squared = (output[:, 1:] - target[:, 1:]).square().mean(1)
        self.log("val/feature_mse", weighted_mean(squared, target[:, 0]), batch_size=len(batch), sync_dist=True)
        filled = model.filled(target).flatten() > 0
        self.code_usage.update(codes)
        self.filled_usage.update(codes[filled])
        if not self.network.occupancy:
            self.threshold.update(output[:, 0] / SHARPNESS + model.threshold, target[:, 0])
        if self.decoder is not None and self.rendering.val_views:
            score = self._view_psnr(self.decoder, grid, batch.grid)
            self.log("val/view_psnr", score, batch_size=len(batch), sync_dist=True)

    def _view_psnr(self, decoder: ShapeDecoder, grid: Tensor, true: Tensor) -> Tensor:
        """How near decoded objects come in fixed views, in dB, a mean over views and objects."""
        cameras = Cameras.sphere(self.rendering.val_views).to(self.device)
        found = densify(sparsify(grid, self.space)).to(self.device)
        pictures, targets = (decoder.render(one, cameras, self.rendering.size).rgb for one in (found, true))
        return psnr((pictures - targets).square().mean((2, 3, 4))).mean()

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation set."""
        overlap = self.overlap.compute()
        self.log_dict({"val/iou": overlap["voxel_iou"], "val/f1": overlap["voxel_f1"]}, prog_bar=True)
        for prefix, usage in (("", self.code_usage), ("filled_", self.filled_usage)):
            self.log_dict({f"val/{prefix}{name}": value for name, value in usage.compute().items()})
            usage.reset()
        self.overlap.reset()
        # Lightning's check before training sees random weights.
        if not self.network.occupancy and not self.trainer.sanity_checking:
            for model in {self.model, self.evaluated}:
                model.threshold.copy_(self.threshold.compute())
        self.threshold.reset()

    # ---- checkpoints and result -------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the name of the perceptual loss."""
        checkpoint["perceptual_loss"] = self.perceptual_name

    def on_train_end(self) -> None:
        """Write the tokenizer where `save_to` says."""
        if self.save_to is not None and self.trainer.is_global_zero:
            self.save_pretrained(self.save_to)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer as a folder that `ShapeTokenizer.from_pretrained` reads."""
        # A copy: a tokenizer freezes its network.
        ShapeTokenizer(deepcopy(self.evaluated), self.space).save_pretrained(folder, self.save_dtype)


def vector_statistics(batches: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of raw vectors, over the voxels of up to 512 objects.

    Args:
        batches: Yields `ShapeBatch`.

    Returns:
        float32 [C] twice; a channel that never changes has the deviation 1.
    """
    found: list[Tensor] = []
    objects = 0
    for batch in batches:
        rows = batch.grid.cpu().flatten(2).transpose(1, 2).flatten(0, 1)
        found.append(rows[rows[:, 0] > 0, 1:])
        objects += len(batch)
        if objects >= STATISTICS_OBJECTS:
            break
    vectors = torch.cat(found).double()
    std = vectors.std(0, correction=0)
    return vectors.mean(0).float(), torch.where(std > 1e-6, std, 1.0).float()
