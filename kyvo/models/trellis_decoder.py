"""Decoders that render TRELLIS' structured latents as Gaussians: our twin of its network, or a user's own TRELLIS.

B objects, L voxels of all of them, C channels of a latent, N voxels along each side of the cube.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kyvo.cameras import Cameras
from kyvo.models.gaussians import Gaussians
from kyvo.models.shape_decoder import ShapeDecoder, Views, check_grid
from kyvo.models.trellis import SPACE, SlatGaussianDecoder
from kyvo.slat import CHANNELS, MAX_VOXELS, Slat, sparsify


@dataclass(frozen=True)
class _Active:
    """An object's voxels whose occupancy is above a threshold.

    Which they are carries no gradient; their latents and occupancies do.
    """

    slat: Slat
    occupancy: Tensor

    def fade(self, opacities: Tensor) -> Tensor:
        """Opacities [L * k, ...], k of each voxel, times the occupancy: the way of a gradient to it."""
        each = self.occupancy.repeat_interleave(len(opacities) // len(self.occupancy))
        return opacities * each.view(-1, *[1] * (opacities.ndim - 1))


def _active(grid: Tensor, threshold: float, max_voxels: int) -> Iterator[_Active]:
    check_grid(grid, CHANNELS)
    for row, found in zip(grid, sparsify(grid, SPACE, threshold, max_voxels), strict=True):
        numbers = row.flatten(1)[:, found.cells()]
        yield _Active(replace(found, feats=numbers[1:].T.float().contiguous()), numbers[0].float())


def _join(views: list[Views]) -> Views:
    return Views(torch.cat([one.rgb for one in views]), torch.cat([one.alpha for one in views]))


class TrellisDecoder(ShapeDecoder):
    """TRELLIS' Gaussian decoder as a twin in plain torch, which decodes everywhere; pictures need gsplat and CUDA.

    Args:
        weights: Path without suffix of `slat_dec_gs_swin8_B_64l8gs32_fp16` (.json and .safetensors, as
            microsoft/TRELLIS-image-large has them), or a folder with that pair.
        threshold: Occupancy above which a voxel is decoded.
        max_voxels: Most voxels of an object, those of highest occupancy.
        checkpointed: Compute each block anew in the backward pass: a third more time, a small part of the memory.

    Raises:
        ValueError: The files are missing or of another network.
    """

    space = SPACE

    def __init__(
        self, weights: str, threshold: float = 0.5, max_voxels: int = MAX_VOXELS, checkpointed: bool = True
    ) -> None:
        super().__init__()
        self.threshold, self.max_voxels = threshold, max_voxels
        self.decoder = SlatGaussianDecoder.from_pretrained(weights, checkpointed=checkpointed)
        self.eval()

    def gaussians(self, grid: Tensor) -> list[Gaussians]:
        """The Gaussians of objects, their opacities multiplied by the occupancy of their voxels.

        Args:
            grid: float [B, 9, 64, 64, 64], see `ShapeDecoder`.

        Raises:
            ValueError: A grid of another shape, or numbers that are not finite.
        """
        active = list(_active(grid, self.threshold, self.max_voxels))
        decoded = self.decoder.decode([one.slat for one in active])
        return [replace(found, opacities=one.fade(found.opacities)) for one, found in zip(active, decoded, strict=True)]

    def render(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Every object seen by every camera; see `ShapeDecoder`.

        Raises:
            ValueError: A grid of another shape; no gsplat or no CUDA.
        """
        filter_2d = self.decoder.form.filter_2d
        return _join([one.render(cameras, size, background, filter_2d) for one in self.gaussians(grid)])


