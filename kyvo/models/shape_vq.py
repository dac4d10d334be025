"""The network of the 3D shape tokenizer: a grid of voxels to a coarse grid of vectors, quantised, and back.

B objects, C channels of a voxel's vector, N voxels along each side of the cube, p patch, n codes along each side,
K codes, D their dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

TRELLIS_MEAN = (
    -2.1687545776367188, -0.004347046371549368, -0.13352349400520325, -0.08418072760105133,
    -0.5271206498146057, 0.7238689064979553, -1.1414450407028198, 1.2039363384246826,
)  # fmt: skip
"""Means of TRELLIS' latents: `slat_normalization` of the pipeline.json of microsoft/TRELLIS-image-large (MIT)."""

TRELLIS_STD = (
    2.377650737762451, 2.386378288269043, 2.124418020248413, 2.1748552322387695,
    2.663944721221924, 2.371192216873169, 2.6217446327209473, 2.684523105621338,
)  # fmt: skip
"""Their standard deviations, from the same file."""

SHARPNESS = 8.0
"""Without an occupancy channel: what a vector's length beyond the threshold counts as a logit of occupancy."""


@dataclass(frozen=True)
class ShapeNetwork:
    """Sizes of a shape tokenizer's network; the defaults are the paper's, and an occupancy channel.

    Each level after the first halves the resolution, so n is resolution / (patch * 2 ** (levels - 1)). There are no
    skip connections from encoder to decoder: everything goes through the codes.

    Attributes:
        resolution: Voxels N along each side of the cube.
        features: Channels C of a voxel's vector.
        patch: Side of the cube of voxels that becomes one position of the first level. Above 1 the network reads
            patch ** 3 times as many channels, several times cheaper than convolutions at full resolution.
        channels: Channels of each level, finest first.
        layers: Residual blocks of a level, in encoder and decoder.
        middle_layers: Further blocks of the coarsest level.
        codes: Size K of the codebook.
        code_dim: Dimensions D of a code.
        upsample: `shuffle`: a convolution to 8 times the channels, which become voxels; `nearest`: voxels repeated,
            then a convolution, which has fewer weights.
        occupancy: Whether the network reads and writes an occupancy channel. Without it a voxel is there where the
            decoded vector is long enough, which is the nearest to the paper.
        blank: Whether all cells without a voxel get the same vector, so that one code says that there is nothing; else
            the codes of such cells may say something of their neighbours.
        variational: Whether the encoder gives a normal distribution, from which training draws.
        checkpointing: Whether training computes blocks twice instead of keeping what they computed.
    """

    resolution: int = 64
    features: int = 8
    patch: int = 1
    channels: tuple[int, ...] = (32, 128, 512, 1024)
    layers: int = 2
    middle_layers: int = 2
    codes: int = 8192
    code_dim: int = 128
    upsample: Literal["shuffle", "nearest"] = "shuffle"
    occupancy: bool = True
    blank: bool = False
    variational: bool = False
    checkpointing: bool = False

    def __post_init__(self) -> None:
        cell = self.patch * 2 ** (len(self.channels) - 1)
        if not self.channels or self.resolution % cell:
            raise ValueError(
                f"resolution should be a multiple of {cell} (patch * 2 ** (levels - 1)), got {self.resolution}"
            )
        if self.upsample not in ("shuffle", "nearest"):
            raise ValueError(f"upsample should be shuffle or nearest, got {self.upsample!r}")

    @property
    def side(self) -> int:
        """Codes n along each side of the cube."""
        return self.resolution // (self.patch * 2 ** (len(self.channels) - 1))

    @property
    def planes(self) -> int:
        """Channels that the network reads and writes for each voxel."""
        return self.features + self.occupancy


# ---- parts ----------------------------------------------------------------------------------------------------------


