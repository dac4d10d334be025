"""Structured latents: the voxels that a surface passes through, and a vector for each (TRELLIS, arXiv 2412.01506).

L voxels, C channels of a vector, N voxels along each side of the cube, B objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

CHANNELS = 8
"""Channels of every latent that is read here: TRELLIS' and `voxel8`."""

MAX_VOXELS = 32768
"""Most voxels that TRELLIS trains on, and that `sparsify` gives."""


@dataclass(frozen=True)
class Slat:
    """One object in the cube [-0.5, 0.5]^3, z up: voxel (x, y, z) is the cube around (index + 0.5) / N - 0.5.

    Args:
        coords: Indices x, y, z of the voxels, int32 [L, 3] in [0, N), none twice.
        feats: Their vectors, float32 [L, C]; raw, that is, not normalised.
        resolution: N.
        space: What the vectors mean: ``voxel8`` (colour, normal, offset and opacity, see
            `data_modules.voxels`), ``trellis``, or the name of another space. Decoders read one space.

    Raises:
        ValueError: No voxel, one outside the grid, one given twice, or vectors that are not finite or not one for each.
    """

    coords: Tensor
    feats: Tensor
    resolution: int = 64
    space: str = "trellis"

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 3 or self.coords.is_floating_point():
            raise ValueError(
                f"coords should be integers [L, 3] (x, y, z), got {self.coords.dtype} {list(self.coords.shape)}"
            )
        if self.feats.ndim != 2 or len(self.feats) != len(self.coords) or not self.feats.is_floating_point():
            expected = f"a row of numbers for each of {len(self.coords)} voxels"
            raise ValueError(f"feats should hold {expected}, got {self.feats.dtype} {list(self.feats.shape)}")
        if not len(self.coords):
            raise ValueError("an object needs at least one voxel, got none")
        low, high = int(self.coords.min()), int(self.coords.max())
        if low < 0 or high >= self.resolution:
            raise ValueError(f"coords should be from 0 to {self.resolution - 1}, got some from {low} to {high}")
        twice = len(self.coords) - len(self.cells().unique())
        if twice:
            raise ValueError(f"coords should hold no voxel twice, got {twice} repeated of {len(self.coords)}")
        if not self.feats.isfinite().all():
            raise ValueError(f"feats should be finite, got {int((~self.feats.isfinite()).sum())} numbers that are not")

    @property
    def channels(self) -> int:
        """C."""
        return self.feats.shape[1]

    def cells(self) -> Tensor:
        """Number of each voxel in the order x-major, (x * N + y) * N + z, int64 [L]."""
        x, y, z = self.coords.long().unbind(1)
        return (x * self.resolution + y) * self.resolution + z

    def to(self, device: torch.device | str) -> "Slat":
        """The same on another device."""
        return replace(self, coords=self.coords.to(device), feats=self.feats.to(device))

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self, file: str | Path) -> None:
        """Write TRELLIS' format: .npz with feats float32 [L, C] and coords uint8 [L, 3]; and resolution and space.

        Raises:
            ValueError: More than 256 voxels along a side.
        """
        if self.resolution > 256:
            raise ValueError(f"the format holds up to 256 voxels along a side, got {self.resolution}")
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            file,
            feats=self.feats.float().cpu().numpy(),
            coords=self.coords.cpu().numpy().astype(np.uint8),
            resolution=np.int64(self.resolution),
            space=np.array(self.space),
        )

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read what `save` or TRELLIS' dataset tools wrote; coords with a batch column [L, 4] are one object's.

        Files without resolution and space are TRELLIS' own: 64 and ``trellis``.

        Raises:
            ValueError: Naming the file: not such a file, TRELLIS.2's 32 channels, several objects, or bad values.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                feats, coords = arrays["feats"], arrays["coords"].astype(np.int64)
                resolution = int(arrays["resolution"]) if "resolution" in arrays else 64
                space = str(arrays["space"]) if "space" in arrays else "trellis"
        except (OSError, KeyError, ValueError, TypeError, BadZipFile) as error:
            raise ValueError(f"{file}: expected an .npz with feats [L, 8] and coords [L, 3]: {error}") from error
        try:
            return cls(_without_batch(coords), _latents(feats), resolution, space)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error


def _without_batch(coords: np.ndarray) -> Tensor:
    """Indices int32 [L, 3] of one object; TRELLIS' models put the object's number in a batch before them."""
    if coords.ndim == 2 and coords.shape[1] == 4:
        if len(np.unique(coords[:, 0])) > 1:
            raise ValueError(f"expected one object, got coords [L, 4] of {len(np.unique(coords[:, 0]))}")
        coords = coords[:, 1:]
    return torch.from_numpy(coords.astype(np.int32))


def _latents(feats: np.ndarray) -> Tensor:
    if feats.ndim == 2 and feats.shape[1] == 32:
        raise ValueError("expected 8 channels, got 32: these are latents of TRELLIS.2, which no decoder here reads")
    if feats.ndim != 2 or feats.shape[1] != CHANNELS:
        raise ValueError(f"expected feats [L, {CHANNELS}], got {list(feats.shape)}")
    return torch.from_numpy(feats.astype(np.float32))


# ---- dense grids ------------------------------------------------------------------------------------------------


def densify(slats: Sequence[Slat]) -> Tensor:
    """Objects as grids: channel 0 is 1 where there is a voxel, the others hold its vector, 0 where there is none.

    Args:
        slats: Of one resolution, space and number of channels.

    Returns:
        float32 [B, 1 + C, N, N, N], indexed x, y, z, on the first one's device.

    Raises:
        ValueError: None, or of different kinds.
    """
    kinds = {(slat.resolution, slat.space, slat.channels) for slat in slats}
    if len(kinds) != 1:
        raise ValueError(f"expected objects of one resolution, space and number of channels, got {sorted(kinds)}")
    [(size, _, channels)] = kinds
    grid = slats[0].feats.new_zeros(len(slats), 1 + channels, size**3)
    for row, slat in zip(grid, slats, strict=True):
        cells = slat.cells().to(row.device)
        row[0, cells] = 1
        row[1:, cells] = slat.feats.to(row).T
    return grid.view(len(slats), 1 + channels, size, size, size)


def sparsify(grid: Tensor, space: str, threshold: float = 0.5, max_voxels: int = MAX_VOXELS) -> list[Slat]:
    """The voxels of grids whose occupancy is above a threshold, at most so many, those of highest occupancy.

    An object without any gets the one voxel of highest occupancy: what is decoded is never nothing.

    Args:
        grid: float [B, 1 + C, N, N, N], channel 0 the occupancy.
        space: What the other channels mean.
        threshold: Occupancy above which a voxel is there.
        max_voxels: Most voxels of an object.
    """
    found = []
    for row in grid.detach().float():
        occupancy = row[0].flatten()
        count = int((occupancy > threshold).sum().clamp(1, max_voxels))
        cells = occupancy.topk(count).indices.sort().values
        size = row.shape[-1]
        coords = torch.stack([cells // size**2, cells // size % size, cells % size], 1).int()
        found.append(Slat(coords, row[1:].flatten(1)[:, cells].T.contiguous(), size, space))
    return found
