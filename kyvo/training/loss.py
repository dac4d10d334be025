"""Next-token loss over supervised positions only, in chunks: the full `[B, S, V]` logits never exist.

Letters: N supervised positions, D hidden size, V vocabulary, G numbers of the number range.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ELEMENTS = 1 << 24
"""Logits held at a time: 64 MiB in float32."""

_TILE_ROWS = 8192
"""Rows of the head whose gradient stays in the cache."""


@dataclass(frozen=True)
class NumberTargets:
    """Soft targets that tell neighbouring numbers from distant ones (ordinal smoothing).

    The target of a number token is a normal density around its value, taken over the numbers of its family.

    Attributes:
        start: First id of the number range.
        table: Target distributions `[G, G]`: row i is what number i is taught as.
    """

    start: int
    table: Tensor

    @classmethod
    def smooth(cls, start: int, values: Tensor, families: Iterable[tuple[int, int]], sigma: float) -> "NumberTargets":
        """Normal densities of standard deviation `sigma`, in the units of `values` `[G]`, within each family.

        Args:
            start: First id of the number range.
            values: What the numbers stand for `[G]`.
            families: First and last-plus-one index of each family of numbers.
            sigma: Standard deviation, > 0.
        """
        table = torch.zeros(len(values), len(values), device=values.device)
        for first, last in families:
            span = values[first:last].float()
            table[first:last, first:last] = torch.softmax(-0.5 * ((span[:, None] - span) / sigma) ** 2, dim=-1)
        return cls(start, table)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of weighted cross-entropies; gradients are made in the forward pass, chunk by chunk.

    Doing both at once needs one chunk of logits where autograd would keep all of them, and half the time of
    recomputing them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        soft: NumberTargets | None,
        differentiate: bool,
        each: Tensor | None,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        # `needs_input_grad` holds under `no_grad` too.
        need_hidden, need_head = (differentiate and needed for needed in ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_head = torch.zeros(head.shape, dtype=torch.float32, device=head.device) if need_head else None
        chunk = min(_chunk_rows(head), max(1, len(hidden)))
        # Written over by every chunk: fresh pages for each would take a tenth of the time.
        products = hidden.new_empty(chunk, len(head))
        probabilities = torch.empty_like(products, dtype=torch.float32)
        # Cast here, where a float32 head gets its gradient in float32.
        head = head.to(hidden.dtype)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, min(start + chunk, len(hidden)))
            logits = torch.mm(hidden[rows], head.T, out=products[: rows.stop - start])
            scores = torch.log_softmax(logits.float(), -1, out=probabilities[: len(logits)])
            losses = _losses_and_gradient(scores, targets[rows], soft) * weights[rows]
            total += losses.sum()
            if each is not None:
                each[rows] = losses
            gradient = scores if logits.dtype == scores.dtype else logits.copy_(scores)
            scale = weights[rows, None].to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(gradient, head, out=grad_hidden[rows]).mul_(scale)
            if grad_head is not None:
                _add_product(grad_head, gradient.T, hidden[rows] * scale)
        ctx.gradients = grad_hidden, grad_head
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss were taken already, and are not kept")
        # Let go, so that they become the parameters' `.grad` as they are: a copy of the head's would be a second head.
        grad_hidden, grad_head = ctx.gradients
        ctx.gradients = None
        for gradient in (grad_hidden, grad_head):
            if gradient is not None:
                gradient.mul_(grad_outputs[0].to(gradient.dtype))
        return grad_hidden, grad_head, None, None, None, None, None


def _chunk_rows(head: Tensor) -> int:
    """Rows of logits held at a time; GPUs have room for more, and take longer to start than to finish so few."""
    return max(1, CHUNK_ELEMENTS * (8 if head.is_cuda else 1) // len(head))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` in place to a float32 `total` `[V, D]`, with no temporary of that size."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
        return
    for part, rows in zip(total.split(_TILE_ROWS), left.split(_TILE_ROWS), strict=True):
        part += rows @ right


def _losses_and_gradient(scores: Tensor, targets: Tensor, soft: NumberTargets | None) -> Tensor:
    """Losses `[n]` from log-probabilities `[n, V]`, which become the gradient with respect to the logits."""
    losses = -scores.gather(1, targets[:, None])[:, 0]
    hard = torch.ones_like(losses)
    if soft is None:
        scores.exp_()
    else:
        span = slice(soft.start, soft.start + len(soft.table))
        rows = ((targets >= span.start) & (targets < span.stop)).nonzero()[:, 0]
        wanted = soft.table[targets[rows] - span.start]
        losses[rows] = -(wanted * scores[rows, span]).sum(-1)
        scores.exp_()
        scores[rows, span] -= wanted
        hard[rows] = 0
    scores.scatter_add_(1, targets[:, None], -hard[:, None])
    return losses


def weighted_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    soft: NumberTargets | None = None,
    each: Tensor | None = None,
) -> Tensor:
    """Sum over positions of weight times cross-entropy, never holding more than `CHUNK_ELEMENTS` logits.

    Under autocast the products run in its type; the softmax is always float32.

    Args:
        hidden: Hidden states of the supervised positions `[N, D]`.
        head: Rows of the head `[V, D]`.
        targets: Ids to predict `[N]`.
        weights: Their weights `[N]`, float32.
        soft: Soft targets for number tokens, or none.
        each: Where to leave the weighted loss of each position `[N]`, float32, or nowhere.

    Returns:
        A float32 scalar; divide it by the sum of the weights of all ranks and accumulation steps.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        compute = torch.get_autocast_dtype(device)
        hidden = hidden.to(compute)
    with torch.autocast(device, enabled=False):
        return _ChunkedCrossEntropy.apply(hidden, head, targets, weights, soft, torch.is_grad_enabled(), each)


def supervised(hidden: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What of a batch the loss is about, gathered before the head.

    Args:
        hidden: Hidden states `[B, S, D]`.
        ids: Ids `[B, S]`.
        weights: Weight of predicting each id `[B, S]`; that of the first is never used.

    Returns:
        Hidden states `[N, D]` before the ids of positive weight, these ids `[N]` and their weights `[N]`.
    """
    # One search for what is supervised: on GPUs each makes the host wait.
    places = functional.pad(weights[:, 1:] > 0, (0, 1)).flatten().nonzero()[:, 0]
    before, following = hidden.flatten(0, 1).index_select(0, places), places + 1
    return before, ids.flatten()[following], weights.flatten()[following]


@torch.no_grad()
def token_scores(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How each token was predicted, never holding more than `CHUNK_ELEMENTS` logits.

    Args:
        hidden: Hidden states of the positions before the tokens `[N, D]`.
        head: Rows of the head `[V, D]`.
        targets: Ids of the tokens `[N]`.

    Returns:
        Negative log-likelihoods `[N]`, float32, and whether each token was the likeliest, bool `[N]`.
    """
    rows = _chunk_rows(head)
    losses, right = [hidden.new_zeros(0, dtype=torch.float32)], [targets.new_zeros(0, dtype=torch.bool)]
    for states, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
        logits = (states @ head.T).float()
        losses.append(functional.cross_entropy(logits, wanted, reduction="none"))
        right.append(logits.argmax(-1) == wanted)
    return torch.cat(losses), torch.cat(right)


def reference_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """The same sum written plainly over full logits `[B, S, V]`: what tests and benchmarks compare with.

    Args:
        logits: Logits of every position `[B, S, V]`.
        ids: Ids `[B, S]`.
        weights: Weight of predicting each id `[B, S]`; that of the first is never used.
    """
    losses = functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum()
