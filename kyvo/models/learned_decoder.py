"""Latents of voxels learned by rendering, with their encoder and decoder: what TRELLIS has, at small size.

B objects, n voxels along each side of the cube in the grid of latents and 2n in that of `voxel8`, C channels of a
latent, H hidden channels, L voxels.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kyvo.assets import resolve
from kyvo.models.shape_decoder import check_grid
from kyvo.models.voxel_renderer import DENSITY, STEPS, VolumeDecoder
from kyvo.slat import CHANNELS, Slat, densify

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

HALVING = 2
"""Along each side a voxel of latents is as long as so many of `voxel8`."""

_SOURCE = 8
_RENDERED = 4
_VOXELS = HALVING**3
# Noise as large as the latents themselves would teach the decoder little at first.
_FIRST_LOG_VARIANCE = -6.0


@dataclass(frozen=True)
class SlatNetwork:
    """Sizes of a `SlatAutoencoder`.

    Attributes:
        channels: Channels C of a latent; files of latents and the decoders of shape codes have 8.
        hidden: Channels H of the convolutions.
        encoder_blocks: Residual blocks between input and latents; each sees 2 voxels of latents further.
        decoder_blocks: Residual blocks between latents and what is rendered.
        density: Optical depth of a full voxel of the rendered grid along its side.
        steps: Samples of a ray for the length of a voxel's side.
    """

    channels: int = CHANNELS
    hidden: int = 32
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    density: float = DENSITY
    steps: int = STEPS


class SlatAutoencoder(nn.Module):
    """Turns grids of `voxel8` into latents for each eight voxels, and latents into what is rendered.

    A voxel of latents is there where one of its eight is. What its latent says of them, and of those around, is what
    pictures need: other than `voxel8`, no channel is a colour, and near latents need not look alike.

    Args:
        network: Sizes.
    """

    def __init__(self, network: SlatNetwork = SlatNetwork()) -> None:
        super().__init__()
        self.network = network
        hidden = network.hidden
        self.encoder = nn.Sequential(
            nn.Conv3d(1 + _SOURCE, hidden // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv3d(hidden // 2, hidden, HALVING, HALVING),
            *(_Block(hidden) for _ in range(network.encoder_blocks)),
            nn.SiLU(),
            nn.Conv3d(hidden, 2 * network.channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv3d(1 + network.channels, hidden, 3, padding=1),
            *(_Block(hidden) for _ in range(network.decoder_blocks)),
            nn.SiLU(),
            nn.Conv3d(hidden, _VOXELS * _RENDERED, 1),
        )
        self.apply(_start)
        # Contiguous convolutions of this kind are several times slower on a CPU; the declared types lack the argument.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def encode(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Latents as normal distributions.

        Args:
            grid: `voxel8`, float [B, 9, 2n, 2n, 2n], see `kyvo.slat.densify`.

        Returns:
            The means with their occupancy, float32 [B, 1 + C, n, n, n], a grid themselves; and the logarithms of the
            variances, float32 [B, C, n, n, n]. Both are 0 where there is no voxel.

        Raises:
            ValueError: A grid of another shape, or with an odd number of voxels along a side.
        """
        check_grid(grid, _SOURCE)
        if grid.shape[-1] % HALVING:
            raise ValueError(f"expected an even number of voxels along a side, got {grid.shape[-1]}")
        occupancy = F.max_pool3d(grid[:, :1], HALVING)
        mean, log_variance = self.encoder(_masked(grid)).float().chunk(2, 1)
        # Below -30 the variance is rounding, above 20 its exponential soon overflows.
        log_variance = (log_variance + _FIRST_LOG_VARIANCE).clamp(-30, 20)
        there = occupancy > 0
        return torch.cat([occupancy, mean * there], 1), log_variance * there

    def decode(self, grid: Tensor) -> Tensor:
        """Density and colour of twice as many voxels along each side.

        Args:
            grid: Latents, float [B, 1 + C, n, n, n].

        Returns:
            float32 [B, 4, 2n, 2n, 2n], see `VolumeDecoder.volume`; nothing where there is no latent.

        Raises:
            ValueError: A grid of another shape.
        """
        check_grid(grid, self.network.channels)
        parts = _spread(self.decoder(_masked(grid)).float().sigmoid())
        occupancy = grid[:, :1].float()
        for axis in (2, 3, 4):
            occupancy = occupancy.repeat_interleave(HALVING, axis)
        density = self.network.density * parts.shape[-1] * occupancy * parts[:, :1]
        return torch.cat([density, parts[:, 1:]], 1)


