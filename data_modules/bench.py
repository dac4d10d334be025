"""`kyvo bench data`: how fast and in how much memory samples stream, and what making a picture costs."""

import json
import multiprocessing
import os
import platform
import random
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_modules.families import task_shards
from data_modules.index import Index
from data_modules.mixing import Mixture
from data_modules.shards import Files, encode_json, encode_npy, shard_name, write_shard
from data_modules.stream import BatchStream, Supply
from data_modules.worlds.clevr import ClevrWorld
from data_modules.worlds.questions import QuestionEngine
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.workload import Workload

TASKS = ("3-I", "I-3", "I+3+Q-A")
_SCENES = 200
_CODES, _CODEBOOK = 256, 1024
_SAMPLES_PER_SHARD = 250


def bench(
    out: Path | None = None,
    samples: int = 4000,
    shards: int = 16,
    growth: int = 10,
    images: int = 20,
    size: int = 256,
) -> dict[str, Any]:
    """Measure samples a second of one worker, memory at few and at many shards, and the cost of a picture.

    The samples are CLEVR scenes of 3-10 objects with 10 questions and 256 image codes, in sequences of the preset
    `paper`; one process, one thread.

    Args:
        out: File that the JSON is written to as well.
        samples: Samples of each task that are timed.
        shards: Shards, of 250 samples each, from which memory is measured first.
        growth: How many times as many it is measured from then.
        images: Pictures that are drawn.
        size: Their width and height.
    """
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "render": _render(images, size),
    }
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        drawn = _draw(_SCENES)
        _write(small, drawn, shards)
        _write(large, drawn, shards * growth)
        result["stream"] = {task: _in_process(_speed, small, task, samples) for task in TASKS}
        memory = [_in_process(_memory, root) for root in (small, large)]
        result["memory"] = {
            "shards": [shards, shards * growth],
            "resident_bytes": memory,
            "ratio": round(memory[1] / memory[0], 3),
        }
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")
    return result


@dataclass(frozen=True)
class _Speed:
    """How fast samples came."""

    samples: int
    samples_per_second: float
    tokens_per_second: float


def _render(images: int, size: int) -> dict[str, Any]:
    """CPU-seconds of drawing CLEVR pictures, scenes and checks of visibility included."""
    world, rng = ClevrWorld(image_size=(size, size)), random.Random(0)
    world.make(rng)
    start = time.process_time()
    for _ in range(images):
        world.make(rng)
    return {"size": [size, size], "cpu_seconds_per_image": round((time.process_time() - start) / images, 4)}


def _draw(count: int) -> list[dict[str, bytes]]:
    """Members of coded samples; codes are random, which costs a reader the same."""
    rng, noise, world = random.Random(0), np.random.default_rng(0), ClevrWorld()
    scenes = [world.sample_scene(rng) for _ in range(count)]
    asked = QuestionEngine().ask(scenes, rng)
    return [
        {
            "scene.json": encode_json(scene),
            "question.json": encode_json(questions),
            "image.codes.npy": encode_npy(noise.integers(0, _CODEBOOK, _CODES).astype(np.uint16)),
        }
        for scene, questions in zip(scenes, asked, strict=True)
    ]


def _write(root: Path, drawn: list[dict[str, bytes]], shards: int) -> None:
    root.mkdir()
    index = Index("clevr")
    for number in range(shards):
        first = number * _SAMPLES_PER_SHARD
        files: list[Files] = [(f"{k:09d}", drawn[k % len(drawn)]) for k in range(first, first + _SAMPLES_PER_SHARD)]
        index = index.with_shard("train", write_shard(root / shard_name("train", number), files))
    index.write(root)


def _in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a process of its own, which nothing before it has warmed or filled."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _stream(root: Path, specs: tuple[str, ...]) -> BatchStream:
    torch.set_num_threads(1)
    index = Index.read(root)
    supplies = [
        Supply(Workload(Task.parse(spec), "clevr"), root, task_shards(index, Task.parse(spec), "train"))
        for spec in specs
    ]
    return BatchStream(supplies, UnifiedTokenizer.from_preset("paper"), Mixture([1.0] * len(specs)), batch_size=32)


def _speed(root: Path, spec: str, samples: int) -> dict[str, Any]:
    """Samples a second once the stream runs; each is read from its shard, parsed, tokenised and padded."""
    batches = iter(_stream(root, (spec,)))
    next(batches)
    start, seen, tokens = time.perf_counter(), 0, 0
    for batch in islice(batches, samples // 32):
        seen += len(batch)
        tokens += int(batch.lengths.sum())
    seconds = time.perf_counter() - start
    return asdict(_Speed(seen, round(seen / seconds), round(tokens / seconds)))


def _memory(root: Path) -> int:
    """Greatest resident memory in bytes after one and a half epochs of the mixture."""
    stream = _stream(root, TASKS)
    samples = sum(shard.samples for shard in Index.read(root).shards("train"))
    for _ in islice(stream, samples * 3 // 64):
        pass
    kilobytes: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024
