"""Clipping of gradients to a norm that follows those of the last steps.

W steps that are remembered.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class ClippingConfig:
    """How large gradients may be; the defaults are TRELLIS'.

    Attributes:
        max_norm: Largest norm of all gradients together.
        percentile: Once `window` norms are known, the limit is this percentile of them where that is less.
        window: Steps W that are remembered.
    """

    max_norm: float = 1.0
    percentile: float = 95.0
    window: int = 1000

    def __post_init__(self) -> None:
        if self.max_norm <= 0 or not 0 < self.percentile <= 100 or self.window < 1:
            raise ValueError(f"expected max_norm > 0, percentile in (0, 100] and window >= 1, got {self}")


class AdaptiveClipping(nn.Module):
    """Scales gradients down to min(`max_norm`, a percentile of the norms of the last steps), as TRELLIS does.

    What it remembers are buffers: they go with checkpoints. Processes whose gradients are averaged, as in
    DistributedDataParallel, remember the same norms and clip alike.

    Args:
        config: Limits.
    """

    norms: Tensor
    steps: Tensor

    def __init__(self, config: ClippingConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("norms", torch.zeros(config.window))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def limit(self) -> float:
        """The norm that gradients of the next step may have."""
        # A percentile of the few and large norms of the first steps says nothing.
        if self.steps < self.config.window:
            return self.config.max_norm
        return min(self.config.max_norm, float(self.norms.quantile(self.config.percentile / 100)))

    @torch.no_grad()
    def forward(self, parameters: Iterable[Tensor]) -> Tensor:
        """Clip the gradients of parameters and remember their norm; one that is not finite is not remembered.

        Args:
            parameters: Those of an optimiser, after the backward pass.

        Returns:
            The norm before clipping, a scalar.
        """
        with_gradients = [parameter for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(with_gradients, self.limit).to(self.norms)
        if norm.isfinite():
            self.norms[self.steps % len(self.norms)] = norm
            self.steps += 1
        return norm
