"""Tokens a second and the share of time that data is waited for."""

import pytest
from lightning import Trainer
from torch.utils.data import DataLoader

from callbacks import throughput
from callbacks.throughput import Throughput
from data_modules import stream
from tests.worlds import batch_of, random_sample, tiny_module


class Clock:
    """Time that passes only where a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Waiting(DataLoader):
    """A loader that takes three seconds for each batch."""

    seconds_waited = 0.0

    def __iter__(self):
        for batch in super().__iter__():
            self.clock.now += 3
            self.seconds_waited += 3
            yield batch


def _rates(monkeypatch, loader_class, accumulate=1, **options):
    clock = Clock()
    monkeypatch.setattr(throughput, "perf_counter", clock)
    module = tiny_module()
    step = module.training_step

    def training_step(batch, batch_idx):
        clock.now += 1
        return step(batch, batch_idx)

    def validation_step(batch, batch_idx):
        clock.now += 3600
        return {"written": []}

    module.training_step, module.validation_step = training_step, validation_step
    batches = [batch_of(module.tokenizer, "I-3", [random_sample(seed), random_sample(seed + 9)]) for seed in range(4)]
    loader = loader_class(batches, batch_size=None)
    loader.clock = clock
    trainer = Trainer(
        max_steps=4 // accumulate, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False,
        callbacks=[Throughput()], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=2 // accumulate, **options,
    )  # fmt: skip
    trainer.fit(module, loader, *([loader_class(batches, batch_size=None)] if "val_check_interval" in options else []))
    rates = {name: float(value) for name, value in trainer.logged_metrics.items() if "loss" not in name}
    return rates, batches[2:]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_are_of_the_batches_since_the_last_log(accumulate, monkeypatch):
    rates, batches = _rates(monkeypatch, Waiting, accumulate)
    seconds = 2 * (3 + 1)
    assert rates == {
        "train/tokens_per_second": sum(int(one.lengths.sum()) for one in batches) / seconds,
        "train/supervised_tokens_per_second": sum(int((one.weights > 0).sum()) for one in batches) / seconds,
        "train/data_wait": 6 / seconds,
        "train/step_seconds": accumulate * seconds / 2,
    }


def test_a_loader_that_does_not_tell_is_not_asked(monkeypatch):
    rates, batches = _rates(monkeypatch, DataLoader)
    assert set(rates) == {"train/tokens_per_second", "train/supervised_tokens_per_second", "train/step_seconds"}
    assert rates["train/tokens_per_second"] == sum(int(one.lengths.sum()) for one in batches) / 2


def test_evaluations_are_not_time(monkeypatch):
    rates, batches = _rates(monkeypatch, DataLoader, val_check_interval=1, limit_val_batches=1, num_sanity_val_steps=0)
    assert rates["train/tokens_per_second"] == sum(int(one.lengths.sum()) for one in batches) / 2


def test_the_loader_of_training_tells_how_long_it_took(monkeypatch):
    clock = Clock()

    def slow(stream):
        for number in range(3):
            clock.now += 2
            yield number

    monkeypatch.setattr(stream, "perf_counter", clock)
    monkeypatch.setattr(stream.BatchStream, "__iter__", slow)
    monkeypatch.setattr(stream.BatchStream, "check", lambda stream, workers: None)
    loader = stream.ResumableLoader(stream.BatchStream([], None, None, 1), 3)
    for _ in loader:
        clock.now += 100
    assert loader.seconds_waited == 6
    assert isinstance(loader, throughput.WaitingLoader)
