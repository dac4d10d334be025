"""Ways to speak of the objects of a scene: which descriptions fit which objects, and the words for them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_modules.worlds.clevr import ATTRIBUTES
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

RELATION_WORDS = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}


def draw_mask(rng: random.Random, longest: int = len(FILTERED)) -> tuple[bool, ...]:
    """A choice of attributes to name: first how many (fewer is likelier), then which."""
    count = rng.choices(range(1, longest + 1), weights=(4, 3, 2, 1)[:longest])[0]
    named = rng.sample(range(len(FILTERED)), count)
    return tuple(k in named for k in range(len(FILTERED)))


def masked(values: Sequence[str | None], mask: Sequence[bool]) -> Filters:
    """The named attributes alone."""
    size, color, material, shape = (v if named else None for v, named in zip(values, mask, strict=True))
    return size, color, material, shape


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

    def draw_fitting(self, rng: random.Random, mask: Sequence[bool], among: Sequence[int]) -> Filters | None:
        """A description of one of a set by the masked attributes; None if the set is empty."""
        return masked(self.objects[rng.choice(among)], mask) if among else None

    def draw_unfitting(self, rng: random.Random, mask: Sequence[bool]) -> Filters | None:
        """A description that nothing fits: one of the scene's with one word changed, or None if none was found."""
        named = [k for k, on in enumerate(mask) if on]
        for _ in range(10):
            values: list[str | None] = list(masked(rng.choice(self.objects), mask))
            k = rng.choice(named)
            values[k] = rng.choice([v for v in ATTRIBUTES[FILTERED[k]] if v != values[k]])
            filters = masked(values, (True,) * 4)
            if not self.fitting(filters):
                return filters
        return None


class Speaker:
    """Turns descriptions into words.

    Args:
        rng: Draws words and wordings.
        synonyms: Whether to vary them; otherwise the first, shortest ones are taken.
    """

    def __init__(self, rng: random.Random, synonyms: bool) -> None:
        self._rng = rng
        self._synonyms = synonyms

    def wording(self, *templates: str, **parts: str) -> str:
        """One of the templates, filled."""
        return (self._rng.choice(templates) if self._synonyms else templates[0]).format(**parts)

    def word(self, word: str) -> str:
        """The word or a synonym."""
        return self._rng.choice(_SYNONYMS.get(word, (word,))) if self._synonyms else word

    def noun(self, filters: Filters, plural: bool = False) -> str:
        """`small red cube`, `metal things`."""
        *adjectives, shape = filters
        words = [self.word(a) for a in adjectives if a is not None]
        return " ".join([*words, self.word(shape or "thing") + ("s" if plural else "")])

    def a(self, filters: Filters) -> str:
        """The noun with its indefinite article."""
        noun = self.noun(filters)
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

    def relation(self, name: str) -> str:
        """`left of`, `in front of`."""
        return self.word(RELATION_WORDS[name])
