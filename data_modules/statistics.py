"""What the texts of a set of shards hold: how often each answer occurs, and which kinds of instruction there are."""

from collections import Counter
from collections.abc import Sequence

from data_modules.index import Shard
from data_modules.shards import read_shard
from data_modules.storage import Root, locate


def answer_counts(root: Root, shards: Sequence[Shard]) -> dict[str, dict[str, int]]:
    """For each type of question, how often each answer occurs.

    Args:
        root: Folder of the shards.
        shards: Those to read; keys without questions count nothing.
    """
    counts: dict[str, Counter[str]] = {}
    for shard in shards:
        for raw in read_shard(locate(root, shard.name), {"question.json"}):
            for question in raw.decode("question.json") if "question.json" in raw.members else ():
                counts.setdefault(question["type"], Counter())[str(question["answer"])] += 1
    return {kind: dict(counter) for kind, counter in sorted(counts.items())}


def instruction_kinds(root: Root, shards: Sequence[Shard]) -> tuple[str, ...]:
    """The kinds of instruction that occur, sorted.

    Args:
        root: Folder of the shards.
        shards: Those to read; keys without an instruction count nothing.
    """
    kinds = set()
    for shard in shards:
        for raw in read_shard(locate(root, shard.name), {"instruction.json"}):
            if "instruction.json" in raw.members:
                kinds.add(str(raw.decode("instruction.json")["type"]))
    return tuple(sorted(kinds))
