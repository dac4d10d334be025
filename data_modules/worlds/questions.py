"""Questions about CLEVR scenes: programs drawn so that answers are balanced, in short wordings of our own.

The families are CLEVR's. Whatever is spoken of as "the ..." fits exactly one object, where a relation is named the
reference would not hold without it, and a "no" is most often a near miss.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.worlds.placement import RELATIONS
from data_modules.worlds.programs import ANYTHING, FILTERED, Filters, ProgramBuilder, answer, question_type
from data_modules.worlds.references import References, Speaker, covers, draw_mask, masked

FAMILIES = (
    "zero_hop",
    "one_hop",
    "two_hop",
    "three_hop",
    "same_relate",
    "comparison",
    "compare_integer",
    "single_and",
    "single_or",
)

_GOALS, _ATTEMPTS = 3, 30
_KINDS = {"query": 0.4, "exist": 0.3, "count": 0.3}
"""What is asked where a family can ask for an attribute, for existence and for a number, and how often."""

_QUERY_WORDINGS = {
    "size": ("what size is {what}", "what is the size of {what}", "how big is {what}"),
    "color": ("what color is {what}", "what is the color of {what}", "{what} has what color"),
    "material": ("what material is {what}", "what is {what} made of", "{what} is made of what material"),
    "shape": ("what shape is {what}", "what is the shape of {what}", "{what} has what shape"),
}


class _Unaskable(Exception):  # noqa: N818 - control flow, not an error
    """This draw led to no well-posed question; another may."""


def _required(filters: Filters | None) -> Filters:
    if filters is None:
        raise _Unaskable
    return filters


@dataclass(frozen=True)
class _Goal:
    """What a question shall be like, drawn before it: else whatever is easier to ask would be asked more often."""

    kind: str
    attribute: str
    truth: bool

    @classmethod
    def draw(cls, rng: random.Random) -> _Goal:
        kind = rng.choices(list(_KINDS), weights=list(_KINDS.values()))[0]
        return cls(kind, rng.choice(FILTERED), rng.random() < 0.5)


class _Question:
    """One question in the making: a program and the words said so far.

    Args:
        references: The scene's objects and descriptions.
        relations: The scene's relations.
        rng: Draws what the goal leaves open.
        speaker: Chooses words.
        goal: The kind of question, the attribute in question, and the answer wanted of yes-or-no questions.
        longest: Greatest number of attributes in a description.
    """

    def __init__(
        self,
        references: References,
        relations: Mapping[str, Sequence[Sequence[int]]],
        rng: random.Random,
        speaker: Speaker,
        goal: _Goal,
        longest: int,
    ) -> None:
        self.refs, self.relations, self.rng, self.say = references, relations, rng, speaker
        self.goal, self.longest = goal, longest
        self.builder = ProgramBuilder()

    # -- references ---------------------------------------------------------------------------------------------------

    def the(self, without: Sequence[str] = (), other_than: int | None = None) -> tuple[int, int, str]:
        """A reference by attributes alone: the object, its node, its words."""
        k = self.rng.randrange(len(self.refs.objects))
        if k == other_than:
            raise _Unaskable
        filters = _required(self.refs.of(k, self.rng, longest=self.longest, without=without))
        return k, self.builder.the(self.builder.scene(), filters), f"the {self.say.noun(filters)}"

    def related(self, hops: int) -> tuple[list[int], int, str]:
        """What lies in some direction of something that is itself `hops - 1` relations away: set, node, words."""
        k, node, words = self.the() if hops == 1 else self.the_related(hops - 1)
        relation = self.rng.choice(RELATIONS)
        node = self.builder.add("relate", node, value=relation)
        return list(self.relations[relation][k]), node, f"{self.say.relation(relation)} {words}"

    def the_related(self, hops: int, without: Sequence[str] = ()) -> tuple[int, int, str]:
        """A reference that needs its relations: the object, its node, its words."""
        group, node, words = self.related(hops)
        k, node, noun = self.the_among(group, node, without)
        return k, node, f"the {noun} {words}"

    def the_among(self, group: Sequence[int], node: int, without: Sequence[str]) -> tuple[int, int, str]:
        """A description that tells an object from others of the set, though not from all of the scene."""
        if not group:
            raise _Unaskable
        k = self.rng.choice(group)
        if group == [k] and len(self.refs.objects) > 1 and self.rng.random() < 0.5:
            filters = ANYTHING
        else:
            filters = _required(self.refs.of(k, self.rng, group, self.longest, without))
        if len(self.refs.fitting(filters)) == 1:
            raise _Unaskable
        return k, self.builder.the(node, filters), self.say.noun(filters)

    # -- what is asked ------------------------------------------------------------------------------------------------

    def query(self, node: int, what: str, attribute: str | None = None) -> str:
        """Asks for an attribute of an object, the goal's if no other is given."""
        attribute = attribute or self.goal.attribute
        self.builder.add(f"query_{attribute}", node)
        return self.say.wording(*_QUERY_WORDINGS[attribute], what=what)

    def exists(self, group: Sequence[int], node: int, article: str = "a") -> tuple[Filters, str]:
        """Asks whether something of a description is in a set; the words start the question."""
        mask = draw_mask(self.rng, self.longest)
        if self.goal.truth:
            filters = _required(self.refs.draw_fitting(self.rng, mask, group))
        else:
            filters = self._missing_from(group, mask)
        self.builder.add("exist", self.builder.filter(node, filters))
        noun = self.say.a(filters) if article == "a" else f"{article} {self.say.noun(filters)}"
        return filters, f"is there {noun}"

    def _missing_from(self, group: Sequence[int], mask: Sequence[bool]) -> Filters:
        """A description that nothing in the set fits, if possible one that fits something else."""
        elsewhere = [k for k in range(len(self.refs.objects)) if k not in group]
        filters = self.refs.draw_fitting(self.rng, mask, elsewhere) if self.rng.random() < 0.6 else None
        filters = filters or _required(self.refs.draw_unfitting(self.rng, mask))
        if self.refs.fitting(filters, group):
            raise _Unaskable
        return filters

    def counts(self, group: Sequence[int], node: int) -> Filters:
        """Asks how many of a description are in a set, with every reachable number as likely."""
        options: dict[int, list[Filters]] = {len(group): [ANYTHING]}
        for filters, fit in self.refs.descriptions():
            if sum(v is not None for v in filters) <= min(2, self.longest):
                options.setdefault(len(set(fit) & set(group)), []).append(filters)
        if 0 not in options or self.rng.random() < 0.5:
            unfitting = self.refs.draw_unfitting(self.rng, draw_mask(self.rng, min(2, self.longest)))
            options.setdefault(0, []).extend([unfitting] if unfitting else [])
        number = self.rng.choice([n for n, some in options.items() if some])
        filters = self.rng.choice(options[number])
        self.builder.add("count", self.builder.filter(node, filters))
        return filters

    # -- families -----------------------------------------------------------------------------------------------------

    def zero_hop(self) -> str:
        if self.goal.kind == "query":
            _, node, words = self.the([self.goal.attribute])
            return self.query(node, words)
        everything, node = list(range(len(self.refs.objects))), self.builder.scene()
        if self.goal.kind == "exist":
            return self.exists(everything, node)[1]
        filters = self.counts(everything, node)
        return self.say.wording(
            "how many {what} are there", "what number of {what} are there", what=self.say.noun(filters, plural=True)
        )

    def _hops(self, hops: int) -> str:
        if self.goal.kind == "query":
            _, node, words = self.the_related(hops, [self.goal.attribute])
            return self.query(node, words)
        return self._ask_about(*self.related(hops))

    def _ask_about(self, group: Sequence[int], node: int, words: str) -> str:
        """Existence or number of something in a set."""
        if self.goal.kind == "exist":
            return f"{self.exists(group, node)[1]} {words}"
        return f"how many {self.say.noun(self.counts(group, node), plural=True)} are {words}"

    def one_hop(self) -> str:
        return self._hops(1)

    def two_hop(self) -> str:
        return self._hops(2)

    def three_hop(self) -> str:
        return self._hops(3)

    def same_relate(self) -> str:
        same = self.goal.attribute
        k, node, words = self.the([same])
        column = FILTERED.index(same)
        value = self.refs.objects[k][column]
        group = [j for j, o in enumerate(self.refs.objects) if j != k and o[column] == value]
        node, shared = self.builder.add(f"same_{same}", node), f"the same {same} as {words}"
        if self.goal.kind == "query":
            attribute = self.rng.choice([name for name in FILTERED if name != same])
            _, node, noun = self.the_among(group, node, [attribute, same])
            return self.query(node, f"the other {noun} with {shared}", attribute)
        if self.goal.kind == "exist":
            filters, start = self.exists(group, node, "another")
            question = f"{start} with {shared}"
        else:
            filters = self.counts(group, node)
            question = f"how many other {self.say.noun(filters, plural=True)} have {shared}"
        if filters[column] is not None:
            raise _Unaskable
        return question

    def comparison(self) -> str:
        attribute = self.goal.attribute
        first, one, words = self.the([attribute])
        second, two, others = self.the([attribute], other_than=first)
        column = FILTERED.index(attribute)
        if (self.refs.objects[first][column] == self.refs.objects[second][column]) != self.goal.truth:
            raise _Unaskable
        queries = [self.builder.add(f"query_{attribute}", node) for node in (one, two)]
        self.builder.add(f"equal_{attribute}", *queries)
        return self.say.wording(
            "is {one} the same {attribute} as {two}",
            "do {one} and {two} have the same {attribute}",
            "does {one} have the same {attribute} as {two}",
            one=words,
            two=others,
            attribute=attribute,
        )

    def compare_integer(self) -> str:
        function = self.rng.choice(("equal_integer", "less_than", "greater_than"))
        sets = [self._some_description() for _ in range(2)]
        if covers(sets[0], sets[1]) or covers(sets[1], sets[0]):
            raise _Unaskable
        first, second = (len(self.refs.fitting(filters)) for filters in sets)
        holds = {"equal_integer": first == second, "less_than": first < second, "greater_than": first > second}
        if holds[function] != self.goal.truth:
            raise _Unaskable
        counts = [self.builder.add("count", self.builder.filter(self.builder.scene(), filters)) for filters in sets]
        self.builder.add(function, *counts)
        one, two = (self.say.noun(filters, plural=True) for filters in sets)
        start, joint = {
            "equal_integer": ("are there as many", "as"),
            "less_than": ("are there fewer", "than"),
            "greater_than": ("are there more", "than"),
        }[function]
        return f"{start} {one} {joint} {two}"

    def _some_description(self) -> Filters:
        """A description of one or two attributes that fits something, mostly."""
        mask = draw_mask(self.rng, min(2, self.longest))
        if self.rng.random() < 0.2:
            return _required(self.refs.draw_unfitting(self.rng, mask))
        return masked(self.rng.choice(self.refs.objects), mask)

    def single_and(self) -> str:
        (first, one, words), (second, two, others) = self.related(1), self.related(1)
        if words == others or set(first) <= set(second) or set(second) <= set(first):
            raise _Unaskable
        group, node = [k for k in first if k in second], self.builder.add("intersect", one, two)
        both = f"both {words} and {others}"
        if self.goal.kind == "query":
            _, node, noun = self.the_among(group, node, [self.goal.attribute])
            return self.query(node, f"the {noun} {both}")
        return self._ask_about(group, node, both)

    def single_or(self) -> str:
        sets = [self._some_description() for _ in range(2)]
        if covers(sets[0], sets[1]) or covers(sets[1], sets[0]):
            raise _Unaskable
        nodes = [self.builder.filter(self.builder.scene(), filters) for filters in sets]
        self.builder.add("count", self.builder.add("union", *nodes))
        one, two = (self.say.noun(filters, plural=True) for filters in sets)
        return f"how many {self.say.word('thing')}s are {one} or {two}"


