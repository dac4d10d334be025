"""The common part of callbacks that score what a language model writes during validation and test."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule

UNTRAINED = "untrained"
"""Name under which the scores of the sanity check, made before the first step, are kept."""


class Scoring(Callback, ABC):
    """Feeds samples and what was written for them to one metric for each task, on every rank, and logs the result.

    Lightning's sanity check before training runs through the same steps with random weights: its scores are kept as
    the baseline of the untrained model, and go to `trainer.callback_metrics` as `untrained/...` when training ends.
    """

    def __init__(self) -> None:
        self.metrics: dict[Task, Metric] = {}
        self.untrained: dict[str, float] = {}

    @abstractmethod
    def scores(self, task: Task) -> bool:
        """Whether this callback has something to say about what a task writes."""

    @abstractmethod
    def make_metric(self, trainer: Trainer, module: LanguageModule, task: Task) -> Metric:
        """A fresh metric for a task."""

    @abstractmethod
    def update(
        self, metric: Metric, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Add samples and what was written for them."""

    @property
    def state_key(self) -> str:
        """One entry in a checkpoint for each kind of scoring and its settings, so that two of a kind do not collide."""
        settings = {name: value for name, value in vars(self).items() if name not in ("metrics", "untrained")}
        return self._generate_state_key(**settings)

    def state_dict(self) -> dict[str, Any]:
        """The scores of the untrained model."""
        return {"untrained": self.untrained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the scores of the untrained model: a resumed run makes no sanity check."""
        self.untrained = state_dict["untrained"]

    def _start(self, trainer: Trainer, module: LightningModule) -> None:
        # All tasks, also those of which this rank has no sample: computing a metric waits for every rank.
        tasks: Iterable[Task] = trainer.datamodule.tasks  # type: ignore[attr-defined]
        language = language_module(module)
        made = {task: self.make_metric(trainer, language, task) for task in tasks if self.scores(task)}
        self.metrics = {task: metric.to(module.device) for task, metric in made.items()}

    def _add(self, module: LightningModule, outputs: Any, batch: Any) -> None:
        written = outputs["written"]
        if batch.task in self.metrics and written:
            samples = batch.samples[: len(written)]
            self.update(self.metrics[batch.task], language_module(module), samples, written)

    def _finish(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        scores: dict[str, float] = {}
        for task, metric in self.metrics.items():
            scores |= {f"{task.name}/{name}": value for name, value in _floats(metric.compute()).items()}
            metric.reset()
        # A type without samples has no score, and no place in a table.
        scores = {name: value for name, value in scores.items() if not math.isnan(value)}
        if trainer.sanity_checking:
            self.untrained = scores
            return
        module.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, add_dataloader_idx=False)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make fresh metrics."""
        self._start(trainer, pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make fresh metrics."""
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add what `validation_step` wrote."""
        self._add(pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add what `test_step` wrote."""
        self._add(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute over all ranks and log."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute over all ranks and log."""
        self._finish(trainer, pl_module, "test")


def language_module(module: LightningModule) -> LanguageModule:
    """The module that these callbacks work with; ValueError if it is another."""
    if not isinstance(module, LanguageModule):
        raise ValueError(f"this callback looks at what a LanguageModule writes, not {type(module).__name__}")
    return module


def _floats(values: Tensor | dict[str, Tensor]) -> dict[str, float]:
    named = values if isinstance(values, dict) else {"well_formed": values}
    return {name: float(value) for name, value in named.items()}