def _start(module: nn.Module) -> None:
    """Weights to start from; with torch's own, a third as large, hardly a colour would reach the other end."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight)


class _Block(nn.Module):
    """A residual block; without norms, as statistics over a grid would be those of its emptiness."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(), nn.Conv3d(hidden, hidden, 3, padding=1), nn.SiLU(), nn.Conv3d(hidden, hidden, 3, padding=1)
        )

    def forward(self, values: Tensor) -> Tensor:
        """The same shape, [B, H, n, n, n]."""
        found: Tensor = values + self.layers(values)
        return found


def _masked(grid: Tensor) -> Tensor:
    """Occupancy, and vectors times occupancy."""
    occupancy = grid[:, :1]
    masked = torch.cat([occupancy, grid[:, 1:] * occupancy], 1)
    return masked.float().contiguous(memory_format=torch.channels_last_3d)


def _spread(values: Tensor) -> Tensor:
    """From eight voxels' values in each, [B, 8 * 4, n, n, n], to the voxels, [B, 4, 2n, 2n, 2n]."""
    batch, _, size = values.shape[:3]
    eight = values.reshape(batch, _RENDERED, HALVING, HALVING, HALVING, size, size, size)
    return eight.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, _RENDERED, *(HALVING * size,) * 3)


class LearnedDecoder(VolumeDecoder):
    """A trained `SlatAutoencoder`: encodes `voxel8` to latents of the space ``learned``, and renders those.

    Args:
        autoencoder: The network, which is frozen.
        mean: Mean of each channel of raw latents over voxels, float32 [C].
        std: Their standard deviation, [C].
    """

    space = "learned"

    mean: Tensor
    std: Tensor

    def __init__(self, autoencoder: SlatAutoencoder, mean: Tensor, std: Tensor) -> None:
        super().__init__(autoencoder.network.steps)
        self.autoencoder = autoencoder.float()
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("std", std.detach().float().clone())
        self.eval().requires_grad_(False)

    def volume(self, grid: Tensor) -> Tensor:
        """Density and colour, [B, 4, 2n, 2n, 2n]; see `VolumeDecoder.volume`."""
        with torch.autocast(grid.device.type, enabled=False):
            return self.autoencoder.decode(grid)

    @torch.no_grad()
    def encode(self, slats: Sequence[Slat]) -> list[Slat]:
        """Latents of objects, with half as many voxels along each side.

        Args:
            slats: Objects in the space ``voxel8``, of even resolution 2n.

        Returns:
            For each one in the space ``learned``, of resolution n: raw vectors [L, C], on the decoder's device.

        Raises:
            ValueError: Another space, or an odd resolution.
        """
        spaces = {slat.space for slat in slats} - {"voxel8"}
        if spaces:
            raise ValueError(f"expected objects in the space voxel8, got {', '.join(sorted(spaces))}")
        # One at a time: convolutions of a batch round otherwise, and an object's latents are its own.
        return [self._encode(densify([slat]).to(self.mean.device)) for slat in slats]

    def _encode(self, grid: Tensor) -> Slat:
        latents = self.autoencoder.encode(grid)[0][0]
        coords = latents[0].nonzero()
        return Slat(coords.int(), latents[1:, *coords.T].T.contiguous(), latents.shape[-1], self.space)

    # ---- files ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and model.safetensors, for `from_pretrained`.

        Args:
            folder: Where to write; created if absent.
            dtype: Type of the weights in the file; mean and deviation stay float32.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / CONFIG).write_text(json.dumps({"network": asdict(self.autoencoder.network)}, indent=1) + "\n")
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        kept = {name: value if name in ("mean", "std") else value.to(dtype) for name, value in state.items()}
        save_file(kept, target / WEIGHTS)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load what `save_pretrained` wrote, in float32.

        Args:
            folder: A folder, or the name of one that ships.

        Raises:
            FileNotFoundError: Nothing to load there.
            ValueError: The folder holds something else.
        """
        source = Path(resolve(folder))
        config = (source / CONFIG).read_text()
        try:
            network = SlatNetwork(**json.loads(config)["network"])
            none = torch.zeros(network.channels)
            decoder = cls(SlatAutoencoder(network), none, none)
            decoder.load_state_dict(load_file(source / WEIGHTS))
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{source} does not hold a learned decoder: {type(error).__name__}: {error}") from error
        return decoder


class TrainedDecoder(LearnedDecoder):
    """A `LearnedDecoder` from its folder, as configs name it.

    Args:
        weights: A folder, or the name of one that ships; see `LearnedDecoder.from_pretrained`.
    """

    def __init__(self, weights: str) -> None:
        found = LearnedDecoder.from_pretrained(weights)
        super().__init__(found.autoencoder, found.mean, found.std)
