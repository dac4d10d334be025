"""Decoding: always well-formed, padding exact, the cache equal to recomputation, sampling within its limits."""

import copy

import pytest
import torch
from torch import nn

from kyvo.generation import block_products
from kyvo.generation import decode as decoding
from kyvo.generation.block_products import BlockProducts, copied
from kyvo.generation.confidence import object_confidences
from kyvo.generation.decode import decode, generate, pad_left
from kyvo.generation.sampling import Sampling
from kyvo.generation.writing import write_hypotheses
from kyvo.task import Task
from kyvo.training.adapters import Lora, add_adapters
from kyvo.training.backbone import Backbone
from tests.worlds import random_sample, tiny_module, workload

SPECS = ["3-I", "I-3", "I+3+T-I+3", "I+3+Q-A", "3+T-3"]


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    made = tiny_module().eval()
    # Larger weights than training starts from, so that rows differ from each other.
    for parameter in made.parameters():
        parameter.data.mul_(8)
    return made


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0)], ids=["greedy", "sampled"])
def test_random_weights_write_well_formed_outputs_in_batch(module, spec, sampling):
    task = Task.parse(spec)
    module.sampling = sampling
    for written in module.generate(workload(task), [random_sample(seed) for seed in range(12)]):
        assert written.malformed == 0
        assert ("image" in task.outputs) == (written.image is not None and written.image.shape == (64,))
        assert ("scene" in task.outputs) == (written.scene is not None)
        assert ("text" in task.outputs) == (written.text is not None)


@pytest.mark.parametrize("spec", SPECS)
def test_a_batch_writes_what_each_prompt_alone_would(module, spec):
    task = Task.parse(spec)
    grammar = module.tokenizer.grammar(task)
    prompts = [torch.as_tensor(module.tokenizer.prompt(task, random_sample(seed))) for seed in range(5)]
    assert len({len(prompt) for prompt in prompts}) > 1 or spec == "I-3"
    together = generate(module.model, grammar, prompts)
    for row, prompt in zip(together, prompts, strict=True):
        alone = generate(module.model, grammar, [prompt])[0]
        assert torch.equal(row[: len(alone)], alone)


def prompts_of(module, spec, seeds):
    return [torch.as_tensor(module.tokenizer.prompt(Task.parse(spec), random_sample(seed))) for seed in seeds]


@torch.no_grad()
def recomputed(model, grammar, prompt, written):
    """Log-probabilities [T, V] among allowed ids, of whole sequences without a cache; checks that ids are allowed."""
    logits, state, rows = model(input_ids=torch.cat([prompt, written])[None]).logits[0].float(), grammar.start, []
    for step, token in enumerate(written):
        allowed = grammar.allowed[grammar.mask_of[state]]
        assert allowed[token]
        rows.append(logits[len(prompt) + step - 1].masked_fill(~allowed, -torch.inf).log_softmax(-1))
        state = int(grammar.next[state, grammar.classes[token]])
        if state == grammar.final:
            break
    assert state == grammar.final
    return torch.stack(rows)


def check_greedy(model, grammar, prompt, written):
    scores = recomputed(model, grammar, prompt, written)
    assert scores.argmax(-1).tolist() == written[: len(scores)].tolist()
    return scores


@pytest.mark.parametrize("spec", ["3-I", "I-3", "I+3+Q-A"])
def test_the_cache_gives_what_recomputing_the_whole_sequence_gives(module, spec):
    grammar = module.tokenizer.grammar(Task.parse(spec))
    prompts = prompts_of(module, spec, range(4))
    for prompt, row in zip(prompts, generate(module.model, grammar, prompts), strict=True):
        check_greedy(module.model, grammar, prompt, row)


@pytest.mark.parametrize("spec", ["3-I", "I-3", "3+T-3"])
def test_heads_that_share_keys_and_a_table_of_plain_codes(spec):
    torch.manual_seed(1)
    shared = tiny_module(backbone=Backbone(64, 2, 4, key_value_heads=2), embeddings=decodable()).eval()
    for parameter in shared.parameters():
        parameter.data.mul_(6)
    grammar = shared.tokenizer.grammar(Task.parse(spec))
    prompts = prompts_of(shared, spec, range(3))
    for prompt, row in zip(prompts, generate(shared.model, grammar, prompts), strict=True):
        check_greedy(shared.model, grammar, prompt, row)


def decodable():
    from kyvo.training.backbone import NewEmbeddings

    return NewEmbeddings(image_positions=False)


