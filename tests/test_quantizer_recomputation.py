"""The quantiser in a checkpointed part of a network: the second pass must neither learn nor see another codebook."""

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kyvo.models.quantizer import EMAVectorQuantizer


def fresh() -> EMAVectorQuantizer:
    torch.manual_seed(0)
    return EMAVectorQuantizer(4, 3, decay=0.5, warmup_steps=2, pool=32, revive_every=2)


def run(reentrant: bool | None, steps: int = 6) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The state after some steps, through initialisation and revival, and the gradients of all."""
    quantizer = fresh()

    def part(z: Tensor) -> Tensor:
        quantized, loss, _ = quantizer(z)
        # Keeps what it computes, as a network after the quantiser does.
        return (quantized * quantized.sin()).sum() + loss

    gradients = []
    for step in range(steps):
        torch.manual_seed(step)
        z = torch.randn(2, 3, 2, 4, requires_grad=True)
        result = part(z) if reentrant is None else checkpoint(part, z, use_reentrant=reentrant)
        result.backward()
        gradients.append(z.grad)
    return quantizer.state_dict(), gradients


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_step_counts_once(reentrant: bool):
    expected, gradients = run(None)
    found, again = run(reentrant)
    assert expected["initialised"]
    assert expected["steps"] == 6
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    for first, second in zip(gradients, again, strict=True):
        torch.testing.assert_close(first, second)


def test_evaluation_changes_nothing_in_any_pass():
    quantizer = fresh().eval()
    before = copy.deepcopy(quantizer.state_dict())
    z = torch.randn(2, 3, 2, 4, requires_grad=True)
    checkpoint(lambda x: quantizer(x)[1], z, use_reentrant=False).backward()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_a_saved_state_has_the_usual_names():
    assert list(fresh().state_dict()) == ["counts", "totals", "steps", "initialised", "embedding.weight"]
