"""Scores the scenes that recognition writes as set prediction is scored: objects ranked by confidence."""

from collections.abc import Sequence

from lightning import Trainer
from torchmetrics import MetricCollection

from callbacks.scene_scoring import EMPTY, scene_of
from callbacks.scoring import Scoring
from kyvo.metrics.slot_precision import SlotPrecision as Metric
from kyvo.sample import Sample
from kyvo.scene import SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class SlotPrecision(Scoring):
    """Average precision of objects at the distances published for CLEVR, for every task but edits that writes a scene.

    Objects are ranked by how sure the model was of them, which it says with `model.confidences`. Scenes whose objects
    are no words and a place in the world have no such score.
    """

    def scores(self, task: Task) -> bool:
        """Tasks that write a scene without an instruction."""
        return "scene" in task.outputs and task.name != "instruction"

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> MetricCollection:
        """`kyvo.metrics.slot_precision.SlotPrecision`; nothing for a schema without places in the world.

        Raises:
            ValueError: If the model does not say how sure it is.
        """
        if not module.confidences:
            raise ValueError("slot precision ranks objects by confidence: set model.confidences to true")
        schema = module.schema_of(workload)
        return MetricCollection([Metric(schema)] if has_places(schema) else {})

    def update(
        self, metric: MetricCollection, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Compare with the unrounded scenes."""
        if not len(metric):
            return
        targets = [scene_of(sample.write("scene")) for sample in samples]
        metric.update([one.scene or EMPTY for one in written], targets, [one.confidences or () for one in written])


def has_places(schema: SceneSchema) -> bool:
    """Whether objects are told apart by words alone and lie in a world of x, y and z."""
    place = schema.position("z")
    return schema.shape is None and place is not None and schema[place[0]].quantities[:3] == ("x", "y", "z")
