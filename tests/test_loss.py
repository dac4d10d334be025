"""The chunked loss against plain cross-entropy: values, gradients, padding, batch splits, smoothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kyvo.training import loss as loss_module
from kyvo.training.loss import NumberTargets, reference_loss, weighted_cross_entropy


def _problem(seed: int, positions: int = 37, vocabulary: int = 50, dim: int = 16):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, dim, generator=generator, requires_grad=True)
    head = torch.randn(vocabulary, dim, generator=generator, requires_grad=True)
    targets = torch.randint(vocabulary, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator) * 10
    return hidden, head, targets, weights


@pytest.mark.parametrize("elements", [1, 400, 1 << 24])
def test_equals_cross_entropy_with_gradients_in_any_number_of_chunks(monkeypatch, elements):
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", elements)
    hidden, head, targets, weights = _problem(0)
    ours = weighted_cross_entropy(hidden, head, targets, weights)
    expected = (functional.cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    torch.testing.assert_close(ours, expected)
    ours_gradients = torch.autograd.grad(ours * 0.5, (hidden, head))
    expected_gradients = torch.autograd.grad(expected * 0.5, (hidden, head))
    torch.testing.assert_close(ours_gradients, expected_gradients)


def test_soft_number_targets_equal_cross_entropy_with_probabilities():
    hidden, head, targets, weights = _problem(1)
    values = torch.linspace(-3, 3, 20)
    soft = NumberTargets.smooth(10, values, [(0, 12), (12, 20)], sigma=0.4)
    ours = weighted_cross_entropy(hidden, head, targets, weights, soft)
    wanted = functional.one_hot(targets, 50).float()
    for row, target in enumerate(targets.tolist()):
        if 10 <= target < 30:
            span = range(10, 22) if target < 22 else range(22, 30)
            density = torch.tensor([-(((values[target - 10] - values[i - 10]) / 0.4) ** 2) / 2 for i in span]).exp()
            wanted[row] = 0
            wanted[row, list(span)] = density / density.sum()
    expected = (functional.cross_entropy(hidden @ head.T, wanted, reduction="none") * weights).sum()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, (hidden, head)), torch.autograd.grad(expected, (hidden, head)))


def test_a_frozen_head_gets_no_gradient():
    hidden, head, targets, weights = _problem(2)
    head.requires_grad_(False)
    weighted_cross_entropy(hidden, head, targets, weights).backward()
    assert head.grad is None
    assert hidden.grad is not None


def test_gradients_are_given_away_once_and_made_only_where_they_are_wanted(monkeypatch):
    hidden, head, targets, weights = _problem(4)
    loss = weighted_cross_entropy(hidden, head, targets, weights)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken already"):
        loss.backward()
    monkeypatch.setattr(loss_module, "_add_product", lambda *_: pytest.fail("a gradient nobody wants"))
    with torch.no_grad():
        again = weighted_cross_entropy(hidden, head, targets, weights)
    assert again == loss


def test_autocast_gives_a_float32_head_the_sum_of_bfloat16_products(monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 400)
    monkeypatch.setattr(loss_module, "_TILE_ROWS", 7)
    hidden, head, targets, weights = _problem(5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_cross_entropy(hidden, head, targets, weights)
    loss.backward()
    assert head.grad.dtype == hidden.grad.dtype == torch.float32
    exact = (functional.cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    for ours, expected in zip((hidden.grad, head.grad), torch.autograd.grad(exact, (hidden, head)), strict=True):
        assert (ours - expected).norm() < 0.02 * expected.norm()


def test_autocast_runs_the_products_in_bfloat16_and_the_softmax_in_float32():
    hidden, head, targets, weights = _problem(3)
    with torch.autocast("cpu", torch.bfloat16):
        ours = weighted_cross_entropy(hidden, head, targets, weights)
    logits = (hidden.bfloat16() @ head.bfloat16().T).float()
    expected = (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected)


@settings(max_examples=25, deadline=None)
@given(split=st.integers(1, 36), seed=st.integers(0, 1000))
def test_sums_over_any_split_of_a_batch_add_up(split, seed):
    hidden, head, targets, weights = _problem(seed)
    whole = weighted_cross_entropy(hidden, head, targets, weights)
    parts = sum(
        weighted_cross_entropy(hidden[rows], head, targets[rows], weights[rows])
        for rows in (slice(0, split), slice(split, None))
    )
    torch.testing.assert_close(whole, parts)


def test_reference_loss_never_counts_the_first_token():
    logits = torch.randn(2, 5, 7)
    ids = torch.randint(7, (2, 5))
    weights = torch.zeros(2, 5)
    weights[:, 0] = 1
    assert reference_loss(logits, ids, weights) == 0
