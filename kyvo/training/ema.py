"""Running means of a network's weights, for validation and for the weights that are kept."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def draw_towards(decay: float, averages: list[Tensor], weights: list[Tensor], count: Tensor | int) -> None:
    """Move running means a step towards weights, in place.

    Args:
        decay: Share of the mean that is kept, in [0, 1); less of it in the first few updates.
        averages: The means.
        weights: What they are of, in the same order.
        count: Updates made before.
    """
    # Young means forget fast: otherwise the random weights of the beginning would stay in them for long.
    kept = min(decay, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(averages, weights, 1 - kept)


class WeightAverage(AveragedModel):
    """A frozen copy of a network, whose weights `update_parameters` draws towards the network's.

    Lightning's own `EMAWeightAveraging` callback swaps the whole LightningModule, which here holds a discriminator too,
    and leaves averages in place of the weights where training ends, so that it can't go on exactly; this copy is a
    part of the module and of its checkpoints. Buffers are copied, not averaged.

    Args:
        model: The network.
        decay: Share of the mean that is kept at each update, in [0, 1); less of it in the first few.

    Raises:
        ValueError: A decay outside its range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of averaged weights should be in [0, 1), got {decay}")
        super().__init__(model, multi_avg_fn=partial(draw_towards, decay))
        self.requires_grad_(False)

    def restart(self, model: nn.Module) -> None:
        """Forget the past: take the weights of `model` as they are, and average from there."""
        self.module.load_state_dict(model.state_dict())
        self.n_averaged.zero_()

    def follow(self, model: nn.Module, codebook: nn.Module) -> None:
        """Take a step towards `model`; until k-means has set its codebook there is nothing worth averaging.

        Args:
            model: The network after an optimiser step.
            codebook: Its quantiser; one that k-means does not set is worth averaging from the start.
        """
        if getattr(codebook, "initialised", True):
            self.update_parameters(model)
        else:
            self.restart(model)
