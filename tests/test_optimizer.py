"""Optimisers: who decays, Muon joined with AdamW steps like the two apart, schedules."""

import copy

import pytest
import torch
from torch import nn

from kyvo.training.optimizer import JointOptimizer, OptimizerConfig, build_optimizer, learning_rate_factor


class _Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4, bias=False)])})
        self.model["embed_tokens"] = nn.Embedding(3, 4)
        self.model["norm"] = nn.LayerNorm(4, bias=False)
        self.lm_head = nn.Linear(4, 3, bias=False)


def test_norms_and_embeddings_never_decay_and_frozen_parameters_are_left_out():
    model = _Tiny()
    model.lm_head.weight.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {
        id(model.model["layers"][0].weight): 0.3,
        id(model.model["embed_tokens"].weight): 0.0,
        id(model.model["norm"].weight): 0.0,
    }
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter"):
        build_optimizer(model, OptimizerConfig())


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")
def test_muon_takes_block_matrices_and_its_state_reloads():
    torch.manual_seed(0)
    model = _Tiny()
    config = OptimizerConfig(name="muon", lr=1e-2, muon_lr=2e-2)
    optimizer = build_optimizer(model, config)
    assert isinstance(optimizer, JointOptimizer)
    assert optimizer.optimizers[0].param_groups[0]["params"] == [model.model["layers"][0].weight]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [group["lr"] for group in optimizer.optimizers[0].param_groups] == [1e-2]
    _step(model, optimizer)
    schedule.step()
    twin = _Tiny()
    twin.load_state_dict(model.state_dict())
    restored = build_optimizer(twin, config)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _step(model, optimizer)
    _step(twin, restored)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def _step(model, optimizer):
    optimizer.zero_grad()
    sum((p * torch.arange(p.numel()).reshape(p.shape)).sum() for p in model.parameters()).backward()
    optimizer.step()


def test_adamw_is_fused_and_steps_as_the_plain_one():
    torch.manual_seed(0)
    model = _Tiny()
    twin = copy.deepcopy(model)
    config = OptimizerConfig(lr=1e-2, weight_decay=0.0)
    ours = build_optimizer(model, config)
    assert all(group["fused"] for group in ours.param_groups)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0, foreach=False)
    for _ in range(3):
        _step(model, ours)
        _step(twin, plain)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_schedules():
    cosine = OptimizerConfig(warmup_steps=10)
    assert learning_rate_factor(0, 100, cosine) == pytest.approx(0.1)
    assert learning_rate_factor(50, 100, cosine) == pytest.approx(0.5)
    assert learning_rate_factor(100, 100, cosine) == pytest.approx(0)
    fall = OptimizerConfig(warmup_steps=1, schedule="trapezoid", decay=0.4)
    assert [learning_rate_factor(step, 100, fall) for step in (0, 60, 80, 100)] == pytest.approx([1, 1, 0.5, 0])
    with pytest.raises(ValueError, match="decay"):
        OptimizerConfig(decay=0)


def test_parts_of_the_language_model_have_learning_rates_of_their_own():
    model = _Tiny()
    config = OptimizerConfig(lr=1e-2, lr_factors={"blocks": 0.1, "head": 2.0})
    rates = {id(p): group["lr"] for group in build_optimizer(model, config).param_groups for p in group["params"]}
    assert rates == {
        id(model.model["layers"][0].weight): pytest.approx(1e-3),
        id(model.model["norm"].weight): pytest.approx(1e-3),
        id(model.model["embed_tokens"].weight): pytest.approx(1e-2),
        id(model.lm_head.weight): pytest.approx(2e-2),
    }
    with pytest.raises(ValueError, match=r"lr_factors should be factors >= 0 of text, .*; got heads: 2"):
        OptimizerConfig(lr_factors={"heads": 2})


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")
def test_learning_rates_of_parts_hold_for_muon_too():
    model = _Tiny()
    config = OptimizerConfig(name="muon", lr=1e-2, muon_lr=2e-2, lr_factors={"blocks": 0.5})
    muon, adamw = build_optimizer(model, config).optimizers
    assert [group["lr"] for group in muon.param_groups] == [1e-2]
    assert sorted(group["lr"] for group in adamw.param_groups) == [5e-3, 1e-2, 1e-2]
