"""Scores the scenes that recognition writes."""

from collections.abc import Sequence

from lightning import Trainer
from torchmetrics import Metric

from callbacks.scoring import Scoring
from kyvo.metrics.jaccard import Rule, SceneJaccard
from kyvo.sample import Sample
from kyvo.scene import Scene
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule

EMPTY = Scene()


class Jaccard(Scoring):
    """Jaccard index and what explains it, for every task but edits that writes a scene.

    Args:
        taus: Distances below which positions agree; default is those published for the schema.
        rule: `optimal` matching, or `official`, the published script bug for bug.
    """

    def __init__(self, taus: list[float] | None = None, rule: Rule = "optimal") -> None:
        super().__init__()
        self.taus = taus
        self.rule = rule

    def scores(self, task: Task) -> bool:
        """Tasks that write a scene without an instruction."""
        return "scene" in task.outputs and task.name != "instruction"

    def make_metric(self, trainer: Trainer, module: LanguageModule, task: Task) -> Metric:
        """`SceneJaccard` of the tokenizer's schema."""
        return SceneJaccard(module.tokenizer.schema.name, self.taus, self.rule)

    def update(
        self, metric: Metric, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Compare with the unrounded scenes."""
        metric.update(
            [one.scene or EMPTY for one in written],
            [sample.write("scene") for sample in samples],
            [one.malformed for one in written],
        )