@pytest.mark.parametrize("spec", ["I-3", "3+T-3"])
def test_adapters_are_part_of_what_writes(module, spec):
    adapted = tiny_module().eval()
    adapted.model.load_state_dict(module.model.state_dict())
    add_adapters(adapted.model, Lora(rank=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    grammar = module.tokenizer.grammar(Task.parse(spec))
    prompts = prompts_of(module, spec, range(3))
    assert copied(adapted.model.model) is None
    rows = generate(adapted.model.eval(), grammar, prompts)
    for prompt, row in zip(prompts, rows, strict=True):
        check_greedy(adapted.model, grammar, prompt, row)
    assert rows.tolist() != generate(module.model, grammar, prompts).tolist()


def test_copies_of_weights_give_what_the_modules_give(module):
    blocks, hidden = copy.deepcopy(module.model.model), torch.randn(5, 32)
    block = blocks.layers[0]
    for norm in (block.input_layernorm, block.post_attention_layernorm):
        norm.weight.data.uniform_(0.5, 2)
    own, fast = BlockProducts(block), copied(blocks)[0]
    with torch.inference_mode():
        seen = own.project(hidden)[:, :32]
        torch.testing.assert_close(fast.project(hidden), own.project(hidden), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast.join(hidden, seen), own.join(hidden, seen), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast.feed(hidden), own.feed(hidden), atol=1e-3, rtol=1e-4)


def test_weights_are_copied_only_where_that_is_safe_and_pays(module, monkeypatch):
    blocks = module.model.model
    assert [one.index for one in copied(blocks)] == [0, 1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert copied(blocks) is None
    assert copied(tiny_module().bfloat16().model.model) is None
    assert copied(tiny_module().to("meta").model.model) is None
    monkeypatch.setattr(blocks.config, "hidden_act", "gelu")
    assert copied(blocks) is None
    monkeypatch.undo()
    monkeypatch.setattr(block_products, "_MOST_COPIED", sum(one.numel() for one in blocks.layers.parameters()) - 1)
    assert copied(blocks) is None


class Shell(nn.Module):
    """What sharding puts around a block."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, *args, **kwargs):
        return self.block(*args, **kwargs)


def test_blocks_in_a_shell_are_called_as_a_whole(module):
    grammar = module.tokenizer.grammar(Task.parse("3+T-3"))
    prompts = prompts_of(module, "3+T-3", range(4))
    expected = decode(module.model, grammar, prompts, scored=True)
    layers = module.model.model.layers
    blocks = list(layers)
    try:
        layers[0], layers[1] = Shell(blocks[0]), Shell(blocks[1])
        found = decode(module.model, grammar, prompts, scored=True)
    finally:
        layers[0], layers[1] = blocks
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.log_probabilities, expected.log_probabilities, atol=1e-4, rtol=1e-4)


def test_confidences_are_those_of_recomputing_the_whole_sequence(module):
    task, tokenizer = Task.parse("I-3"), module.tokenizer
    grammar, prompts = tokenizer.grammar(task), prompts_of(module, "I-3", range(3))
    found = decode(module.model, grammar, prompts, scored=True)
    assert torch.equal(found.ids, generate(module.model, grammar, prompts))
    for prompt, row, scores in zip(prompts, found.ids, found.log_probabilities, strict=True):
        expected = recomputed(module.model, grammar, prompt, row)
        taken = expected.gather(-1, row[: len(expected), None])[:, 0]
        torch.testing.assert_close(scores[: len(expected)], taken, atol=1e-4, rtol=1e-4)
        assert (scores[len(expected) :] == 0).all()
    codec = tokenizer.codec
    for line, score in zip(found.ids, found.log_probabilities, strict=True):
        one = object_confidences(line, score, codec.open, codec.close)
        assert len(one) == len(tokenizer.decode(task, line.numpy()).scene)
        assert all(0 < sure <= 1 for sure in one)


@pytest.mark.parametrize("weights", [False, True], ids=["autocast", "weights"])
def test_in_bfloat16_scores_are_those_of_recomputing(module, weights):
    grammar, prompts = module.tokenizer.grammar(Task.parse("3-I")), prompts_of(module, "3-I", range(2))
    if weights:
        module = copy.deepcopy(module)
        # Of larger weights bfloat16 makes another model: its own two ways would be far from each other.
        for parameter in module.parameters():
            parameter.data.mul_(0.4)
        module = module.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not weights):
        found = decode(module.model, grammar, prompts, scored=True)
        for prompt, row, scores in zip(prompts, found.ids, found.log_probabilities, strict=True):
            taken = recomputed(module.model, grammar, prompt, row).gather(-1, row[:, None])[:, 0]
            torch.testing.assert_close(scores, taken, atol=0.2, rtol=0.05)


def test_sentences_that_have_ended_leave_and_change_nothing(module, monkeypatch):
    grammar = module.tokenizer.grammar(Task.parse("I-3"))
    prompts = prompts_of(module, "I-3", range(12))
    kept = []
    leave = decoding.CachedBlocks.keep
    monkeypatch.setattr(decoding.CachedBlocks, "keep", lambda self, rows: kept.append(len(rows)) or leave(self, rows))
    found = decode(module.model, grammar, prompts, Sampling(temperature=1.0), scored=True)
    lengths = (found.ids != module.tokenizer.vocabulary.pad).sum(-1)
    assert kept
    assert all(0 < later < earlier for earlier, later in zip([12, *kept], kept, strict=False))
    assert lengths.max() == found.ids.shape[1] > lengths.min()
    for prompt, row, scores in zip(prompts, found.ids, found.log_probabilities, strict=True):
        expected = recomputed(module.model, grammar, prompt, row)
        taken = expected.gather(-1, row[: len(expected), None])[:, 0]
        torch.testing.assert_close(scores[: len(expected)], taken, atol=1e-4, rtol=1e-4)


def test_what_is_forced_is_read_along(module, monkeypatch):
    task = Task.parse("I-3")
    runs = []
    run = decoding.CachedBlocks.step
    monkeypatch.setattr(
        decoding.CachedBlocks, "step", lambda self, vectors: runs.append(vectors.shape[1]) or run(self, vectors)
    )
    written = generate(module.model, module.tokenizer.grammar(task), prompts_of(module, "I-3", [0]))[0]
    objects = len(module.tokenizer.decode(task, written.numpy()).scene)
    assert 0 < objects < module.tokenizer.layout.max_objects
    # Of an object's 14 ids: whether there is one; its first marker, where another scene would end; words and numbers.
    assert len(runs) == objects * (1 + 1 + 4 + 3) + 2
    assert sum(runs) <= objects * 14 + 3 - 1


def test_hypotheses_are_ordered_by_likelihood(module):
    task, sampling = Task.parse("3+T-3"), Sampling(temperature=1.0, hypotheses=3)
    samples = [random_sample(seed) for seed in range(3)]
    grammar, prompts = module.tokenizer.grammar(task), prompts_of(module, "3+T-3", range(3))
    torch.manual_seed(0)
    found = decode(module.model, grammar, prompts, sampling, scored=True)
    assert len(found.ids) == 9
    sums = [
        float(recomputed(module.model, grammar, prompts[row // 3], ids).gather(-1, ids[:, None])[:, 0].sum())
        for row, ids in enumerate(found.ids[:, :])
        if ids[-1] == module.tokenizer.vocabulary.eos
    ]
    assert sums
    torch.manual_seed(0)
    written = write_hypotheses(module.model, module.tokenizer, task, samples, sampling)
    likely = found.log_probabilities.sum(-1).reshape(3, 3)
    for place, one in enumerate(written):
        order = likely[place].argsort(descending=True)
        expected = [module.tokenizer.decode(task, found.ids[3 * place + row].numpy()) for row in order]
        assert one == expected
    torch.manual_seed(0)
    module.sampling = sampling
    assert module.generate(workload(task), samples) == [one[0] for one in written]


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["3-I", "I-3"])
def test_compiled_steps_write_the_same(module, spec):
    grammar, prompts = module.tokenizer.grammar(Task.parse(spec)), prompts_of(module, spec, range(3))
    assert torch.equal(
        generate(module.model, grammar, prompts, compiled=True), generate(module.model, grammar, prompts)
    )


@pytest.mark.gpu
@pytest.mark.parametrize("spec", ["3-I", "I-3"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_writes_what_a_cpu_writes(module, spec, compiled):
    grammar, prompts = module.tokenizer.grammar(Task.parse(spec)), prompts_of(module, spec, range(3))
    expected = generate(module.model, grammar, prompts)
    try:
        for _ in range(2):
            found = generate(module.model.cuda(), grammar, prompts, compiled=compiled).cpu()
            assert torch.equal(found[:, : expected.shape[1]], expected)
            assert (found[:, expected.shape[1] :] == module.tokenizer.vocabulary.pad).all()
    finally:
        module.model.cpu()


def test_an_objects_confidence_is_the_geometric_mean_of_its_tokens():
    logs = torch.log(torch.tensor([0.1, 0.5, 0.5, 0.5, 0.9, 0.2, 0.8, 0.3]))
    found = object_confidences([0, 7, 1, 8, 7, 2, 8, 3], logs, opening=7, closing=8)
    assert found == pytest.approx((0.5, (0.9 * 0.2 * 0.8) ** (1 / 3)))


def test_sampling_is_reproducible_and_keeps_to_its_limits():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 1)
    draw = lambda **options: Sampling(temperature=1.0, **options).choose(logits, torch.Generator().manual_seed(0))  # noqa: E731
    assert torch.equal(draw(), draw())
    assert abs((draw() == 0).float().mean() - 0.5) < 0.03
    assert set(draw(top_k=2).tolist()) == {0, 1}
    assert set(draw(top_p=0.75).tolist()) == {0, 1}
    assert set(draw(top_p=0.01).tolist()) == {0}
    for wrong in ({"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"hypotheses": 2}, {"refine_bins": 0}):
        with pytest.raises(ValueError, match="expected"):
            Sampling(**wrong)


def test_left_padding():
    ids, mask = pad_left([torch.tensor([5, 6]), torch.tensor([7])], pad=9)
    assert ids.tolist() == [[5, 6], [9, 7]]
    assert mask.tolist() == [[1, 1], [0, 1]]
