"""The common part of callbacks that score what a language model writes during validation and test."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lightning import Trainer
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from callbacks.watching import Watching
from kyvo.metrics.intervals import Intervals
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload

SampleScores = Sequence[Mapping[str, Tensor]]
"""What samples score, each by itself, by name."""


class Scoring(Watching, ABC):
    """Feeds samples and what was written for them to one metric for each workload, on every rank, and logs the result.

    Lightning's sanity check before training runs through the same steps with random weights: its scores are the
    baseline of the untrained model, and go into checkpoints.

    A subclass overrides `update`, or `add` if samples and what was written for them are not enough.

    Attributes:
        means: Names of scores that are means over samples, for which bootstrap intervals are logged as `NAME_low` and
            `NAME_high`; metrics may bring such intervals of their own.
        ending: What the names of scores end in.
        baselines: What the names of those scores begin with that do not depend on what was written.
    """

    means: Sequence[str] = ()
    ending: str = ""
    baselines: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.metrics: dict[Workload, Metric | MetricCollection] = {}
        self.intervals: dict[Workload, Intervals] = {}
        self.untrained: dict[str, float] = {}
        self._last: tuple[Sequence[Generation], list[dict[str, float]]] = ((), [])

    @abstractmethod
    def scores(self, task: Task) -> bool:
        """Whether this callback has something to say about what a task writes."""

    @abstractmethod
    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> Metric | MetricCollection:
        """A fresh metric for a workload, which computes scores by name."""

    def add(
        self, metric: Any, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
    ) -> SampleScores | None:
        """Add a batch, of which the first samples were written; returns what `update` does."""
        return self.update(metric, module, batch.samples[: len(written)], written)

    def update(
        self, metric: Any, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> SampleScores | None:
        """Add samples and what was written for them; returns what each scores alone, if that is known."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither update nor add")

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
        self.intervals = {one: Intervals(self.means).to(module.device) for one in made}

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Add a batch to the metric of its workload."""
        self.scored(module, batch, written)

    def scored(
        self, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
    ) -> list[dict[str, float]]:
        """What each sample of a batch scores alone.

        The first call adds the batch to the metric of its workload, whoever makes it: this callback's own hook, or that
        of another one which comes before it and wants the scores.
        """
        if written is not self._last[0]:
            self._last = (written, self._score(module, batch, written))
        return self._last[1]

    def _score(
        self, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
    ) -> list[dict[str, float]]:
        if batch.workload not in self.metrics:
            return [{} for _ in written]
        rows = self.add(self.metrics[batch.workload], module, batch, written) or [{} for _ in written]
        found = [{name: float(value) for name, value in row.items()} for row in rows]
        self.intervals[batch.workload].update(found)
        # NaN, say of a picture without objects, has no place in a file of JSON.
        return [{name: value for name, value in row.items() if not math.isnan(value)} for row in found]

    def finish(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Compute over all ranks and log; before training, keep."""
        scores: dict[str, float] = {}
        for workload, metric in self.metrics.items():
            found = {**metric.compute(), **self.intervals[workload].compute()}
            # With an ending scores are bounds of others, and a baseline has none.
            kept = (name for name in found if not (self.ending and name.startswith(self.baselines)))
            scores |= {f"{workload.label}/{name}{self.ending}": float(found[name]) for name in kept}
        # A type without samples has no score, and no place in a table.
        scores = {name: value for name, value in scores.items() if not math.isnan(value)}
        if trainer.sanity_checking:
            self.untrained = scores
        elif scores:
            module.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, add_dataloader_idx=False)


def one_by_one(metric: Metric, names: Collection[str], *columns: Any) -> SampleScores:
    """Add samples to a metric one at a time; returns what it computes of each alone.

    Args:
        metric: A metric whose states are sums: lists of values would be copied for every sample.
        names: The scores to return.
        columns: What its `update` takes, batches of as many samples that can be sliced.
    """
    alone = (metric(*(column[row : row + 1] for column in columns)) for row in range(len(columns[0])))
    return [{name: scores[name] for name in names} for scores in alone]


def scores_of_samples(
    trainer: Trainer, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
) -> list[dict[str, float]]:
    """What each sample of a batch scores by all the trainer's scoring callbacks, whatever their order."""
    rows: list[dict[str, float]] = [{} for _ in written]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Scoring):
            for row, found in zip(rows, callback.scored(module, batch, written), strict=True):
                row.update(found)
    return rows
