"""The narrowest type in which a file holds weights without rounding them."""

from collections.abc import Iterable

import torch
from torch import Tensor


def exact_dtype(weights: Iterable[Tensor]) -> torch.dtype:
    """float16 if all weights are the same in it, as those read from such a file are; else float32.

    Args:
        weights: Of any shapes, float32 or narrower.

    >>> exact_dtype([torch.tensor([0.5, 1.25])])
    torch.float16
    >>> exact_dtype([torch.tensor([0.1])])
    torch.float32
    """
    same = all(torch.equal(one, one.half().to(one.dtype)) for one in weights if one.is_floating_point())
    return torch.float16 if same else torch.float32
