"""A grammar unrolled over the steps of decoding: what can be written at each, whatever was written before.

K: candidates of a step, M: distinct masks of the grammar, S: states.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from kyvo.tokenizers.grammar import Grammar

_SPREAD = 3
"""Ids with gaps are taken as one run, which needs no copy of the head's rows, unless that is so many times as long."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The ids that some of a step's states allow, and which of them each state forbids.

    Args:
        ids: int64 [K], ascending.
        run: the same as a range; None if there are gaps.
        classes: int64 [K], the class of each id.
        forbidden: bool [M + 1, K], by mask what it does not let through, and a last row that forbids nothing; None
            where no state of the step forbids any.
        allowed: bool [K], whether some state of the step allows an id.
    """

    ids: Tensor
    run: range | None
    classes: Tensor
    forbidden: Tensor | None
    allowed: Tensor


@dataclass(frozen=True, eq=False)
class GrammarStep:
    """One step of decoding.

    Args:
        candidates: what can be written.
        after: the state after it, if every sentence is in the same.
        ended: whether a sentence may have ended before.
        may_end: whether a sentence may have ended after.
    """

    candidates: Candidates
    after: int | None
    ended: bool
    may_end: bool


def unroll(grammar: "Grammar") -> tuple[GrammarStep, ...]:
    """The steps of a grammar, as many as its longest sentence has ids; their tensors are on the CPU."""
    levels = _levels(grammar)
    mask_of = grammar.mask_of.tolist()
    made: dict[frozenset[int], Candidates] = {}
    steps = []
    for level, following in pairwise(levels):
        masks = frozenset(mask_of[state] for state in level if state != grammar.final)
        if masks not in made:
            made[masks] = _candidates(grammar, masks)
        after = following[0] if len(following) == 1 else None
        steps.append(GrammarStep(made[masks], after, grammar.final in level, grammar.final in following))
    return tuple(steps)


def _levels(grammar: "Grammar") -> list[tuple[int, ...]]:
    """The states that sentences may be in after each number of ids; the last is the final one alone."""
    classes, table, mask_of = (one.cpu().numpy() for one in (grammar.classes, grammar.next, grammar.mask_of))
    # Ids that a mask forbids lead to the final state in the table, and may share a class with ids that really do.
    open_classes = [np.unique(classes[mask]) for mask in grammar.allowed.cpu().numpy()]
    followers: dict[int, set[int]] = {}
    levels: list[tuple[int, ...]] = [(grammar.start,)]
    while levels[-1] != (grammar.final,):
        for state in levels[-1]:
            if state not in followers:
                followers[state] = set(table[state, open_classes[mask_of[state]]].tolist())
        levels.append(tuple(sorted(_union(followers[state] for state in levels[-1]))))
    return levels


def _union(sets: Iterable[set[int]]) -> set[int]:
    return set().union(*sets)


def _candidates(grammar: "Grammar", masks: frozenset[int]) -> Candidates:
    allowed = grammar.allowed.cpu()
    union = allowed[sorted(masks)].any(dim=0)
    ids = union.nonzero().squeeze(1)
    hull = range(int(ids[0]), int(ids[-1]) + 1)
    run = hull if len(hull) <= _SPREAD * len(ids) else None
    if run is not None:
        ids = torch.arange(run.start, run.stop)
    forbidden = ~torch.cat([allowed[:, ids], torch.ones(1, len(ids), dtype=torch.bool)])
    needed = bool(forbidden[sorted(masks)].any())
    return Candidates(ids, run, grammar.classes.cpu()[ids], forbidden if needed else None, union[ids])