class NativeTrellisDecoder(ShapeDecoder):
    """The same through a TRELLIS that the user has installed, with its own rasteriser (Inria, non-commercial).

    Written from TRELLIS' source (github.com/microsoft/TRELLIS at 6b0d647), and not yet run with its weights. TRELLIS
    has no installer: its folder must be on PYTHONPATH, with spconv and xformers or flash-attn beside it.

    Args:
        weights: What `trellis.models.from_pretrained` takes: a path without suffix, or one in a repository of the hub.
        threshold: Occupancy above which a voxel is decoded.
        max_voxels: Most voxels of an object, those of highest occupancy.
        attention: ``xformers`` or ``flash_attn``; the environment's ATTN_BACKEND comes first.

    Raises:
        ValueError: TRELLIS, or a package that it needs, can't be imported.
    """

    space = SPACE

    def __init__(
        self,
        weights: str = "microsoft/TRELLIS-image-large/ckpts/slat_dec_gs_swin8_B_64l8gs32_fp16",
        threshold: float = 0.5,
        max_voxels: int = MAX_VOXELS,
        attention: str = "xformers",
    ) -> None:
        super().__init__()
        self.threshold, self.max_voxels = threshold, max_voxels
        # TRELLIS reads both when it is imported.
        os.environ.setdefault("ATTN_BACKEND", attention)
        os.environ.setdefault("SPCONV_ALGO", "native")
        self.decoder = _import_trellis("trellis.models").from_pretrained(weights).requires_grad_(False)
        self.eval()

    def render(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Every object seen by every camera; see `ShapeDecoder`.

        Raises:
            ValueError: A grid of another shape, or one that is not on a CUDA device.
        """
        _check_device(grid.device)
        cameras = cameras.to(grid.device)
        active = _active(grid, self.threshold, self.max_voxels)
        return _join([_views(self._decode(one), cameras, size, background) for one in active])

    def _decode(self, active: _Active) -> Any:
        coords = torch.nn.functional.pad(active.slat.coords.int(), (1, 0))
        sparse = _import_trellis("trellis.modules.sparse").SparseTensor(feats=active.slat.feats, coords=coords)
        [gaussian] = self.decoder(sparse)
        # The setter takes logits, which are infinite at 0 and 1.
        gaussian.from_opacity(active.fade(gaussian.get_opacity).clamp(1e-6, 1 - 1e-6))
        return gaussian


def _check_device(device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(f"TRELLIS decodes and renders on CUDA devices only, the grid is on {device}")


def _views(gaussian: Any, cameras: Cameras, size: int, background: float) -> Views:
    """What TRELLIS' rasteriser shows of one object; it gives no alpha, which a black and a white background tell."""
    black, white = (
        torch.stack([renderer.render(gaussian, *camera)["color"] for camera in _pairs(cameras)])
        for renderer in (_renderer(size, 0.0), _renderer(size, 1.0))
    )
    alpha = (1 - (white - black).mean(1)).clamp(0, 1)
    return Views((black + (1 - alpha[:, None]) * background).clamp(0, 1)[None], alpha[None])


def _pairs(cameras: Cameras) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(cameras.extrinsics, cameras.intrinsics, strict=True)


def _renderer(size: int, background: float) -> Any:
    options = {"resolution": size, "near": 0.8, "far": 1.6, "bg_color": (background,) * 3}
    renderer = _import_trellis("trellis.renderers").GaussianRenderer(options)
    renderer.pipe.kernel_size = 0.1
    return renderer


def _import_trellis(name: str) -> ModuleType:
    hint = (
        "TrellisDecoder reads the same weights without it (it renders with gsplat, Apache-2.0), and VoxelDecoder "
        "renders latents of the space voxel8 everywhere"
    )
    if name not in sys.modules and find_spec("trellis") is None:
        raise ValueError(
            "NativeTrellisDecoder needs TRELLIS (github.com/microsoft/TRELLIS, MIT; its rasteriser is for "
            f"non-commercial use): put its folder on PYTHONPATH. {hint}"
        )
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(f"{name} of TRELLIS can't be imported: {type(error).__name__}: {error}. {hint}") from error
