"""Asking: the questions that a question engine adds to shards of CLEVR scenes."""

import random
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from data_modules.index import Index, Shard
from data_modules.parallel import parallel_map
from data_modules.shards import encode_json, read_shard, rewrite_shard
from data_modules.worlds.questions import QuestionEngine


@dataclass(frozen=True)
class _Asking:
    """One shard to ask about, and all that this needs."""

    root: Path
    shard: Shard
    engine: QuestionEngine
    seed: int


def add_questions(root: Path, family: str, engine: QuestionEngine, seed: int = 0, workers: int = 2) -> None:
    """Add questions to the scenes of a family; shards that have questions are left alone.

    Answers are balanced over the scenes of a shard, so that the bytes don't depend on the number of workers. Each shard
    is replaced in one step and then entered in the index, so an interrupted run can be repeated.
    """
    index = Index.read(root)
    jobs = [
        _Asking(root, shard, engine, seed)
        for shard in index.families.get(family, ())
        if "question.json" not in shard.members
    ]
    asked = parallel_map(_ask, jobs, workers)
    for shard in track(asked, f"asking about {family}", total=len(jobs), disable=not jobs):
        index = index.with_shard(family, shard)
        index.write(root)


def _ask(job: _Asking) -> Shard:
    raws = list(read_shard(job.root / job.shard.name))
    rng = random.Random(f"{job.seed}/questions/{job.shard.name}")
    asked = job.engine.ask([raw.decode("scene.json") for raw in raws], rng)
    members = [{**raw.members, "question.json": encode_json(one)} for raw, one in zip(raws, asked, strict=True)]
    return rewrite_shard(job.root, job.shard, raws, members)
