"""FSQ: codes and numbers one to one, the paper's arithmetic, straight-through gradients."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kyvo.models.finite_quantizer import FiniteQuantizerConfig, FiniteScalarQuantizer
from kyvo.models.quantizer import nearest


def plain(levels: tuple[int, ...]) -> FiniteScalarQuantizer:
    """A quantiser without projections."""
    quantizer = FiniteScalarQuantizer(levels, len(levels))
    with torch.no_grad():
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.copy_(torch.eye(len(levels)))
            linear.bias.zero_()
    return quantizer


def by_the_paper(vector: list[float], levels: tuple[int, ...]) -> tuple[list[float], int]:
    """Appendix A.1 of arXiv 2309.15505, a number at a time."""
    values, index, basis = [], 0, 1
    for number, count in zip(vector, levels, strict=True):
        half = (count - 1) * (1 - 1e-3) / 2
        offset = 0.0 if count % 2 else 0.5
        rounded = round(math.tanh(number + math.tan(offset / half)) * half - offset)
        values.append(rounded / (count // 2))
        index += (rounded + count // 2) * basis
        basis *= count
    return values, index


@pytest.mark.parametrize("levels", [(8, 8, 8, 4, 4), (3, 5), (2,), (7, 2, 4)])
def test_codes_and_numbers_are_one_to_one(levels: tuple[int, ...]):
    quantizer = FiniteScalarQuantizer(levels, 6)
    codes = torch.arange(math.prod(levels))
    values = quantizer.values_of(codes)
    assert len(values.unique(dim=0)) == len(codes)
    assert torch.equal(quantizer.codes_of(values), codes)
    assert values.abs().max() <= 1
    assert all(len(values[:, column].unique()) == count for column, count in enumerate(levels))
    assert quantizer.vectors.shape == (len(codes), 6)
    assert torch.equal(nearest(quantizer.vectors.detach(), quantizer.vectors.detach()), codes)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.integers(0, 10**6))
def test_equals_the_paper(levels: list[int], seed: int):
    quantizer = plain(tuple(levels))
    z = 2 * torch.randn(2, len(levels), 3, 2, generator=torch.Generator().manual_seed(seed))
    quantized, loss, (_, _, codes) = quantizer(z)
    rows = z.movedim(1, -1).flatten(0, -2).tolist()
    expected = [by_the_paper(row, tuple(levels)) for row in rows]
    assert codes.tolist() == [index for _, index in expected]
    found = quantized.movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(found, torch.tensor([values for values, _ in expected]))
    assert loss == 0


def test_every_code_is_reached():
    quantizer = plain((4, 3))
    z = torch.cartesian_prod(torch.linspace(-4, 4, 50), torch.linspace(-4, 4, 50)).T[None]
    assert len(quantizer(z)[2][2].unique()) == 12


def test_quantised_vectors_are_those_of_the_codebook():
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer((5, 4, 3), 7)
    quantized, _, (_, _, codes) = quantizer(torch.randn(2, 7, 2, 2, 2))
    torch.testing.assert_close(quantized.movedim(1, -1).flatten(0, -2), quantizer.vectors[codes])


def test_the_gradient_passes_rounding():
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer((5, 4), 3)
    z = torch.randn(4, 3)

    def without_rounding(x: Tensor) -> Tensor:
        return quantizer.project_out(quantizer._bound(quantizer.project_in(x)) / torch.tensor([2, 2]))

    found = torch.autograd.functional.jacobian(lambda x: quantizer(x)[0], z)
    expected = torch.autograd.functional.jacobian(without_rounding, z)
    torch.testing.assert_close(found, expected)
    assert found.abs().sum() > 0


def test_float32_under_autocast():
    quantizer = FiniteScalarQuantizer((8, 8), 4)
    z = torch.randn(2, 4, 3, 3, 3)
    expected = quantizer(z)[2][2]
    with torch.autocast("cpu", torch.bfloat16):
        quantized, loss, (_, _, codes) = quantizer(z)
    assert torch.equal(codes, expected)
    assert quantized.dtype == loss.dtype == torch.float32


def test_sizes_must_agree():
    network = SimpleNamespace(codes=8192, code_dim=16)
    assert FiniteQuantizerConfig().build(network).vectors.shape == (8192, 16)
    with pytest.raises(ValueError, match=r"\[8, 8\] should be the network's 8192 codes, is 64"):
        FiniteQuantizerConfig(levels=(8, 8)).build(network)
    with pytest.raises(ValueError, match=r"at least 2 each .* got \[8, 1\]"):
        FiniteScalarQuantizer((8, 1), 4)
