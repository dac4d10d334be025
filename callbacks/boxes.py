"""Scores the 3D boxes that recognition writes."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from lightning import Trainer
from torchmetrics import MetricCollection

from callbacks.scene_scoring import EMPTY
from callbacks.scoring import Scoring
from kyvo.metrics.box_comparison import BoxComparison, Detections, Truths, compare_with_oracle
from kyvo.metrics.box_overlap import Boxes, Floats, nearest_rotations
from kyvo.metrics.criteria import CENTER, SIZE, Span
from kyvo.metrics.detection import AveragePrecision3D
from kyvo.metrics.paired_overlap import PairedOverlap
from kyvo.sample import Sample
from kyvo.scene import Scene, SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule
from kyvo.workload import Workload


class BoxDetection(Scoring):
    """AP3D and IoU3D of scenes with 3D boxes, for every task but edits that writes a scene; other data has no boxes.

    Scenes have no rotation, so that each box is turned like the true one that it is compared with: an oracle, which the
    names of scores say (`ap3d_oracle_r`, `iou3d_oracle_r`). An object's score is the confidence of its generation;
    where that was not asked for all are 1, and precision is that of one point, not of a curve. Shards lack what the
    published evaluation ignores, so that a box on such an object is wrong here; `kyvo score boxes` knows these objects.
    """

    def scores(self, task: Task) -> bool:
        """Tasks that write a scene without an instruction."""
        return "scene" in task.outputs and task.name != "instruction"

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> MetricCollection:
        """`AveragePrecision3D` and `PairedOverlap`; nothing for a schema without boxes."""
        schema = module.schema_of(workload)
        if not has_boxes(schema):
            return MetricCollection({})
        categories = schema["category"].values
        metrics = [AveragePrecision3D(categories, oracle_rotation=True), PairedOverlap(oracle_rotation=True)]
        return MetricCollection(metrics, compute_groups=False)

    def update(
        self, metric: MetricCollection, module: LanguageModule, samples: Sequence[Sample], written: Sequence[Generation]
    ) -> None:
        """Compare with the unrounded boxes."""
        if len(metric):
            comparisons = [_comparison(*pair) for pair in zip(samples, written, strict=True)]
            metric.update(comparisons, images=[_number(sample.key) for sample in samples])


def has_boxes(schema: SceneSchema) -> bool:
    """Whether objects have a category, and centre and size of a box in the camera's frame."""
    found = {one.name: one.quantities for one in schema.attributes}
    return "category" in found and found.get("center_cam") == CENTER and found.get("dimensions") == SIZE


def _comparison(sample: Sample, written: Generation) -> BoxComparison:
    scene, rotations = sample.write("scene"), sample.rotations
    assert isinstance(scene, Scene)  # what a sample has under this name
    if rotations is None or len(rotations) != len(scene):
        raise ValueError(f"the boxes of sample {sample.key!r} have no rotations (`R_cam`) to be compared with")
    boxes = Boxes(_numbers(scene, "center_cam"), _numbers(scene, "dimensions"), nearest_rotations(rotations))
    return compare_with_oracle(_detections(written), Truths(boxes, _categories(scene)))


def _detections(written: Generation) -> Detections:
    scene = written.scene or EMPTY
    scores = np.ones(len(scene)) if written.confidences is None else np.array(written.confidences, dtype=np.float64)
    return Detections(_numbers(scene, "center_cam"), _numbers(scene, "dimensions"), _categories(scene), scores)


def _categories(scene: Scene) -> list[str]:
    return [str(one["category"]) for one in scene]


def _numbers(scene: Scene, name: str) -> Floats:
    """Three numbers of each object, float64 [N, 3]."""
    return Span(name, 0, 3).read(scene.objects)


def _number(key: str) -> int:
    """A number of a sample that does not depend on who scores it: equal scores are put in order by it."""
    return int.from_bytes(blake2b(key.encode(), digest_size=7).digest(), "big")
