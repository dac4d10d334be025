"""Questions about CLEVR scenes, drawn from templates and balanced as in CLEVR's question engine.

Whatever is spoken of as "the ..." fits exactly one object, where a relation is named the question would be another one
without it, and of two descriptions that are compared or joined neither contains the other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.worlds.clevr import ATTRIBUTES
from data_modules.worlds.placement import RELATIONS, relationships
from data_modules.worlds.programs import (
    ANYTHING,
    FILTERED,
    Filters,
    IllPosedError,
    Program,
    ProgramBuilder,
    apply,
    execute,
    normalize_answer,
    question_type,
)
from data_modules.worlds.references import References, Speaker, covers, named
from data_modules.worlds.templates import DOMAINS, OWN, SIGNATURES, Template, TemplateNode, read_templates

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
"""The families of the package's templates, which are CLEVR's."""

_BRANCHES = 6
"""Outcomes of a node that are followed; all of them at the last node, whose outcomes are answers."""

_STEPS, _ANSWERS = 300, 4
"""Nodes that a search visits at most, and different answers it looks for."""

Option = tuple[str | None, Filters]
"""What a composite node can say: a relation, or None where it has none, and a description."""

Menu = dict[Any, dict[int, list[Option]]]
"""A composite node's options by outcome (an index, number, bool or set as bits) and number of attributes named."""


class _Facts:
    """What can be said of one scene. Sets of objects are ints, whose bit k stands for object k.

    Args:
        scene: A CLEVR scene.
        longest: Greatest number of attributes in a description.
        rng: Draws descriptions that fit nothing.
    """

    def __init__(self, scene: Mapping[str, Any], longest: int, rng: random.Random) -> None:
        self.objects: Sequence[Mapping[str, Any]] = scene["objects"]
        self.relations = scene.get("relationships") or relationships(self.objects)
        self.everything = (1 << len(self.objects)) - 1
        self._fits = {ANYTHING: self.everything}
        for filters, fit in References(scene).descriptions():
            if named(filters) <= longest:
                self._fits[filters] = _bits(fit)
        self._add_unfitting(rng)
        self._menus: dict[Any, Menu] = {}

    def _add_unfitting(self, rng: random.Random) -> None:
        """For each description one with a word changed, if nothing fits that one: a near miss."""
        for filters in list(self._fits)[1:]:
            column = rng.choice([k for k, value in enumerate(filters) if value is not None])
            values = list(filters)
            values[column] = rng.choice(ATTRIBUTES[FILTERED[column]])
            size, color, material, shape = values
            self._fits.setdefault((size, color, material, shape), 0)

    def menu(self, function: str, source: Any, without: tuple[bool, ...]) -> Menu:
        """What a composite function can say of its input.

        Args:
            function: Its name.
            source: An object or a list of objects.
            without: Which attributes may not be named.
        """
        key = (function, source if isinstance(source, int) else _bits(source), without)
        if key not in self._menus:
            self._menus[key] = self._make_menu(function, source, without)
        return self._menus[key]

    def _make_menu(self, function: str, source: Any, without: tuple[bool, ...]) -> Menu:
        menu: Menu = {}
        relates = function.startswith("relate")
        groups = {name: _bits(self.relations[name][source]) for name in RELATIONS} if relates else {None: _bits(source)}
        for relation, group in groups.items():
            for filters, fit in self._fits.items():
                found = fit & group
                idle = found == fit if relates else filters == ANYTHING and self._says_nothing(function, group)
                outcome = _outcome(function, found)
                if not idle and outcome is not None and not any(f and w for f, w in zip(filters, without, strict=True)):
                    menu.setdefault(outcome, {}).setdefault(named(filters), []).append((relation, filters))
        return menu

    def _says_nothing(self, function: str, group: int) -> bool:
        """Whether "things" of a set are not worth a question: all things, or the existence of any."""
        return function == "filter" or (function == "filter_exist" and group == self.everything)


def _bits(indices: Sequence[int]) -> int:
    return sum(1 << k for k in indices)


def _indices(bits: int) -> list[int]:
    return [k for k in range(bits.bit_length()) if bits >> k & 1]


