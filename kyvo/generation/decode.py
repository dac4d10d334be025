"""Batched decoding with a key-value cache, bound to a grammar.

Letters: B prompts, N hypotheses of each, P prompt positions, T generated positions, D hidden size, K candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kyvo.generation.cached_blocks import CachedBlocks
from kyvo.generation.choices import Choices
from kyvo.generation.sampling import Sampling
from kyvo.models.attention import input_shape_spans, within_spans
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.tokenizers.grammar import Grammar
from kyvo.tokenizers.grammar_steps import Candidates, GrammarStep

_STEPS_BETWEEN_LOOKS = 16
"""How often a GPU is asked which sentences have ended: asking makes the host wait. A CPU is asked at every step."""


@dataclass(frozen=True, eq=False)
class NumberScores:
    """What the model held of the numbers that could stand at a step.

    Args:
        step: Which generated position.
        rows: Rows that had not left by then, int64 [R].
        ids: Ids of numbers, int64 [Q].
        probabilities: Float32 [R, Q]; 0 for numbers that are not of the quantity's grid.
    """

    step: int
    rows: Tensor
    ids: Tensor
    probabilities: Tensor


@dataclass(frozen=True, eq=False)
class Decoded:
    """What was written; hypotheses of a prompt lie next to each other.

    Args:
        ids: Generated ids, end of sequence and padding included, int64 [B N, T].
        log_probabilities: Of each id among those that the grammar allowed, before any temperature, float32 [B N, T], 0
            on padding; None where that was not asked for.
        numbers: Scores of numbers, by step; empty where that was not asked for.
    """

    ids: Tensor
    log_probabilities: Tensor | None = None
    numbers: Sequence[NumberScores] = ()


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


def generate(
    model: KyvoForCausalLM,
    grammar: Grammar,
    prompts: list[Tensor],
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
    compiled: bool = False,
) -> Tensor:
    """As `decode`, the ids alone `[B N, T]`."""
    return decode(model, grammar, prompts, sampling, generator, compiled=compiled).ids


@torch.inference_mode()
def decode(
    model: KyvoForCausalLM,
    grammar: Grammar,
    prompts: list[Tensor],
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
    scored: bool = False,
    numbers: bool = False,
    compiled: bool = False,
) -> Decoded:
    """Write what the grammar admits after each prompt, all rows at once.

    Whatever the weights, every row is a sentence of the grammar: a parseable scene, an exact number of image codes, a
    closed answer. Rows that have ended are padded until the last one ends, and leave the batch when many have.

    Args:
        model: The language model, in evaluation mode.
        grammar: Of the task's outputs, on the CPU.
        prompts: Ids of each prompt, up to and with [OUTPUT-START] `[P_i]`.
        sampling: Greedy by default.
        generator: Random numbers for sampling, on the model's device.
        scored: Whether to keep how likely the model held each id.
        numbers: Whether to keep how likely it held each number where there is one.
        compiled: Compile the blocks (CUDA graphs on a GPU); pays where many batches of like sizes follow each other.

    Returns:
        Ids and scores, T at most `grammar.max_length`.
    """
    rows = _Rows(model, grammar, prompts, sampling or Sampling(), generator, compiled)
    span = model.vocabulary.number_range if numbers else range(0)
    for step in range(grammar.max_length):
        rows.write(step, scored, span)
        if rows.may_look(step) and not rows.leave():
            break
    return rows.decoded()


def _seen_together(model: KyvoForCausalLM, ids: Tensor) -> Tensor | None:
    """Codes of shapes that are read and see each other in both directions, bool `[B, 1, P, P]`, where they do."""
    if not model.config.bidirectional_shapes:
        return None
    words = model.vocabulary
    return within_spans(input_shape_spans(ids, words.shape_range, words.bos, words.marker("[OUTPUT-START]")))


@dataclass
class _Written:
    """What a step wrote in the rows `[R]` that were left."""

    rows: Tensor
    tokens: Tensor
    log_probabilities: Tensor | None


@dataclass
class _Rows:
    """The rows that are being written, and what was written so far."""

    model: KyvoForCausalLM
    grammar: Grammar
    prompts: list[Tensor]
    sampling: Sampling
    generator: torch.Generator | None
    compiled: bool
    written: list[_Written] = field(default_factory=list)
    numbers: list[NumberScores] = field(default_factory=list)

    def __post_init__(self) -> None:
        model, copies = self.model, self.sampling.hypotheses
        device = model.lm_head.weight.device
        ids, mask = pad_left([prompt.to(device) for prompt in self.prompts], model.config.pad_token_id)
        padding, length = (mask == 0).sum(dim=-1), self.grammar.max_length
        self.blocks = CachedBlocks(model.model, padding, ids.shape[1], length, self.compiled)
        self.hidden = self.blocks.read(model.embedding(ids), _seen_together(model, ids))
        self.images_seen = model.embedding.is_image(ids).sum(dim=-1)
        self.unread: list[Tensor] = []
        self.rows = torch.arange(len(ids), device=device)
        if copies > 1:
            self._keep(self.rows.repeat_interleave(copies))
            self.rows = torch.arange(len(self.rows), device=device)
        self.state = torch.full_like(self.rows, self.grammar.start)
        self.next = self.grammar.next.to(device)
        # A sentence that has ended has a mask of its own, which forbids nothing: what it writes is replaced by padding.
        self.mask_of = self.grammar.mask_of.clone()
        self.mask_of[self.grammar.final] = len(self.grammar.allowed)
        self.mask_of = self.mask_of.to(device)
        self.choices: dict[Candidates, Choices] = {}

    def write(self, index: int, scored: bool, numbers: range) -> None:
        """Choose a token for each row, and keep its scores."""
        step = self.grammar.steps[index]
        choices = self._choices(step)
        chosen, log_probabilities = self._choose(choices, bool(scored or numbers))
        tokens = choices.tokens(chosen)
        # Before padding takes the place of what sentences chose that have ended.
        self.unread.append(choices.embed(chosen, tokens, self.images_seen))
        self.images_seen = choices.count_images(tokens, self.images_seen)
        if log_probabilities is not None:
            self._keep_numbers(index, step.candidates, log_probabilities, numbers)
        scores = log_probabilities.gather(-1, chosen[:, None])[:, 0] if log_probabilities is not None else None
        if step.ended:
            over = self.state == self.grammar.final
            tokens = tokens.masked_fill(over, self.model.config.pad_token_id)
            scores = None if scores is None else scores.masked_fill(over, 0.0)
        self.written.append(_Written(self.rows, tokens, scores if scored else None))
        if step.after is None:
            self.state = self.next[self.state, choices.classes[chosen]]
        else:
            self.state = torch.full_like(self.state, step.after)

    def _choose(self, choices: Choices, scored: bool) -> tuple[Tensor, Tensor | None]:
        """Places `[B]` among the candidates of what rows write; if asked, log-probabilities of all of them `[B, K]`."""
        if choices.forced:
            zeros = self.hidden.new_zeros(len(self.rows), 1, dtype=torch.float32)
            return torch.zeros_like(self.rows), zeros if scored else None
        # Reading is put off until there is a choice: what the grammar forces is read along with what comes before.
        if self.unread:
            self.hidden = self.blocks.step(torch.stack(self.unread, dim=1))
            self.unread = []
        logits = choices.bind(choices.score(self.hidden), self.state, self.mask_of)
        return self.sampling.choose(logits, self.generator), logits.log_softmax(dim=-1) if scored else None

    def _choices(self, step: GrammarStep) -> Choices:
        if step.candidates not in self.choices:
            self.choices[step.candidates] = Choices(self.model, step.candidates)
        return self.choices[step.candidates]

    def _keep_numbers(self, index: int, candidates: Candidates, scores: Tensor, numbers: range) -> None:
        ids = candidates.ids
        columns = ((ids >= numbers.start) & (ids < numbers.stop) & candidates.allowed).nonzero()[:, 0]
        if len(columns):
            kept = scores[:, columns.to(scores.device)].exp()
            self.numbers.append(NumberScores(index, self.rows, ids[columns], kept))

    def may_look(self, index: int) -> bool:
        """Whether to ask which sentences have ended."""
        often = self.state.device.type == "cpu" or (index + 1) % _STEPS_BETWEEN_LOOKS == 0
        return often and self.grammar.steps[index].may_end

    def leave(self) -> int:
        """How many sentences go on; those that have ended leave once they are half of the batch."""
        going = (self.state != self.grammar.final).nonzero()[:, 0]
        # Copying the cache costs about a step. A CUDA graph is bound to the number of rows.
        if len(going) and 2 * len(going) <= len(self.rows) and not self.compiled:
            self._keep(going)
            self.state = self.state[going]
        return len(going)

    def _keep(self, rows: Tensor) -> None:
        self.blocks.keep(rows)
        self.hidden, self.unread = self.hidden[rows], [one[rows] for one in self.unread]
        self.rows, self.images_seen = self.rows[rows], self.images_seen[rows]

    def decoded(self) -> Decoded:
        """All that was written."""
        count = len(self.prompts) * self.sampling.hypotheses
        ids = self.rows.new_full((count, len(self.written)), self.model.config.pad_token_id)
        scores = None
        if self.written[0].log_probabilities is not None:
            scores = torch.zeros(ids.shape, device=ids.device)
        for step, one in enumerate(self.written):
            ids[one.rows, step] = one.tokens
            if scores is not None and one.log_probabilities is not None:
                scores[one.rows, step] = one.log_probabilities
        return Decoded(ids, scores, tuple(self.numbers))
