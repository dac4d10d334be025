"""Scores the scenes that recognition writes."""

from collections.abc import Sequence

from lightning import Trainer

from callbacks.scene_scoring import EMPTY, SceneScoring, scene_of
from callbacks.scoring import SampleScores
from kyvo.metrics.jaccard import SceneJaccard
from kyvo.metrics.shape_assignment import ShapeAssignment, ShapeJaccard, named_scene
from kyvo.sample import Sample
from kyvo.scene import Scene, SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class Jaccard(SceneScoring):
    """Jaccard index and what explains it, for every task that writes a scene, but edits of a scene that is read.

    Shapes that are given by codes are decoded and compared with the shapes that the data's scenes name, which takes the
    tokenizer's shape tokenizer.
    """

    def scores(self, task: Task) -> bool:
        """Tasks that write a scene, without an instruction or from a picture alone."""
        return "scene" in task.outputs and not (task.name == "instruction" and "scene" in task.inputs)

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> SceneJaccard:
        """`SceneJaccard` of the data set's schema, `ShapeJaccard` where its objects have shapes."""
        schema = module.schema_of(workload)
        if schema.shape is None:
            return SceneJaccard(schema, self.taus, self.rule)
        return self._shape_jaccard(trainer, module, workload, schema)

    def _shape_jaccard(
        self, trainer: Trainer, module: LanguageModule, workload: Workload, schema: SceneSchema
    ) -> ShapeJaccard:
        shapes, data = module.tokenizer.shape, trainer.datamodule  # type: ignore[attr-defined]
        if shapes is None:
            raise ValueError("comparing shapes needs a shape tokenizer: set tokenizer.shape")
        references = data.shape_references(workload.dataset, shapes.resolution)
        assignment = ShapeAssignment(references, shapes.to(module.device).decode)
        return ShapeJaccard(schema, assignment, self.taus, self.rule)

    def update(
        self, metric: SceneJaccard, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> SampleScores:
        """Compare with the unrounded scenes."""
        shape = metric.shape if isinstance(metric, ShapeJaccard) else None
        metric.update(
            [one.scene or EMPTY for one in written],
            [_target(sample, shape) for sample in samples],
            [one.malformed for one in written],
        )
        return [{"jaccard": index} for index in metric.scene_scores[-len(samples) :]]


def _target(sample: Sample, shape: str | None) -> Scene:
    """The scene that a sample asks for, with names in the place of codes; `shape` is the attribute with codes."""
    scene = scene_of(sample.write("scene"))
    if shape is None:
        return scene
    if sample.written_shapes is None:
        raise ValueError(f"the shapes of sample {sample.key!r} have no names to compare with, under {shape!r}")
    return named_scene(scene, shape, sample.written_shapes)
