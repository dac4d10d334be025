"""Pictures of bytes as the floats that image tokenizers read and write, and back.

B batch, H and W size of a picture in pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def image_batch(images: Sequence[np.ndarray]) -> Tensor:
    """Pictures as a tokenizer reads them.

    Args:
        images: B pictures uint8 [H, W, 3], all of one size.

    Returns:
        float32 [B, 3, H, W] in [-1, 1].
    """
    return torch.from_numpy(np.stack(images)).movedim(-1, 1) / 127.5 - 1


def pixels(images: Tensor) -> np.ndarray:
    """The inverse of `image_batch`: uint8 [B, H, W, 3] of float [B, 3, H, W] in [-1, 1], clamped."""
    levels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return levels.to("cpu", torch.uint8).movedim(1, -1).numpy()
