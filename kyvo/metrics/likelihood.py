"""How likely a language model finds the true tokens, by what they are part of.

Shapes: B sequences, S positions, G groups of tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class TokenLikelihood(Metric):
    """Negative log-likelihood and accuracy of true tokens, each predicted from all true ones before it.

    ``compute`` returns for each group of tokens the scalars ``<group>_nll``, mean over its tokens of minus the natural
    logarithm of the probability, and ``<group>_accuracy``, the share of its tokens that are the likeliest; NaN without
    a token. No grammar helps: probabilities are over the whole vocabulary.

    Args:
        groups: names of the groups.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> metric = TokenLikelihood(["token", "image_code"])
        >>> members = torch.tensor([[[True, True, True], [False, True, True]]])
        >>> metric.update(torch.tensor([[0.3, 0.5, 1.0]]), torch.tensor([[True, True, False]]), members)
        >>> {name: round(value.item(), 2) for name, value in metric.compute().items()}
        {'token_nll': 0.6, 'token_accuracy': 0.67, 'image_code_nll': 0.75, 'image_code_accuracy': 0.5}
    """

    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0

    losses: Tensor
    hits: Tensor
    tokens: Tensor

    def __init__(self, groups: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)
        self.add_state("losses", torch.zeros(len(groups)), dist_reduce_fx="sum")
        for name in ("hits", "tokens"):
            self.add_state(name, torch.zeros(len(groups), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, losses: Tensor, right: Tensor, members: Tensor) -> None:
        """Add sequences.

        Args:
            losses: negative log-likelihood of the token at each position, float [B, S]; of no matter where no group has
                it.
            right: whether it is the likeliest, bool [B, S].
            members: whether it belongs to each group, bool [B, G, S].

        Raises:
            ValueError: for other shapes.
        """
        expected = (len(losses), len(self.groups), *losses.shape[1:])
        if losses.ndim != 2 or right.shape != losses.shape or members.shape != expected:
            raise ValueError(
                f"expected losses and hits [B, S] and members [B, {len(self.groups)}, S], got {list(losses.shape)}, "
                f"{list(right.shape)} and {list(members.shape)}"
            )
        self.losses += torch.where(members, losses[:, None].float(), 0.0).sum((0, 2))
        self.hits += (members & right[:, None]).sum((0, 2))
        self.tokens += members.sum((0, 2))

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed in the class's description."""
        found: dict[str, Tensor] = {}
        for row, name in enumerate(self.groups):
            found[f"{name}_nll"] = self.losses[row] / self.tokens[row]
            found[f"{name}_accuracy"] = self.hits[row] / self.tokens[row]
        return found

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw given or current values with matplotlib; return the figure and axes."""
        return self._plot(val, ax)
