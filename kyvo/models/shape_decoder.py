"""What turns grids of shape latents into pictures: the interface of every renderer of shapes, and what it gives.

B objects, V cameras, C channels of a latent, N voxels along each side of the cube, S side of a picture in pixels.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from kyvo.cameras import Cameras


@dataclass(frozen=True)
class Views:
    """Pictures of objects.

    Args:
        rgb: Colours over the background, float [B, V, 3, S, S] in [0, 1].
        alpha: How much of each pixel the object covers, float [B, V, S, S] in [0, 1].
    """

    rgb: Tensor
    alpha: Tensor


class ShapeDecoder(nn.Module):
    """Renders grids of shape latents; frozen: no parameter wants a gradient, and gradients flow to the grid.

    A grid is float [B, 1 + C, N, N, N], indexed x, y, z; channel 0 is the occupancy in [0, 1], a probability, the
    others are raw (not normalised) latents, which count where there is occupancy (see `kyvo.slat.densify`).

    Attributes:
        space: Name of the latents it reads: ``voxel8``, ``trellis`` or ``learned``.
    """

    space: str

    def render(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Every object seen by every camera.

        Args:
            grid: float [B, 1 + C, N, N, N].
            cameras: V cameras, the same for all objects.
            size: S.
            background: Grey behind the objects, 0 black to 1 white.

        Returns:
            V views of each object, on the grid's device.

        Raises:
            ValueError: A grid of another shape.
        """
        raise NotImplementedError

    def render_each(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Each object seen by a camera of its own.

        Args:
            grid: float [B, 1 + C, N, N, N].
            cameras: B cameras, one for each object.
            size: S.
            background: Grey behind the objects, 0 black to 1 white.

        Returns:
            One view of each object (V = 1), on the grid's device.

        Raises:
            ValueError: A grid of another shape, or not one camera for each object.
        """
        check_one_each(grid, cameras)
        views = [self.render(row[None], cameras[[index]], size, background) for index, row in enumerate(grid)]
        return Views(torch.cat([view.rgb for view in views]), torch.cat([view.alpha for view in views]))

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: what is frozen neither drops nor counts."""
        return super().train(False)


def check_grid(grid: Tensor, channels: int | None = None) -> None:
    """Raise ValueError unless a grid is float [B, 1 + C, N, N, N], with C as given.

    Args:
        grid: What should be a grid.
        channels: C; default is any, at least 1.
    """
    least = 2 if channels is None else 1 + channels
    shaped = grid.ndim == 5 and len(set(grid.shape[2:])) == 1 and grid.is_floating_point()
    if not shaped or grid.shape[1] < least or (channels is not None and grid.shape[1] != least):
        expected = "1 + C" if channels is None else str(least)
        raise ValueError(f"expected a grid float [B, {expected}, N, N, N], got {grid.dtype} {list(grid.shape)}")


def check_one_each(grid: Tensor, cameras: Cameras) -> None:
    """Raise ValueError unless there is one camera for each object of a grid [B, 1 + C, N, N, N]."""
    if len(cameras) != len(grid):
        raise ValueError(f"expected a camera for each of {len(grid)} objects, got {len(cameras)}")
