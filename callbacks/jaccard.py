"""Scores the scenes that recognition writes."""

from collections.abc import Sequence

from lightning import Trainer
from torchmetrics import Metric

from callbacks.scene_scoring import EMPTY, SceneScoring
from kyvo.metrics.jaccard import SceneJaccard
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class Jaccard(SceneScoring):
    """Jaccard index and what explains it, for every task but edits that writes a scene."""

    def scores(self, task: Task) -> bool:
        """Tasks that write a scene without an instruction."""
        return "scene" in task.outputs and task.name != "instruction"

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> Metric:
        """`SceneJaccard` of the data set's schema."""
        return SceneJaccard(module.schema_of(workload), self.taus, self.rule)

    def update(
        self, metric: Metric, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Compare with the unrounded scenes."""
        metric.update(
            [one.scene or EMPTY for one in written],
            [sample.write("scene") for sample in samples],
            [one.malformed for one in written],
        )
