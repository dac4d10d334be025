"""Instructions that edit CLEVR scenes: the paper's five kinds (section A.1), in wordings of our own.

Objects are spoken of so that only one is meant. The edited scene keeps camera and lights, obeys the rules of placement
and shows every object; where the text leaves a position open, it is drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.worlds.clevr import ATTRIBUTES, ClevrWorld, Scene, annotate, draw_object
from data_modules.worlds.placement import (
    RELATION_EPSILON,
    RELATIONS,
    Placed,
    draw_position,
    fits,
    footprint,
    offset_along,
)
from data_modules.worlds.programs import ANYTHING, FILTERED, Filters, Program, ProgramBuilder
from data_modules.worlds.references import References, Speaker
from kyvo.clevr import DIRECTIONS, SIZES

KINDS = ("appearance", "appearance_relation", "insert", "remove", "move")
"""What `type` of a record can be. In `appearance_relation` and `remove` the object is spoken of by a relation."""

REMOVE_PLAIN = "remove_plain"
"""A further kind to ask for: removal of an object spoken of by its attributes; its `type` is `remove`."""

_ATTEMPTS = 20
_ONLY_ONE_THERE = 0.5
"""How often an object that alone lies in a direction is called just a thing."""

_FULL_ANCHORS, _TRAILING_OBJECTS = 0.5, 0.2
"""How often, where words vary, an anchor is spoken of as published ("to the behind of large green rubber sphere"), and
how often a shape is followed by "object" ("the rubber cylinder object")."""

_CHANGE = (
    "Change the {attribute} of {what} to {value}",
    "Change {what} to have {value} {attribute}",
    "Change {what} so that its {attribute} is {value}",
    "Set the {attribute} of {what} to {value}",
    "Set {what} to have {value} {attribute}",
    "Transform {what} to have {value} {attribute}",
    "Transform the {attribute} of {what} to {value}",
    "Transform {what} so that its {attribute} is {value}",
    "Make the {attribute} of {what} {value}",
    "Make {what} have {value} {attribute}",
    "Make {what} have the {attribute} {value}",
    "Give {what} {value} {attribute}",
    "Give {what} the {attribute} {value}",
    "Turn the {attribute} of {what} to {value}",
    "Modify {what} to have {value} {attribute}",
    "Modify the {attribute} of {what} to {value}",
    "Update {what} to have {value} {attribute}",
    "Update the {attribute} of {what} to {value}",
    "Let {what} have {value} {attribute}",
    "Let the {attribute} of {what} be {value}",
)
_INSERT = (
    "Put {new} {relation} {anchor}",
    "Put {new} into the scene {relation} {anchor}",
    "Put {new} in the scene so that it is {relation} {anchor}",
    "Insert {new} {relation} {anchor}",
    "Insert {new} into the scene {relation} {anchor}",
    "Insert {new} that is {relation} {anchor}",
    "Add {new} {relation} {anchor}",
    "Add {new} to the scene {relation} {anchor}",
    "Add {new} that is {relation} {anchor}",
    "Add {new} so that it is {relation} {anchor}",
    "Place {new} {relation} {anchor}",
    "Place {new} in the scene {relation} {anchor}",
    "Place {new} so that it is {relation} {anchor}",
    "Set {new} {relation} {anchor}",
    "Create {new} {relation} {anchor}",
    "Create {new} in the scene {relation} {anchor}",
    "Create {new} that is {relation} {anchor}",
    "Let there be {new} {relation} {anchor}",
)
_REMOVE = (
    "Remove {what}",
    "Remove {what} from the scene",
    "Take out {what}",
    "Take {what} out",
    "Take {what} out of the scene",
    "Take away {what}",
    "Take {what} away",
    "Take {what} from the scene",
    "Delete {what}",
    "Delete {what} from the scene",
    "Erase {what}",
    "Erase {what} from the scene",
    "Clear {what}",
    "Clear {what} from the scene",
    "Clear away {what}",
    "Clear the scene of {what}",
    "Make {what} go away",
    "Let {what} go away",
)
_MOVE = (
    "Move {what} to {across} and {along}",
    "Move {what} towards {across} and {along}",
    "Change the position of {what} towards {across} and {along}",
    "Change the position of {what} to {across} and {along}",
    "Shift {what} to {across} and {along}",
    "Shift {what} towards {across} and {along}",
    "Shift the position of {what} to {across} and {along}",
    "Shift the position of {what} towards {across} and {along}",
    "Push {what} to {across} and {along}",
    "Push {what} towards {across} and {along}",
    "Slide {what} to {across} and {along}",
    "Slide {what} towards {across} and {along}",
    "Take {what} to {across} and {along}",
    "Take {what} towards {across} and {along}",
    "Place {what} more to {across} and {along}",
    "Set {what} more to {across} and {along}",
    "Make {what} go to {across} and {along}",
    "Let {what} go towards {across} and {along}",
)
WORDINGS = {
    "appearance": _CHANGE,
    "appearance_relation": _CHANGE,
    "insert": _INSERT,
    "remove": _REMOVE,
    "move": _MOVE,
}
"""The wordings of each kind; the first one is taken where they don't vary."""


