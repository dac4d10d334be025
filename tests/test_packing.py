"""Several sequences in a row: laid out without loss, and trained to the letter as in rows of their own."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.batches import collate, encode
from data_modules.families import task_shards
from data_modules.index import Index
from data_modules.mixing import Mixture
from data_modules.stream import BatchStream, Supply
from kyvo.models.attention import within_sequences
from kyvo.task import Task
from kyvo.tokenizers.rows import Rows, share_out
from kyvo.tokenizers.sequence import TokenSequence
from kyvo.training.language import LanguageModule
from tests import test_shape_attention as shapes
from tests.tiny_world import make_coded_world, tiny_tokenizer
from tests.worlds import TINY, random_sample, tiny_module, workload

SPECS = ("3-I", "I-3", "I+3+T-I+3", "I+3+Q-A")
PAD = 99


def _batch(tokenizer, spec, samples, pack):
    kind = workload(spec)
    return collate(tokenizer, kind, [encode(tokenizer, kind.task, sample) for sample in samples], pack=pack)


def assert_same(ours, expected):
    """Equal to 1e-5 of the largest number of each."""
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))


def learned(module, batches):
    """Mean loss of several batches taken together, and the gradients of all parameters that have any."""
    module.zero_grad()
    sums = [module.loss_sum(batch.ids, batch.weights, batch.positions) for batch in batches]
    total, cells = (sum(parts) for parts in zip(*sums, strict=True))
    loss = total / cells
    loss.backward()
    return [loss.detach(), *(p.grad for p in module.parameters() if p.grad is not None)]


# ---- layout ---------------------------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), width=st.integers(1, 40))
def test_rows_hold_each_length_once_and_no_more_than_their_width(lengths, width):
    rows = share_out(lengths, width)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    widest = max(sum(lengths[number] for number in row) for row in rows)
    assert widest <= max(width, max(lengths))
    assert len(rows) * widest <= len(lengths) * max(lengths)


def _sequence(length, seed):
    ids = np.random.default_rng(seed).integers(0, PAD, length)
    return TokenSequence(ids, np.arange(length, dtype=np.float32), (), 1)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8), width=st.integers(1, 45))
def test_packed_rows_hold_each_sequence_whole(lengths, width):
    sequences = [_sequence(length, seed) for seed, length in enumerate(lengths)]
    rows = Rows.packed(sequences, PAD, width)
    assert rows.ids.shape == rows.weights.shape == rows.positions.shape
    flat = [one.ravel() for one in (rows.ids, rows.weights, rows.positions)]
    taken = np.zeros(rows.ids.size, dtype=bool)
    for sequence, start in zip(sequences, rows.starts, strict=True):
        span = slice(start, start + len(sequence))
        for found, wanted in zip(flat, (sequence.ids, sequence.weights, np.arange(len(sequence))), strict=True):
            np.testing.assert_array_equal(found[span], wanted)
        assert not taken[span].any()
        assert start // rows.ids.shape[1] == (span.stop - 1) // rows.ids.shape[1]
        taken[span] = True
    assert (flat[0][~taken] == PAD).all()
    assert not flat[1][~taken].any()
    assert (rows.positions == 0).sum() == len(sequences)
    assert (rows.positions[:, 0] == 0).all()


# ---- exactness ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(
    spec=st.sampled_from(SPECS), seeds=st.lists(st.integers(0, 50), min_size=2, max_size=6), width=st.integers(1, 600)
)
def test_loss_and_gradients_of_packed_rows_are_those_of_padded_ones(spec, seeds, width):
    torch.manual_seed(0)
    module = tiny_module()
    samples = [random_sample(seed) for seed in seeds]
    padded, packed = (_batch(module.tokenizer, spec, samples, pack) for pack in (0, width))
    assert packed.keys == padded.keys
    assert_same(learned(module, [packed]), learned(module, [padded]))


def test_loss_and_gradients_are_those_of_each_sample_alone():
    torch.manual_seed(0)
    module = tiny_module()
    samples = [random_sample(seed) for seed in range(5)]
    alone = [_batch(module.tokenizer, "I+3+T-I+3", [sample], 0) for sample in samples]
    for pack, cuts in ((0, (5,)), (700, (5,)), (700, (2, 5)), (0, (1, 4, 5))):
        starts = (0, *cuts[:-1])
        split = [_batch(module.tokenizer, "I+3+T-I+3", samples[a:b], pack) for a, b in zip(starts, cuts, strict=True)]
        assert_same(learned(module, split), learned(module, alone))


def test_shapes_that_see_themselves_see_nothing_of_their_neighbours():
    torch.manual_seed(0)
    module = LanguageModule(shapes.TOKENIZER, backbone=TINY, total_steps=1, bidirectional_shapes=True)
    samples = [shapes.sample(seed, objects) for seed, objects in ((0, 2), (1, 1), (2, 1))]
    padded, packed = (_batch(shapes.TOKENIZER, "3-I", samples, pack) for pack in (0, 200))
    assert len(packed.ids) < len(padded.ids)
    assert_same(learned(module, [packed]), learned(module, [padded]))


def test_recomputed_blocks_have_the_same_gradients():
    batch = _batch(tiny_module().tokenizer, "I-3", [random_sample(seed) for seed in range(3)], 300)
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        found.append(learned(tiny_module(gradient_checkpointing=recompute), [batch]))
    assert_same(found[1], found[0])


def test_recomputed_blocks_keep_less_for_the_backward_pass():
    batch = _batch(tiny_module().tokenizer, "I-3", [random_sample(seed) for seed in range(3)], 0)
    kept = []
    for recompute in (False, True):
        module = tiny_module(gradient_checkpointing=recompute)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            module.loss_sum(batch.ids, batch.weights)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


# ---- masks ----------------------------------------------------------------------------------------------------------


def _rows_and_spans():
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5, 6, 7]])
    spans = torch.tensor([[-1, 1, 1, -1, 2, 2, -1, -1], [-1, -1, -1, 1, 1, 1, -1, -1]])
    return positions, spans


@pytest.mark.parametrize("with_spans", [False, True])
def test_masks_of_blocks_are_the_dense_ones(with_spans):
    positions, spans = _rows_and_spans()
    given_spans = spans if with_spans else None
    dense = within_sequences(positions, given_spans)
    sees = within_sequences(positions, given_spans, blocks=True).mask_mod
    for row, _, query, key in np.ndindex(*dense.shape):
        owners = (positions[row] == 0).cumsum(0)
        wanted = bool(key <= query and owners[query] == owners[key])
        wanted |= with_spans and bool(spans[row, query] == spans[row, key] >= 0)
        place = [torch.tensor(one) for one in (row, 0, query, key)]
        assert bool(dense[row, 0, query, key]) == bool(sees(*place)) == wanted


@pytest.mark.slow
@torch.no_grad()
def test_attention_over_blocks_is_attention_with_the_dense_mask(monkeypatch):
    torch.manual_seed(0)
    module = tiny_module().eval()
    batch = _batch(module.tokenizer, "I+3+Q-A", [random_sample(seed) for seed in range(5)], 400)
    expected = module.loss_sum(batch.ids, batch.weights, batch.positions)
    monkeypatch.setattr(
        "kyvo.models.language_model.within_sequences", lambda positions: within_sequences(positions, blocks=True)
    )
    assert_same(module.loss_sum(batch.ids, batch.weights, batch.positions), expected)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [0, 400])
def test_the_blocks_compile_whole_and_learn_the_same(pack, monkeypatch):
    torch.manual_seed(0)
    module = tiny_module()
    batches = [
        _batch(module.tokenizer, "I+3+Q-A", [random_sample(seed) for seed in seeds], pack)
        for seeds in (range(4), range(4, 7))
    ]
    expected = learned(module, batches)
    from kyvo.models import language_model

    whole = torch.compile(language_model._run, fullgraph=True)
    monkeypatch.setattr(language_model, "_compiled_run", lambda: whole)
    module.model.compiled = True
    assert_same(learned(module, batches), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_packed_rows_learn_the_same_on_a_gpu(compiled):
    torch.manual_seed(0)
    module = tiny_module(compile=compiled).cuda()
    samples = [random_sample(seed) for seed in range(6)]
    padded, packed = (_batch(module.tokenizer, "I+3+Q-A", samples, pack).to("cuda") for pack in (0, 400))
    ours, expected = learned(module, [packed]), learned(module, [padded])
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_transformers_own_attention_keeps_sequences_apart_or_refuses():
    torch.manual_seed(0)
    module = tiny_module()
    batch = _batch(module.tokenizer, "I-3", [random_sample(seed) for seed in range(4)], 400)
    expected = module.loss_sum(batch.ids, batch.weights, batch.positions)
    for name in ("sdpa", "eager"):
        module.model.set_attn_implementation(name)
        assert_same(module.loss_sum(batch.ids, batch.weights, batch.positions), expected)
    module.model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="packed rows need attention that takes a mask"):
        module.loss_sum(batch.ids, batch.weights, batch.positions)


# ---- the stream -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"), scenes={"train": 10})


def test_a_packed_stream_holds_the_same_samples_in_fewer_cells(root):
    index, spec = Index.read(root), "I+3+Q-A"
    supply = Supply(workload(spec), root, task_shards(index, Task.parse(spec), "train"))
    streams = [BatchStream([supply], tiny_tokenizer(), Mixture([1.0], 3), batch_size=4, pack=pack) for pack in (0, 200)]
    padded, packed = (list(islice(stream, 6)) for stream in streams)
    assert [batch.keys for batch in packed] == [batch.keys for batch in padded]
    assert sum(batch.ids.numel() for batch in packed) < sum(batch.ids.numel() for batch in padded)
    assert [float(batch.weights.sum()) for batch in packed] == [float(batch.weights.sum()) for batch in padded]
    assert [batch.lengths.tolist() for batch in packed] == [batch.lengths.tolist() for batch in padded]


def test_a_packed_stream_can_be_entered_anywhere(root):
    index, specs = Index.read(root), ("I+3+Q-A", "I-3")
    supplies = [Supply(workload(spec), root, task_shards(index, Task.parse(spec), "train")) for spec in specs]
    stream = BatchStream(supplies, tiny_tokenizer(), Mixture([1.0, 2.0], 3), batch_size=3, bucket=2, pack=150)
    whole = list(islice(stream, 9))
    for ours, expected in zip(islice(stream.lane(4), 5), whole[4:], strict=True):
        assert torch.equal(ours.ids, expected.ids)
        assert torch.equal(ours.positions, expected.positions)


def test_codes_of_pictures_find_their_places_in_packed_rows():
    tokenizer = tiny_module().tokenizer
    given_codes = [random_sample(seed) for seed in range(4)]
    pixels = np.zeros((64, 64, 3), np.uint8)
    pictures = [replace(one, image=None, pixels=pixels) for one in given_codes]
    blank = _batch(tokenizer, "I-3", pictures, 400)
    codes = torch.from_numpy(np.stack([one.image for one in given_codes]))
    filled = blank.filled(codes, tokenizer.vocabulary.image_range.start)
    assert torch.equal(filled.ids, _batch(tokenizer, "I-3", given_codes, 400).ids)


def test_lightning_moves_the_positions_too():
    batch = _batch(tiny_module().tokenizer, "I-3", [random_sample(0), random_sample(1)], 400)
    assert batch.to("meta").positions.device.type == "meta"
