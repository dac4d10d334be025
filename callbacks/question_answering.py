"""Scores the answers to questions."""

from collections.abc import Sequence
from typing import Any

from lightning import Trainer
from torchmetrics import Metric

from callbacks.scoring import SampleScores, Scoring
from kyvo.metrics.answers import AnswerAccuracy
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class QuestionAnswering(Scoring):
    """Exact match of answers, overall and by type, beside the majority answer of each type in the training data."""

    def scores(self, task: Task) -> bool:
        """Tasks that answer questions."""
        return task.name == "question_answering"

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> Metric:
        """`AnswerAccuracy` over the types of question that the data holds."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return AnswerAccuracy(data.question_types(workload.dataset), data.training_answers(workload.dataset) or None)

    def update(
        self,
        metric: AnswerAccuracy,
        module: LanguageModule,
        samples: Sequence[Sample],
        written: Sequence[Generation],
    ) -> SampleScores:
        """Compare with the true answers."""
        metric.update(
            [one.text for one in written],
            [str(sample.write("text")) for sample in samples],
            [sample.kind for sample in samples],
        )
        return [{"accuracy": hit} for hit in metric.per_question[-len(samples) :]]