def fold(voxels: Tensor, patch: int) -> Tensor:
    """Cubes of voxels as channels: [B, C, N, N, N] to [B, p ** 3 * C, N / p, N / p, N / p], channels last in memory."""
    batch, channels, size = voxels.shape[:3]
    n = size // patch
    rows = voxels.movedim(1, -1).reshape(batch, n, patch, n, patch, n, patch, channels)
    return rows.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, n, n, n, -1).movedim(-1, 1)


def unfold(cubes: Tensor, patch: int) -> Tensor:
    """The way back of `fold`."""
    batch, channels, n = cubes.shape[:3]
    rows = cubes.movedim(1, -1).reshape(batch, n, n, n, patch, patch, patch, channels // patch**3)
    return rows.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, *[n * patch] * 3, -1).movedim(-1, 1)


class ChannelNorm(nn.LayerNorm):
    """Normalises the channels of each position by themselves, so that no position is told of another."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, *positions] both ways."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added; it starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = ChannelNorm(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, n, n, n] both ways."""
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class ShuffleUpsample(nn.Module):
    """Twice the resolution: a convolution to 8 times the channels, which become voxels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, n, n, n] to [B, out_channels, 2 n, 2 n, 2 n]."""
        return unfold(self.conv(x), 2)


class NearestUpsample(nn.Module):
    """Twice the resolution: voxels repeated, then a convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, n, n, n] to [B, out_channels, 2 n, 2 n, 2 n]."""
        result: Tensor = self.conv(F.interpolate(x, scale_factor=2.0))
        return result


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(count)]


def _encoder(network: ShapeNetwork) -> nn.ModuleList:
    first, last = network.channels[0], network.channels[-1]
    modules: list[nn.Module] = [nn.Conv3d(network.patch**3 * network.planes, first, 3, padding=1)]
    modules += _blocks(first, network.layers)
    for finer, coarser in pairwise(network.channels):
        modules += [nn.Conv3d(finer, coarser, 2, stride=2), *_blocks(coarser, network.layers)]
    outputs = network.code_dim * (2 if network.variational else 1)
    modules += _blocks(last, network.middle_layers)
    return nn.ModuleList([*modules, ChannelNorm(last), nn.SiLU(), nn.Conv3d(last, outputs, 3, padding=1)])


def _decoder(network: ShapeNetwork) -> nn.ModuleList:
    first, last = network.channels[0], network.channels[-1]
    upsample = ShuffleUpsample if network.upsample == "shuffle" else NearestUpsample
    modules: list[nn.Module] = [nn.Conv3d(network.code_dim, last, 3, padding=1)]
    modules += _blocks(last, network.middle_layers + network.layers)
    for coarser, finer in pairwise(network.channels[::-1]):
        modules += [upsample(coarser, finer), *_blocks(finer, network.layers)]
    voxels = nn.Conv3d(first, network.patch**3 * network.planes, 3, padding=1)
    return nn.ModuleList([*modules, ChannelNorm(first), nn.SiLU(), voxels])


# ---- network --------------------------------------------------------------------------------------------------------


