"""How evenly the codes of a codebook are used.

K codes, N codes of a batch.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def usage_scores(counts: Tensor) -> dict[str, Tensor]:
    """Scores of how often each code was used.

    Args:
        counts: Number of uses of each code, [K], at least one use in all.

    Returns:
        Scalars: `codes_used`, how many were used at all; `usage`, their share of the codebook; `perplexity`, the size
        of an evenly used codebook of the same entropy; `top_code_share`, the share of all uses of the commonest code.
    """
    share = counts / counts.sum()
    used = (counts > 0).sum().float()
    perplexity = torch.special.entr(share).sum().exp()
    return {
        "codes_used": used,
        "usage": used / len(counts),
        "perplexity": perplexity,
        "top_code_share": share.max(),
    }


class CodeUsage(Metric):
    """`usage_scores` of all codes seen, on all processes.

    Args:
        codes: Size K of the codebook.
        kwargs: Options of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = CodeUsage(4)
        >>> metric.update(torch.tensor([0, 0, 1, 3]))
        >>> metric.compute()["top_code_share"].item()
        0.5
    """

    is_differentiable = False
    full_state_update = False

    counts: Tensor

    def __init__(self, codes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(codes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Count codes, int64 of any shape in [0, K)."""
        self.counts += torch.bincount(codes.flatten(), minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """The scores by name."""
        return usage_scores(self.counts)


class FirstCodeUsage(CodeUsage):
    """Of the first codes of images: `first_code_entropy` in bits, 0 if all begin alike, and `first_code_share`.

    Args:
        codes: Size K of the codebook.
        kwargs: Options of `torchmetrics.Metric`.

    Example:
        >>> metric = FirstCodeUsage(4)
        >>> metric.update(torch.tensor([0, 1, 2, 3]))
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'first_code_entropy': 2.0, 'first_code_share': 0.25}
    """

    def compute(self) -> dict[str, Tensor]:
        """Entropy, and share of the commonest."""
        scores = usage_scores(self.counts)
        return {"first_code_entropy": scores["perplexity"].log2(), "first_code_share": scores["top_code_share"]}