@dataclass(frozen=True)
class _Spoken:
    """An object spoken of: its index, the words, the program that finds it, and the relation that was used.

    `literal` words go with "to the ... of", as published: "to the front of large cyan rubber cube".
    """

    index: int
    words: str
    program: Program
    directions: tuple[str, ...] = ()
    anchor: int | None = None
    literal: bool = False


@dataclass(frozen=True)
class _Edit:
    """A scene's objects after an edit, and the record of it."""

    objects: list[dict[str, Any]]
    record: dict[str, Any]


def _find(filters: Filters) -> Program:
    """The program that finds what a description fits."""
    builder = ProgramBuilder()
    builder.the(builder.scene(), filters)
    return builder.program


class _Editor:
    """Edits of one scene; each method draws one and returns None where its draw cannot be done.

    Args:
        scene: The scene to edit.
        world: Its world.
        rng: Draws everything.
        speaker: Chooses words.
        move_step: Distance of moves along both directions; None draws it.
    """

    def __init__(
        self, scene: Mapping[str, Any], world: ClevrWorld, rng: random.Random, speaker: Speaker, move_step: float | None
    ) -> None:
        self.objects = [{name: o[name] for name in (*FILTERED, "3d_coords", "rotation")} for o in scene["objects"]]
        self.relations = scene["relationships"]
        self.world, self.rng, self.say, self.move_step = world, rng, speaker, move_step
        self.refs = References(scene)

    def _others(self, index: int | None) -> list[Placed]:
        return [footprint(o) for k, o in enumerate(self.objects) if k != index]

    def _plain(self) -> _Spoken | None:
        """Some object, by its attributes."""
        k = self.rng.randrange(len(self.objects))
        filters = self.refs.of(k, self.rng)
        if filters is None:
            return None
        return _Spoken(k, f"the {self._noun(filters)}", _find(filters))

    def _anchor(self) -> _Spoken | None:
        """Some object that another one is related to: as any, or by all its attributes and without an article."""
        if not self.say.varied or self.rng.random() > _FULL_ANCHORS:
            return self._plain()
        k = self.rng.randrange(len(self.objects))
        filters = self.refs.objects[k]
        if self.refs.fitting(filters) != [k]:
            return None
        return _Spoken(k, self._noun(filters), _find(filters), literal=True)

    def _noun(self, filters: Filters) -> str:
        trailing = self.say.varied and filters[-1] is not None and self.rng.random() < _TRAILING_OBJECTS
        return self.say.noun(filters) + (" object" if trailing else "")

    def _relation(self, direction: str, anchor: _Spoken) -> str:
        return f"to the {direction} of" if anchor.literal else self.say.relation(direction)

    def _related(self) -> _Spoken | None:
        """Some object, by its attributes and where it lies from another one."""
        anchor, direction = self._anchor(), self.rng.choice(RELATIONS)
        group = self.relations[direction][anchor.index] if anchor else []
        if anchor is None or not group:
            return None
        k = self.rng.choice(group)
        alone = len(group) == 1 and self.rng.random() < _ONLY_ONE_THERE
        filters = ANYTHING if alone else self.refs.of(k, self.rng, group)
        if filters is None:
            return None
        builder = ProgramBuilder()
        builder.program.extend(anchor.program)
        builder.the(builder.add("relate", len(builder.program) - 1, value=direction), filters)
        words = f"the {self._noun(filters)} {self._relation(direction, anchor)} {anchor.words}"
        return _Spoken(k, words, builder.program, (direction,), anchor.index)

    def _edit(self, kind: str, text: str, spoken: _Spoken, op: str, index: int, after: dict[str, Any] | None) -> _Edit:
        """The record, and the objects with the one at `index` replaced, added or gone."""
        before = self.objects[index] if index < len(self.objects) else None
        objects = [*self.objects[:index], *([after] if after else []), *self.objects[index + 1 :]]
        edit = {
            "op": op,
            "object": index,
            "before": before,
            "after": after,
            "directions": list(spoken.directions),
            "anchor": spoken.anchor,
        }
        return _Edit(objects, {"type": kind, "text": text, "program": spoken.program, "edit": edit})

    def appearance(self) -> _Edit | None:
        return self._change("appearance", self._plain())

    def appearance_relation(self) -> _Edit | None:
        return self._change("appearance_relation", self._related())

    def _change(self, kind: str, spoken: _Spoken | None) -> _Edit | None:
        if spoken is None:
            return None
        before, attribute = self.objects[spoken.index], self.rng.choice(FILTERED)
        value = self.rng.choice([v for v in ATTRIBUTES[attribute] if v != before[attribute]])
        x, y, _ = before["3d_coords"]
        after = before | {attribute: value}
        after["3d_coords"] = [x, y, SIZES[after["size"]]]
        if not fits(footprint(after), self._others(spoken.index)):
            return None
        word = self.say.word(value) if attribute != "shape" else value
        text = self.say.wording(*_CHANGE, attribute=attribute, what=spoken.words, value=word)
        return self._edit(kind, text, spoken, "change", spoken.index, after)

    def insert(self) -> _Edit | None:
        anchor, direction = self._anchor(), self.rng.choice(RELATIONS)
        if anchor is None or len(self.objects) >= self.world.objects[1]:
            return None
        start, size = footprint(self.objects[anchor.index]), self.rng.choice(ATTRIBUTES["size"])
        place = self._draw_place(SIZES[size], None, start, (direction,))
        if place is None:
            return None
        after = draw_object(self.rng, size, place)
        new = f"a {self._noun((after['size'], after['color'], after['material'], after['shape']))}"
        text = self.say.wording(*_INSERT, new=new, relation=self._relation(direction, anchor), anchor=anchor.words)
        spoken = _Spoken(len(self.objects), text, anchor.program, (direction,), anchor.index)
        return self._edit("insert", text, spoken, "insert", spoken.index, after)

    def remove(self) -> _Edit | None:
        return self._remove(self._related())

    def remove_plain(self) -> _Edit | None:
        return self._remove(self._plain())

    def _remove(self, spoken: _Spoken | None) -> _Edit | None:
        if spoken is None or len(self.objects) <= self.world.objects[0]:
            return None
        text = self.say.wording(*_REMOVE, what=spoken.words)
        return self._edit("remove", text, spoken, "remove", spoken.index, None)

    def move(self) -> _Edit | None:
        spoken = self._plain()
        if spoken is None:
            return None
        across, along = self.rng.choice(("left", "right")), self.rng.choice(("front", "behind"))
        before = self.objects[spoken.index]
        start = footprint(before)
        place = self._step(start, spoken.index, (across, along))
        if place is None:
            return None
        after = before | {"3d_coords": [place[0], place[1], start[2]]}
        text = self.say.wording(*_MOVE, what=spoken.words, across=across, along=along)
        spoken = _Spoken(spoken.index, text, spoken.program, (across, along), spoken.index)
        return self._edit("move", text, spoken, "move", spoken.index, after)

    def _step(self, start: Placed, index: int, directions: Sequence[str]) -> Placed | None:
        """Where a moved object comes to stand: a fixed step away, or anywhere in the directions."""
        if self.move_step is None:
            return self._draw_place(start[2], index, start, directions)
        x, y = (start[axis] + self.move_step * sum(DIRECTIONS[d][axis] for d in directions) for axis in (0, 1))
        inside = max(abs(x), abs(y)) <= self.world.extent
        return (x, y, start[2]) if inside and fits((x, y, start[2]), self._others(index)) else None

    def _draw_place(self, radius: float, index: int | None, start: Placed, directions: Sequence[str]) -> Placed | None:
        """A legal place that lies in all the directions of `start`."""

        def lies_there(candidate: Placed) -> bool:
            return all(offset_along(d, start, candidate) > RELATION_EPSILON for d in directions)

        return draw_position(self.rng, self.world.extent, radius, self._others(index), lies_there)


