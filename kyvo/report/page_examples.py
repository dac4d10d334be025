"""Samples of an evaluation as its predictions file has them: reading, scoring and choosing those that a page shows.

B samples decoded together, N codes of a picture or objects of a scene, H and W its height and width.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray

from kyvo.metrics.images import psnr
from kyvo.metrics.jaccard import SceneMatcher
from kyvo.scene import SCHEMAS, Scene, SceneSchema
from kyvo.task import Modality, Task
from kyvo.tokenizers.images import ImageTokenizer

Content = Scene | str | NDArray[np.int64] | None
"""A scene, a text, the codes [N] of a picture, or nothing that could be read."""

PRIMARY = ("jaccard", "accuracy", "correct", "exact_match", "psnr")
"""The score that samples are ranked by: the first of these that a sample has, else its first."""

_AT_ONCE = 64


@dataclass(frozen=True)
class Example:
    """One sample: what was read, what should have been written, what was.

    Args:
        key: Its name in the data set.
        kind: Type of question or instruction.
        read: What the model was given, by modality.
        target: What it should have written.
        generated: What it wrote.
        malformed: Faults in that.
        scores: Its scores by name.
        camera: How the picture sees the scene, see `kyvo.sample.Sample.written_camera`; None where that is not known.
        rotations: How the boxes of the true scene are turned, float64 [N, 3, 3]; None where that is not known.
        shapes: What the shapes of a scene are called, by part (`read`, `target`, `generated`), as far as it is known.
    """

    key: str
    kind: str
    read: Mapping[Modality, Content]
    target: Mapping[Modality, Content]
    generated: Mapping[Modality, Content]
    malformed: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    camera: NDArray[np.float64] | None = None
    rotations: NDArray[np.float64] | None = None
    shapes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str, schema: SceneSchema) -> Self:
        """Read a line of a predictions file; ValueError says what is wrong with it."""
        try:
            raw = json.loads(line)
            parts = {part: _contents(raw[part], schema) for part in ("read", "target", "generated")}
            given = {name: float(value) for name, value in raw.get("scores", {}).items() if value is not None}
            return cls(
                str(raw["key"]),
                str(raw["kind"]),
                **parts,
                malformed=int(raw["malformed"]),
                scores=given,
                camera=_matrices(raw.get("camera"), (3, 4)),
                rotations=_matrices(raw.get("rotations"), (-1, 3, 3)),
                shapes={part: tuple(map(str, names)) for part, names in raw.get("shapes", {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"expected key, kind, read, target, generated and malformed: {type(error).__name__} {error}"
            ) from error

    @property
    def score(self) -> tuple[str, float] | None:
        """Name and value of what it is ranked by; None without a score."""
        found = {name: value for name, value in self.scores.items() if not math.isnan(value)}
        name = next((one for one in PRIMARY if one in found), next(iter(found), None))
        return None if name is None else (name, found[name])


def _matrices(raw: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    return None if raw is None else np.array(raw, dtype=np.float64).reshape(shape)


def _contents(raw: Mapping[str, Any], schema: SceneSchema) -> dict[Any, Content]:
    return {name: _content(value, schema) for name, value in raw.items()}


def _content(raw: Any, schema: SceneSchema) -> Content:
    if raw is None or isinstance(raw, str):
        return raw
    return schema.read(raw) if isinstance(raw, dict) else np.array(raw, dtype=np.int64)


def read_examples(files: Sequence[Path], schema: SceneSchema) -> list[Example]:
    """Read the predictions of a task that the processes of a run wrote.

    Args:
        files: One of each process.
        schema: Of the scenes.

    Raises:
        ValueError: Naming file and line: not JSON, fields that are missing, scenes of another schema, or a sample that
            came before, as when files of an earlier run with more processes lie beside.
    """
    found: dict[str, Example] = {}
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                one = Example.parse(line, schema)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
            if one.key in found:
                raise ValueError(f"{file}, line {number}: sample {one.key!r} comes twice; files of an earlier run?")
            found[one.key] = one
    return list(found.values())


def find_schema(files: Sequence[Path]) -> SceneSchema:
    """The first of the known schemas that reads all scenes of predictions files.

    Raises:
        ValueError: None does.
    """
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    refused = ""
    for known in SCHEMAS.values():
        try:
            schema = known.with_shape_length(shape_length(lines, known))
            for line in lines:
                Example.parse(line, schema)
        except ValueError as error:
            refused = refused or str(error)
        else:
            return schema
    raise ValueError(f"{files[0]}: its scenes are of none of the schemas {', '.join(SCHEMAS)}: {refused}")


def shape_length(lines: Sequence[str], schema: SceneSchema) -> int | None:
    """How many codes the first shape in lines of predictions has; None where there is none, or the schema has none."""
    if schema.shape is None:
        return None
    key = schema.shape.places[0][0]
    raws = (json.loads(line) for line in lines)
    scenes = (raw[part].get("scene") for raw in raws for part in ("read", "target", "generated"))
    objects = (one for scene in scenes if isinstance(scene, dict) for one in scene["objects"])
    return next((len(one[key]) for one in objects if isinstance(one.get(key), list)), None)


# ---- scores ---------------------------------------------------------------------------------------------------------


def with_scores(
    examples: Sequence[Example], task: Task, schema: SceneSchema, images: ImageTokenizer | None
) -> list[Example]:
    """The samples, those without scores scored by their main output: Jaccard index, exact match or PSNR.

    The PSNR is of the picture of the codes written against that of the true codes, so both of all samples are decoded;
    it is left out without an image tokenizer. Scenes with shapes have no score here.
    """
    if any(one.scores for one in examples):
        return list(examples)
    if "scene" in task.outputs and schema.shape is None:
        matcher = SceneMatcher(schema)
        return [_scored(one, "jaccard", _jaccard(matcher, one)) for one in examples]
    if "text" in task.outputs:
        return [_scored(one, "accuracy", _exact(one)) for one in examples]
    if task.outputs == ("image",) and images is not None:
        values = _psnr(examples, images)
        return [_scored(one, "psnr", value) for one, value in zip(examples, values, strict=True)]
    return list(examples)


def _scored(example: Example, name: str, value: float) -> Example:
    return replace(example, scores={name: value})


def _jaccard(matcher: SceneMatcher, example: Example) -> float:
    true, written = example.target.get("scene"), example.generated.get("scene")
    if not isinstance(true, Scene):
        return math.nan
    guess = written if isinstance(written, Scene) else Scene()
    counts = matcher.counts(guess, true, matcher.criterion.taus, example.malformed)
    return sum(one.jaccard(matcher.empty) for one in counts) / len(counts)


def _exact(example: Example) -> float:
    true, written = example.target.get("text"), example.generated.get("text")
    return float(isinstance(written, str) and written.strip() == true.strip()) if isinstance(true, str) else math.nan


def _psnr(examples: Sequence[Example], images: ImageTokenizer) -> list[float]:
    values = [math.nan] * len(examples)
    codes = [(one.generated.get("image"), one.target.get("image")) for one in examples]
    both = [place for place, pair in enumerate(codes) if all(isinstance(one, np.ndarray) for one in pair)]
    for start in range(0, len(both), _AT_ONCE):
        places = both[start : start + _AT_ONCE]
        written, true = (
            images.decode(torch.from_numpy(np.stack([codes[place][part] for place in places])))  # type: ignore[misc]
            for part in (0, 1)
        )
        # The tokenizer's pictures are in [-1, 1], twice as wide as what the ratio is defined for.
        error = ((written - true) / 2).square().mean(dim=(1, 2, 3))
        for place, value in zip(places, psnr(error).tolist(), strict=True):
            values[place] = value
    return values


# ---- choice ---------------------------------------------------------------------------------------------------------


def choose(examples: Sequence[Example], task: Task, rows: int) -> dict[str, list[Example]]:
    """The samples to show, by group, each in one: best, median and worst; of answers, wrong and right ones.

    Of equal scores, which come first does not depend on their order in the data. Malformed ones have a group of
    their own unless they are among these; samples without scores are shown as they come.

    Args:
        examples: All samples of a task.
        task: The task.
        rows: Samples of a group, at most.
    """
    scored = [one for one in examples if one.score is not None]
    if not scored:
        return {"samples": list(examples[: 3 * rows])} if examples else {}
    groups = _answers(scored, rows) if task.outputs == ("text",) else _ranked(scored, rows)
    shown = {one.key for group in groups.values() for one in group}
    faulty = [one for one in examples if one.malformed and one.key not in shown]
    return {name: group for name, group in {**groups, "malformed": faulty[:rows]}.items() if group}


def _value(example: Example) -> float:
    return example.score[1] if example.score else math.nan


def _mixed(example: Example) -> int:
    """Neighbours in the data look alike; this puts them apart, the same way each time."""
    return crc32(example.key.encode())


def _ranked(scored: Sequence[Example], rows: int) -> dict[str, list[Example]]:
    order = sorted(scored, key=lambda one: (_value(one), _mixed(one)))
    count = min(rows, -(-len(order) // 3))
    best, rest = order[::-1][:count], order[: len(order) - count]
    worst, middle = rest[:count], rest[count:]
    # The middle of all, which is nearer to the end of what is left.
    start = max(0, min(len(order) // 2 - count - count // 2, len(middle) - count))
    return {"best": best, "median": middle[start : start + count], "worst": worst}


def _answers(scored: Sequence[Example], rows: int) -> dict[str, list[Example]]:
    wrong = [one for one in scored if _value(one) < 0.5]
    right = [one for one in scored if _value(one) >= 0.5]
    # Two groups share the place of three.
    return {"wrong": _of_each_kind(wrong)[: 2 * rows], "right": _of_each_kind(right)[:rows]}


def _of_each_kind(examples: Sequence[Example]) -> list[Example]:
    """One of each kind, then a second of each, and so on."""
    kinds: dict[str, list[Example]] = {}
    for one in sorted(examples, key=_mixed):
        kinds.setdefault(one.kind, []).append(one)
    turns = chain.from_iterable(zip_longest(*(kinds[kind] for kind in sorted(kinds))))
    return [one for one in turns if one is not None]
