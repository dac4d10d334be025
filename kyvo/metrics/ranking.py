"""Ranks of methods: who is best how often, how sure that is, and whether those who rank agree.

P who rank (people; 1 for a metric), A assets, M methods.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Ranks = NDArray[np.int64]


def ranks_of(scores: Scores, higher_is_better: bool) -> Ranks:
    """The rank of each method on each asset: 1 and how many methods are better, so that equal ones share the best.

    This is how the tables of the Kyvo paper (arXiv 2506.08002) must rank: ties are allowed there, and the mean ranks of
    three renderers sum to 4.6, where sharing the mean of the places would always give 1 + 2 + 3.

    Args:
        scores: float [A, M].
        higher_is_better: Whether a higher score is a better one.

    Returns:
        int64 [A, M] from 1 to M.

    Raises:
        ValueError: Another shape, or a score that is not a number.

    >>> ranks_of(np.array([[0.5, 0.9, 0.5]]), higher_is_better=False).tolist()
    [[1, 3, 1]]
    """
    if scores.ndim != 2 or not scores.size or np.isnan(scores).any():
        raise ValueError(f"expected a score for each asset and method, got {list(scores.shape)} with gaps or none")
    gains = scores if higher_is_better else -scores
    return 1 + (gains[:, None, :] > gains[:, :, None]).sum(-1)


@dataclass(frozen=True)
class RankSummary:
    """Ranks in short, a number for each method.

    Args:
        mean: Mean rank over assets and people, [M]; 1 is best.
        low: Lower end of its bootstrap interval, [M].
        high: Upper end, [M].
        win_rate: Share of the ranks that are 1, [M]; several methods can win an asset together.
    """

    mean: Scores
    low: Scores
    high: Scores
    win_rate: Scores


def summarize(ranks: Ranks, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> RankSummary:
    """Mean ranks with percentile bootstrap intervals, for which assets are drawn with replacement, and win rates.

    Args:
        ranks: int64 [P, A, M].
        seed: Seed of the draws.
        resamples: Number of them.
        level: Share of the resampled means that lie within the interval.
    """
    draw = np.random.default_rng(seed)
    # People see the same assets: a draw of assets takes all their ranks along.
    by_asset = ranks.mean(0)
    count = len(by_asset)
    means = np.stack([by_asset[draw.integers(count, size=count)].mean(0) for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return RankSummary(by_asset.mean(0), low, high, (ranks == 1).mean((0, 1)))


def kendall_agreement(first: Ranks | Scores, second: Ranks | Scores) -> float:
    """Kendall's tau-b between two who rank, over all pairs of methods of the same asset: 1 equal, -1 opposite orders.

    Args:
        first: Ranks [A, M]; the mean ranks of several people can be given too.
        second: Ranks of the same assets and methods.

    Returns:
        (concordant - discordant pairs) / sqrt(pairs that the first tells apart * pairs that the second tells apart);
        NaN if one of them tells none apart.

    >>> kendall_agreement(np.array([[1, 2, 3]]), np.array([[1, 3, 2]]))
    0.3333333333333333
    """
    rows, columns = np.triu_indices(first.shape[1], 1)
    orders = [np.sign(ranks[:, rows] - ranks[:, columns]) for ranks in (first, second)]
    told_apart = [np.abs(order).sum() for order in orders]
    if 0 in told_apart:
        return float("nan")
    return float((orders[0] * orders[1]).sum() / np.sqrt(told_apart[0] * told_apart[1]))
