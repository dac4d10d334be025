"""Showing: samples of shards as the model meets them, as coloured text and as a sheet of pictures."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from data_modules.batches import encode
from data_modules.families import task_shards
from data_modules.faults import BadInputError, Fault
from data_modules.index import Index
from data_modules.records import load_records
from data_modules.spelling import spell
from data_modules.storage import locate
from kyvo.report.grid import Content
from kyvo.report.sheet import draw_sheet
from kyvo.sample import Sample
from kyvo.scene import SCHEMAS, SceneSchema, is_schema_file
from kyvo.task import Task
from kyvo.tokenizers.sequence import TokenSequence
from kyvo.tokenizers.tokenizer import UnifiedTokenizer

COLORS = {"image": "cyan", "scene": "green", "text": "yellow"}
_OTHER = "magenta"


def show(
    root: str,
    task: str = "3-I",
    n: int = 3,
    split: str = "train",
    tokenizer: Path | None = None,
    ids: bool = False,
    png: Path | None = None,
) -> None:
    """Print samples as the model meets them: coloured by modality, written parts bold, what weighs more underlined.

    Where pictures have no codes yet, <0> stands in the place of each.

    Args:
        root: Folder or http(s) URL of the shards.
        task: What is read and written.
        n: How many samples.
        split: From which split.
        tokenizer: Folder of the tokenizer that makes the sequences, or a schema in YAML; by default a preset that fits
            the shards.
        ids: Print the ids too, a table for each sample.
        png: Draw a sheet of the samples into this file: pictures, scenes from above, texts.

    Raises:
        ValueError: If the shards lack what the task needs, or have a schema of their own and no tokenizer is given.
    """
    index, parsed, console = Index.read(root), Task.parse(task), Console()
    samples = list(_samples(root, index, parsed, split, n))
    maker = _tokenizer(tokenizer, index.scene_schema, samples)
    console.print(legend(maker))
    for sample in samples:
        found = encode(maker, parsed, sample)
        if isinstance(found, Fault):
            raise BadInputError(found)
        sequence = found.sequence
        console.print(f"\n{sample.key}  {task}  {len(sequence)} tokens  {sample.kind}", style="dim", highlight=False)
        console.print(colored(sequence, maker))
        if ids:
            console.print(table(sequence, maker))
    if png is not None:
        rows = [(f"{sample.key}   {sample.kind}", panels(sample, maker)) for sample in samples]
        console.print(f"\nwrote {draw_sheet(rows, png, maker.schema)}", highlight=False)


def _samples(root: str, index: Index, task: Task, split: str, n: int) -> Iterator[Sample]:
    """The first samples of a task; of a scene with questions, the first question."""
    for shard in task_shards(index, task, split, n, pixels=True):
        location = locate(root, shard.name)
        for record in load_records(location, shard.samples, index.scene_schema, shard.complete_members, pixels=True):
            if isinstance(record, Fault):
                raise BadInputError(record)
            yield record.ask(0) if task.name == "question_answering" else record.sample


def _tokenizer(source: Path | None, schema: SceneSchema, samples: Sequence[Sample]) -> UnifiedTokenizer:
    """The tokenizer of a folder, or a preset with the schema and the sizes of the samples' codes."""
    if source is not None and not is_schema_file(source):
        return UnifiedTokenizer.from_pretrained(source)
    if source is None and SCHEMAS.get(schema.name) != schema:
        raise ValueError(
            f"the shards have a schema of their own, {schema.name!r}: give its file, --tokenizer FILE.yaml"
        )
    sizes: dict[str, Any] = {}
    codes = [one for sample in samples for one in (sample.image, sample.target_image) if one is not None]
    if codes:
        sizes = {"image_grid": _grid(len(codes[0])), "image_codes": max(1024, *(int(one.max()) + 1 for one in codes))}
    if schema.shape is not None:
        sizes |= _shape_sizes(schema.shape.name, samples)
    return UnifiedTokenizer.from_preset(
        "paper" if schema.name == "clevr" else "unified", schema=source or schema, **sizes
    )


