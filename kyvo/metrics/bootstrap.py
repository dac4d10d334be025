"""Confidence intervals of means, by bootstrap over samples.

N samples, D draws.
"""

from collections.abc import Sequence

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
    tail = (1 - level) / 2
    low, high = np.quantile(resampled_means(samples, draws, seed), [tail, 1 - tail])
    return float(low), float(high)


def resampled_means(samples: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """Means [D] of as many samples [N] as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // len(samples))
    blocks = [min(rows, draws - start) for start in range(0, draws, rows)]
    return np.concatenate([samples[generator.integers(len(samples), size=(n, len(samples)))].mean(1) for n in blocks])


def gathered(state: Sequence[Tensor] | Tensor, device: torch.device) -> Tensor:
    """The scores that a metric keeps in a list state, float32 [N].

    Args:
        state: Tensors [n], or one of all, which the list becomes when processes share what they have.
        device: Where the metric is, for one without any score.
    """
    return torch.cat([torch.zeros(0, device=device), *([state] if isinstance(state, Tensor) else state)])
