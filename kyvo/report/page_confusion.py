"""Confusion by attribute: which word was written for which, of objects paired by their distance.

W words of an attribute.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from kyvo.metrics.criteria import words_of
from kyvo.metrics.jaccard import SceneMatcher
from kyvo.scene import Scene, SceneObject, SceneSchema


@dataclass(frozen=True)
class Confusion:
    """How often each word was written for each true one.

    Args:
        attribute: Name of the attribute.
        words: Its W words.
        counts: int64 [W + 1, W + 1], rows true, columns written; the last column counts true objects without a partner,
            the last row written ones.
    """

    attribute: str
    words: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of pairs that agree; NaN without a pair."""
        pairs = self.counts[:-1, :-1]
        return float(np.trace(pairs) / pairs.sum()) if pairs.any() else float("nan")


def confusions(schema: SceneSchema, scenes: Iterable[tuple[Scene, Scene]]) -> list[Confusion]:
    """Count all attributes that are words.

    Args:
        schema: Of the scenes.
        scenes: What was written and what is true, of each sample.

    Returns:
        One for each attribute; none for schemas with shapes, whose codes have no distance rule.
    """
    if schema.shape is not None:
        return []
    matcher = SceneMatcher(schema)
    found = [Confusion(name, schema[name].values, _zeros(len(schema[name].values))) for name in words_of(schema)]
    for written, true in scenes:
        pairs, _ = matcher.nearest(written, true)
        for one in found:
            _count(one, written, true, pairs)
    return found


def _zeros(words: int) -> NDArray[np.int64]:
    return np.zeros((words + 1, words + 1), dtype=np.int64)


def _count(confusion: Confusion, written: Scene, true: Scene, pairs: list[tuple[int, int]]) -> None:
    nothing, place = len(confusion.words), {word: number for number, word in enumerate(confusion.words)}

    def at(obj: SceneObject) -> int:
        return place[str(obj[confusion.attribute])]

    for ours, theirs in pairs:
        confusion.counts[at(true.objects[theirs]), at(written.objects[ours])] += 1
    for theirs in set(range(len(true))) - {theirs for _, theirs in pairs}:
        confusion.counts[at(true.objects[theirs]), nothing] += 1
    for ours in set(range(len(written))) - {ours for ours, _ in pairs}:
        confusion.counts[nothing, at(written.objects[ours])] += 1


def confusion_table(confusion: Confusion) -> str:
    """The counts as an HTML `<table>` of class `confusion`; each cell's share of its row is its `--share`."""
    names = [escape(word) for word in confusion.words]
    head = "".join(f'<th scope="col">{name}</th>' for name in (*names, "missed"))
    rows = [_row(name, counts) for name, counts in zip(names, confusion.counts[:-1], strict=True)]
    extra = confusion.counts[-1]
    if extra.any():
        rows.append(_row("not there", extra))
    agree = "no pairs" if math.isnan(confusion.accuracy) else f"{confusion.accuracy:.1%} of pairs agree"
    caption = f"<caption>{escape(confusion.attribute)} · {agree}</caption>"
    return (
        f'<table class="confusion">{caption}<thead><tr><th scope="col">true \\ written</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(name: str, counts: NDArray[np.int64]) -> str:
    total = max(int(counts.sum()), 1)
    cells = "".join(
        f'<td style="--share:{count / total:.3f}">{count}</td>' if count else "<td></td>" for count in counts.tolist()
    )
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'
