"""Keys and values of all positions that were read or written, in buffers of their final size.

Letters: B rows, H heads of keys and values, W positions in all, M new ones, C dimensions of a head.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache


class KeyValues:
    """What each block's attention sees of earlier positions; a step writes in place, and copies nothing.

    It has what attention layers of transformers call of a cache.

    Args:
        read: Keys and values of the prompts.
        width: W.
        copies: How many rows go on from each prompt, next to each other.

    Attributes:
        places: Where new positions go, int64 [M] on the device: a step that moves them needs no other program.
        stop: How many columns attention sees.
    """

    def __init__(self, read: Cache, width: int, copies: int = 1) -> None:
        self.keys = [_room(layer.keys, width, copies) for layer in read.layers]
        self.values = [_room(layer.values, width, copies) for layer in read.layers]
        self.places = torch.zeros(0, dtype=torch.long, device=self.keys[0].device)
        self.stop = width

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new positions `[B, H, M, C]` of a block; returns all that attention sees `[B, H, stop, C]`."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys.index_copy_(2, self.places, key.to(keys.dtype))
        values.index_copy_(2, self.places, value.to(values.dtype))
        return keys[:, :, : self.stop], values[:, :, : self.stop]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, int64 [rows]."""
        self.keys = [one[rows] for one in self.keys]
        self.values = [one[rows] for one in self.values]

    def fix_addresses(self) -> None:
        """Promise the compiler that the buffers stay where they are: else a CUDA graph would copy them each step."""
        for one in (*self.keys, *self.values):
            torch._dynamo.mark_static_address(one)


def _room(found: Tensor, width: int, copies: int) -> Tensor:
    rows, heads, length, size = found.shape
    # Attention is in float32 on CPUs whatever the weights are: converting once here saves converting at every step.
    dtype = torch.float32 if found.device.type == "cpu" else found.dtype
    room = torch.zeros(rows * copies, heads, width, size, dtype=dtype, device=found.device)
    room[:, :, :length] = found.repeat_interleave(copies, dim=0)
    return room