def instruction(
    scene: Mapping[str, Any],
    world: ClevrWorld,
    rng: random.Random,
    kinds: Sequence[str] = KINDS,
    synonyms: bool = False,
    move_step: float | None = None,
) -> dict[str, Any] | None:
    """An instruction for a scene, and the scene it asks for.

    The number of objects stays within the world's, so full scenes gain none.

    Args:
        scene: A CLEVR scene with its relationships.
        world: Settings that the edited scene has to obey.
        rng: Source of all that is drawn.
        kinds: Kinds to choose from, of `KINDS` and `REMOVE_PLAIN`; the first in a random order that can be done.
        synonyms: Whether words and wordings vary.
        move_step: Distance of moves along each of the two directions, so that text and scene determine the outcome;
            None draws a place anywhere in those directions.

    Returns:
        `instruction`: record {type, text, program, edit}, whose program finds the object to edit (insert: the anchor)
        and whose edit is {op, object, before, after, directions, anchor}: `object` is an index into the source (insert:
        the target), the object lies in `directions` of `anchor` (an index into the source; move: from where it was);
        `target`: the edited scene, with relations, boxes and mask. None if no kind could be done.

    Raises:
        ValueError: For an unknown kind.
    """
    unknown = sorted(set(kinds) - {*KINDS, REMOVE_PLAIN})
    if unknown or not kinds:
        raise ValueError(f"kinds of instruction must be some of {[*KINDS, REMOVE_PLAIN]}, got {list(kinds)}")
    editor = _Editor(scene, world, rng, Speaker(rng, synonyms), move_step)
    for kind in rng.sample(list(kinds), len(kinds)):
        for _ in range(_ATTEMPTS):
            draw: Callable[[], _Edit | None] = getattr(editor, kind)
            edit = draw()
            target = _shown(edit.objects, scene, world) if edit else None
            if edit and target:
                return {"instruction": edit.record, "target": target}
    return None


