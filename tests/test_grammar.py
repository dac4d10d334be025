import random

import pytest
import torch

from kyvo.scene import SCHEMAS, Attribute, SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

WORDS = ("table", "coffee table", "coffee", "table lamp", "cereal box")
ROOM = SceneSchema(
    "room",
    (
        Attribute("shape", "[SHAPE]", values=WORDS),
        Attribute("location", "[LOCATION]", "numbers", quantities=("x", "y"), keys=(("3d_coords", 2),)),
    ),
)
QUICK = UnifiedTokenizer.from_preset(
    "quickstart", image_grid=(3, 4), image_codes=7, object_order="given", max_objects=3, max_text=5
)


def walk(grammar, rng):
    """Ids chosen uniformly among those allowed, until the final state."""
    ids, state = [], grammar.start
    while state != grammar.final:
        token = rng.choice(grammar.allowed_ids(int(grammar.mask_of[state])).tolist())
        ids.append(token)
        state = int(grammar.next[state, grammar.classes[token]])
        assert len(ids) <= grammar.max_length
    return ids


def follow(grammar, ids):
    """State after ids, or None where one is not allowed."""
    state = grammar.start
    for token in ids:
        if not grammar.allowed[grammar.mask_of[state], token]:
            return None
        state = int(grammar.next[state, grammar.classes[token]])
    return state


def check_walks(tokenizer, spec, times, rng):
    task = Task.parse(spec)
    grammar = tokenizer.grammar(task)
    for _ in range(times):
        ids = walk(grammar, rng)
        found = tokenizer.decode(task, ids)
        assert found.malformed == 0
        assert ids[-1] == tokenizer.vocabulary.eos
        if "image" in task.outputs:
            assert len(found.image) == tokenizer.image_length
            codes = [index for index in ids if index in tokenizer.vocabulary.image_range]
            assert len(codes) == tokenizer.image_length
        if "scene" in task.outputs:
            assert len(found.scene) <= tokenizer.layout.max_objects
            # What a walk writes is on the grid, so reading and writing it again changes nothing.
            assert tokenizer.codec.decode(tokenizer.codec.encode(found.scene)[1:-1]) == (found.scene, 0)
        if "text" in task.outputs:
            assert isinstance(found.text, str)


@pytest.mark.parametrize("spec", ["3-I", "I-3", "I+3+T-I+3", "3+I+T-3+I", "I+3+Q-A", "I-T+3"])
def test_walks_of_tasks(spec):
    check_walks(QUICK, spec, 40, random.Random(0))


PAIRS = [(preset, schema) for preset in ("quickstart", "unified") for schema in (*SCHEMAS, ROOM)]
PAIRS += [("kyvo-release-objectron", schema) for schema in ("objectron", "arkitscenes")]


@pytest.mark.parametrize(("preset", "schema"), PAIRS)
def test_walks_of_schemas(preset, schema):
    tokenizer = UnifiedTokenizer.from_preset(
        preset, schema=schema, shape_codes=64, image_codes=7, image_grid=(2, 2), max_objects=3, object_order="given"
    )
    check_walks(tokenizer, "I-3", 15, random.Random(1))


def test_walks_reach_every_count_of_objects_and_every_word():
    tokenizer = UnifiedTokenizer.from_preset("quickstart", schema=ROOM, max_objects=3, object_order="given")
    task, rng = Task.parse("I-3"), random.Random(2)
    scenes = [tokenizer.decode(task, walk(tokenizer.grammar(task), rng)).scene for _ in range(150)]
    assert {len(scene) for scene in scenes} == {0, 1, 2, 3}
    assert {item["shape"] for scene in scenes for item in scene} == set(WORDS)


def test_max_length_is_the_longest_sequence():
    # Twelve codes, two markers, the end.
    assert QUICK.grammar(Task.parse("3-I")).max_length == 12 + 2 + 1
    # Objects have 2 + 4 * 2 + 1 + 3 ids, as every CLEVR word is one id.
    assert QUICK.grammar(Task.parse("I-3")).max_length == 3 * 14 + 2 + 1
    assert QUICK.grammar(Task.parse("I+3+Q-A")).max_length == 5 + 2 + 1
    assert QUICK.grammar(Task.parse("I+3+T-I+3")).max_length == 14 + 44 + 1


