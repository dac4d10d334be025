"""How the next token is chosen among those that the grammar allows.

Letters: B batch, K candidates.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, how many outputs are tried, and what is made of numbers.

    Attributes:
        temperature: 0 takes the most likely token (greedy, as the official code); else logits are divided by it.
        top_k: Keep this many most likely tokens; 0 keeps all.
        top_p: Keep the most likely tokens up to this much probability, (0, 1].
        hypotheses: Outputs written for each input, the likeliest first; more than one needs a temperature.
        refine: `expectation` replaces each number of a scene but sizes by the mean of its bin and the bins around it,
            weighted by their probability; `none` leaves numbers on their grid.
        refine_bins: How many bins to either side count.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    hypotheses: int = 1
    refine: Literal["none", "expectation"] = "none"
    refine_bins: int = 2

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"expected temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got {self}")
        if self.hypotheses < 1 or self.refine_bins < 1:
            raise ValueError(f"expected hypotheses >= 1 and refine_bins >= 1, got {self}")
        if self.hypotheses > 1 and not self.temperature:
            raise ValueError(f"expected a temperature above 0, since greedy hypotheses are all alike, got {self}")

    def choose(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Places `[B]` of the next ids from logits `[B, K]`, which are minus infinity where an id is not allowed."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        logits = logits / self.temperature
        if self.top_k:
            least = logits.topk(min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1:
            logits = _keep_nucleus(logits, self.top_p)
        return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def _keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    ordered, order = logits.sort(dim=-1, descending=True)
    probability = ordered.softmax(dim=-1)
    # A token stays while the probability before it is below top_p, so the first always stays.
    cut = probability.cumsum(dim=-1) - probability >= top_p
    return logits.masked_fill(torch.zeros_like(cut).scatter(-1, order, cut), -torch.inf)
