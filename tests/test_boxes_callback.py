"""The callback that scores boxes: what it makes of scenes, confidences and samples without rotations."""

from types import SimpleNamespace

import numpy as np
import pytest

from callbacks.boxes import BoxDetection, has_boxes
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS, Scene, SceneObject
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.workload import Workload

MODULE = SimpleNamespace(schema_of=lambda workload: SCHEMAS[workload.schema])


def cup(x, depth=1.0):
    return SceneObject({"category": "cup", "center_cam": (x, 0.0, depth), "dimensions": (0.1, 0.2, 0.3)})


def workload(schema):
    return Workload(Task.parse("I-3"), schema, label=schema)


def scored(samples, written):
    callback = BoxDetection()
    metric = callback.make_metric(None, MODULE, workload("objectron"))
    callback.update(metric, MODULE, samples, written)
    return {name: value.item() for name, value in metric.compute().items()}


# Along the picture lies the width, not the length.
ACROSS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def sample(key, *objects):
    return Sample(key=key, scene=Scene(objects), rotations=np.tile(ACROSS, (len(objects), 1, 1)))


def test_boxes_are_turned_like_the_true_ones():
    found = scored([sample("a", cup(0.0))], [Generation(scene=Scene((cup(0.05),)))])
    # Moved by half of the width of 0.1: a third overlaps; along the length of 0.3 it were 5/7.
    assert found["iou3d_oracle_r"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["ap3d_oracle_r"] == pytest.approx(0.6)
    assert found["ap3d_oracle_r_near"] == found["ap3d_oracle_r_cup"] == found["ap3d_oracle_r"]


def test_confidences_rank():
    right, wrong = Scene((cup(0.0),)), Scene((cup(9.0), cup(0.0)))
    truth = [sample("a", cup(0.0))]
    assert scored(truth, [Generation(scene=right)])["ap3d_oracle_r"] == 1
    assert scored(truth, [Generation(scene=wrong)])["ap3d_oracle_r"] == pytest.approx(0.5)
    assert scored(truth, [Generation(scene=wrong, confidences=(0.2, 0.9))])["ap3d_oracle_r"] == 1


def test_a_scene_that_could_not_be_read_misses_all():
    found = scored([sample("a", cup(0.0)), sample("b")], [Generation(malformed=1), Generation(scene=Scene())])
    assert found["ap3d_oracle_r"] == found["iou3d_oracle_r_all"] == 0


def test_only_schemas_with_boxes():
    assert [name for name in SCHEMAS if has_boxes(SCHEMAS[name])] == ["objectron", "arkitscenes"]
    callback = BoxDetection()
    nothing = callback.make_metric(None, MODULE, workload("clevr"))
    callback.update(nothing, MODULE, [Sample(key="a", scene=Scene())], [Generation()])
    assert nothing.compute() == {}
    assert callback.scores(Task.parse("I-3"))
    assert not callback.scores(Task.parse("3-I"))


def test_samples_without_rotations_are_named():
    with pytest.raises(ValueError, match="sample 'a' have no rotations"):
        scored([Sample(key="a", scene=Scene((cup(0.0),)))], [Generation()])
