"""Ranks, their intervals and agreement, against scipy and loops written out."""

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from kyvo.metrics.ranking import kendall_agreement, ranks_of, summarize


def scores(assets=40, methods=4, seed=0, levels=3):
    """Scores with many ties."""
    return np.random.default_rng(seed).integers(0, levels, (assets, methods)).astype(float)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ranks_are_the_best_place_of_the_tied(higher_is_better: bool):
    given = scores()
    sign = -1 if higher_is_better else 1
    assert np.array_equal(ranks_of(given, higher_is_better), rankdata(sign * given, method="min", axis=1))


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 2)), np.array([[0.0, np.nan]])])
def test_scores_with_gaps_are_refused(bad: np.ndarray):
    with pytest.raises(ValueError, match="expected a score for each asset and method"):
        ranks_of(bad, True)


def test_a_summary_is_that_of_the_papers_tables():
    # Two people, three assets; the methods share the best rank of the last asset.
    ranks = np.array([[[1, 2], [2, 1], [1, 1]], [[1, 2], [1, 2], [1, 1]]])
    found = summarize(ranks)
    assert found.mean.tolist() == pytest.approx([7 / 6, 9 / 6])
    assert found.win_rate.tolist() == pytest.approx([5 / 6, 3 / 6])


def test_intervals_are_seeded_and_hold_the_normal_ones():
    ranks = ranks_of(np.random.default_rng(1).random((400, 3)), True)[None]
    first, again, other = (summarize(ranks, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.low, again.low)
    assert not np.array_equal(first.low, other.low)
    spread = 1.96 * ranks[0].std(0) / np.sqrt(400)
    np.testing.assert_allclose(first.low, first.mean - spread, atol=0.01)
    np.testing.assert_allclose(first.high, first.mean + spread, atol=0.01)


def test_people_who_agree_do_not_make_the_interval_narrower():
    ranks = ranks_of(scores(), True)
    once, often = summarize(ranks[None]), summarize(np.stack([ranks] * 5))
    np.testing.assert_allclose(once.low, often.low)
    np.testing.assert_allclose(once.high, often.high)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_on_one_asset_is_kendalls_tau(seed: int):
    first, second = scores(1, 9, seed), scores(1, 9, seed + 100)
    assert kendall_agreement(first, second) == pytest.approx(kendalltau(first[0], second[0], variant="b").statistic)


def test_agreement_compares_within_assets_only():
    first, second = ranks_of(scores(seed=1), True), ranks_of(scores(seed=2), False)
    agree, apart = 0.0, [0, 0]
    for one, other in zip(first, second, strict=True):
        for a in range(4):
            for b in range(a):
                order, order_of_other = np.sign(one[a] - one[b]), np.sign(other[a] - other[b])
                agree += order * order_of_other
                apart[0] += order != 0
                apart[1] += order_of_other != 0
    assert kendall_agreement(first, second) == pytest.approx(agree / np.sqrt(apart[0] * apart[1]))
    assert kendall_agreement(first, first) == 1
    assert kendall_agreement(first, 5 - first) == -1
    assert np.isnan(kendall_agreement(first, np.ones_like(first)))
