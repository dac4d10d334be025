"""Logs how fast a language model trains, and how much of the time it waits for data."""

from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from kyvo.training.language import TokenBatch
from kyvo.training.log_steps import LogSteps


@runtime_checkable
class WaitingLoader(Protocol):
    """A loader that knows how long its batches were waited for."""

    seconds_waited: float


class Throughput(Callback):
    """Logs `train/step_seconds`, `train/tokens_per_second`, `train/supervised_tokens_per_second`, `train/data_wait`.

    Tokens are those of all processes, without padding; the supervised are those that the loss is of. `data_wait` is the
    share of the time, in [0, 1], that this process waited for batches, where the loader tells. Evaluations do not
    count as time, everything else does, writing checkpoints and logs too. Tokens are counted on the device and read
    once a log, so that no step waits for it.
    """

    def __init__(self) -> None:
        self._steps = LogSteps()
        self._tokens = torch.zeros(2, dtype=torch.int64)
        self._start = self._waited = self._evaluation_start = self._evaluated = 0.0
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._steps.start(trainer)
        self._tokens = torch.zeros(2, dtype=torch.int64, device=pl_module.device)
        self._restart(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._evaluation_start = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock go on."""
        self._evaluated += perf_counter() - self._evaluation_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        """Count the tokens of a batch; log after every step that is logged."""
        self._tokens += torch.stack([batch.lengths.sum(), (batch.weights[:, 1:] > 0).sum()])
        if not self._steps.due(trainer):
            return
        tokens, supervised = trainer.strategy.reduce(self._tokens, reduce_op="sum").tolist()
        # Reading the counts has waited for the device: only now is the time that of the steps.
        seconds = perf_counter() - self._start - self._evaluated
        rates = {"tokens_per_second": tokens / seconds, "supervised_tokens_per_second": supervised / seconds}
        rates["step_seconds"] = seconds / (trainer.global_step - self._first)
        waited = _waited(trainer)
        if waited is not None:
            rates["data_wait"] = (waited - self._waited) / seconds
        pl_module.log_dict({f"train/{name}": rate for name, rate in rates.items()})
        self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        self._tokens.zero_()
        self._waited = _waited(trainer) or 0.0
        self._evaluated = 0.0
        self._first = trainer.global_step
        self._start = perf_counter()


def _waited(trainer: Trainer) -> float | None:
    """How long batches were waited for so far; None if the loader does not tell."""
    loader = trainer.train_dataloader
    return loader.seconds_waited if isinstance(loader, WaitingLoader) else None
