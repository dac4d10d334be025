"""Losses by task and by kind of token: by-products of the loss that is minimised."""

import pytest
import torch
from lightning import Trainer
from torch.nn import functional
from torch.utils.data import DataLoader

from kyvo.training import loss
from kyvo.training.loss import NumberTargets, weighted_cross_entropy
from kyvo.training.metrics_log import MetricsLog
from kyvo.training.running_losses import KINDS, RunningLosses
from tests.worlds import batch_of, random_sample, tiny_module


def _losses(module, batch):
    """Weighted losses, weights and targets of the supervised positions, from full logits."""
    logits = module.model(input_ids=batch.ids).logits[:, :-1].flatten(0, 1)
    targets, weights = batch.ids[:, 1:].flatten(), batch.weights[:, 1:].flatten()
    return functional.cross_entropy(logits, targets, reduction="none") * weights, weights, targets


@pytest.mark.parametrize("chunk", [1 << 24, 40])
def test_the_loss_of_each_position_sums_to_the_loss(chunk, monkeypatch):
    monkeypatch.setattr(loss, "CHUNK_ELEMENTS", chunk)
    hidden, head = torch.randn(7, 5), torch.randn(11, 5)
    targets, weights = torch.randint(11, (7,)), torch.rand(7)
    each = torch.full((7,), torch.nan)
    total = weighted_cross_entropy(hidden, head, targets, weights, each=each)
    plain = functional.cross_entropy(hidden @ head.T, targets, reduction="none") * weights
    torch.testing.assert_close(each, plain)
    torch.testing.assert_close(each.sum(), total)


def test_the_loss_of_each_number_is_that_of_its_soft_target():
    hidden, head, targets = torch.randn(4, 5), torch.randn(9, 5), torch.tensor([1, 4, 5, 8])
    soft = NumberTargets.smooth(4, torch.tensor([0.0, 1.0, 2.0]), [(0, 3)], 0.5)
    each = torch.empty(4)
    total = weighted_cross_entropy(hidden, head, targets, torch.ones(4), soft, each)
    wanted = -(soft.table[:2] * functional.log_softmax(hidden[1:3] @ head.T, -1)[:, 4:7]).sum(-1)
    torch.testing.assert_close(each[1:3], wanted)
    torch.testing.assert_close(each.sum(), total)


def test_kinds_are_the_ranges_of_the_vocabulary():
    module = tiny_module()
    vocabulary = module.tokenizer.vocabulary
    batch = batch_of(module.tokenizer, "I+3+T-I+3", [random_sample(seed) for seed in range(3)])
    each, weights, targets = _losses(module, batch)
    running = RunningLosses(vocabulary)
    running.add_tokens(targets, each, weights)
    running.add_batch("instruction", each.sum(), weights.sum())
    found = running.take()
    ranges = (vocabulary.text_range, vocabulary.number_range, vocabulary.marker_range, vocabulary.image_range)
    for name, ids in zip(KINDS, ranges, strict=False):
        inside = (targets >= ids.start) & (targets < ids.stop)
        assert found.pop(f"{name}/loss") == pytest.approx(float(each[inside].sum() / weights[inside].sum()), rel=1e-5)
    # No shape codes were met.
    assert found == {"instruction/loss": pytest.approx(float(each.sum() / weights.sum()), rel=1e-5)}
    assert running.take() == {}


@pytest.mark.parametrize(("batches", "accumulate"), [(4, 1), (8, 2)])
def test_logged_losses_are_means_since_the_last_log(batches, accumulate, tmp_path):
    module = tiny_module()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    tasks = ["I-3", "I-3", "I+3+Q-A", "3-I", "I-3", "I-3", "3-I", "3-I"][:batches]
    made = [batch_of(module.tokenizer, task, [random_sample(seed)]) for seed, task in enumerate(tasks)]
    trainer = Trainer(
        max_steps=4, accumulate_grad_batches=accumulate, log_every_n_steps=2, accelerator="cpu",
        logger=MetricsLog(tmp_path), enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(made, batch_size=None))
    last = made[len(made) // 2 :]
    logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
    for name in {one.workload.label for one in last}:
        sums = [_losses(module, one) for one in last if one.workload.label == name]
        expected = sum(each.sum() for each, _, _ in sums) / sum(weights.sum() for _, weights, _ in sums)
        assert logged[f"train/{name}/loss"] == pytest.approx(float(expected), rel=1e-4)
    # A header, and a row for each of two logs.
    assert len((tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()) == 3
