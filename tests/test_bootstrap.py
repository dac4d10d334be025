"""Bootstrap intervals: scipy's own, coverage, and what is left out."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from kyvo.metrics.bootstrap import interval, resampled_means


def test_equal_to_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(3).beta(2, 1, size=200)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    ours = interval(values, draws=20_000)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.02 * width)


def test_width_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(4).normal(size=1000)
    low, high = interval(values, level=0.9, draws=5000)
    assert high - low == pytest.approx(2 * 1.645 * values.std() / math.sqrt(1000), rel=0.05)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.005)


def test_deterministic_and_blockwise() -> None:
    values = np.random.default_rng(5).random(30)
    assert interval(values) == interval(list(reversed(values)))
    assert interval(values, seed=1) != interval(values)
    assert resampled_means(np.ones(5_000_000), 2, seed=0).tolist() == [1.0, 1.0]


def test_nan_is_left_out() -> None:
    assert interval([0.5, math.nan, 0.25]) == interval([0.5, 0.25])
    assert all(math.isnan(end) for end in interval([math.nan]))
    assert all(math.isnan(end) for end in interval([]))
    assert interval([0.75]) == (0.75, 0.75)


def test_bad_arguments() -> None:
    for arguments in ({"values": [[1.0]]}, {"values": [1.0], "level": 1.0}, {"values": [1.0], "draws": 0}):
        with pytest.raises(ValueError, match="should be"):
            interval(**arguments)
