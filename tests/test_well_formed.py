"""From random weights, every sampled output of every schema and task is a whole one."""

import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyvo.generation.decode import generate
from kyvo.generation.sampling import Sampling
from kyvo.generation.writing import write
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.backbone import NewEmbeddings, build_model
from tests.test_grammar import walk
from tests.test_task import OFFICIAL
from tests.worlds import TINY

SPECS = ("3-I", "I-3", "I+3+T-I+3", "I+3+Q-A", "3+T-3", "3+I+T-3+I", "3-T+3+I")
SAMPLING = Sampling(temperature=1.5)
CODES = 12


@cache
def model_of(schema):
    """A tokenizer with a grid of its own for every quantity, and a model of large random weights."""
    tokenizer = UnifiedTokenizer.from_preset(
        "unified", schema=schema, image_grid=(3, 4), image_codes=16, shape_codes=32, max_objects=3, max_text=6,
        shape_length=CODES if SCHEMAS[schema].shape else None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = build_model(tokenizer, TINY, NewEmbeddings(image_positions=True), False).eval()
    for parameter in model.parameters():
        parameter.data.mul_(6)
    return tokenizer, model


def samples_of(tokenizer, count):
    """Random scenes, pictures and texts."""
    rng, noise, task = random.Random(0), np.random.default_rng(0), Task.parse("I-3")
    scenes = [tokenizer.decode(task, walk(tokenizer.grammar(task), rng)).scene for _ in range(min(count, 50))]
    sample = Sample("", noise.integers(0, 16, 12), text="what is left of it")
    return [replace(sample, scene=rng.choice(scenes), image=noise.integers(0, 16, 12)) for _ in range(count)]


def check(schema, spec, count, sampling=SAMPLING, seed=0):
    """Write so many outputs, of which each has to be a whole one; returns their texts."""
    tokenizer, model = model_of(schema)
    torch.manual_seed(seed)
    task = Task.parse(spec)
    texts = set()
    for written in write(model, tokenizer, task, samples_of(tokenizer, count), sampling):
        assert written.malformed == 0
        assert ("image" in task.outputs) == (written.image is not None)
        if written.image is not None:
            assert written.image.shape == (12,)
            assert (written.image >= 0).all()
            assert (written.image < 16).all()
        assert ("scene" in task.outputs) == (written.scene is not None)
        if written.scene is not None:
            assert len(written.scene) <= 3
            assert tokenizer.codec.decode(tokenizer.codec.encode(written.scene)[1:-1]) == (written.scene, 0)
        assert ("text" in task.outputs) == (written.text is not None)
        texts.add(written.text)
    return texts


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_few_outputs(schema, spec):
    assert (len(check(schema, spec, 6)) > 1) == ("text" in Task.parse(spec).outputs)


@settings(max_examples=40)
@given(
    schema=st.sampled_from(sorted(SCHEMAS)),
    spec=st.sampled_from(sorted(OFFICIAL)),
    sampling=st.builds(
        Sampling,
        temperature=st.floats(0.1, 8),
        top_k=st.integers(0, 4),
        top_p=st.floats(0.1, 1),
        hypotheses=st.integers(1, 3),
    ),
    seed=st.integers(0, 2**31),
)
def test_any_official_task_however_it_is_sampled(schema, spec, sampling, seed):
    check(schema, spec, 2, sampling, seed)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_thousand_outputs(schema, spec):
    assert (len(check(schema, spec, 1000)) > 1) == ("text" in Task.parse(spec).outputs)


def test_answers_are_closed():
    tokenizer, model = model_of("clevr")
    task, answers = Task.parse("I+3+Q-A"), ("True", "False", "red", "10", "1", "brown rubber")
    prompts = [torch.as_tensor(tokenizer.prompt(task, sample)) for sample in samples_of(tokenizer, 60)]
    rows = generate(model, tokenizer.grammar(task, answers), prompts, SAMPLING, torch.Generator().manual_seed(0))
    found = [tokenizer.decode(task, row) for row in rows.numpy()]
    assert {one.text for one in found} == set(answers)
    assert all(one.malformed == 0 for one in found)
