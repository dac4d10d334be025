"""Sequences laid out in rows of one width: one to a row with padding behind it, or several packed into a row.

B: sequences, R: rows, S: width of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace
from typing import Self

import numpy as np

from kyvo.tokenizers.sequence import TokenSequence


@dataclass(frozen=True)
class Rows:
    """What a model reads of several sequences at once.

    Args:
        ids: int64 [R, S].
        weights: float32 [R, S], 0 on padding too.
        starts: int64 [B], where each sequence begins in the flattened ids.
        positions: int64 [R, S], place of each id in its own sequence, counted on over padding; None where each row is
            one sequence.
    """

    ids: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    positions: np.ndarray | None = None

    @classmethod
    def padded(cls, sequences: Sequence[TokenSequence], pad: int) -> Self:
        """One sequence to a row, in their order, as wide as the longest; `pad` behind the others."""
        return cls._filled(sequences, [[row] for row in range(len(sequences))], pad)

    @classmethod
    def packed(cls, sequences: Sequence[TokenSequence], pad: int, width: int) -> Self:
        """Several sequences in a row, up to `width` ids; one that is longer has a row of its own.

        Rows are as wide as the fullest of them. What sees only its own sequence, as `positions` tells them apart, comes
        out as in rows of their own.
        """
        lengths = [len(one) for one in sequences]
        laid = cls._filled(sequences, share_out(lengths, width), pad)
        # A row goes on counting behind its last sequence: padding is part of that one, whose ids come before it.
        begins = np.zeros(laid.ids.size, dtype=np.int64)
        begins[laid.starts] = laid.starts
        positions = np.arange(laid.ids.size) - np.maximum.accumulate(begins)
        return replace(laid, positions=positions.reshape(laid.ids.shape))

    @classmethod
    def _filled(cls, sequences: Sequence[TokenSequence], rows: Sequence[Sequence[int]], pad: int) -> Self:
        width = max(sum(len(sequences[number]) for number in row) for row in rows)
        ids = np.full(len(rows) * width, pad, dtype=np.int64)
        weights = np.zeros(ids.shape, dtype=np.float32)
        starts = np.zeros(len(sequences), dtype=np.int64)
        for row, numbers in enumerate(rows):
            place = row * width
            for number in numbers:
                sequence = sequences[number]
                span = slice(place, place + len(sequence))
                ids[span], weights[span], starts[number] = sequence.ids, sequence.weights, place
                place = span.stop
        return cls(ids.reshape(-1, width), weights.reshape(-1, width), starts)


def share_out(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Share out lengths among rows so that the rows, all as wide as the fullest, have about the fewest cells.

    >>> share_out([3, 6, 4, 2], 9)
    [[1, 3], [2, 0]]

    Args:
        lengths: Length of each sequence.
        width: Room in a row; what is longer gets a row of its own.

    Returns:
        The numbers of the sequences in each row. There are never more cells than with a row for each sequence.
    """
    room = max(width, max(lengths))
    fewest = -(-sum(lengths) // room)
    tried = (_even(lengths, count) for count in range(fewest, len(lengths) + 1))
    sizes = [(len(rows) * widest, rows) for rows, widest in tried if widest <= room]
    return min(sizes, key=lambda one: one[0])[1]


def _even(lengths: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """So many rows, the longest sequence first and each in the emptiest row; and the length of the fullest."""
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    for number in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        total, row = filled[0]
        rows[row].append(number)
        heapreplace(filled, (total + lengths[number], row))
    return rows, max(total for total, _ in filled)