def _outcome(function: str, found: int) -> Any:
    """What a composite function yields for the set that its filters leave; None where it may not be asked."""
    if function.endswith("_unique"):
        return found.bit_length() - 1 if found.bit_count() == 1 else None
    if function.endswith("_count"):
        return found.bit_count()
    if function.endswith("_exist"):
        return bool(found)
    return None if function == "relate_filter" and not found else found


@dataclass(frozen=True)
class _Draft:
    """The nodes of a template that are filled in: what each says (a slot's value as text) and yields."""

    said: tuple[Option | str | None, ...] = ()
    outputs: tuple[Any, ...] = ()


class _Search:
    """Randomised depth-first search for ways to fill in a template.

    Args:
        template: The template.
        facts: The scene.
        rng: Orders what is tried.
    """

    def __init__(self, template: Template, facts: _Facts, rng: random.Random) -> None:
        self.template, self.facts, self.rng = template, facts, rng
        self._left = _STEPS

    def drafts(self, draft: _Draft = _Draft()) -> Iterator[_Draft]:
        """Complete drafts that keep all constraints."""
        if len(draft.said) == len(self.template.nodes):
            yield draft
            return
        node = self.template.nodes[len(draft.said)]
        for said, output in self._steps(node, [draft.outputs[k] for k in node.inputs]):
            self._left -= 1
            if self._left < 0:
                return
            longer = _Draft((*draft.said, said), (*draft.outputs, output))
            if self._keeps_constraints(longer):
                yield from self.drafts(longer)

    def _steps(self, node: TemplateNode, inputs: list[Any]) -> Iterator[tuple[Option | str | None, Any]]:
        """What a node can say and what it then yields."""
        if node.composite:
            yield from self._describe(node, inputs[0])
            return
        values: list[str | None] = [None]
        if node.slots:
            values = list(DOMAINS[self.template.types[node.slots[0]]])
            self.rng.shuffle(values)
        for value in values[:_BRANCHES]:
            try:
                yield value, apply(node.function, inputs, value, self.facts.objects, self.facts.relations)
            except IllPosedError:
                continue

    def _describe(self, node: TemplateNode, source: Any) -> Iterator[tuple[Option, Any]]:
        """One option for each outcome, all lengths of description as likely."""
        without = tuple(slot in self.template.empty for slot in node.slots[-4:])
        menu = self.facts.menu(node.function, source, without)
        outcomes = list(menu)
        self.rng.shuffle(outcomes)
        is_set = SIGNATURES[node.function].output == "ObjectSet"
        for outcome in outcomes if node is self.template.nodes[-1] else outcomes[:_BRANCHES]:
            lengths = menu[outcome]
            option = self.rng.choice(lengths[self.rng.choice(list(lengths))])
            yield option, _indices(outcome) if is_set else outcome

    def _keeps_constraints(self, draft: _Draft) -> bool:
        """Whether the newest node goes with the others."""
        newest, outputs = len(draft.said) - 1, draft.outputs
        if any(max(a, b) == newest and outputs[a] == outputs[b] for a, b in self.template.apart):
            return False
        values = _slot_values(self.template, draft) if self.template.unequal else {}
        if any(a in values and b in values and values[a] == values[b] for a, b in self.template.unequal):
            return False
        if not self._describes_set(newest):
            return True
        return not any(self._describes_set(k) and self._contain(draft, k, newest) for k in range(newest))

    def _describes_set(self, k: int) -> bool:
        node = self.template.nodes[k]
        return node.composite and not node.function.endswith(("_unique", "_exist"))

    def _contain(self, draft: _Draft, first: int, second: int) -> bool:
        """Whether of two described sets one contains the other by its words, so that no look at the scene is needed."""
        (place, filters), (other_place, other_filters) = (self._place(draft, k) for k in (first, second))
        return (place in (None, other_place) and covers(filters, other_filters)) or (
            other_place in (None, place) and covers(other_filters, filters)
        )

    def _place(self, draft: _Draft, k: int) -> tuple[Any, Filters]:
        """Where a described set was looked for, None if in the whole scene, and its description."""
        said, source = draft.said[k], draft.outputs[self.template.nodes[k].inputs[0]]
        relation, filters = said if isinstance(said, tuple) else (None, ANYTHING)
        whole = relation is None and len(source) == len(self.facts.objects)
        return None if whole else (relation, source), filters


