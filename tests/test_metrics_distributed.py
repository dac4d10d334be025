"""Metrics of two processes equal those of one, and the examples in the metrics' descriptions run."""

import random
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kyvo.metrics.answers import AnswerAccuracy
from kyvo.metrics.edits import EditMetrics
from kyvo.metrics.images import RenderingMetrics
from kyvo.metrics.jaccard import SceneJaccard
from kyvo.metrics.slot_precision import SlotPrecision
from kyvo.scene import Scene, SceneObject

SCENES = 7


def some_scene(dice):
    def some_object():
        words = {"color": dice.choice(["red", "blue"]), "size": "large", "material": "metal", "shape": "cube"}
        return SceneObject(words | {"location": (dice.randint(-3, 3) * 0.1, dice.randint(-3, 3) * 0.1, 0.7)})

    return Scene(tuple(some_object() for _ in range(dice.randint(0, 4))))


def metrics_of(indices):
    """Score the scenes, pictures and answers with these indices, one by one."""
    training = {"count": {"1": 3, "2": 1}}
    jaccard, edits = SceneJaccard(), EditMetrics(kinds=["move", "insert"])
    pictures, answers = RenderingMetrics(), AnswerAccuracy(["count"], training)
    slots = SlotPrecision()
    for index in indices:
        dice = random.Random(index)
        source, prediction, target = (some_scene(dice) for _ in range(3))
        jaccard.update([prediction], [target], [index % 2])
        slots.update([prediction], [target], [[dice.random() for _ in prediction]])
        edits.update([prediction], [source], [target], [dice.choice(["move", "insert"])])
        noise = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(index))
        pictures.update(noise[0], noise[1], noise[0, :, 0] > 0.5)
        answers.update([str(dice.randint(0, 2))], [str(dice.randint(1, 2))], ["count"])
    return [jaccard, edits, pictures, answers, slots]


def score_a_share(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    # Unequal shares: four scenes and three.
    results = [metric.compute() for metric in metrics_of(range(rank, SCENES, 2))]
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.spawn(score_a_share, args=(str(tmp_path),), nprocs=2)
    alone = [metric.compute() for metric in metrics_of(range(SCENES))]
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone, equal_nan=True)
