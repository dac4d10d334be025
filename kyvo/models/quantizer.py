"""Vector quantiser whose codebook follows running means of the vectors it codes.

B batch, D dimensions of a code, N = vectors in a batch (B times all positions), K codes.
"""

from typing import Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

# Distances are taken for this many vectors at a time, so that [N, K] never has to fit in memory at once.
_ROWS = 16384


class CodebookSize(Protocol):
    """What a network says of the codebook that it needs."""

    @property
    def codes(self) -> int:
        """Size K of the codebook."""

    @property
    def code_dim(self) -> int:
        """Dimensions D of a code."""


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the code nearest to each vector in Euclidean distance; ties go to the lower index.

    Args:
        vectors: float32 [N, D].
        codebook: float32 [K, D].

    Returns:
        int64 [N].
    """
    half_norms = codebook.square().sum(1) / 2
    return torch.cat([(half_norms - rows @ codebook.T).argmin(1) for rows in vectors.split(_ROWS)])


def sums(vectors: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many vectors each code has, and their sum.

    Args:
        vectors: float32 [N, D].
        codes: int64 [N] in [0, size).
        size: K.

    Returns:
        Counts float32 [K] and sums float32 [K, D].
    """
    counts = torch.bincount(codes, minlength=size).to(vectors.dtype)
    return counts, vectors.new_zeros(size, vectors.shape[1]).index_add_(0, codes, vectors)


def spread(vectors: Tensor, size: int) -> Tensor:
    """Pick `size` vectors far from each other: k-means++ seeding (Arthur and Vassilvitskii, 2007).

    Args:
        vectors: float32 [N, D].
        size: How many to pick.

    Returns:
        float32 [size, D].
    """
    picked = [vectors[int(torch.randint(len(vectors), ()))]]
    distance = (vectors - picked[0]).square().sum(1)
    for _ in range(size - 1):
        # The small constant keeps the draw defined when every vector has been picked already.
        weights = (distance + 1e-12).cumsum(0)
        index = torch.searchsorted(weights, torch.rand((), device=weights.device) * weights[-1])
        picked.append(vectors[int(index.clamp(max=len(vectors) - 1))])
        distance = torch.minimum(distance, (vectors - picked[-1]).square().sum(1))
    return torch.stack(picked)