def _slot_values(template: Template, draft: _Draft) -> dict[str, str | None]:
    """The value of each slot that a draft fills; None where a description doesn't name the attribute."""
    values: dict[str, str | None] = {}
    for node, said in zip(template.nodes, draft.said, strict=False):
        if isinstance(said, tuple):
            relation, filters = said
            values.update(zip(node.slots, (*((relation,) if relation else ()), *filters), strict=True))
        elif node.slots:
            values[node.slots[0]] = said
    return values


def _program(template: Template, draft: _Draft) -> Program:
    """The functions that a filled template stands for."""
    builder = ProgramBuilder()
    ends: list[int] = []
    for node, said in zip(template.nodes, draft.said, strict=True):
        inputs = [ends[k] for k in node.inputs]
        if isinstance(said, tuple):
            ends.append(_add_composite(builder, node.function, inputs[0], said))
        else:
            ends.append(builder.add(node.function, *inputs, value=said))
    return builder.program


def _add_composite(builder: ProgramBuilder, function: str, source: int, said: Option) -> int:
    relation, filters = said
    if relation is not None:
        source = builder.add("relate", source, value=relation)
    source = builder.filter(source, filters)
    ending = function.removeprefix("relate_").removeprefix("filter").removeprefix("_")
    return builder.add(ending, source) if ending else source


def _is_idle(program: Program, scene: Mapping[str, Any]) -> bool:
    """Whether some step to other objects could be left out: all objects in its place would give the same answer.

    Of questions for existence the sets are compared, since whatever exists there exists in the scene.
    """
    end = program[-1]["inputs"][0] if program[-1]["function"] == "exist" else -1
    output = execute(program, scene)[end]
    for k, node in enumerate(program):
        if node["function"] == "relate" or node["function"].startswith("same_"):
            everything = {"function": "scene", "inputs": [], "value_inputs": []}
            try:
                outputs = execute([*program[:k], everything, *program[k + 1 :]], scene)
            except IllPosedError:
                continue
            if outputs[end] == output:
                return True
    return False


