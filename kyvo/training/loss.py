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
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, soft: NumberTargets | None, chunk: int
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        need_hidden, need_head = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_head = torch.zeros(head.shape, dtype=torch.float32, device=head.device) if need_head else None
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            logits = (hidden[rows] @ head.T).float()
            total += _loss_and_gradient(logits, targets[rows], weights[rows], soft)
            gradient = logits.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = gradient @ head
            if grad_head is not None:
                grad_head += gradient.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0]
        grad_hidden, grad_head = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_head is None else grad_head * scale,
            None,
            None,
            None,
            None,
        )


def _loss_and_gradient(logits: Tensor, targets: Tensor, weights: Tensor, soft: NumberTargets | None) -> Tensor:
    """Weighted loss of a chunk of logits `[n, V]`, which become their own gradient."""
    log_z = logits.logsumexp(dim=-1)
    loss = log_z - logits.gather(1, targets[:, None])[:, 0]
    hard = torch.ones_like(log_z)
    if soft is None:
        logits.sub_(log_z[:, None]).exp_()
    else:
        span = slice(soft.start, soft.start + len(soft.table))
        rows = ((targets >= span.start) & (targets < span.stop)).nonzero()[:, 0]
        wanted = soft.table[targets[rows] - span.start]
        loss[rows] = log_z[rows] - (wanted * logits[rows, span]).sum(-1)
        logits.sub_(log_z[:, None]).exp_()
        logits[rows, span] -= wanted
        hard[rows] = 0
    logits.scatter_add_(1, targets[:, None], -hard[:, None])
    logits.mul_(weights[:, None])
    return (loss * weights).sum()


def weighted_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, soft: NumberTargets | None = None
) -> Tensor:
    """Sum over positions of weight times cross-entropy, never holding more than `CHUNK_ELEMENTS` logits.

    Under autocast the products run in its type; the softmax is always float32.

    Args:
        hidden: Hidden states of the supervised positions `[N, D]`.
        head: Rows of the head `[V, D]`.
        targets: Ids to predict `[N]`.
        weights: Their weights `[N]`, float32.
        soft: Soft targets for number tokens, or none.

    Returns:
        A float32 scalar; divide it by the sum of the weights of all ranks and accumulation steps.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        compute = torch.get_autocast_dtype(device)
        hidden, head = hidden.to(compute), head.to(compute)
    chunk = max(1, CHUNK_ELEMENTS // head.shape[0])
    with torch.autocast(device, enabled=False):
        return _ChunkedCrossEntropy.apply(hidden, head, targets, weights, soft, chunk)


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
    rows = max(1, CHUNK_ELEMENTS // head.shape[0])
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
