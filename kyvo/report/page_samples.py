"""Samples on a page: what was read, what is true and what was written, side by side, with what differs in words.

N objects.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from kyvo.metrics.box_overlap import Floats
from kyvo.metrics.criteria import words_of
from kyvo.metrics.jaccard import SceneMatcher
from kyvo.report.metric_names import HEADLINES, digits, written
from kyvo.report.page_examples import Content, Example, choose
from kyvo.report.page_pictures import PictureKey, Pictures, Shown, compress, data_uri
from kyvo.report.scene_drawing import describe_scene, draw_scene, floor_extent, has_floor
from kyvo.report.scene_overlay import TRUE, WRITTEN, Layer, draw_over, has_outlines
from kyvo.scene import Scene, SceneObject, SceneSchema
from kyvo.task import Modality, Task

PANEL = 224
"""Side of a drawing in pixels."""

_NOTES = {
    "best": "highest scores",
    "median": "around the median score",
    "worst": "lowest scores",
    "wrong": "answers that differ from the true one",
    "right": "answers equal to the true one",
    "malformed": "outputs that do not parse whole",
    "samples": "without scores, in the order of the data",
}


@dataclass(frozen=True)
class TaskResults:
    """What an evaluation wrote for one task of a data set.

    Args:
        label: What its metrics are called by.
        task: The task.
        schema: Of its scenes.
        examples: All samples.
    """

    label: str
    task: Task
    schema: SceneSchema
    examples: Sequence[Example]

    def wanted_pictures(self, rows: int) -> list[PictureKey]:
        """The true pictures of the samples that a sheet of so many rows shows."""
        shown = [one for group in choose(self.examples, self.task, rows).values() for one in group]
        parts: list[PictureKey] = []
        for one in shown:
            parts += [PictureKey(self.label, one.key, "read")] if "image" in self.task.inputs else []
            parts += [PictureKey(self.label, one.key, "target")] if "image" in self.task.outputs else []
        return parts


@dataclass(frozen=True)
class SampleSheet:
    """Samples of a task in groups.

    Args:
        results: All of them.
        pictures: Where pictures come from.
        extent: Half the floor's width in drawings of scenes; default is that of the schema.
    """

    results: TaskResults
    pictures: Pictures
    extent: float | None = None

    def html(self, rows: int) -> str:
        """The groups, each with at most so many samples (twice as many answers)."""
        groups = choose(self.results.examples, self.results.task, rows)
        extent = self._extent([one for group in groups.values() for one in group])
        return "\n".join(self._group(name, group, extent) for name, group in groups.items())

    def _extent(self, shown: Sequence[Example]) -> float | None:
        if self.extent is not None or not has_floor(self.results.schema):
            return self.extent
        contents = [content for one in shown for content in (*one.read.values(), *one.target.values())]
        return floor_extent([one for one in contents if isinstance(one, Scene)], self.results.schema)

    def _group(self, name: str, examples: Sequence[Example], extent: float | None) -> str:
        task = escape(self.results.label, quote=True)
        cards = "\n".join(self._card(name, one, extent) for one in examples)
        head = f"<h4>{escape(name.capitalize())} <small>{_NOTES[name]}</small></h4>"
        return f'<section data-task="{task}" data-group="{name}">{head}\n<div class="samples">{cards}</div></section>'

    def _card(self, group: str, example: Example, extent: float | None) -> str:
        results = self.results
        panels = [self._panel("input", "read", name, example, extent) for name in results.task.inputs]
        for name in results.task.outputs:
            panels.append(self._panel("true", "target", name, example, extent))
            panels.append(self._panel("written", "generated", name, example, extent))
        panels.append(self._overlay(example))
        formed = "no" if example.malformed else "yes"
        task = escape(results.label, quote=True)
        return (
            f'<article data-task="{task}" data-group="{group}" data-formed="{formed}">{_head(example)}'
            f'<div class="panels">{"".join(panels)}</div>{_objects(example, results.schema)}</article>'
        )

    def _panel(self, said: str, part: str, name: Modality, example: Example, extent: float | None) -> str:
        content: Content = getattr(example, part).get(name)
        heading = f"{said} {'view from above' if name == 'scene' else name}"
        if content is None:
            return _text(heading, "nothing to be read" if part == "generated" else "none", "missing")
        if isinstance(content, Scene):
            return self._scene(heading, content, extent)
        if isinstance(content, str):
            return _text(heading, content, part)
        return self._picture(heading, part, example)

    def _overlay(self, example: Example) -> str:
        """Scenes over the picture that shows them; nothing where there is no such picture, or its camera not known."""
        task, schema = self.results.task, self.results.schema
        if example.camera is None or not has_outlines(schema):
            return ""
        part = "generated" if "scene" not in task.outputs else "target" if "image" in task.outputs else "read"
        layers = _asked_for(example) if part == "generated" else _true_and_written(example, schema)
        found = self._find_picture(part, example)
        if found is None or not layers:
            return ""
        with Image.open(io.BytesIO(found.compressed)) as picture:
            drawn = draw_over(picture, example.camera, layers, schema, PANEL)
        said = "in the written image" if part == "generated" else "in the image"
        names = ("asked for",) if part == "generated" else ("true", "written")
        key = " and ".join(f'<b class="{kind}">{name}</b>' for kind, name in zip(_KINDS, names, strict=False))
        return _figure(compress(drawn), f"{' and '.join(names)} {said} of {example.key}", f"{key} {said}")

    def _find_picture(self, part: str, example: Example) -> Shown | None:
        codes: Content = getattr(example, part).get("image")
        where = PictureKey(self.results.label, example.key, "read" if part == "read" else "target")
        return self.pictures.find(None if part == "generated" else where, codes)

    def _scene(self, heading: str, scene: Scene, extent: float | None) -> str:
        if extent is None:
            return _text(heading, describe_scene(scene), "objects")
        drawn = draw_scene(scene, self.results.schema, PANEL, extent)
        return _image(heading, compress(drawn), describe_scene(scene))

    def _picture(self, heading: str, part: str, example: Example) -> str:
        found = self._find_picture(part, example)
        if found is None:
            return _text(heading, "image codes that nothing decoded", "missing")
        note = ", of its codes" if found.decoded and part != "generated" else ""
        return _image(heading + note, found.compressed, f"{heading} of {example.key}")


def _head(example: Example) -> str:
    score = ""
    if example.score is not None:
        name, value = example.score
        score = f"<b>{_scored(name, value)}</b>"
    others = [
        _scored(name, value)
        for name, value in example.scores.items()
        if name in HEADLINES and example.score is not None and name != example.score[0]
    ]
    faults = f'<em class="bad">{example.malformed} malformed</em>' if example.malformed else ""
    kind = f"<span>{escape(example.kind.replace('_', ' '))}</span>" if example.kind else ""
    more = f"<small>{' · '.join(others)}</small>" if others else ""
    return f"<header>{score}{kind}{faults}<code>{escape(example.key)}</code>{more}</header>"


def _scored(name: str, value: float) -> str:
    """A score with its unit, if it has one, after its value."""
    words, _, unit = written(name).partition(", ")
    return escape(f"{words} {value:.{digits(name)}f} {unit}".rstrip())


def _image(heading: str, compressed: bytes, alt: str) -> str:
    return _figure(compressed, alt, escape(heading))


def _figure(compressed: bytes, alt: str, caption: str) -> str:
    """A picture with a caption in HTML."""
    source = f'<img loading="lazy" alt="{escape(alt, quote=True)}" src="{data_uri(compressed)}">'
    return f"<figure>{source}<figcaption>{caption}</figcaption></figure>"


def _text(heading: str, text: str, kind: str) -> str:
    lines = "<br>".join(map(escape, text.splitlines())) or "(empty)"
    return f'<figure class="said {kind}"><p>{lines}</p><figcaption>{escape(heading)}</figcaption></figure>'


# ---- scenes over pictures -------------------------------------------------------------------------------------------

_KINDS = ("true", "written")
"""Classes of the key's words, in the order of the layers."""


