"""What a line of predictions says of a sample beside its contents: camera, turns of boxes and names of shapes."""

from typing import Any

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.scoring import Scoring
from kyvo.metrics.shape_assignment import ShapeJaccard
from kyvo.sample import Sample
from kyvo.scene import Scene
from kyvo.tokenizers.sequence import Generation
from kyvo.workload import Workload


def sample_facts(trainer: Trainer, workload: Workload, sample: Sample, written: Generation) -> dict[str, Any]:
    """What is known of these, JSON-ready; nothing else has a key.

    - `camera`: 3 x 4, see `Sample.written_camera`, for tasks with a picture and a scene
    - `rotations`: of the boxes of the scene to be written, 3 x 3 for each
    - `shapes`: names of the shapes of scenes, in the order of their objects, by `read`, `target` and `generated`; what
      was written is called by what scores it, see `kyvo.metrics.shape_assignment.ShapeAssignment`
    """
    task = workload.task
    found: dict[str, Any] = {}
    if sample.written_camera is not None and {"image", "scene"} <= {*task.inputs, *task.outputs}:
        found["camera"] = np.round(sample.written_camera, 6).tolist()
    if sample.rotations is not None and "scene" in task.outputs:
        found["rotations"] = np.round(sample.rotations, 4).tolist()
    shapes = _shapes(trainer, workload, sample, written)
    return found | ({"shapes": shapes} if shapes else {})


def _shapes(trainer: Trainer, workload: Workload, sample: Sample, written: Generation) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if sample.shapes is not None and "scene" in workload.task.inputs:
        found["read"] = list(sample.shapes)
    if sample.written_shapes is not None and "scene" in workload.task.outputs:
        found["target"] = list(sample.written_shapes)
        metric = _shape_metric(trainer, workload)
        if metric is not None:
            found["generated"] = metric.assigned_names(written.scene or Scene())
    return found


def _shape_metric(trainer: Trainer, workload: Workload) -> ShapeJaccard | None:
    """What scores the shapes of a workload; None where nothing does."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    metrics = (one.metrics.get(workload) for one in callbacks if isinstance(one, Scoring))
    return next((one for one in metrics if isinstance(one, ShapeJaccard)), None)
