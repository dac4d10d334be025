"""Room in pages of 2 MiB: a step that reads much memory waits less for the addresses of few large pages."""

import contextlib
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

_PAGE = 2**21


def roomy_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU, in huge pages if they fill one and the system has any."""
    size = math.prod(shape) * dtype.itemsize
    if size < _PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(*shape, dtype=dtype)
    whole = -(-size // _PAGE) * _PAGE
    # Shared memory, which is mmap's default, has no huge pages as systems come.
    room = mmap.mmap(-1, whole + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        room.madvise(mmap.MADV_HUGEPAGE)
    start = -torch.frombuffer(room, dtype=torch.uint8).data_ptr() % _PAGE
    return torch.frombuffer(room, dtype=dtype, count=math.prod(shape), offset=start).view(*shape)


@torch.no_grad()
def gathered(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tensors of one type, contiguous and next to each other."""
    sizes = [one.numel() for one in tensors]
    parts = roomy_zeros([sum(sizes)], tensors[0].dtype).split(sizes)
    return [part.view(one.shape).copy_(one) for part, one in zip(parts, tensors, strict=True)]