def _asked_for(example: Example) -> list[Layer]:
    """The scene that a picture was to show."""
    scene = example.read.get("scene")
    return [Layer(scene, TRUE, 2.0)] if isinstance(scene, Scene) else []


def _true_and_written(example: Example, schema: SceneSchema) -> list[Layer]:
    """The true scene, and over it the written one; boxes are turned like the true ones that they are nearest to."""
    true, guess = example.target.get("scene"), example.generated.get("scene")
    if not isinstance(true, Scene):
        return []
    rotations = example.rotations if example.rotations is not None and len(example.rotations) == len(true) else None
    layers = [Layer(true, TRUE, 3.6, rotations)]
    if isinstance(guess, Scene):
        turned = None if rotations is None else _turned_like(guess, true, rotations, schema)
        layers.append(Layer(guess, WRITTEN, 1.6, turned))
    return layers


def _turned_like(guess: Scene, true: Scene, rotations: Floats, schema: SceneSchema) -> Floats:
    """How the true boxes are turned that written ones are paired with by distance; those without a pair are not."""
    turned = np.tile(np.eye(3), (len(guess), 1, 1))
    for ours, theirs in SceneMatcher(schema).nearest(guess, true)[0]:
        turned[ours] = rotations[theirs]
    return turned


# ---- objects in words -----------------------------------------------------------------------------------------------


def _objects(example: Example, schema: SceneSchema) -> str:
    """A folded table of true and written objects, paired by distance; nothing where there is no true scene."""
    true, guess = example.target.get("scene"), example.generated.get("scene")
    if not isinstance(true, Scene) or schema.shape is not None:
        return ""
    rows = _object_rows(true, guess if isinstance(guess, Scene) else Scene(), schema)
    head = '<tr><th scope="col">true</th><th scope="col">written</th><th scope="col">apart</th></tr>'
    wrong = sum("<mark>" in row for row in rows)
    summary = (
        f"{len(true)} object{'' if len(true) == 1 else 's'}, {wrong or 'none'} with another word, missed or not there"
    )
    return (
        f'<details><summary>{summary}</summary><div class="scroll"><table class="objects"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _object_rows(true: Scene, guess: Scene, schema: SceneSchema) -> list[str]:
    pairs, distance = SceneMatcher(schema).nearest(guess, true)
    partner = {theirs: ours for ours, theirs in pairs}
    rows = []
    for place, obj in enumerate(true):
        if place in partner:
            other = guess.objects[partner[place]]
            differ = [name for name in words_of(schema) if obj[name] != other[name]]
            mark = f" <mark>{escape(', '.join(differ))}</mark>" if differ else ""
            apart = f"{distance[partner[place], place]:.2f}"
            rows.append(_object_row(_line(obj), _line(other) + mark, apart))
        else:
            rows.append(_object_row(_line(obj), "<mark>missed</mark>", ""))
    extra = [obj for place, obj in enumerate(guess) if place not in partner.values()]
    return rows + [_object_row("<mark>not there</mark>", _line(obj), "") for obj in extra]


def _line(obj: SceneObject) -> str:
    return escape(describe_scene(Scene((obj,))))


def _object_row(true: str, guess: str, apart: str) -> str:
    return f"<tr><td>{true}</td><td>{guess}</td><td>{apart}</td></tr>"
