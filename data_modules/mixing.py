"""Mixtures: which workload each batch of a run is of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BLOCK = 256


@dataclass(frozen=True)
class Mixture:
    """Draws one workload, a task on a data set, for each batch, the same on all ranks.

    A batch is of one task because the loss is a mean over the supervised tokens of a batch: in a mixed batch the tasks
    that write images would outweigh the ones that write a word. The workload of batch number b depends on (seed, b)
    alone. After every block of 256 batches each workload has had its exact share of all batches so far, to within one:
    an epoch, and a short run, see the mixture they asked for.

    Args:
        weights: How often each workload is drawn, relative to the others.
        seed: Seed of the draw.
    """

    weights: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.weights or any(not weight > 0 for weight in self.weights):
            raise ValueError(f"each workload needs a positive weight, got {list(self.weights)}")

    @cached_property
    def _shares(self) -> np.ndarray:
        weights = np.asarray(self.weights, dtype=np.float64)
        return weights / weights.sum()

    def schedule(self, start: int, stop: int) -> np.ndarray:
        """Numbers of the workloads of the batches start, ..., stop - 1: int64 [stop - start]."""
        first = start // BLOCK
        blocks = [self._block(number) for number in range(first, -(-stop // BLOCK))]
        drawn = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int64)
        return drawn[start - first * BLOCK : stop - first * BLOCK]

    def number(self, batch: int) -> int:
        """Number of the workload of a batch, counted from the start of the run."""
        return int(self.schedule(batch, batch + 1)[0])

    def _block(self, number: int) -> np.ndarray:
        counts = self._counts((number + 1) * BLOCK) - self._counts(number * BLOCK)
        workloads = np.repeat(np.arange(len(counts)), counts)
        return np.random.default_rng((self.seed, number)).permutation(workloads)

    def _counts(self, total: int) -> np.ndarray:
        """How many of the first `total` batches are of each workload, int64.

        Webster's apportionment: the k-th batch of a workload is due at (k + 1/2) / share, and the first `total` to fall
        due are taken. So no count ever falls as the total grows, which rounding each share by itself would not promise.
        """
        counts = np.floor(self._shares * total + 0.5).astype(np.int64)
        while counts.sum() > total:
            last = np.where(counts > 0, (counts - 0.5) / self._shares, -np.inf)
            counts[len(counts) - 1 - np.argmax(last[::-1])] -= 1
        while counts.sum() < total:
            counts[np.argmin((counts + 0.5) / self._shares)] += 1
        return counts


def tempered(sizes: Sequence[float], temperature: float) -> list[float]:
    """Shares of data sets of these sizes: `size ** (1 / temperature)`, normalised.

    1 draws every sample as often as every other, larger temperatures draw small data sets more often, and infinity
    draws all data sets alike.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    powers = np.asarray(sizes, dtype=np.float64) ** (1 / temperature)
    return (powers / powers.sum()).tolist()
