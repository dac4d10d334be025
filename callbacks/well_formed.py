"""Counts outputs that parse without a fault."""

from collections.abc import Sequence

from lightning import Trainer
from torchmetrics import MeanMetric, MetricCollection

from callbacks.scoring import Scoring
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class WellFormed(Scoring):
    """Share of outputs that parse whole: every object, the exact number of codes, a closed answer."""

    def scores(self, task: Task) -> bool:
        """Every task."""
        return True

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> MetricCollection:
        """A mean over samples."""
        return MetricCollection({"well_formed": MeanMetric()})

    def update(
        self, metric: MetricCollection, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Count faults."""
        for one in written:
            metric.update(float(one.malformed == 0))
