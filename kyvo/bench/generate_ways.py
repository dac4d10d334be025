"""Ways of writing that `kyvo bench generate` compares: ours, the official code's, and transformers' own.

Letters: B batch, P prompt positions, S positions, T generated positions, V vocabulary.
"""

import random
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from kyvo.bench.train_batch import LLAMA_TEXT_IDS
from kyvo.generation.decode import generate
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS, Scene
from kyvo.task import Task
from kyvo.tokenizers.grammar import Grammar, compile_grammar
from kyvo.tokenizers.scenes import SceneCodec
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

Way = Literal["ours", "official", "hf"]

WAYS: tuple[Way, ...] = ("ours", "official", "hf")
"""In the order in which they take turns."""


@dataclass(frozen=True)
class Work:
    """Prompts and what is to be written after them.

    Args:
        prompts: int64 [B, P]; all are as long.
        grammar: of what is written.
    """

    prompts: Tensor
    grammar: Grammar

    @classmethod
    def random(cls, spec: str, batch_size: int, objects: int, image_codes: int | None = None) -> "Work":
        """Random scenes and images in the layout of preset `paper`, over its vocabulary.

        Llama's text tokenizer is nobody's to ship: the small one writes the text, and every other id moves up behind
        Llama's, so that lengths and sizes are the paper's.

        Args:
            spec: The task.
            batch_size: B.
            objects: Objects of every scene that is read or written.
            image_codes: Codes of an image, a square number; default is the paper's 256.
        """
        grid = None if image_codes is None else (round(image_codes**0.5),) * 2
        tokenizer, task = UnifiedTokenizer.from_preset("paper", image_grid=grid), Task.parse(spec)
        text = tokenizer.vocabulary.text
        vocabulary = replace(tokenizer.vocabulary, text=LLAMA_TEXT_IDS)
        rng = random.Random(0)
        rows = [tokenizer.prompt(task, _sample(rng, objects, tokenizer.image_length)) for _ in range(batch_size)]
        ids = np.stack(rows)
        layout = tokenizer.layout
        codec = SceneCodec(
            tokenizer.schema, vocabulary, tokenizer.numbers, tokenizer.text, layout.object_order, layout.clip
        )
        grammar = compile_grammar(
            task, vocabulary, codec, tokenizer.image_length, objects, (), layout.max_text, min_objects=objects
        )
        return cls(torch.from_numpy(np.where(ids < text, ids, ids + LLAMA_TEXT_IDS - text)), grammar)

    def to(self, device: str) -> "Work":
        """The same on a device."""
        return Work(self.prompts.to(device), self.grammar)


def _sample(rng: random.Random, objects: int, codes: int) -> Sample:
    schema = SCHEMAS["clevr"]
    words = [attribute for attribute in schema.attributes if attribute.kind == "word"]
    places = [[round(rng.uniform(-3, 3), 2) for _ in range(2)] + [0.7] for _ in range(objects)]
    made = [{one.name: rng.choice(one.values) for one in words} | {"3d_coords": place} for place in places]
    scene: Scene = schema.read({"objects": made})
    return Sample(key="", image=np.array([rng.randrange(1024) for _ in range(codes)]), scene=scene)


class Writer:
    """Writes the same work in each way, with the same weights.

    Args:
        model: The model, in evaluation mode.
        plain: The same as a plain Llama, whose embedding is one table.
        compiled: Whether our way compiles the blocks.
    """

    def __init__(self, model: KyvoForCausalLM, plain: LlamaForCausalLM, compiled: bool = False) -> None:
        self.model, self.plain, self.compiled = model, plain, compiled

    def write(self, way: Way, work: Work) -> Tensor:
        """What is written after each prompt `[B, T]`, end and padding included, by a way."""
        if way == "ours":
            return generate(self.model, work.grammar, list(work.prompts), compiled=self.compiled)
        return self._official(work) if way == "official" else self._hf(work)

    @torch.no_grad()
    def _official(self, work: Work) -> Tensor:
        """One prompt at a time; for each token the whole sequence anew, with float32 logits at every position."""
        grammar = work.grammar.to(work.prompts.device)
        rows = []
        for prompt in work.prompts:
            ids, state = prompt[None], torch.tensor([grammar.start], device=prompt.device)
            while int(state) != grammar.final:
                logits = self.plain(ids, use_cache=False).logits.float()[:, -1]
                token = logits.masked_fill(~grammar.allowed[grammar.mask_of[state]], -torch.inf).argmax(dim=-1)
                state = grammar.next[state, grammar.classes[token]]
                ids = torch.cat([ids, token[None]], dim=1)
            rows.append(ids[0, len(prompt) :])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.model.vocabulary.pad)

    def _hf(self, work: Work) -> Tensor:
        """Transformers' `generate`, its cache and its greedy search, bound to the grammar by a `LogitsProcessor`."""
        words = self.model.vocabulary
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=work.grammar.max_length,
            bos_token_id=words.bos,
            eos_token_id=words.eos,
            pad_token_id=words.pad,
        )
        ids: Tensor = self.plain.generate(
            work.prompts,
            attention_mask=torch.ones_like(work.prompts),
            generation_config=config,
            logits_processor=LogitsProcessorList([GrammarProcessor(work.grammar.to(work.prompts.device))]),
        )
        return ids[:, work.prompts.shape[1] :]


class GrammarProcessor(LogitsProcessor):
    """Sets logits to minus infinity where a grammar forbids an id.

    Args:
        grammar: On the device of the logits.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.state: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Bind the logits `[B, V]` of the ids that follow `[B, S]`; called once for each position."""
        grammar = self.grammar
        if self.state is None:
            self.state = torch.full((len(input_ids),), grammar.start, device=input_ids.device)
        else:
            self.state = grammar.next[self.state, grammar.classes[input_ids[:, -1]]]
        return scores.masked_fill(~grammar.allowed[grammar.mask_of[self.state]], -torch.inf)
