"""Keys and values of all positions that were read or written, in buffers of their final size.

Letters: B rows, H heads of keys and values, W positions in all, M new ones, C dimensions of a head.
"""

from typing import Any

import torch
from torch import Tensor

from kyvo.generation.huge_pages import roomy_zeros


class KeyValues:
    """What each block's attention sees of earlier positions; a step writes in place, and copies nothing.

    It has what attention layers of transformers call of a cache.

    Args:
        width: W.
        device: Where.

    Attributes:
        places: Where new positions go, int64 [M] on the device: a step that moves them needs no other program.
        stop: How many columns attention sees.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.width, self.stop = width, 0
        self.places = torch.zeros(0, dtype=torch.long, device=device)
        self.held: list[Tensor] = []

    def write(self, new: Tensor, layer_idx: int) -> Tensor:
        """Write new keys and values `[2, B, H, M, C]` of a block; returns all that attention sees `[2, B, H, stop, C]`.

        Keys or values of a whole batch are one run of heads: their first two dimensions can be viewed as one.
        """
        if layer_idx == len(self.held):
            self.held.append(self._room(new))
        held = self.held[layer_idx]
        held.index_copy_(3, self.places, new.to(held.dtype))
        return held[:, :, :, : self.stop]

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """As `write` of new keys and of new values `[B, H, M, C]`; returns each `[B, H, stop, C]`."""
        keys, values = self.write(torch.stack([key.to(value.dtype), value]), layer_idx)
        return keys, values

    def _room(self, new: Tensor) -> Tensor:
        shape = (*new.shape[:3], self.width, new.shape[4])
        # Attention is in float32 on CPUs whatever the weights are: converting once here saves converting at every step.
        return roomy_zeros(shape, torch.float32) if new.device.type == "cpu" else new.new_zeros(shape)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, int64 [rows], each as often as it is named."""
        self.held = [one[:, rows] for one in self.held]

    def fix_addresses(self) -> None:
        """Promise the compiler that the buffers stay where they are: else a CUDA graph would copy them each step."""
        for one in self.held:
            torch._dynamo.mark_static_address(one)
