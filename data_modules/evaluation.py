"""The evaluation stream: each sample of a split exactly once over all ranks and workers, with its pictures."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import IterableDataset, get_worker_info

from data_modules.batches import Batch, collate
from data_modules.index import Shard
from data_modules.records import decode_record
from data_modules.shards import read_shard
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class Item(NamedTuple):
    """One sample to evaluate: number of its shard, number in the shard, and which question is asked (None: none)."""

    shard: int
    sample: int
    question: int | None


class EvaluationStream(IterableDataset[Batch]):
    """The batches of one task, in the order of the shards; a scene with several questions makes several samples.

    Rank r takes the items r, r + R, r + 2R, ... of R ranks. All ranks make the same number of batches, some one sample
    smaller than others: with a batch more on one rank the others would wait for it forever in a collective operation.

    Args:
        root: Folder of the shards.
        shards: Which to read, in order.
        tokenizer: Makes the sequences; its schema says how scenes are read.
        task: What is read and written.
        batch_size: Samples of a batch, at most.
        questions: How many questions of each scene are asked, the first ones, if the task asks questions.
        rank: This process among those that evaluate.
        ranks: Number of them.

    Raises:
        ValueError: If there are fewer samples than ranks.
    """

    def __init__(
        self,
        root: Path,
        shards: Sequence[Shard],
        tokenizer: UnifiedTokenizer,
        task: Task,
        batch_size: int,
        questions: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.root = root
        self.shards = shards
        self.tokenizer = tokenizer
        self.task = task
        items = self._questions(questions) if task.name == "question_answering" else self._items()
        if len(items) < ranks:
            raise ValueError(f"{root}: task {task.spec} has {len(items)} samples to evaluate, fewer than {ranks} ranks")
        most = math.ceil(len(items) / ranks)
        self.batches = _divide(items[rank::ranks], math.ceil(most / batch_size))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        mine = self.batches[worker::workers]
        samples = self._samples([item for batch in mine for item in batch])
        for batch in mine:
            yield collate(self.tokenizer, self.task, list(islice(samples, len(batch))), keep=True)

    def _items(self) -> list[Item]:
        return [Item(shard, sample, None) for shard, one in enumerate(self.shards) for sample in range(one.samples)]

    def _questions(self, limit: int) -> list[Item]:
        items = []
        for number, shard in enumerate(self.shards):
            raws = read_shard(self.root / shard.name, {"scene.json", "question.json"})
            for sample, raw in enumerate(islice(raws, shard.samples)):
                asked = min(limit, len(raw.decode("question.json")))
                items += [Item(number, sample, question) for question in range(asked)]
        return items

    def _samples(self, items: Sequence[Item]) -> Iterator[Sample]:
        """The samples of items, each shard read once from its start."""
        for number, group in groupby(items, key=lambda item: item.shard):
            raws = enumerate(read_shard(self.root / self.shards[number].name))
            for wanted, asked in groupby(group, key=lambda item: item.sample):
                raw = next((raw for position, raw in raws if position == wanted), None)
                if raw is None:
                    raise ValueError(f"{self.root / self.shards[number].name} ends before its sample number {wanted}")
                raw.require(self.shards[number].complete_members)
                record = decode_record(raw, self.tokenizer.schema, pixels=True)
                for item in asked:
                    yield record.sample if item.question is None else record.ask(item.question)


def _divide(items: Sequence[Item], parts: int) -> list[Sequence[Item]]:
    """Cut a list into consecutive parts whose sizes differ by one at most."""
    bounds = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]
