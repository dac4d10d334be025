"""Ceilings of boxes, ranked objects and edits: the scores of the true scenes as the tokenizer can say them."""

from types import SimpleNamespace

import numpy as np
import pytest

from callbacks.boxes import BoxDetection
from callbacks.ceilings import Ceilings, taught
from callbacks.jaccard import Jaccard
from callbacks.slot_precision import SlotPrecision
from data_modules.batches import collate, encode
from kyvo.sample import Sample
from kyvo.scene import Scene, SceneObject
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.workload import Workload
from tests.worlds import random_sample

pytestmark = pytest.mark.filterwarnings("ignore:values of length outside")


def ceilings(tokenizer, samples, callbacks, fn="test"):
    """What the callback logs of an evaluation of these samples."""
    workload = Workload(Task.parse("I-3"), tokenizer.schema.name, label="recognition")
    batch = collate(tokenizer, workload, [encode(tokenizer, workload.task, one) for one in samples], True)
    logged = {}
    module = SimpleNamespace(
        tokenizer=tokenizer, device="cpu", confidences=True, schema_of=lambda _: tokenizer.schema,
        log_dict=lambda scores, **_: logged.update(scores),
    )  # fmt: skip
    trainer = SimpleNamespace(
        callbacks=callbacks, state=SimpleNamespace(fn=fn), sanity_checking=False,
        datamodule=SimpleNamespace(workloads=[workload]),
    )  # fmt: skip
    callback = Ceilings()
    callback.start(trainer, module, "test")
    # What a model wrote does not matter.
    callback.see(trainer, module, "test", batch, [None] * len(samples))
    callback.finish(trainer, module, "test")
    return {name.removeprefix("test/recognition/"): value for name, value in logged.items()}


@pytest.fixture(scope="module")
def boxes():
    """The published tokenizer of boxes, which says no length above 1 m, and a bicycle of 1.7 m."""
    tokenizer = UnifiedTokenizer.from_preset("kyvo-release-objectron", image_grid=(2, 2), image_codes=8)
    bicycle = {"category": "bicycle", "center_cam": (0.0, 0.0, 1.0), "dimensions": (0.5, 1.0, 1.7)}
    sample = Sample(
        key="a",
        image=np.zeros(tokenizer.image_length, dtype=np.int64),
        scene=Scene((SceneObject(bicycle),)),
        rotations=np.eye(3)[None],
    )
    return tokenizer, [sample]


def test_boxes_are_bounded_by_what_numbers_can_say(boxes):
    found = ceilings(*boxes, [BoxDetection(), Jaccard()])
    # Cut to 1 m about the same centre.
    assert found["iou3d_oracle_r_ceiling"] == pytest.approx(1 / 1.7, abs=1e-6)
    # Overlaps of 0.05 to 0.50 are asked for.
    assert found["ap3d_oracle_r_ceiling"] == 1
    # Sizes may differ by 0.05 m in the mean.
    assert found["jaccard_ceiling"] == 0


def test_each_callback_is_bounded_with_its_own_settings(boxes):
    found = ceilings(*boxes, [Jaccard(taus=[0.3])])
    assert "jaccard_tau0_30_ceiling" in found
    assert not any("ap3d" in name for name in found)
    assert ceilings(*boxes, [Jaccard()], fn="fit") == {}


def test_ranked_objects_are_equally_sure():
    tokenizer = UnifiedTokenizer.from_preset("quickstart")
    found = ceilings(tokenizer, [random_sample(seed) for seed in range(3)], [SlotPrecision()])
    assert {name: found[f"ap_{name}_ceiling"] for name in ("inf", "1", "0_5", "0_25", "0_125")} == dict.fromkeys(
        ("inf", "1", "0_5", "0_25", "0_125"), 1
    )


def test_what_is_taught_is_what_the_tokens_say(boxes):
    tokenizer, samples = boxes
    workload = Workload(Task.parse("I-3"), "objectron", label="recognition")
    batch = collate(tokenizer, workload, [encode(tokenizer, workload.task, one) for one in samples], True)
    (found,) = taught(SimpleNamespace(tokenizer=tokenizer), batch)
    assert found.scene.objects[0]["dimensions"] == pytest.approx((0.5, 1.0, 1.0))
    assert (found.confidences, found.malformed) == ((1.0,), 0)


@pytest.mark.parametrize("read_text_weight", [0.0, 0.5])
def test_text_that_is_read_is_not_taken_for_written(read_text_weight):
    tokenizer = UnifiedTokenizer.from_preset("quickstart", read_text_weight=read_text_weight)
    workload, sample = Workload(Task.parse("3+T-3"), tokenizer.schema.name), random_sample(1)
    batch = collate(tokenizer, workload, [encode(tokenizer, workload.task, sample)], True)
    [found] = taught(SimpleNamespace(tokenizer=tokenizer), batch)
    assert found.malformed == 0
    assert len(found.scene) == len(sample.target_scene)
