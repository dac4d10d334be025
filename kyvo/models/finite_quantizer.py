"""Quantiser without a learned codebook: each of a few numbers is rounded to one of its levels (FSQ, arXiv 2309.15505).

B batch, D dimensions of a code, d numbers that are rounded, N = vectors in a batch, K codes, the product of the levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kyvo.models.quantizer import CodebookSize

MARGIN = 1e-3
"""Share by which the bounds stay within the outermost levels, as in the paper's code."""


class FiniteScalarQuantizer(nn.Module):
    """Projects vectors to d numbers, bounds and rounds each, and projects the levels back to vectors.

    There is no loss and no code can die; the gradient passes the rounding straight through. Arithmetic is float32
    whatever autocast says. `forward` answers as `kyvo.models.quantizer.EMAVectorQuantizer` does.

    Args:
        levels: How many values each of the d numbers takes; their product is K. The paper advises at least 5 each.
        dim: Dimensions D of the vectors.

    Raises:
        ValueError: No levels, fewer than 2 of one, or no dimension.
    """

    strides: Tensor
    counts: Tensor

    def __init__(self, levels: Sequence[int], dim: int) -> None:
        super().__init__()
        if not levels or min(levels) < 2 or dim < 1:
            raise ValueError(f"levels should be at least 2 each and dim at least 1, got {list(levels)} and {dim}")
        self.levels = tuple(levels)
        strides = [math.prod(self.levels[:index]) for index in range(len(self.levels))]
        self.register_buffer("counts", torch.tensor(self.levels), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)
        self.project_in = nn.Linear(dim, len(self.levels))
        self.project_out = nn.Linear(len(self.levels), dim)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, tuple[None, None, Tensor]]:
        """Quantise feature maps.

        Args:
            z: [B, D, *positions], any float dtype.

        Returns:
            Quantised maps (float32, shape of z), a loss of 0, and a tuple (None, None, codes int64 [N] in raster order
            of each map).
        """
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bound(self.project_in(z.float().movedim(1, -1)))
            rounded = bounded + (bounded.round() - bounded).detach()
            quantized = self.project_out(rounded / (self.counts // 2)).movedim(-1, 1)
            codes = self.codes_of(rounded.detach().flatten(0, -2) / (self.counts // 2))
            return quantized, z.new_zeros((), dtype=torch.float32), (None, None, codes)

    def values_of(self, codes: Tensor) -> Tensor:
        """The d numbers of codes, in [-1, 1]: int64 [N] to float32 [N, d]."""
        digits = codes[:, None] // self.strides % self.counts
        half = self.counts // 2
        return (digits - half) / half

    def codes_of(self, values: Tensor) -> Tensor:
        """The codes of such numbers: float [N, d] to int64 [N]; the first number counts least."""
        half = self.counts // 2
        digits = (values * half).round().long() + half
        return (digits * self.strides).sum(-1)

    @property
    def vectors(self) -> Tensor:
        """The code vectors, float32 [K, D]."""
        codes = torch.arange(math.prod(self.levels), device=self.strides.device)
        found: Tensor = self.project_out(self.values_of(codes))
        return found

    def _bound(self, values: Tensor) -> Tensor:
        """Numbers squeezed so that rounding gives as many integers as there are levels."""
        half = (self.counts - 1) * (1 - MARGIN) / 2
        # An even number of levels has no middle: shifted by half a level, and so that 0 stays where it is.
        offset = torch.where(self.counts % 2 == 1, 0.0, 0.5)
        return (values + (offset / half).tan()).tanh() * half - offset


@dataclass
class FiniteQuantizerConfig:
    """Rounding in place of a learned codebook; see `FiniteScalarQuantizer`.

    Attributes:
        levels: How many values each number takes; their product is the number of codes. 8 * 8 * 8 * 4 * 4 is 8192.
    """

    levels: tuple[int, ...] = (8, 8, 8, 4, 4)

    def build(self, network: CodebookSize) -> FiniteScalarQuantizer:
        """The quantiser of a network.

        Raises:
            ValueError: The levels do not give the network's number of codes.
        """
        if math.prod(self.levels) != network.codes:
            raise ValueError(
                f"the product of the levels {list(self.levels)} should be the network's {network.codes} codes, "
                f"is {math.prod(self.levels)}"
            )
        return FiniteScalarQuantizer(self.levels, network.code_dim)


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([FiniteQuantizerConfig])
