"""The evaluation stream: each sample of a split exactly once over all ranks and workers, with its pictures."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, islice, pairwise
from typing import NamedTuple

from torch.utils.data import IterableDataset, get_worker_info

from data_modules.batches import Batch, collate, encode
from data_modules.faults import BadInputError, Fault
from data_modules.records import Record, read_record
from data_modules.shards import read_shard
from data_modules.storage import locate
from data_modules.stream import Supply
from kyvo.sample import Sample
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class Item(NamedTuple):
    """One sample to evaluate: number of its shard, number in the shard, and which question is asked (None: none)."""

    shard: int
    sample: int
    question: int | None


class EvaluationStream(IterableDataset[Batch]):
    """The batches of one workload, in the order of the shards; a scene with several questions makes several samples.

    Rank r takes the items r, r + R, r + 2R, ... of R ranks. All ranks make the same number of batches, some one sample
    smaller than others: with a batch more on one rank the others would wait for it forever in a collective operation.

    Args:
        supply: Where the samples come from.
        tokenizer: Makes the sequences; its schema says how scenes are read.
        batch_size: Samples of a batch, at most.
        questions: How many questions of each scene are asked, the first ones, if the task asks questions.
        rank: This process among those that evaluate.
        ranks: Number of them.

    Raises:
        ValueError: If there are fewer samples than ranks.
    """

    def __init__(
        self,
        supply: Supply,
        tokenizer: UnifiedTokenizer,
        batch_size: int,
        questions: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.supply = supply
        self.tokenizer = tokenizer
        task = supply.workload.task
        items = self._questions(questions) if task.name == "question_answering" else self._items()
        if len(items) < ranks:
            raise ValueError(
                f"{supply.root}: task {task.spec} has {len(items)} samples to evaluate, fewer than {ranks} ranks"
            )
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
            entries = [encode(self.tokenizer, self.supply.workload.task, one) for one in islice(samples, len(batch))]
            yield collate(self.tokenizer, self.supply.workload, entries, keep=True)

    def _items(self) -> list[Item]:
        shards = self.supply.shards
        return [Item(shard, sample, None) for shard, one in enumerate(shards) for sample in range(one.samples)]

    def _questions(self, limit: int) -> list[Item]:
        items = []
        for number, shard in enumerate(self.supply.shards):
            raws = read_shard(self._location(number), {"scene.json", "question.json"})
            for sample, raw in enumerate(islice(raws, shard.samples)):
                asked = min(limit, len(raw.decode("question.json")))
                items += [Item(number, sample, question) for question in range(asked)]
        return items

    def _location(self, number: int) -> str:
        return locate(self.supply.root, self.supply.shards[number].name)

    def _samples(self, items: Sequence[Item]) -> Iterator[Sample | Fault]:
        """The samples of items, each shard read once from its start; faults in the place of bad ones."""
        for number, group in groupby(items, key=lambda item: item.shard):
            records = self._records(number)
            for wanted, asked in groupby(group, key=lambda item: item.sample):
                record = next(record for position, record in records if position == wanted)
                for item in asked:
                    if isinstance(record, Fault):
                        yield record
                    else:
                        yield record.sample if item.question is None else record.ask(item.question)

    def _records(self, number: int) -> Iterator[tuple[int, Record | Fault]]:
        """The samples of a shard by their number; behind its damage each sample that should have come is a fault."""
        shard, location, position = self.supply.shards[number], self._location(number), 0
        damage = Fault(location, "", "", f"ends before sample number {shard.samples - 1}")
        try:
            for raw in read_shard(location):
                yield position, read_record(raw, self.tokenizer.schema, shard.complete_members, pixels=True)
                position += 1
        except BadInputError as error:
            damage = error.fault
        for lost in range(position, shard.samples):
            yield lost, damage


def _divide(items: Sequence[Item], parts: int) -> list[Sequence[Item]]:
    """Cut a list into consecutive parts whose sizes differ by one at most."""
    bounds = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]
