"""Confidence intervals of means, by bootstrap over samples.

N samples, D draws.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_AT_ONCE = 4_000_000
"""Drawn indices held at a time: 32 MB, however many samples there are."""


def interval(values: ArrayLike, level: float = 0.95, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean over samples (Efron and Tibshirani, An Introduction to the Bootstrap, 13.3).

    Args:
        values: Scores of samples, [N]; NaN, a sample without a score, is left out.
        level: Share of resampled means that lie inside, between 0 and 1.
        draws: Resamplings, each of as many samples as there are.
        seed: Of the random draws. The same values in any order give the same interval.

    Returns:
        The lower and the upper end; NaN both without any score.

    Raises:
        ValueError: Values of another shape, a level that is not between 0 and 1, or no draw.
    """
    samples = np.asarray(values, dtype=np.float64)
    if samples.ndim != 1:
        raise ValueError(f"values should be a list of numbers, one a sample, got the shape {samples.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level should be between 0 and 1, got {level}")
    if draws < 1:
        raise ValueError(f"draws should be at least 1, got {draws}")
    # Sorted, as several processes gather them in another order than one has them in.
    samples = np.sort(samples[~np.isnan(samples)])
    if not len(samples):
        return float("nan"), float("nan")
    return percentiles(resampled_means(samples, draws, seed), level)


def resampled_means(samples: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """Means [D] of as many samples [N] as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // len(samples))
    blocks = [min(rows, draws - start) for start in range(0, draws, rows)]
    return np.concatenate([samples[generator.integers(len(samples), size=(n, len(samples)))].mean(1) for n in blocks])


def ratio_interval(
    sums: ArrayLike, counts: ArrayLike, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean over parts, such as objects, of samples that are resampled whole.

    Args:
        sums: What the parts of each sample add up to, [N].
        counts: How many parts each sample has, [N].
        level: See `interval`.
        draws: See `interval`.
        seed: Of the random draws. The same samples in any order give the same interval.

    Returns:
        The lower and the upper end; NaN both where no sample has a part.
    """
    table = np.stack([np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)], 1).reshape(-1, 2)
    table = table[np.lexsort(table.T)]
    if not table[:, 1].any():
        return float("nan"), float("nan")
    drawn = np.concatenate([weights @ table for weights in drawn_counts(len(table), draws, seed)])
    means = drawn[drawn[:, 1] > 0]
    return percentiles(means[:, 0] / means[:, 1], level)


def drawn_counts(samples: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each sample comes in draws of as many, with replacement; blocks int64 [some of D, N]."""
    generator = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // samples)
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = generator.integers(samples, size=(count, samples)) + samples * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * samples).reshape(count, samples)


def percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The ends of the middle share of values [D], of which at least one is there."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def gathered(state: Sequence[Tensor] | Tensor, device: torch.device) -> Tensor:
    """The scores that a metric keeps in a list state, float32 [N] or [N, ...].

    Args:
        state: Tensors [n, ...], or one of all, which the list becomes when processes share what they have.
        device: Where the metric is, for one without any score.
    """
    return torch.cat([torch.zeros(0, device=device), *([state] if isinstance(state, Tensor) else state)])
