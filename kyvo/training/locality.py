"""Locality of image codes: what an encoder says of a place must not depend on pixels far from it.

P pairs of images, H and W their size in pixels, h and w the grid of codes, D dimensions of a feature.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def random_rectangles(count: int, grid: tuple[int, int], device: torch.device) -> Tensor:
    """Random rectangles of whole cells, bool [count, 1, h, w]; each side is drawn uniformly and may be empty."""
    sides = []
    for size in grid:
        ends = torch.randint(size + 1, (count, 2, 1), device=device).sort(1).values
        cells = torch.arange(size, device=device)
        sides.append((cells >= ends[:, 0]) & (cells < ends[:, 1]))
    return (sides[0][:, :, None] & sides[1][:, None, :])[:, None]


def surrounded(cells: Tensor) -> Tensor:
    """Cells all of whose neighbours, diagonal ones too, are set like themselves; bool [P, 1, h, w] both ways."""
    return F.max_pool2d((~cells).float(), 3, stride=1, padding=1) == 0


def locality_loss(encode: Callable[[Tensor], Tensor], images: Tensor, features: Tensor) -> Tensor:
    """How much features change when a part of the image that is not next to them is swapped for another image's.

    The two halves of a batch are joined pairwise, a rectangle of the first in the rest of the second, as in CutMix.
    Features of cells whose neighbours come from the same image as they do should be that image's. A language model
    then finds an object's properties where the object is, and empty ground has one code.

    Args:
        encode: From images to features.
        images: float [2P or 2P + 1, 3, H, W].
        features: Their features, float [2P or 2P + 1, D, h, w].

    Returns:
        Mean squared change over the variance of the features, a scalar.
    """
    pairs = len(images) // 2
    grid = (features.shape[2], features.shape[3])
    inside = random_rectangles(pairs, grid, images.device)
    pixels = F.interpolate(inside.float(), images.shape[2:]) > 0
    joined = encode(torch.where(pixels, images[:pairs], images[pairs : 2 * pairs])).float()
    features = features.float()
    change = (
        (joined - torch.where(inside, features[:pairs], features[pairs : 2 * pairs])).square().mean(1, keepdim=True)
    )
    counted = surrounded(inside) | surrounded(~inside)
    return (change * counted).sum() / counted.sum().clamp(min=1) / features.detach().var()
