"""Training of the image tokenizer as a VQGAN: pixels, looks, codebook, and a discriminator that judges patches.

B batch, H and W size of an image in pixels, N codes of a batch.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer

from kyvo.metrics.codebook import usage_scores
from kyvo.models import image_vq
from kyvo.models.discriminator import PatchDiscriminator
from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.image_vq import ImageNetwork
from kyvo.models.perceptual import NO_PERCEPTUAL, PerceptualLoss, perceptual_loss
from kyvo.training.ema import WeightAverage
from kyvo.training.image_tokenizer import QuantizerConfig
from kyvo.training.reconstruction import ReconstructionModule, check_pixels, reconstruct
from kyvo.training.starting_weights import load_weights

if TYPE_CHECKING:
    from diffusers import VQModel

LARGEST_WEIGHT = 1e4
"""Bound of the ratio of gradients, as in taming-transformers."""


@dataclass
class GradientQuantizerConfig:
    """A codebook that the optimiser moves; see `kyvo.models.gradient_quantizer.GradientVectorQuantizer`.

    Attributes:
        commitment: Weight of the loss that pulls vectors to their codes.
        codebook: Weight of the loss that pulls codes to their vectors.
    """

    commitment: float = 1.0
    codebook: float = 0.25

    def build(self, network: ImageNetwork) -> GradientVectorQuantizer:
        """The quantiser of a network."""
        return GradientVectorQuantizer(network.codes, network.code_dim, **asdict(self))


@dataclass
class Perceptual:
    """How much it counts that reconstructions look alike; see `kyvo.models.perceptual.perceptual_loss`.

    Attributes:
        weight: Factor of the loss, beside 1 for the absolute error of pixels; 0 for none.
        trunk: File of VGG16's weights; default is the one in torch hub's cache.
        heads: File of LPIPS' linear weights; default is the one of an installed package.
    """

    weight: float = 1.0
    trunk: str | None = None
    heads: str | None = None


@dataclass
class Adversary:
    """The discriminator and its say.

    Attributes:
        weight: Factor of the adversarial loss, on top of the one that makes its gradient at the decoder's last layer
            as large as that of the reconstruction's losses.
        start: Generator steps before the discriminator learns and counts.
        channels: Channels of its first convolution.
        layers: Halvings of its resolution.
    """

    weight: float = 0.8
    start: int = 10_000
    channels: int = 64
    layers: int = 3


@dataclass
class AdamConfig:
    """How both networks are stepped: Adam at a constant rate.

    Attributes:
        lr_per_image: Learning rate for each image of a step, over all processes.
        beta1: First moment's decay.
        beta2: Second moment's decay.
    """

    lr_per_image: float = 4.5e-6
    beta1: float = 0.5
    beta2: float = 0.9


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals(
    [GradientQuantizerConfig, Perceptual, Adversary, AdamConfig, QuantizerConfig, ImageNetwork]
)


class VQGANModule(ReconstructionModule):
    """Trains a `VQModel` as a VQGAN (Esser et al., 2021); the defaults are those of taming-transformers.

    Batches are float images [B, 3, H, W] in [-1, 1]. A step is one of the generator and, from `adversary.start` on, one
    of the discriminator, which judges the reconstructions that the generator's step made. `global_step`,
    `trainer.max_steps` and the steps in checkpoints' names count the generator's steps, that is, batches.

    Logs `train/l1`, `train/perceptual`, `train/commitment`, `train/codes_used`, `train/perplexity` and
    `train/top_code_share` of a batch and process, from `adversary.start` on also `train/generator`,
    `train/discriminator` and `train/adaptive_weight`; in validation what `ReconstructionModule` logs. Checkpoints hold
    the name of the perceptual loss as `perceptual_loss`, and loggers get it among the hyperparameters.

    Several processes learn what one would from the joined batch, but for the discriminator's batch normalisation (see
    `PatchDiscriminator`). The discriminator's gradients are averaged here, not by DistributedDataParallel, so that the
    plain `ddp` strategy does.

    A resumed run equals an unbroken one from the end of an epoch on, once the codebook is set.

    Args:
        network: Sizes of the network.
        quantizer: How the codebook is learned: by gradients, or as running means; default is by gradients, with the
            weights of taming-transformers.
        perceptual: Loss of looks.
        adversary: The discriminator.
        optimizer: Steps of both networks.
        ema: Decay of the running means of the weights that are validated and saved; 0 takes the weights themselves.
        init: `VQModel` folder or hub id whose weights training starts from, of the same sizes as `network`; default is
            random weights.
        save_to: Folder that receives the tokenizer at the end of `fit`, for `ImageTokenizer.from_pretrained`;
            default is not to write one.
        half: Whether `save_to` gets float16 weights, half the size.

    Raises:
        ValueError: In `fit`: `init` has other sizes, the precision is float16, or pixels that no image has.
    """

    def __init__(
        self,
        network: ImageNetwork = ImageNetwork(),  # noqa: B008
        quantizer: GradientQuantizerConfig | QuantizerConfig | None = None,
        perceptual: Perceptual = Perceptual(),  # noqa: B008
        adversary: Adversary = Adversary(),  # noqa: B008
        optimizer: AdamConfig = AdamConfig(),  # noqa: B008
        ema: float = 0.999,
        init: str | None = None,
        save_to: str | None = None,
        half: bool = False,
    ) -> None:
        super().__init__(network, save_to, half)
        # The command line links its tokenizer to every model; pickled here, it would keep checkpoints from loading.
        self.save_hyperparameters(ignore=["tokenizer"])
        self.automatic_optimization = False
        self.perceptual_config = perceptual
        self.adversary = adversary
        self.optimizer_config = optimizer
        self.init = init
        self.perceptual: PerceptualLoss | None = None
        # No default of either class: where a checkpoint is loaded, jsonargparse would take the other for it.
        self.model.quantize = (quantizer or GradientQuantizerConfig()).build(network)
        self.discriminator = PatchDiscriminator(adversary.channels, adversary.layers)
        self.average = WeightAverage(self.model, ema) if ema else None
        self._keep_discriminator_from_ddp()

    @property
    def evaluated(self) -> "VQModel":
        """The network that is validated and saved: the running means, where there are any."""
        return self.model if self.average is None else self.average.module

    @property
    def perceptual_name(self) -> str:
        """What the perceptual loss in use is called."""
        return NO_PERCEPTUAL if self.perceptual is None else self.perceptual.name

    # ---- start --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Load what training alone needs: the perceptual loss and the weights to start from."""
        if stage != "fit":
            return
        if "16" in self.trainer.precision and "bf16" not in self.trainer.precision:
            raise ValueError(
                f"a VQGAN trains in 32-true or bf16-mixed precision, got {self.trainer.precision}: scaled gradients "
                "of float16 would spoil the adaptive weight"
            )
        config = self.perceptual_config
        if config.weight:
            self.perceptual = perceptual_loss(config.trunk, config.heads)
        if self.init is not None:
            load_weights(self.model, self.init)
            if self.average is not None:
                self.average.restart(self.model)

    def on_fit_start(self) -> None:
        """Log which perceptual loss is in use."""
        for logger in self.loggers:
            logger.log_hyperparams({"perceptual_loss": self.perceptual_name})

    def on_train_start(self) -> None:
        """Find the background, and give all processes the same discriminator."""
        super().on_train_start()
        if self.trainer.world_size > 1:
            for value in self.discriminator.state_dict().values():
                dist.broadcast(value, 0)

    # ---- steps --------------------------------------------------------------------------------------------------

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """A step of the generator and, once it is time, one of the discriminator."""
        check_pixels(batch)
        self._set_learning_rate(len(batch) * self.trainer.world_size)
        generator, _ = self._optimizers()
        # Lightning counts the steps of its wrapped optimisers alone: the bare one keeps global_step the generator's.
        _, discriminator = self.trainer.optimizers
        adversarial = self.global_step >= self.adversary.start
        with generator.toggle_model(), self._own_random_numbers():
            loss, output = self._generator_loss(batch, adversarial)
            generator.zero_grad()
            self.manual_backward(loss)
            generator.step()
        if self.average is not None:
            self.average.follow(self.model, self.model.quantize)
        if adversarial:
            self._train_discriminator(discriminator, batch, output.detach())

    def _generator_loss(self, images: Tensor, adversarial: bool) -> tuple[Tensor, Tensor]:
        output, commitment, codes = reconstruct(self.model, image_vq.latents(self.model, images))
        l1 = F.l1_loss(output, images)
        self._log_training(l1=l1, commitment=commitment, **_code_scores(codes))
        reconstruction = l1
        if self.perceptual is not None:
            looks = self.perceptual(output, images).mean()
            self._log_training(perceptual=looks)
            reconstruction = l1 + self.perceptual_config.weight * looks
        if not adversarial:
            return reconstruction + commitment, output
        unreal = -self.discriminator(output).float().mean()
        weight = self.adversary.weight * self._adaptive_weight(reconstruction, unreal)
        self._log_training(generator=unreal, adaptive_weight=weight)
        return reconstruction + commitment + weight * unreal, output

    def _adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        last = self.model.decoder.conv_out.weight
        gradients = [
            self._mean(torch.autograd.grad(loss, last, retain_graph=True)[0]) for loss in (reconstruction, adversarial)
        ]
        return gradient_ratio(*gradients)

    def _train_discriminator(self, optimizer: Optimizer, real: Tensor, fake: Tensor) -> None:
        loss = hinge_loss(self.discriminator(real).float(), self.discriminator(fake).float())
        self._log_training(discriminator=loss)
        optimizer.zero_grad()
        self.manual_backward(loss)
        for parameter in self.discriminator.parameters():
            if parameter.grad is not None:
                parameter.grad = self._mean(parameter.grad)
        optimizer.step()

    def _mean(self, value: Tensor) -> Tensor:
        """The mean over processes."""
        mean: Tensor = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Draw from the run's seed and the step alone: a resumed run revives dead codes as an unbroken one does."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed((torch.initial_seed() + self.global_step) % 2**63)
            yield

    def _log_training(self, **values: Tensor) -> None:
        self.log_dict({f"train/{name}": value.detach() for name, value in values.items()})

    # ---- optimisers ---------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """The generator's optimiser and the discriminator's; steps set their rate."""
        config = self.optimizer_config
        trained = ([p for p in self.model.parameters() if p.requires_grad], self.discriminator.parameters())
        return [Adam(part, config.lr_per_image, betas=(config.beta1, config.beta2)) for part in trained]

    def _optimizers(self) -> list[LightningOptimizer]:
        wrapped: Any = self.optimizers()
        return list(wrapped)

    def _set_learning_rate(self, images: int) -> None:
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.optimizer_config.lr_per_image * images

    def _keep_discriminator_from_ddp(self) -> None:
        # DistributedDataParallel expects a gradient for each of its parameters in every backward pass.
        names = [f"discriminator.{name}" for name in self.discriminator.state_dict()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, names)

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the name of the perceptual loss."""
        checkpoint["perceptual_loss"] = self.perceptual_name

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Warn if training would go on with another perceptual loss."""
        found = checkpoint.get("perceptual_loss", NO_PERCEPTUAL)
        # Outside `fit` there is no perceptual loss, and nothing goes on.
        fitting = self.perceptual is not None or not self.perceptual_config.weight
        if fitting and found != self.perceptual_name:
            warnings.warn(
                f"the checkpoint was trained with the perceptual loss {found}, this run goes on with "
                f"{self.perceptual_name}",
                stacklevel=2,
            )


def gradient_ratio(reconstruction: Tensor, adversarial: Tensor) -> Tensor:
    """How much larger the gradient of reconstruction is than the adversary's, a scalar in [0, 10,000]."""
    return (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, LARGEST_WEIGHT)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, a scalar at least 0: 0 if it gives real patches at least 1 and false ones at most -1.

    Args:
        real: Judgements of real patches, any shape.
        fake: Judgements of reconstructed ones.
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def _code_scores(codes: Tensor) -> dict[str, Tensor]:
    scores = usage_scores(torch.bincount(codes))
    return {name: scores[name] for name in ("codes_used", "perplexity", "top_code_share")}
