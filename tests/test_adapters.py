"""Adapters: they start as nothing, are scaled as they say, and merge into what they computed."""

import pytest
import torch

from kyvo.training.adapters import Lora, add_adapters, merge_adapters
from tests.worlds import tiny_module

IDS = torch.arange(600, 640)[None]


def _model():
    torch.manual_seed(0)
    return tiny_module().model.eval()


def _stir(model):
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "magnitude" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)


@pytest.mark.parametrize("options", [{}, {"dora": True}, {"rslora": True}])
def test_adapters_start_as_nothing_and_merge_into_what_they_compute(options):
    model = _model()
    names = {name for name, _ in model.named_parameters()}
    before = model(input_ids=IDS).logits
    add_adapters(model, Lora(rank=4, **options))
    torch.testing.assert_close(model(input_ids=IDS).logits, before)
    _stir(model)
    adapted = model(input_ids=IDS).logits
    assert (adapted - before).abs().max() > 0.01
    merge_adapters(model)
    torch.testing.assert_close(model(input_ids=IDS).logits, adapted, rtol=1e-4, atol=1e-5)
    assert {name for name, _ in model.named_parameters()} == names


@pytest.mark.parametrize(("rslora", "scale"), [(False, 16 / 4), (True, 16 / 2)])
def test_updates_are_scaled_by_alpha_over_rank_or_its_root(rslora, scale):
    model = _model()
    matrix = model.model.layers[1].mlp.up_proj.weight.detach().clone()
    add_adapters(model, Lora(rank=4, alpha=16, targets=["up_proj"], rslora=rslora))
    _stir(model)
    layer = model.model.layers[1].mlp.up_proj
    update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merge_adapters(model)
    torch.testing.assert_close(model.model.layers[1].mlp.up_proj.weight, matrix + scale * update)


def test_merging_nothing_changes_nothing():
    model = _model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    merge_adapters(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