def test_steps_of_free_text():
    vocabulary, task = QUICK.vocabulary, Task.parse("I+3+Q-A")
    grammar, word = QUICK.grammar(task), QUICK.text.encode(" cube")
    start, end = vocabulary.marker("[TEXT-START]"), vocabulary.marker("[TEXT-END]")
    assert follow(grammar, [start, end, vocabulary.eos]) == grammar.final
    full = follow(grammar, [start, *word * 5])
    assert grammar.allowed_ids(int(grammar.mask_of[full])).tolist() == [end]
    partial = follow(grammar, [start, *word * 4])
    text = set(vocabulary.text_range) - {vocabulary.bos, vocabulary.eos, vocabulary.pad}
    assert grammar.allowed_ids(int(grammar.mask_of[partial])).tolist() == sorted(text | {end})
    assert follow(grammar, [start, *word * 6]) is None


def test_answers_restrict_text():
    task = Task.parse("I+3+Q-A")
    answers = ("True", "False", "Truetrue", "10", "1", "a long answer")
    grammar = QUICK.grammar(task, answers)
    rng = random.Random(3)
    found = [QUICK.decode(task, walk(grammar, rng)) for _ in range(100)]
    assert {item.text for item in found} == set(answers)
    assert grammar is QUICK.grammar(task, answers)
    assert grammar is not QUICK.grammar(task)


def test_the_final_state_stays_and_pads():
    grammar, vocabulary = QUICK.grammar(Task.parse("I-3")), QUICK.vocabulary
    assert grammar.allowed_ids(int(grammar.mask_of[grammar.final])).tolist() == sorted({vocabulary.eos, vocabulary.pad})
    assert set(grammar.next[grammar.final].tolist()) == {grammar.final}


def test_tensors():
    grammar = QUICK.grammar(Task.parse("I+3+T-I+3"))
    masks, size = grammar.allowed.shape
    states, classes = grammar.next.shape
    assert size == QUICK.vocabulary.size
    assert grammar.classes.shape == (size,)
    assert grammar.mask_of.shape == (states,)
    assert [t.dtype for t in (grammar.allowed, grammar.mask_of, grammar.classes, grammar.next)] == [
        torch.bool,
        torch.int64,
        torch.int64,
        torch.int64,
    ]
    assert int(grammar.classes.max()) == classes - 1
    assert len(torch.unique(grammar.allowed, dim=0)) == masks
    assert torch.unique(grammar.next, dim=1).shape == grammar.next.shape
    assert grammar.allowed.any(dim=1).all()
    moved = grammar.to("cpu")
    assert torch.equal(moved.next, grammar.next)
    assert (moved.start, moved.final, moved.max_length) == (grammar.start, grammar.final, grammar.max_length)


def test_batched_decoding_with_random_scores_stays_inside():
    torch.manual_seed(0)
    task, batch = Task.parse("I+3+T-I+3"), 16
    grammar = QUICK.grammar(task)
    state, written = torch.full((batch,), grammar.start), []
    for _ in range(grammar.max_length):
        scores = torch.randn(batch, QUICK.vocabulary.size)
        token = scores.masked_fill(~grammar.allowed[grammar.mask_of[state]], -torch.inf).argmax(dim=1)
        written.append(token)
        state = grammar.next[state, grammar.classes[token]]
    assert (state == grammar.final).all()
    for row in torch.stack(written, dim=1):
        found = QUICK.decode(task, row)
        assert found.malformed == 0
        assert len(found.image) == 12


def test_the_papers_vocabulary_needs_few_masks(golden):
    tokenizer = UnifiedTokenizer.from_preset("paper", text=golden / "llama3_tokenizer")
    grammar = tokenizer.grammar(Task.parse("I+3+T-I+3"))
    assert grammar.allowed.shape[1] == 137_607
    assert grammar.allowed.shape[0] < 40
    assert grammar.next.shape[1] < 64
    check_walks(tokenizer, "I+3+T-I+3", 2, random.Random(4))
    free = tokenizer.grammar(Task.parse("I+3+Q-A"))
    assert not free.allowed[:, 128_002:128_004].any()  # reserved ids are no text
