"""Batches and mixtures: padding, devices, and which task each batch is of."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.apply_func import move_data_to_device

from data_modules.mixing import BLOCK, Mixture, tempered
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.worlds import batch_of, random_sample

TOKENIZER = UnifiedTokenizer.from_preset("quickstart")
SPECS = ("3-I", "I-3", "I+3+Q-A", "3+T-3")
WEIGHTS = [1.5, 4.0, 3.0, 1.5]
specs = st.sampled_from([*SPECS, "I+3+T-I+3"])


@settings(deadline=None, max_examples=40)
@given(spec=specs, seeds=st.lists(st.integers(0, 50), min_size=1, max_size=5))
def test_a_batch_holds_each_sequence_and_nothing_else(spec, seeds):
    task, samples = Task.parse(spec), [random_sample(seed) for seed in seeds]
    batch = batch_of(TOKENIZER, task, samples)
    assert batch.ids.shape == batch.weights.shape == (len(seeds), int(batch.lengths.max()))
    assert (batch.ids.dtype, batch.weights.dtype) == (torch.int64, torch.float32)
    for row, sample in enumerate(samples):
        sequence, length = TOKENIZER.encode(task, sample), int(batch.lengths[row])
        np.testing.assert_array_equal(batch.ids[row, :length], sequence.ids)
        np.testing.assert_array_equal(batch.weights[row, :length], sequence.weights)
        assert (batch.ids[row, length:] == TOKENIZER.vocabulary.pad).all()
        assert not batch.weights[row, length:].any()
        assert not batch.weights[row, : int(batch.prompt_lengths[row])].any()
        assert batch.weights[row, int(batch.prompt_lengths[row])] > 0


@settings(deadline=None, max_examples=20)
@given(spec=specs, seeds=st.lists(st.integers(0, 50), min_size=2, max_size=5))
def test_company_does_not_change_a_samples_weights(spec, seeds):
    task, samples = Task.parse(spec), [random_sample(seed) for seed in seeds]
    together = batch_of(TOKENIZER, task, samples).weights.sum(dim=1)
    alone = torch.cat([batch_of(TOKENIZER, task, [sample]).weights.sum(dim=1) for sample in samples])
    torch.testing.assert_close(together, alone)


def test_a_batch_carries_samples_only_if_asked():
    samples = [random_sample(seed) for seed in range(2)]
    assert batch_of(TOKENIZER, Task.parse("I-3"), samples).samples == ()
    kept = batch_of(TOKENIZER, Task.parse("I-3"), samples, keep=True)
    assert (kept.samples, kept.keys, len(kept)) == (tuple(samples), ("0", "1"), 2)


def test_lightning_moves_a_batch():
    batch = batch_of(TOKENIZER, Task.parse("I-3"), [random_sample(0)], keep=True)
    moved = move_data_to_device(batch, torch.device("meta"))
    tensors = (moved.ids, moved.weights, moved.lengths, moved.prompt_lengths)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.task, moved.keys, moved.samples) == (batch.task, batch.keys, batch.samples)
    assert batch.ids.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_a_batch_is_pinned():
    assert batch_of(TOKENIZER, Task.parse("I-3"), [random_sample(0)]).pin_memory().ids.is_pinned()


# ---- mixtures -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), start=st.integers(0, 2000), length=st.integers(0, 600))
def test_the_task_of_a_batch_depends_on_seed_and_number_alone(seed, start, length):
    schedule = Mixture(WEIGHTS, seed).schedule(start, start + length)
    np.testing.assert_array_equal(schedule, Mixture(WEIGHTS, seed).schedule(0, start + length)[start:])
    assert len(schedule) == length


@given(
    seed=st.integers(0, 1000),
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=4),
    blocks=st.integers(1, 20),
)
def test_any_number_of_blocks_holds_the_mixture_rounded(seed, weights, blocks):
    drawn = Mixture(weights, seed).schedule(0, blocks * BLOCK)
    counts = np.bincount(drawn, minlength=len(weights))
    shares = np.array(weights) / sum(weights) * blocks * BLOCK
    assert len(drawn) == blocks * BLOCK
    # Webster's method leaves the quota by one and more only for very uneven weights of many workloads.
    assert (np.abs(counts - shares) < 1.5).all()


def test_temperature_evens_out_sizes():
    assert tempered([1, 3], 1) == pytest.approx([0.25, 0.75])
    assert tempered([1, 4], 2) == pytest.approx([1 / 3, 2 / 3])
    assert tempered([1, 1000], float("inf")) == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="temperature must be positive"):
        tempered([1, 2], 0)


def test_batches_come_in_no_fixed_pattern():
    first, second = (Mixture(WEIGHTS).schedule(start, start + BLOCK) for start in (0, BLOCK))
    assert (first != second).any()
    assert (first != Mixture(WEIGHTS, seed=1).schedule(0, BLOCK)).any()
    assert Mixture(WEIGHTS).number(7) == first[7]


@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0], [float("nan")]])
def test_weights_must_be_positive(weights):
    with pytest.raises(ValueError, match="positive weight"):
        Mixture(weights)


def test_the_first_samples_of_a_batch_are_the_batch_of_the_first_samples():
    tokenizer = UnifiedTokenizer.from_preset("quickstart")
    samples = [random_sample(seed) for seed in range(5)]
    task = Task.parse("I-3")
    ours = batch_of(tokenizer, task, samples, keep=True).first(2)
    expected = batch_of(tokenizer, task, samples[:2], keep=True)
    for name in ("ids", "weights", "lengths", "prompt_lengths"):
        assert torch.equal(getattr(ours, name), getattr(expected, name))
    assert (ours.keys, ours.samples) == (expected.keys, expected.samples)
