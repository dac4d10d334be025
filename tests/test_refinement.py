"""Numbers as expectations over neighbouring bins."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kyvo.generation.decode import decode
from kyvo.generation.refinement import Refinement, expectation
from kyvo.generation.sampling import Sampling
from kyvo.generation.writing import write
from kyvo.task import Task
from kyvo.tokenizers.numbers import NumberGrid, shared, unified
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import NewEmbeddings, build_model
from tests.worlds import TINY, random_sample, tiny_module

GRID = NumberGrid((0, 1, 2, 3, 4), (0.0, 0.1, 0.2, 0.3, 0.5))


@pytest.mark.parametrize(
    ("written", "bins", "probabilities", "expected"),
    [
        (2, 1, [9, 0.25, 0.5, 0.25, 9], 0.2),
        (2, 1, [9, 0.1, 0.5, 0.4, 9], 0.23),
        (3, 1, [0, 0, 0, 0.5, 0.5], 0.4),
        (0, 2, [0.5, 0.25, 0.25, 9, 9], 0.075),
        (4, 1, [0, 0, 0, 0, 1], 0.5),
        (1, 4, [1, 1, 1, 1, 1], 0.22),
        (1, 1, [0, 0, 0, 0, 0], 0.1),
    ],
)
def test_the_mean_is_over_the_bins_around(written, bins, probabilities, expected):
    found = expectation(GRID, np.array(probabilities, dtype=float), written, bins)
    assert found == pytest.approx(expected, abs=1e-12)


def test_angles_go_around_the_circle_where_their_grid_does():
    yaw = unified().grid("yaw")
    held = np.zeros(72)
    held[[0, 71]] = 0.5
    # Half a turn, and five degrees before it.
    found = expectation(yaw, held, 0, 1)
    assert math.degrees(found) == pytest.approx(177.5, abs=0.01)
    assert math.degrees(expectation(yaw, held, 71, 1)) == pytest.approx(177.5, abs=0.01)
    # The paper's numbers leave out a part of the circle.
    clipped = replace(shared().grid("yaw"), angle=True)
    assert expectation(clipped, np.eye(121)[0] + np.eye(121)[120], 0, 1) == -3.0


def test_what_is_written_is_the_mean_of_what_the_model_holds():
    torch.manual_seed(0)
    module = tiny_module().eval()
    for parameter in module.parameters():
        parameter.data.mul_(8)
    tokenizer, task = module.tokenizer, Task.parse("I-3")
    samples = [random_sample(seed) for seed in range(6)]
    plain = write(module.model, tokenizer, task, samples)
    assert sum(len(one.scene) for one in plain) > 3
    refined = write(module.model, tokenizer, task, samples, Sampling(refine="expectation", refine_bins=3))
    grammar, offset = tokenizer.grammar(task), tokenizer.vocabulary.number_range.start
    prompts = [torch.as_tensor(tokenizer.prompt(task, sample)) for sample in samples]
    ids = decode(module.model, grammar, prompts).ids
    values, moved = tokenizer.numbers.values, 0
    for prompt, row, before, after in zip(prompts, ids, plain, refined, strict=True):
        with torch.no_grad():
            logits = module.model(input_ids=torch.cat([prompt, row])[None]).logits[0, len(prompt) - 1 :]
        steps = [step for step, token in enumerate(row.tolist()) if token in tokenizer.vocabulary.number_range]
        expected = []
        for step in steps:
            index = int(row[step]) - offset
            near = slice(max(index - 3, 0), index + 4)
            weights = logits[step, offset : offset + 121].softmax(-1).numpy()[near]
            expected.append((weights * values[near]).sum() / weights.sum())
        assert [number for item in after.scene for number in item["location"]] == pytest.approx(expected, abs=1e-4)
        assert [item["color"] for item in after.scene] == [item["color"] for item in before.scene]
        moved += after.scene != before.scene
    assert moved


def test_sizes_stay_on_their_grid():
    tokenizer = UnifiedTokenizer.from_preset("kyvo-release-objectron", image_grid=(2, 2), image_codes=8, max_objects=3)
    torch.manual_seed(0)
    model = build_model(tokenizer, TINY, NewEmbeddings(), False).eval()
    for parameter in model.parameters():
        parameter.data.mul_(8)
    task = Task.parse("3-3")
    grammar = tokenizer.grammar(task)
    prompts = [torch.arange(start, start + 7) for start in range(8)]
    found = decode(model, grammar, prompts, numbers=True)
    moved = 0
    for row, ids in enumerate(found.ids.numpy()):
        scene = tokenizer.decode(task, ids).scene
        refined = Refinement(tokenizer, 2).refine(scene, ids, row, found.numbers)
        for before, after in zip(scene, refined, strict=True):
            assert after["dimensions"] == before["dimensions"]
            moved += after["center_cam"] != before["center_cam"]
    assert moved