@dataclass
class _Tally:
    """How often a template was used, and with which answers."""

    answers: dict[str, int]
    used: int = 0

    def allows(self, answer: str) -> bool:
        """CLEVR's rule of rejection: no answer much ahead of the second most frequent one, or of the median."""
        counts, count = sorted(self.answers.values()), self.answers[answer]
        return count <= 1.1 * counts[-2] and count <= 5 * max(counts[len(counts) // 2], 5)

    def add(self, answer: str) -> None:
        self.used += 1
        self.answers[answer] += 1


class _Interview:
    """The questions about one scene of a block.

    Args:
        engine: Its settings.
        scene: The scene.
        tallies: What was asked in the block so far, by template.
        rng: Source of all that is drawn.
    """

    def __init__(
        self, engine: QuestionEngine, scene: Mapping[str, Any], tallies: Sequence[_Tally], rng: random.Random
    ) -> None:
        self.engine, self.scene, self.tallies, self.rng = engine, scene, tallies, rng
        self.facts = _Facts(scene, engine.longest, rng)
        self.speaker = Speaker(rng, engine.synonyms)
        self.records: dict[str, dict[str, Any]] = {}

    def ask(self) -> list[dict[str, Any]]:
        """Rounds of questions, the least used templates first; without regard to balance if that leaves none."""
        self._rounds(self.engine.per_scene, balanced=True)
        if not self.records:
            self._rounds(min(1, self.engine.per_scene), balanced=False)
        # Templates that are easily filled come first: whoever asks only the first questions would meet those alone.
        return self.rng.sample(list(self.records.values()), len(self.records))

    def _rounds(self, count: int, balanced: bool) -> None:
        live = list(range(len(self.tallies)))
        while live and len(self.records) < count:
            self.rng.shuffle(live)
            live.sort(key=lambda k: self.tallies[k].used)
            live = [k for k in live if len(self.records) < count and self._add(k, balanced)]

    def _add(self, number: int, balanced: bool) -> bool:
        """Asks a question of one template; tells whether there was one."""
        template, tally = self.engine.templates[number], self.tallies[number]
        for answer, draft in self._drafts(template, len(tally.answers)):
            question = _words(template, draft, self.speaker) if tally.allows(answer) or not balanced else None
            if question is not None and question not in self.records:
                program = _program(template, draft)
                self.records[question] = {
                    "question": question,
                    "answer": answer,
                    "program": program,
                    "type": question_type(program),
                    "family": template.family,
                }
                tally.add(answer)
                return True
        return False

    def _drafts(self, template: Template, possible: int) -> list[tuple[str, _Draft]]:
        """Drafts with different answers, in random order, so that easily found answers aren't preferred."""
        found: dict[str, _Draft] = {}
        steps = any(node.function == "relate" or node.function.startswith("same_") for node in template.nodes)
        for draft in _Search(template, self.facts, self.rng).drafts():
            answer = normalize_answer(draft.outputs[-1])
            if answer not in found and not (steps and _is_idle(_program(template, draft), self.scene)):
                found[answer] = draft
                if len(found) == min(_ANSWERS, possible):
                    break
        return self.rng.sample(list(found.items()), len(found))


class QuestionEngine:
    """Asks questions about scenes.

    Args:
        templates: Folder of template files in CLEVR's format; by default the package's own.
        families: Which families, by the names of their files; by default all.
        longest: Greatest number of attributes by which a description names an object.
        synonyms: Whether words and wordings vary; otherwise the first ones are taken and optional parts left out.
        per_scene: Questions about each scene, as far as it yields so many.

    Raises:
        ValueError: If a family has no file, or a template is not sound.
    """

    def __init__(
        self,
        templates: Path | None = None,
        families: Sequence[str] | None = None,
        longest: int = len(FILTERED),
        synonyms: bool = True,
        per_scene: int = 10,
    ) -> None:
        found = read_templates(OWN if templates is None else Path(templates))
        wanted = list(found) if families is None else list(families)
        if not wanted or not set(wanted) <= set(found):
            raise ValueError(f"question families must be some of {list(found)}, got {wanted}")
        if longest < 1 or per_scene < 0:
            raise ValueError(f"longest must be at least 1 and per_scene at least 0, got {longest} and {per_scene}")
        self.templates = [template for family in wanted for template in found[family]]
        self.longest, self.synonyms, self.per_scene = longest, synonyms, per_scene

    def ask(self, scenes: Sequence[Mapping[str, Any]], rng: random.Random) -> list[list[dict[str, Any]]]:
        """Different questions about each scene of a block, over which templates and answers are balanced.

        CLEVR's blocks have 250 scenes. A scene with objects is asked about even if that upsets the balance.

        Args:
            scenes: CLEVR scenes.
            rng: Source of all that is drawn.

        Returns:
            Of each scene, records {question, answer, program, type, family}; answers as `programs.normalize_answer`
            writes them, types as `programs.question_type` names them.
        """
        # Numbers that no scene has would count as rare answers, and hold back all the others.
        most = max([1, *(len(scene["objects"]) for scene in scenes)])
        tallies = [_Tally(dict.fromkeys(template.answers(most), 0)) for template in self.templates]
        return [_Interview(self, scene, tallies, rng).ask() if scene["objects"] else [] for scene in scenes]


def _words(template: Template, draft: _Draft, speaker: Speaker) -> str:
    values = _slot_values(template, draft)
    text = speaker.fill(template.texts, {slot: (template.types[slot], value) for slot, value in values.items()})
    descriptions = [said[1] for said in draft.said if isinstance(said, tuple)]
    if len(descriptions) == 2 and any(a and b and a != b for a, b in zip(*descriptions, strict=True)):
        text = _without_other(text)
    return text


def _without_other(text: str) -> str:
    """`another red cube ... the blue cube` misleads: the blue cube is no red cube."""
    return re.sub(r"\bother ", "", re.sub(r"\banother ", "a ", text))
