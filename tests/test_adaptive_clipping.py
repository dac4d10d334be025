"""Clipping to a percentile of past norms."""

import numpy as np
import pytest
import torch
from torch import nn

from kyvo.training.adaptive_clipping import AdaptiveClipping, ClippingConfig


def with_gradient(*values: float) -> list[nn.Parameter]:
    parameter = nn.Parameter(torch.zeros(len(values)))
    parameter.grad = torch.tensor(values)
    return [parameter, nn.Parameter(torch.zeros(2))]


def test_follows_the_norms_of_the_last_steps():
    clipping = AdaptiveClipping(ClippingConfig(max_norm=5.0, percentile=75, window=4))
    seen: list[float] = []
    for norm in (10.0, 1.0, 2.0, 3.0, 4.0, 0.5, 30.0):
        limit = 5.0 if len(seen) < 4 else min(5.0, float(np.percentile(seen[-4:], 75)))
        assert clipping.limit == pytest.approx(limit)
        parameters = with_gradient(0.6 * norm, -0.8 * norm)
        assert float(clipping(parameters)) == pytest.approx(norm)
        assert float(parameters[0].grad.norm()) == pytest.approx(min(norm, limit), rel=1e-5)
        seen.append(norm)
    # Of 3, 4, 0.5 and 30 this is 10.5: the largest norm holds.
    assert clipping.limit == 5.0


def test_a_norm_that_is_not_finite_is_not_remembered():
    clipping = AdaptiveClipping(ClippingConfig(max_norm=9.0, percentile=100, window=1))
    clipping(with_gradient(3.0))
    assert clipping(with_gradient(float("inf"))).isinf()
    assert (clipping.limit, int(clipping.steps)) == (3.0, 1)


def test_a_restored_state_goes_on():
    first, second = (AdaptiveClipping(ClippingConfig(max_norm=9.0, window=2)) for _ in range(2))
    for norm in (4.0, 3.0, 2.0):
        first(with_gradient(norm))
    second.load_state_dict(first.state_dict())
    assert second.limit == first.limit < 9
    assert int(second.steps) == 3


@pytest.mark.parametrize("bad", [{"max_norm": 0.0}, {"percentile": 0.0}, {"percentile": 101.0}, {"window": 0}])
def test_limits_that_are_none(bad: dict[str, float]):
    with pytest.raises(ValueError, match="expected max_norm > 0"):
        ClippingConfig(**bad)
