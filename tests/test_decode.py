"""Decoding: always well-formed, padding exact, the cache equal to recomputation, sampling within its limits."""

import pytest
import torch

from kyvo.generation.decode import Sampling, generate, generate_scored, object_confidences, pad_left
from kyvo.task import Task
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


@pytest.mark.parametrize("spec", ["3-I", "I-3"])
def test_the_cache_gives_what_recomputing_the_whole_sequence_gives(module, spec):
    task = Task.parse(spec)
    grammar = module.tokenizer.grammar(task)
    prompt = torch.as_tensor(module.tokenizer.prompt(task, random_sample(3)))
    written = generate(module.model, grammar, [prompt])[0]
    ids, state = prompt, grammar.start
    for token in written:
        logits = module.model(input_ids=ids[None]).logits[0, -1]
        best = logits.masked_fill(~grammar.allowed[grammar.mask_of[state]], -torch.inf).argmax()
        assert best == token
        ids = torch.cat([ids, token[None]])
        state = int(grammar.next[state, grammar.classes[token]])
    assert state == grammar.final


def test_confidences_are_those_of_recomputing_the_whole_sequence(module):
    task = Task.parse("I-3")
    tokenizer = module.tokenizer
    grammar = tokenizer.grammar(task)
    prompts = [torch.as_tensor(tokenizer.prompt(task, random_sample(seed))) for seed in range(3)]
    ids, scores = generate_scored(module.model, grammar, prompts)
    assert torch.equal(ids, generate(module.model, grammar, prompts))
    assert (scores <= 0).all()
    row, state = ids[0], grammar.start
    whole = torch.cat([prompts[0], row])
    logits = module.model(input_ids=whole[None]).logits[0, len(prompts[0]) - 1 : -1]
    for step, token in enumerate(row):
        allowed = grammar.allowed[grammar.mask_of[state]]
        expected = logits[step].masked_fill(~allowed, -torch.inf).log_softmax(-1)[token]
        assert scores[0, step].item() == pytest.approx(expected.item(), abs=1e-4)
        state = int(grammar.next[state, grammar.classes[token]])
    codec = tokenizer.codec
    for line, score in zip(ids, scores, strict=True):
        found = object_confidences(line, score, codec.open, codec.close)
        assert len(found) == len(tokenizer.decode(task, line.numpy()).scene)
        assert all(0 < one <= 1 for one in found)


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
    for wrong in ({"temperature": -1}, {"top_k": -1}, {"top_p": 0}):
        with pytest.raises(ValueError, match="expected"):
            Sampling(**wrong)


def test_left_padding():
    ids, mask = pad_left([torch.tensor([5, 6]), torch.tensor([7])], pad=9)
    assert ids.tolist() == [[5, 6], [9, 7]]
    assert mask.tolist() == [[1, 1], [0, 1]]
