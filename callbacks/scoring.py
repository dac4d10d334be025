"""The common part of callbacks that score what a language model writes during validation and test."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from lightning import Trainer
from torchmetrics import Metric, MetricCollection

from callbacks.watching import Watching
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload


class Scoring(Watching, ABC):
    """Feeds samples and what was written for them to one metric for each workload, on every rank, and logs the result.

    Lightning's sanity check before training runs through the same steps with random weights: its scores are the
    baseline of the untrained model, and go into checkpoints.
    """

    def __init__(self) -> None:
        self.metrics: dict[Workload, Metric | MetricCollection] = {}
        self.untrained: dict[str, float] = {}

    @abstractmethod
    def scores(self, task: Task) -> bool:
        """Whether this callback has something to say about what a task writes."""

    @abstractmethod
    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> Metric | MetricCollection:
        """A fresh metric for a workload, which computes scores by name."""

    @abstractmethod
    def update(
        self, metric: Any, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Add samples and what was written for them."""

    def state_dict(self) -> dict[str, Any]:
        """The scores of the untrained model."""
        return {"untrained": self.untrained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the scores of the untrained model: a resumed run makes no sanity check."""
        self.untrained = state_dict["untrained"]

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Make fresh metrics; a prediction has nothing to compare with."""
        # All of them, also those of which this rank has no sample: computing a metric waits for every rank.
        every: Iterable[Workload] = trainer.datamodule.workloads if stage != "predict" else ()  # type: ignore[attr-defined]
        made = {one: self.make_metric(trainer, module, one) for one in every if self.scores(one.task)}
        self.metrics = {one: metric.to(module.device) for one, metric in made.items()}

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Add a batch to the metric of its workload."""
        if batch.workload in self.metrics:
            self.update(self.metrics[batch.workload], module, batch.samples[: len(written)], written)

    def finish(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Compute over all ranks and log; before training, keep."""
        scores: dict[str, float] = {}
        for workload, metric in self.metrics.items():
            scores |= {f"{workload.label}/{name}": float(value) for name, value in metric.compute().items()}
        # A type without samples has no score, and no place in a table.
        scores = {name: value for name, value in scores.items() if not math.isnan(value)}
        if trainer.sanity_checking:
            self.untrained = scores
        elif scores:
            module.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, add_dataloader_idx=False)