def k_means(vectors: Tensor, size: int, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from k-means++ seeds; a code that loses all its vectors stays where it was.

    Args:
        vectors: float32 [N, D], N >= size.
        size: K.
        iterations: Rounds of assignment and averaging.

    Returns:
        Centres float32 [K, D] and how many vectors each has, float32 [K].

    Raises:
        ValueError: Fewer vectors than codes.
    """
    if len(vectors) < size:
        raise ValueError(f"k-means needs at least as many vectors as codes ({size}), got {len(vectors)}")
    centres = spread(vectors, size)
    for _ in range(iterations):
        counts, totals = sums(vectors, nearest(vectors, centres), size)
        centres = torch.where(counts[:, None] > 0, totals / counts.clamp(min=1)[:, None], centres)
    return centres, sums(vectors, nearest(vectors, centres), size)[0]


class EMAVectorQuantizer(nn.Module):
    """Nearest-code quantiser with a straight-through gradient and a codebook of running means.

    Training starts unquantised: vectors pass through while the last `pool` of them are kept, and after
    `warmup_steps` steps the codebook is set by k-means over them. From then on each code is the running mean of the
    vectors it gets (van den Oord et al., 2017, appendix A.1). Codes that hardly any vector uses are moved to vectors
    of the batch, drawn in proportion to their coding error. In eval mode nothing changes, nor does it where a backward
    pass computes a checkpointed part of the network again, which then sees the codebook that the first pass saw.

    With several processes the statistics are summed over all of them, so that N processes learn what one would from
    the joined batch. Arithmetic is float32 whatever autocast says: bfloat16 distances choose wrong codes.

    `forward` answers in the form of diffusers' `VectorQuantizer`, so that a `VQModel` takes this module in its place;
    the codebook has the same name too (`embedding.weight`).

    Args:
        codes: Size K of the codebook.
        dim: Dimensions D of a code.
        decay: Share of the running statistics that is kept at each step.
        commitment: Weight of the loss that pulls vectors to their codes.
        warmup_steps: Training steps without quantisation before the codebook is set.
        pool: How many vectors k-means sees; at least 4 times the codes, else centres are single vectors.
        revive_below: A code is dead if its running count is below this share of the mean count.
        revive_every: Steps between looks for dead codes.

    Raises:
        ValueError: A size, decay or pool outside its range.
    """

    embedding: nn.Embedding
    counts: Tensor
    totals: Tensor
    steps: Tensor
    initialised: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        decay: float = 0.99,
        commitment: float = 0.25,
        warmup_steps: int = 0,
        pool: int = 32768,
        revive_below: float = 0.03,
        revive_every: int = 20,
    ) -> None:
        super().__init__()
        if codes < 1 or dim < 1 or revive_every < 1:
            raise ValueError(f"codes, dim and revive_every must be positive, got {codes}, {dim} and {revive_every}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        if pool < 4 * codes:
            raise ValueError(f"pool must be at least 4 times the {codes} codes, got {pool}")
        self.decay = decay
        self.commitment = commitment
        self.warmup_steps = warmup_steps
        self.pool = pool
        self.revive_below = revive_below
        self.revive_every = revive_every
        self.embedding = nn.Embedding(codes, dim)
        self.embedding.weight.requires_grad_(False)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("totals", self.embedding.weight.detach().clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self._kept: list[Tensor] = []
        self._seen: Tensor | None = None

    @property
    def vectors(self) -> Tensor:
        """The code vectors, float32 [K, D]."""
        return self.embedding.weight

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, None, Tensor]]:
        """Quantise feature maps; in training mode, also learn from them.

        Args:
            z: [B, D, *positions], any float dtype.

        Returns:
            Quantised maps (float32, shape of z), commitment loss (scalar), and a tuple (perplexity of the codes
            used, None, codes int64 [N] in raster order of each map). While the codebook is not set yet, training
            passes z through.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            channels_last = z.movedim(1, -1)
            flat = channels_last.reshape(-1, z.shape[1])
            learning = self.training and not _in_backward()
            codebook = self._codebook_of_pass()
            if codebook is None:
                if learning:
                    self._collect(flat.detach())
                codes = nearest(flat.detach(), self.embedding.weight)
                return z, flat.new_zeros(()), (self._perplexity(codes), None, codes)
            codes = nearest(flat.detach(), codebook)
            # A copy: the lookup must not see the update that follows.
            quantized = F.embedding(codes, codebook).reshape(channels_last.shape).movedim(-1, 1)
            loss = self.commitment * F.mse_loss(z, quantized)
            if learning:
                self._update(flat.detach(), codes)
            return z + (quantized - z).detach(), loss, (self._perplexity(codes), None, codes)

    def get_codebook_entry(self, indices: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        """Vectors of codes: [B, D, *positions] if the channels-last shape (B, *positions, D) is given, else [N, D]."""
        vectors = self.embedding(indices)
        return vectors if shape is None else vectors.reshape(shape).movedim(-1, 1).contiguous()

    def _codebook_of_pass(self) -> Tensor | None:
        """The codebook to quantise with, or None while training passes vectors through."""
        if not self.training:
            return self.embedding.weight
        if not _in_backward():
            self._seen = self.embedding.weight.clone() if self.initialised else None
        return self._seen

    def _perplexity(self, codes: Tensor) -> Tensor:
        share = torch.bincount(codes, minlength=len(self.counts)).float() / len(codes)
        return torch.special.entr(share).sum().exp()

    @torch.no_grad()
    def _collect(self, flat: Tensor) -> None:
        self.steps += 1
        self._kept.append(flat)
        while sum(map(len, self._kept[1:])) >= self.pool:
            self._kept.pop(0)
        # Processes must agree on the step at which the codebook is set, even if their batches differ in size.
        have = torch.tensor(sum(map(len, self._kept)), device=flat.device)
        if distributed():
            dist.all_reduce(have, dist.ReduceOp.MIN)
        if self.steps >= self.warmup_steps and have >= self.pool:
            self._initialise(torch.cat(self._kept), len(flat))
            self._kept = []

    def _initialise(self, vectors: Tensor, batch: int) -> None:
        centres, counts = k_means(vectors[-self.pool :], len(self.counts))
        if distributed():
            dist.broadcast(centres, 0)
            dist.broadcast(counts, 0)
            batch *= dist.get_world_size()
        # Counts as if the codebook had long been fed batches of this size; empty codes stay alive for a while.
        self.counts.copy_((counts / counts.sum() * batch).clamp(min=self.revive_below * batch / len(counts)))
        self.totals.copy_(centres * self.counts[:, None])
        self.embedding.weight.copy_(centres)
        self.initialised.fill_(True)

    @torch.no_grad()
    def _update(self, flat: Tensor, codes: Tensor) -> None:
        self.steps += 1
        counts, totals = sums(flat, codes, len(self.counts))
        if distributed():
            joined = torch.cat([counts[:, None], totals], 1)
            dist.all_reduce(joined)
            counts, totals = joined[:, 0], joined[:, 1:]
        self.counts.lerp_(counts, 1 - self.decay)
        self.totals.lerp_(totals, 1 - self.decay)
        if self.steps % self.revive_every == 0:
            self._revive(flat, codes)
        # An unused code's count and sum shrink alike: it stays in place until it is revived.
        self.embedding.weight.copy_(self.totals / self.counts.clamp(min=1e-20)[:, None])

    def _revive(self, flat: Tensor, codes: Tensor) -> None:
        mean = self.counts.mean()
        dead = (self.counts < self.revive_below * mean).nonzero()[:, 0]
        if not len(dead):
            return
        error = (flat - self.embedding.weight[codes]).square().sum(1) + 1e-12
        moved = flat[torch.multinomial(error, len(dead), replacement=len(dead) > len(flat))]
        if distributed():
            dist.broadcast(moved, 0)
        # Enough weight to live for ln(4) / (1 - decay) steps unused, little enough to follow its own vectors.
        weight = 4 * self.revive_below * mean
        self.counts[dead] = weight
        self.totals[dead] = weight * moved


def _in_backward() -> bool:
    """Whether this is a part of a backward pass: a checkpointed part of a network is computed again."""
    # torch.utils.checkpoint itself tells its passes apart by this number.
    return torch._C._current_graph_task_id() != -1


def distributed() -> bool:
    """Whether there are other processes that learn the same."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