def satisfied(
    instruction: Mapping[str, Any], source: Mapping[str, Any], target: Mapping[str, Any], tolerance: float = 0.1
) -> bool:
    """Whether a scene is what an instruction asks for: the edit done, all else as it was.

    Objects may come in any order. Where the text leaves a position open (insert, move) any place in the directions
    told will do; else objects must stand where they stood. Whether the scene is legal is not looked at.

    Args:
        instruction: Record of `instruction`.
        source: The scene before.
        target: The scene after.
        tolerance: Greatest distance on the ground at which an object counts as standing in its place.
    """
    edit, left = instruction["edit"], list(target["objects"])
    for k, record in enumerate(source["objects"]):
        if k != edit["object"] and not _take(left, record, tolerance):
            return False
    after = edit["after"]
    if after is None or len(left) != 1:
        return not left and after is None
    if edit["op"] == "change":
        return _take(left, after, tolerance)
    start = source["objects"][edit["anchor"]]["3d_coords"]
    there = all(offset_along(d, start, left[0]["3d_coords"]) > RELATION_EPSILON for d in edit["directions"])
    return there and _alike(left[0], after)


def _take(objects: list[dict[str, Any]], wanted: Mapping[str, Any], tolerance: float) -> bool:
    """Takes the object that looks and stands as wanted from the list; False if there is none."""
    for k, candidate in enumerate(objects):
        distance = math.dist(candidate["3d_coords"][:2], wanted["3d_coords"][:2])
        if _alike(candidate, wanted) and distance <= tolerance:
            del objects[k]
            return True
    return False


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in FILTERED)


def _shown(objects: Sequence[Mapping[str, Any]], scene: Mapping[str, Any], world: ClevrWorld) -> Scene | None:
    """The scene of these objects under the source's camera and lights, or None if one of them is hidden."""
    kept = {name: scene[name] for name in ("camera", "lights") if name in scene}
    target = world.complete({"objects": objects, **kept})
    ids = world.identify(target)
    return annotate(target, ids) if world.is_visible(target, ids) else None
