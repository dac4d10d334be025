"""Batched decoding with a key-value cache, bound to a grammar.

Letters: B batch, P prompt positions, T generated positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from kyvo.models.language_model import KyvoForCausalLM
from kyvo.tokenizers.grammar import Grammar


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen among those that the grammar allows.

    Attributes:
        temperature: 0 takes the most likely token (greedy, as the official code); else logits are divided by it.
        top_k: Keep this many most likely tokens; 0 keeps all.
        top_p: Keep the most likely tokens up to this much probability, (0, 1].
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"expected temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got {self}")

    def choose(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Next ids `[B]` from logits `[B, V]`, which are minus infinity where an id is not allowed."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        logits = logits / self.temperature
        if self.top_k:
            least = logits.topk(min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1:
            logits = _keep_nucleus(logits, self.top_p)
        return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def _keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    ordered, order = logits.sort(dim=-1, descending=True)
    probability = ordered.softmax(dim=-1)
    # A token stays while the probability before it is below top_p, so the first always stays.
    cut = probability.cumsum(dim=-1) - probability >= top_p
    return logits.masked_fill(torch.zeros_like(cut).scatter(-1, order, cut), -torch.inf)


def pad_left(prompts: list[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Stack prompts of different lengths against a common right edge.

    Args:
        prompts: Ids of each prompt `[P_i]`.
        pad: Id that fills the left.

    Returns:
        Ids `[B, P]` and a mask `[B, P]` of the real ones.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long, device=prompts[0].device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return ids, mask


@torch.no_grad()
def generate(
    model: KyvoForCausalLM,
    grammar: Grammar,
    prompts: list[Tensor],
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Write what the grammar admits after each prompt, all rows at once.

    Whatever the weights, every row is a sentence of the grammar: a parseable scene, an exact number of image codes, a
    closed answer. Rows that have ended go on with padding until the last one ends.

    Args:
        model: The language model, in evaluation mode.
        grammar: Of the task's outputs; moved to the model's device.
        prompts: Ids of each prompt, up to and with [OUTPUT-START] `[P_i]`.
        sampling: Greedy by default.
        generator: Random numbers for sampling.

    Returns:
        Generated ids `[B, T]`, end-of-sequence and padding included, T at most `grammar.max_length`.
    """
    return torch.stack([token for token, _ in _steps(model, grammar, prompts, sampling, generator)], dim=1)


@torch.no_grad()
def generate_scored(
    model: KyvoForCausalLM,
    grammar: Grammar,
    prompts: list[Tensor],
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """As `generate`, and how likely the model held each id.

    Args:
        model: The language model, in evaluation mode.
        grammar: Of the task's outputs; moved to the model's device.
        prompts: Ids of each prompt, up to and with [OUTPUT-START] `[P_i]`.
        sampling: Greedy by default.
        generator: Random numbers for sampling.

    Returns:
        Generated ids `[B, T]`, and float32 `[B, T]` their log-probabilities among the ids that the grammar allows,
        before any temperature.
    """
    ids, scores = [], []
    for token, logits in _steps(model, grammar, prompts, sampling, generator):
        ids.append(token)
        scores.append(logits.log_softmax(dim=-1).gather(-1, token[:, None])[:, 0])
    return torch.stack(ids, dim=1), torch.stack(scores, dim=1)


def object_confidences(
    ids: Sequence[int] | np.ndarray, log_probabilities: Sequence[float] | np.ndarray, opening: int, closing: int
) -> tuple[float, ...]:
    """How sure the model was of each object that it wrote: the geometric mean of its tokens' probabilities.

    Args:
        ids: What was generated `[T]`, bound to the grammar, which closes what it opens.
        log_probabilities: Of each id `[T]`.
        opening: Id of [OBJECT-START].
        closing: Id of [OBJECT-END].

    Returns:
        One number in (0, 1] for each object, its markers included, in the order of the scene.
    """
    written, scores = np.asarray(ids), np.asarray(log_probabilities, dtype=np.float64)
    starts, ends = np.flatnonzero(written == opening), np.flatnonzero(written == closing)
    return tuple(float(np.exp(scores[a : b + 1].mean())) for a, b in zip(starts, ends, strict=True))


def _steps(
    model: KyvoForCausalLM,
    grammar: Grammar,
    prompts: list[Tensor],
    sampling: Sampling | None,
    generator: torch.Generator | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids `[B]` and the logits `[B, V]` that each was chosen by, minus infinity where the grammar forbids an id."""
    sampling = sampling or Sampling()
    device = model.lm_head.weight.device
    grammar = grammar.to(device)
    ids, mask = pad_left([prompt.to(device) for prompt in prompts], model.config.pad_token_id)
    state = torch.full((len(prompts),), grammar.start, device=device)
    seen = torch.zeros(len(prompts), dtype=torch.long, device=device)
    cache = DynamicCache(config=model.config)
    position = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    # A sentence of the grammar has at most max_length ids, so this ends with every row in the final state.
    for _ in range(grammar.max_length):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            images_seen=seen,
        )
        seen = seen + model.embedding.is_image(ids).sum(dim=-1)
        allowed = grammar.allowed[grammar.mask_of[state]]
        logits = output.logits[:, -1].float().masked_fill(~allowed, -torch.inf)
        token = sampling.choose(logits, generator)
        state = grammar.next[state, grammar.classes[token]]
        yield token, logits
        if bool((state == grammar.final).all()):
            break
        ids, position = token[:, None], position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
