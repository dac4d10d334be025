"""The grammar of what a task writes, as tensors that keep decoding inside it without Python per token.

S: states, M: distinct masks, V: vocabulary, C: classes of ids that every state treats alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kyvo.task import Task
from kyvo.tokenizers.grammar_steps import GrammarStep, unroll
from kyvo.tokenizers.scenes import Field, NumberField, SceneCodec, ShapeField, WordField
from kyvo.tokenizers.vocabulary import Vocabulary, runs_of

Edge = tuple[range, int]
"""Ids that lead on, and the state they lead to."""


@dataclass(frozen=True)
class Grammar:
    """A finite automaton over everything after [OUTPUT-START], up to and including the end of the sequence.

    One step of decoding: ``logits.masked_fill(~allowed[mask_of[state]], -inf)``, choose a token, then
    ``state = next[state, classes[token]]``. Ids that a state does not allow lead to the final state.

    Args:
        allowed: bool [M, V], the ids that each mask lets through.
        mask_of: int64 [S], the mask of a state.
        classes: int64 [V], the class of an id.
        next: int64 [S, C], the state after an id of a class.
        start: the state after [OUTPUT-START].
        final: the state after the end of the sequence; it stays there and allows only the end and padding.
        max_length: most ids until the final state, the end of the sequence among them.
    """

    allowed: Tensor
    mask_of: Tensor
    classes: Tensor
    next: Tensor
    start: int
    final: int
    max_length: int

    def to(self, device: torch.device | str) -> "Grammar":
        """The same grammar with its tensors on a device."""
        return replace(
            self,
            allowed=self.allowed.to(device),
            mask_of=self.mask_of.to(device),
            classes=self.classes.to(device),
            next=self.next.to(device),
        )

    @cached_property
    def _ids(self) -> list[Tensor]:
        return [mask.nonzero().squeeze(1) for mask in self.allowed]

    def allowed_ids(self, mask: int) -> Tensor:
        """int64 [k], the ids that a mask lets through, ascending: the rows of the head that matter there."""
        return self._ids[mask]

    @cached_property
    def steps(self) -> tuple[GrammarStep, ...]:
        """What can be written at each step, `max_length` of them; computed once for a grammar."""
        return unroll(self)


class GrammarBuilder:
    """Builds an automaton backwards, from the final state: every state names the states that follow it.

    Args:
        vocabulary: the ids.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        end = [range(token, token + 1) for token in sorted({vocabulary.eos, vocabulary.pad})]
        self.final = 0
        self._edges: list[list[Edge]] = [[(ids, self.final) for ids in end]]
        self._longest = [0]

    def state(self, edges: Sequence[Edge]) -> int:
        """Add a state with these edges."""
        self._edges.append([edge for edge in edges if len(edge[0])])
        self._longest.append(1 + max(self._longest[target] for _, target in edges))
        return len(self._edges) - 1

    def token(self, token: int, then: int) -> int:
        """One id, then ``then``."""
        return self.state([(range(token, token + 1), then)])

    def marker(self, name: str, then: int) -> int:
        """One marker, then ``then``."""
        return self.token(self.vocabulary.marker(name), then)

    def repeat(self, ids: range, count: int, then: int) -> int:
        """Exactly ``count`` ids of a range, then ``then``."""
        for _ in range(count):
            then = self.state([(ids, then)])
        return then

    def at_most(self, runs: Sequence[range], count: int, then: int) -> int:
        """Up to ``count`` ids of some ranges, then ``then``, which may also follow earlier."""
        close = self._edges[then]
        for _ in range(count):
            then = self.state([*((ids, then) for ids in runs), *close])
        return then

    def one_of(self, words: Iterable[tuple[int, ...]], then: int) -> int:
        """One of several words of one or more ids, as a trie, then ``then``."""
        words = set(words)
        if words == {()}:
            return then
        edges = list(self._edges[then]) if () in words else []
        for first in sorted({word[0] for word in words if word}):
            rest = self.one_of({word[1:] for word in words if word and word[0] == first}, then)
            edges.append((range(first, first + 1), rest))
        return self.state(edges)

    def image(self, codes: int, then: int) -> int:
        """An image of exactly ``codes`` codes between its markers."""
        body = self.repeat(self.vocabulary.image_range, codes, self.marker("[IMAGE-END]", then))
        return self.marker("[IMAGE-START]", body)

    def scene(self, codec: SceneCodec, max_objects: int, then: int, min_objects: int = 0) -> int:
        """A scene of ``min_objects`` to ``max_objects`` objects between its markers."""
        end = (range(codec.end, codec.end + 1), then)
        slot = self.state([end])
        for count in reversed(range(max_objects)):
            body = self.token(codec.close, slot)
            for marker, field in reversed(codec.fields):
                body = self.token(marker, self._value(field, body))
            more = (range(codec.open, codec.open + 1), body)
            slot = self.state([end, more] if count >= min_objects else [more])
        return self.token(codec.start, slot)

    def text(self, runs: Sequence[range], max_text: int, then: int) -> int:
        """Free text of at most ``max_text`` ids between its markers."""
        return self.marker("[TEXT-START]", self.at_most(runs, max_text, self.marker("[TEXT-END]", then)))

    def answer(self, answers: Iterable[tuple[int, ...]], then: int) -> int:
        """One of the given answers between the markers of text."""
        return self.marker("[TEXT-START]", self.one_of(answers, self.marker("[TEXT-END]", then)))

    def compile(self, start: int) -> Grammar:
        """The tensors of the automaton that begins at ``start``."""
        bounds = self._bounds()
        place = {bound: index for index, bound in enumerate(bounds)}
        table = np.full((len(self._edges), len(bounds) - 1), self.final)
        for state, edges in enumerate(self._edges):
            for ids, target in edges:
                table[state, place[ids.start] : place[ids.stop]] = target
        # Intervals of ids that lead to the same states everywhere are one class.
        table, interval_class = np.unique(table, axis=1, return_inverse=True)
        allowed, mask_of = self._masks()
        return Grammar(
            allowed=allowed,
            mask_of=mask_of,
            classes=torch.from_numpy(np.repeat(interval_class.reshape(-1), np.diff(bounds))),
            next=torch.from_numpy(np.ascontiguousarray(table)),
            start=start,
            final=self.final,
            max_length=self._longest[start],
        )

    def _bounds(self) -> list[int]:
        """Ids at which what is allowed changes in some state, both ends of the vocabulary among them."""
        runs = {ids for edges in self._edges for ids, _ in edges}
        return sorted({0, self.vocabulary.size, *(ids.start for ids in runs), *(ids.stop for ids in runs)})

    def _masks(self) -> tuple[Tensor, Tensor]:
        """Distinct masks bool [M, V] and the mask of each state int64 [S]."""
        numbers: dict[tuple[range, ...], int] = {}
        keys = [tuple(sorted((ids for ids, _ in edges), key=lambda ids: ids.start)) for edges in self._edges]
        mask_of = [numbers.setdefault(key, len(numbers)) for key in keys]
        allowed = torch.zeros(len(numbers), self.vocabulary.size, dtype=torch.bool)
        for key, row in numbers.items():
            for ids in key:
                allowed[row, ids.start : ids.stop] = True
        return allowed, torch.tensor(mask_of)

    def _value(self, field: Field, then: int) -> int:
        match field:
            case WordField():
                return self.one_of(field.words.values(), then)
            case ShapeField():
                return self.repeat(field.codes, field.attribute.codes, then)
            case NumberField():
                for quantity in reversed(field.attribute.quantities):
                    ids = [field.offset + index for index in field.numbers.grid(quantity).indices]
                    then = self.state([(run, then) for run in runs_of(ids)])
                return then


def compile_grammar(
    task: Task,
    vocabulary: Vocabulary,
    codec: SceneCodec,
    image_codes: int,
    max_objects: int,
    text_runs: Sequence[range],
    max_text: int,
    answers: Sequence[tuple[int, ...]] = (),
    min_objects: int = 0,
) -> Grammar:
    """The grammar of a task's outputs.

    Args:
        task: what is written, in order.
        vocabulary: the ids.
        codec: how scenes are written.
        image_codes: codes of one image.
        max_objects: most objects of a scene.
        text_runs: ids of free text.
        max_text: most ids of free text.
        answers: if not empty, text is one of these.
        min_objects: fewest objects of a scene.
    """
    builder = GrammarBuilder(vocabulary)
    state = builder.token(vocabulary.eos, builder.final)
    for modality in reversed(task.outputs):
        if modality == "image":
            state = builder.image(image_codes, state)
        elif modality == "scene":
            state = builder.scene(codec, max_objects, state, min_objects)
        elif answers:
            state = builder.answer(answers, state)
        else:
            state = builder.text(text_runs, max_text, state)
    return builder.compile(state)