def questions(
    scene: Mapping[str, Any],
    rng: random.Random,
    count: int,
    families: Sequence[str] = FAMILIES,
    synonyms: bool = False,
    longest: int = len(FILTERED),
) -> list[dict[str, Any]]:
    """Different questions about a scene.

    Args:
        scene: A CLEVR scene with its relationships.
        rng: Source of all that is drawn.
        count: How many questions; fewer come back where the scene does not yield as many.
        families: Which of `FAMILIES` to draw from, each as likely.
        synonyms: Whether words and wordings vary.
        longest: Greatest number of attributes in a description.

    Returns:
        Records {question, answer, program, type, family}; answers as `programs.normalize_answer` writes them.

    Raises:
        ValueError: If a family is not one of `FAMILIES`.
    """
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown or not families:
        raise ValueError(f"question families must be some of {list(FAMILIES)}, got {list(families)}")
    references, speaker = References(scene), Speaker(rng, synonyms)
    records: dict[str, dict[str, Any]] = {}
    for _ in range(count):
        family = rng.choice(families)
        for attempt in range(_GOALS * _ATTEMPTS):
            if attempt % _ATTEMPTS == 0:
                goal = _Goal.draw(rng)
            question = _Question(references, scene["relationships"], rng, speaker, goal, longest)
            record = _record(question, family, scene)
            if record is not None and record["question"] not in records:
                records[record["question"]] = record
                break
    return list(records.values())


def _record(question: _Question, family: str, scene: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        text = getattr(question, family)()
    except _Unaskable:
        return None
    program = question.builder.program
    return {
        "question": text,
        "answer": answer(program, scene),
        "program": program,
        "type": question_type(program),
        "family": family,
    }