class ShapeVQ(nn.Module):
    """Encoder, quantiser and decoder of voxels, and the statistics that vectors are normalised with.

    Weights and activations are laid out channels last, in which convolutions on a CPU are several times faster.

    Args:
        network: Sizes.
        quantizer: Answers as `kyvo.models.quantizer.EMAVectorQuantizer` does, and has code `vectors` [K, D].
    """

    mean: Tensor
    std: Tensor
    threshold: Tensor

    def __init__(self, network: ShapeNetwork, quantizer: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.encoder = _encoder(network)
        self.quantize = quantizer
        self.decoder = _decoder(network)
        # Unknown until they are set; meanwhile vectors are taken as they are.
        self.register_buffer("mean", torch.full((network.features,), torch.nan))
        self.register_buffer("std", torch.full((network.features,), torch.nan))
        # Length of a decoded vector above which there is a voxel, where there is no occupancy channel.
        self.register_buffer("threshold", torch.ones(()))
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    # ---- normalisation ----------------------------------------------------------------------------------------------

    def set_statistics(self, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> None:
        """Normalise vectors by these means and standard deviations, [C] each.

        Raises:
            ValueError: They are not C numbers each, or a deviation is not above 0.
        """
        means, deviations = torch.as_tensor(mean), torch.as_tensor(std)
        if not means.shape == deviations.shape == self.mean.shape or not bool((deviations > 0).all()):
            raise ValueError(
                f"expected {len(self.mean)} means and standard deviations above 0, got {means.tolist()} and "
                f"{deviations.tolist()}"
            )
        self.mean.copy_(means)
        self.std.copy_(deviations)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        mean, std = self.mean.nan_to_num(nan=0.0), self.std.nan_to_num(nan=1.0)
        return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def normalise(self, grid: Tensor) -> Tensor:
        """A grid with normalised vectors; where there is no voxel they are exactly 0.

        Args:
            grid: Occupancy 0 or 1 and raw vectors, float [B, 1 + C, N, N, N], see `kyvo.slat.densify`.
        """
        mean, std = self._statistics()
        there = grid[:, :1]
        # Not (0 - mean) / std: an empty voxel has no vector.
        return torch.cat([there, (grid[:, 1:] - mean) / std * there], 1)

    def denormalise(self, output: Tensor) -> Tensor:
        """A decoder's output as a grid: probabilities of occupancy, and raw vectors in every voxel.

        Args:
            output: float [B, 1 + C, N, N, N], see `decode`.
        """
        mean, std = self._statistics()
        return torch.cat([output[:, :1].sigmoid(), output[:, 1:] * std + mean], 1)

    # ---- coding -----------------------------------------------------------------------------------------------------

    def encode(self, grid: Tensor) -> Tensor:
        """Vectors before quantisation; of a variational encoder, the means.

        Args:
            grid: Normalised, float [B, 1 + C, N, N, N].

        Returns:
            [B, D, n, n, n].
        """
        z = self._encode(grid)[:, : self.network.code_dim]
        return z * self.filled(grid) if self.network.blank else z

    def filled(self, grid: Tensor) -> Tensor:
        """Which cells have a voxel, 0 or 1: of a grid float [B, 1 + C, N, N, N], float [B, 1, n, n, n]."""
        return F.max_pool3d(grid[:, :1], self.network.resolution // self.network.side)

    def posterior(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """What a variational encoder says of a normalised grid: means and log-variances, [B, D, n, n, n] each.

        Raises:
            ValueError: The encoder is not variational.
        """
        if not self.network.variational:
            raise ValueError("a divergence needs network.variational: true")
        mean, log_variance = self._encode(grid).chunk(2, 1)
        mean = mean * self.filled(grid) if self.network.blank else mean
        return mean, log_variance.float().clamp(-30, 20)

    def _encode(self, grid: Tensor) -> Tensor:
        planes = grid if self.network.occupancy else grid[:, 1:]
        folded = fold(planes, self.network.patch)
        return self._run(self.encoder, folded.contiguous(memory_format=torch.channels_last_3d))

    def decode(self, quantized: Tensor) -> Tensor:
        """Voxels from code vectors.

        Args:
            quantized: float [B, D, n, n, n].

        Returns:
            [B, 1 + C, N, N, N]: channel 0 a logit of occupancy, the others normalised vectors. Without an occupancy
            channel the logit is above 0 where the vector is longer than `threshold`.
        """
        output = unfold(self._run(self.decoder, quantized), self.network.patch)
        if self.network.occupancy:
            return output
        length = torch.linalg.vector_norm(output.float(), dim=1, keepdim=True)
        return torch.cat([SHARPNESS * (length - self.threshold), output], 1)

    def _run(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        checkpointed = self.network.checkpointing and self.training and torch.is_grad_enabled()
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False) if checkpointed else block(x)
        return x
