"""The guard against losses and gradients that are not finite."""

import json
import math

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from kyvo.task import Task
from kyvo.training.guard import NonFiniteError, NonFiniteGuard
from kyvo.training.random_numbers import StepSeed
from tests.worlds import batch_of, random_sample, tiny_module


class _Spoil(Callback):
    """Puts a value into one gradient after some backward passes, and notes the weights after each step."""

    def __init__(self, value, passes):
        self.value = value
        self.passes = passes
        self.seen = 0
        self.weights = []
        self.moments = []

    def on_after_backward(self, trainer, pl_module):
        if self.seen in self.passes:
            next(pl_module.parameters()).grad[0, 0] = self.value
        self.seen += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append(torch.cat([p.detach().flatten() for p in pl_module.parameters()]))
        state = trainer.optimizers[0].state_dict()["state"]
        self.moments.append(torch.cat([one["exp_avg"].flatten() for one in state.values()] or [torch.zeros(1)]))


def _fit(folder, spoil, guard, steps=4, **options):
    torch.manual_seed(0)
    module = tiny_module()
    task = Task.parse("I-3")
    batches = [batch_of(module.tokenizer, task, [random_sample(seed)]) for seed in range(8)]
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, callbacks=[spoil, guard], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return trainer


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_step_moves_nothing_and_is_counted_and_named(tmp_path, value):
    spoil, guard = _Spoil(value, {2}), NonFiniteGuard()
    trainer = _fit(tmp_path, spoil, guard, gradient_clip_val=1.0)
    assert trainer.global_step == 4
    assert torch.equal(spoil.weights[1], spoil.weights[2])
    assert torch.equal(spoil.moments[1], spoil.moments[2])
    assert not torch.equal(spoil.weights[2], spoil.weights[3])
    assert torch.isfinite(spoil.weights[3]).all()
    assert guard.state_dict() == {"skipped": 1, "in_a_row": 0}
    assert trainer.callback_metrics["train/skipped_steps"] == 1
    (line,) = (tmp_path / "non_finite.rank0.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["step"] == 2
    assert [(one["task"], one["keys"]) for one in found["batches"]] == [("recognition", ["2"])]
    assert math.isfinite(float(found["batches"][0]["loss"]))


def test_a_run_without_bad_steps_is_as_without_the_guard(tmp_path):
    guarded, plain = _Spoil(0.0, set()), _Spoil(0.0, set())
    _fit(tmp_path, guarded, NonFiniteGuard())
    _fit(tmp_path, plain, Callback())
    assert torch.equal(guarded.weights[-1], plain.weights[-1])
    assert not list(tmp_path.glob("non_finite*"))


def test_all_batches_of_an_accumulated_step_are_named(tmp_path):
    _fit(tmp_path, _Spoil(math.nan, {3}), NonFiniteGuard(), steps=3, accumulate_grad_batches=2)
    found = json.loads((tmp_path / "non_finite.rank0.jsonl").read_text())
    assert (found["step"], [one["keys"] for one in found["batches"]]) == (1, [["2"], ["3"]])


def test_too_many_in_a_row_end_the_run(tmp_path):
    guard = NonFiniteGuard(limit=2, folder=str(tmp_path / "there"))
    with pytest.raises(NonFiniteError, match=r"in 2 steps in a row, the last of them step 4; .*non_finite\.rank0"):
        _fit(tmp_path, _Spoil(math.nan, {1, 3, 4}), guard, steps=8)
    lines = (tmp_path / "there/non_finite.rank0.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 3, 4]


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        NonFiniteGuard(0)


def test_random_numbers_depend_on_seed_and_batch_alone():
    class _Trainer:
        global_step = 0

    def draw(seed, step, batch_idx):
        one = StepSeed()
        one.load_state_dict({"seed": seed})
        trainer = _Trainer()
        trainer.global_step = step
        one.on_train_batch_start(trainer, None, None, batch_idx)
        return float(torch.rand(()))

    places = [(seed, step, batch) for seed in (0, 1) for step in (0, 1, 2) for batch in (0, 1)]
    drawn = [draw(*place) for place in places]
    torch.rand(5)
    assert drawn == [draw(*place) for place in places]
    assert len(set(drawn)) == len(places)
