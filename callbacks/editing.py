"""Scores the scenes that instructions lead to."""

from collections.abc import Sequence

from lightning import Trainer

from callbacks.scene_scoring import EMPTY, SceneScoring, scene_of
from callbacks.scoring import SampleScores
from kyvo.metrics.edits import EditMetrics
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class Editing(SceneScoring):
    """Jaccard index of edited scenes beside that of leaving the scene as it is; what was done and what was kept."""

    baselines = ("copy_",)

    def scores(self, task: Task) -> bool:
        """Instruction tasks that write a scene and were given one."""
        return task.name == "instruction" and "scene" in task.outputs and "scene" in task.inputs

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> EditMetrics:
        """`EditMetrics` over the kinds of instruction that the data holds."""
        kinds = trainer.datamodule.instruction_kinds(workload.dataset)  # type: ignore[attr-defined]
        return EditMetrics(module.schema_of(workload), kinds, self.taus, self.rule)

    def update(
        self, metric: EditMetrics, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> SampleScores:
        """Compare with the target scenes, and the source scenes with them."""
        metric.update(
            [one.scene or EMPTY for one in written],
            [scene_of(sample.read("scene")) for sample in samples],
            [scene_of(sample.write("scene")) for sample in samples],
            [sample.kind for sample in samples],
            [one.malformed for one in written],
            [sample.relation for sample in samples],
        )
        return [{"jaccard": index} for index in metric.scene_scores[-len(samples) :]]
