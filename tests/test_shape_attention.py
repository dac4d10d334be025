"""Attention between the codes of a shape that is read: in both directions there, causal everywhere else."""

import random

import numpy as np
import pytest
import torch

from kyvo.generation.decode import generate, pad_left
from kyvo.models.attention import input_shape_spans
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.language import LanguageModule
from tests.worlds import TINY

N, CODES = 8, 16
SIZES = {"image_codes": 8, "image_grid": (2, 2), "shape_codes": CODES, "shape_length": N, "max_objects": 2}
TOKENIZER = UnifiedTokenizer.from_preset("quickstart", schema="objaworld-shapes", **SIZES)
READS, WRITES = Task.parse("3-I"), Task.parse("I-3")


def sample(seed, objects=2):
    rng = random.Random(seed)
    things = [
        {
            "shape_codes": [rng.randrange(CODES) for _ in range(N)],
            "3d_coords": [rng.uniform(-2, 2), 0.0, 0.0],
            "rotation": 1.0,
        }
        for _ in range(objects)
    ]
    scene = SCHEMAS["objaworld-shapes"].with_shape_length(N).read({"objects": things})
    return Sample(str(seed), image=np.array([rng.randrange(8) for _ in range(4)]), scene=scene)


def module(seed=0, **options):
    torch.manual_seed(seed)
    return LanguageModule(TOKENIZER, backbone=TINY, total_steps=1, **options).eval()


@pytest.fixture(scope="module")
def both():
    """The same weights, causal and with spans that see themselves."""
    causal, spans = module(), module(bidirectional_shapes=True)
    for ours, theirs in zip(causal.parameters(), spans.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    return causal.model, spans.model


def ids_of(task, seed=0, objects=2):
    return torch.from_numpy(TOKENIZER.encode(task, sample(seed, objects)).ids)[None]


def spans_of(ids):
    vocabulary = TOKENIZER.vocabulary
    return input_shape_spans(ids, vocabulary.shape_range, vocabulary.bos, vocabulary.marker("[OUTPUT-START]"))


@torch.no_grad()
def logits(model, ids, **arguments):
    return model(input_ids=ids, **arguments).logits


def changed(model, ids, place, code=None):
    """Positions whose logits differ once the id at a place is another one of the same kind."""
    other = ids.clone()
    first = TOKENIZER.vocabulary.shape_range.start
    other[0, place] = first + (int(ids[0, place]) - first + 1) % CODES
    differs = (logits(model, ids) != logits(model, other)).any(-1)[0]
    return differs.nonzero().flatten().tolist()


def shape_places(ids):
    codes = TOKENIZER.vocabulary.shape_range
    return [place for place, index in enumerate(ids[0].tolist()) if index in codes]


def test_spans_are_runs_of_codes_that_are_read():
    ids = ids_of(READS)
    places, spans = shape_places(ids), spans_of(ids)[0]
    assert spans[places].tolist() == [1] * N + [2] * N
    assert (spans >= 0).sum() == 2 * N
    assert (spans_of(ids_of(WRITES)) == -1).all()
    both_ways = ids_of(Task.parse("3-3"))
    assert ((spans_of(both_ways) >= 0).sum(), len(shape_places(both_ways))) == (2 * N, 4 * N)


def test_packed_sequences_and_padding_on_the_left_have_spans_of_their_own():
    first, second = ids_of(READS), ids_of(Task.parse("3-3"), seed=1, objects=1)
    packed = spans_of(torch.cat([first, second], 1))
    assert packed.max() == 3
    assert (packed[:, : first.shape[1]] == spans_of(first)).all()
    assert ((packed[:, first.shape[1] :] >= 0) == (spans_of(second) >= 0)).all()
    padded, _ = pad_left([first[0], second[0]], TOKENIZER.vocabulary.pad)
    assert (spans_of(padded)[1, -second.shape[1] :] == spans_of(second)[0]).all()


def test_off_is_the_plain_causal_model(both):
    causal, _ = both
    ids = ids_of(READS)
    plain = causal.lm_head(causal.model(inputs_embeds=causal.embedding(ids)).last_hidden_state)
    assert torch.equal(logits(causal, ids), plain)
    assert torch.equal(causal.hidden_states(ids), causal.model(inputs_embeds=causal.embedding(ids)).last_hidden_state)


def test_a_code_that_is_read_changes_its_own_span_and_what_follows(both):
    causal, spans = both
    ids = ids_of(READS)
    places, last = shape_places(ids), ids.shape[1] - 1
    later = places[N - 2]
    assert changed(causal, ids, later) == list(range(later, last + 1))
    # From the first code of its own shape on; not the marker before it, nor the other object.
    assert changed(spans, ids, later) == list(range(places[0], last + 1))
    second = places[N + 3]
    assert changed(spans, ids, second) == list(range(places[N], last + 1))


@pytest.mark.parametrize("task", ["I-3", "3-3"])
def test_what_is_written_is_never_seen_before_its_time(both, task):
    _, spans = both
    ids = ids_of(Task.parse(task))
    written = [place for place in shape_places(ids) if spans_of(ids)[0, place] < 0]
    for place in written[:: N // 2]:
        assert changed(spans, ids, place) == list(range(place, ids.shape[1]))


def test_a_scene_without_shapes_to_read_is_as_without(both):
    causal, spans = both
    ids = ids_of(WRITES)
    torch.testing.assert_close(logits(spans, ids), logits(causal, ids))


def test_masks_that_are_given_are_widened(both):
    _, spans = both
    first, second = ids_of(READS), ids_of(READS, seed=1, objects=1)
    packed = torch.cat([first, second], 1)
    lengths = [first.shape[1], second.shape[1]]
    owner = torch.repeat_interleave(torch.arange(2), torch.tensor(lengths))
    mask = ((owner[:, None] == owner) & torch.ones(len(owner), len(owner)).tril().bool())[None, None]
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    expected = torch.cat([spans.hidden_states(one) for one in (first, second)], 1)
    torch.testing.assert_close(spans.hidden_states(packed, mask, places), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(spans.hidden_states(packed, None, places), expected, atol=1e-5, rtol=1e-4)


def test_decoding_with_a_cache_equals_decoding_without(both):
    _, spans = both
    task = Task.parse("3-3")
    prompts = [torch.from_numpy(TOKENIZER.prompt(task, sample(seed, objects))) for seed, objects in ((0, 2), (1, 1))]
    grammar = TOKENIZER.grammar(task)
    written = generate(spans, grammar, prompts)
    for prompt, row in zip(prompts, written, strict=True):
        ids, state = prompt[None], grammar.start
        for token in row.tolist():
            scores = logits(spans, ids)[0, -1].masked_fill(~grammar.allowed[grammar.mask_of[state]], -torch.inf)
            assert int(scores.argmax()) == token
            state = int(grammar.next[state, grammar.classes[token]])
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
            if state == grammar.final:
                break


def test_it_is_saved_with_the_model_and_needs_ids(tmp_path, both):
    _, spans = both
    spans.save_pretrained(tmp_path)
    again = type(spans).from_pretrained(tmp_path).eval()
    ids = ids_of(READS)
    assert again.config.bidirectional_shapes
    torch.testing.assert_close(logits(again, ids), logits(spans, ids))
    with pytest.raises(ValueError, match="needs input_ids"):
        spans(inputs_embeds=spans.embedding(ids))
    again.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="takes a mask, which flash attention does not"):
        again.hidden_states(ids)
