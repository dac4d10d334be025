"""Ways to speak of the objects of a scene: which descriptions fit which objects, and the words for them."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_modules.worlds.programs import FILTERED, Filters

_MASKS = [mask for mask in itertools.product((False, True), repeat=len(FILTERED)) if any(mask)]
"""Choices of attributes that a description may name."""

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "thing": ("thing", "object"),
    "small": ("small", "tiny"),
    "large": ("large", "big"),
    "metal": ("metal", "metallic", "shiny"),
    "rubber": ("rubber", "matte"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "left of": ("left of", "to the left of", "on the left side of"),
    "right of": ("right of", "to the right of", "on the right side of"),
}

_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")

RELATION_WORDS = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}


def masked(values: Sequence[str | None], mask: Sequence[bool]) -> Filters:
    """The named attributes alone."""
    size, color, material, shape = (v if named else None for v, named in zip(values, mask, strict=True))
    return size, color, material, shape


def named(filters: Filters) -> int:
    """How many attributes a description names."""
    return sum(value is not None for value in filters)


def covers(general: Filters, special: Filters) -> bool:
    """Whether whatever fits `special` must fit `general`."""
    return all(a is None or a == b for a, b in zip(general, special, strict=True))


class References:
    """The objects of one scene under every description that fits them.

    Args:
        scene: A CLEVR scene.
    """

    def __init__(self, scene: Mapping[str, Any]) -> None:
        self.objects: list[Filters] = [masked([o[name] for name in FILTERED], (True,) * 4) for o in scene["objects"]]
        self._fitting: dict[Filters, list[int]] = {}
        for k, values in enumerate(self.objects):
            for mask in _MASKS:
                self._fitting.setdefault(masked(values, mask), []).append(k)

    def fitting(self, filters: Filters, among: Iterable[int] | None = None) -> list[int]:
        """Objects of a set (default: all) that a description fits."""
        fit = self._fitting.get(filters, []) if any(filters) else list(range(len(self.objects)))
        return fit if among is None else [k for k in fit if k in set(among)]

    def descriptions(self) -> Iterable[tuple[Filters, list[int]]]:
        """All descriptions that fit something, and what they fit."""
        return self._fitting.items()

    def of(
        self,
        k: int,
        rng: random.Random,
        among: Iterable[int] | None = None,
        longest: int = len(FILTERED),
        without: Sequence[str] = (),
    ) -> Filters | None:
        """A description that fits object k alone among a set (default: all), or None if there is no such.

        Args:
            k: The object.
            rng: Draws one of the possible descriptions, short ones with preference.
            among: Objects it must be told apart from.
            longest: Greatest number of attributes named.
            without: Attributes that may not be named.
        """
        among = None if among is None else list(among)
        options: dict[int, list[Filters]] = {}
        for mask in _MASKS:
            if sum(mask) <= longest and not any(mask[FILTERED.index(name)] for name in without):
                filters = masked(self.objects[k], mask)
                if self.fitting(filters, among) == [k]:
                    options.setdefault(sum(mask), []).append(filters)
        if not options:
            return None
        length = rng.choices(list(options), weights=[2.0**-count for count in options])[0]
        return rng.choice(options[length])


class Speaker:
    """Turns descriptions into words.

    Args:
        rng: Draws words and wordings.
        synonyms: Whether to vary them; otherwise the first, shortest ones are taken.
    """

    def __init__(self, rng: random.Random, synonyms: bool) -> None:
        self._rng = rng
        self.varied = synonyms

    def wording(self, *templates: str, **parts: str) -> str:
        """One of the templates, filled."""
        return (self._rng.choice(templates) if self.varied else templates[0]).format(**parts)

    def fill(self, texts: Sequence[str], slots: Mapping[str, tuple[str, str | None]]) -> str:
        """One of a question template's texts, filled.

        Args:
            texts: Wordings with slots such as <S>, and optional parts in square brackets.
            slots: Type and value of each slot; None where an attribute is not named.
        """
        text = self._rng.choice(texts) if self.varied else texts[0]
        for slot, (kind, value) in slots.items():
            text = text.replace(slot, self._slot(kind, value)) if slot in text else text
        while "[" in text and _OPTIONAL.search(text):
            text = _OPTIONAL.sub(self._maybe, text)
        text = re.sub(r"\s+(?=[?;,.])", "", " ".join(text.split()))
        return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)

    def _slot(self, kind: str, value: str | None) -> str:
        if kind == "Relation":
            return self.relation(str(value))
        return self.word(value or "thing") if value or kind == "Shape" else ""

    def _maybe(self, part: re.Match[str]) -> str:
        return part[1] if self.varied and self._rng.random() < 0.5 else ""

    def word(self, word: str) -> str:
        """The word or a synonym."""
        return self._rng.choice(_SYNONYMS.get(word, (word,))) if self.varied else word

    def noun(self, filters: Filters, plural: bool = False) -> str:
        """`small red cube`, `metal things`."""
        *adjectives, shape = filters
        words = [self.word(a) for a in adjectives if a is not None]
        return " ".join([*words, self.word(shape or "thing") + ("s" if plural else "")])

    def relation(self, name: str) -> str:
        """`left of`, `in front of`."""
        return self.word(RELATION_WORDS[name])