def _shape_sizes(attribute: str, samples: Sequence[Sample]) -> dict[str, int]:
    """Size of the codebook, the paper's or what the samples' codes need, and how many codes make a shape."""
    scenes = [scene for sample in samples for scene in (sample.scene, sample.target_scene) if scene is not None]
    codes: list[Any] = [item[attribute] for scene in scenes for item in scene]
    if not codes:
        return {"shape_codes": 8192}
    return {"shape_codes": max(8192, *(max(one) + 1 for one in codes)), "shape_length": len(codes[0])}


def _grid(length: int) -> tuple[int, int]:
    """Rows and columns of so many codes, as square as can be."""
    rows = next(rows for rows in range(math.isqrt(length), 0, -1) if length % rows == 0)
    return rows, length // rows


# ---- text -----------------------------------------------------------------------------------------------------------


def runs(sequence: TokenSequence) -> Iterator[tuple[str, float, list[int]]]:
    """Spans of one segment and one weight: the segment's name, the weight, the ids."""
    for segment in sequence.segments:
        places = range(segment.start, segment.stop)
        for weight, run in groupby(places, key=lambda place: float(sequence.weights[place])):
            yield segment.name, weight, [int(sequence.ids[place]) for place in run]


def _style(name: str, weight: float) -> str:
    emphasis = "bold underline " if weight > 1 else "bold " if weight > 0 else ""
    return emphasis + COLORS.get(name, _OTHER)


def colored(sequence: TokenSequence, tokenizer: UnifiedTokenizer) -> Text:
    """A sequence as text, a line a segment, coloured by modality.

    What is written is bold, and underlined where it weighs more.
    """
    text, starts = Text(), {segment.start for segment in sequence.segments[1:]}
    place = 0
    for name, weight, ids in runs(sequence):
        text.append("\n" if place in starts else "")
        text.append(spell(tokenizer, ids), _style(name, weight))
        place += len(ids)
    return text


def legend(tokenizer: UnifiedTokenizer) -> Text:
    """One line that says what colours and styles mean."""
    weight = tokenizer.layout.first_codes_weight if tokenizer.layout.first_codes else 1
    styles = [("read", ""), ("written", "bold")]
    styles += [(f"weighs {weight:g} times", "bold underline")] if weight > 1 else []
    names = [(name, _style(name, 0)) for name in COLORS] + [("marks of the sequence", _style("", 0))]
    return Text("   ").join([Text(*entry) for entry in (*styles, *names)])


def table(sequence: TokenSequence, tokenizer: UnifiedTokenizer) -> Table:
    """A sequence as a table: segment, positions, weight, ids, and what they say."""
    rows = Table("segment", "from", "weight", "ids", Column("says", overflow="fold"), box=None, header_style="dim")
    place = 0
    for name, weight, ids in runs(sequence):
        said = Text(spell(tokenizer, ids), _style(name, weight))
        rows.add_row(name, str(place), f"{weight:g}", " ".join(map(str, ids)), said)
        place += len(ids)
    return rows


# ---- sheet ----------------------------------------------------------------------------------------------------------


def panels(sample: Sample, tokenizer: UnifiedTokenizer) -> dict[str, Content]:
    """What a sample consists of, by heading: pictures, scenes and texts, before and after."""
    found: dict[str, Content | None] = {
        "image": _picture(sample.pixels, sample.image, tokenizer),
        "scene from above": sample.scene,
        "text": sample.text and "\n\n".join(filter(None, (sample.text, sample.target_text))),
        "target image": _picture(sample.target_pixels, sample.target_image, tokenizer),
        "target scene": sample.target_scene,
    }
    return {heading: content for heading, content in found.items() if content is not None}


def _picture(pixels: np.ndarray | None, codes: np.ndarray | None, tokenizer: UnifiedTokenizer) -> Content | None:
    """The picture itself, else what the image tokenizer makes of its codes, else how many codes there are."""
    if pixels is not None or codes is None:
        return pixels
    if tokenizer.image is None:
        return f"{len(codes)} codes and no picture"
    import torch

    from kyvo.tokenizers.pixels import pixels as to_pixels

    return to_pixels(tokenizer.image.decode(torch.from_numpy(codes)[None]))[0]
