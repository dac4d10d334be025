"""The training stream: endless batches of a mixture of tasks, at any position of which a run can resume."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data_modules.batches import Batch, stack
from data_modules.index import Shard
from data_modules.mixture import TaskMixture
from data_modules.order import SampleOrder
from data_modules.records import Record, load_records
from kyvo.sample import Sample
from kyvo.scene import SceneSchema
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class RecordCache:
    """Decoded shards by path, the longest unused dropped first.

    Args:
        schema: How scenes are read.
        capacity: Number of samples held at most; a single shard is always held.
    """

    def __init__(self, schema: SceneSchema, capacity: int) -> None:
        self.schema = schema
        self.capacity = capacity
        self._shards: OrderedDict[Path, list[Record]] = OrderedDict()

    def load(self, root: Path, shard: Shard) -> list[Record]:
        """The samples of a shard, read from its tar file only if they aren't held."""
        path = root / shard.name
        if path not in self._shards:
            self._shards[path] = load_records(path, shard.samples, self.schema, shard.complete_members)
        self._shards.move_to_end(path)
        while len(self._shards) > 1 and sum(map(len, self._shards.values())) > self.capacity:
            self._shards.popitem(last=False)
        return self._shards[path]


@dataclass(frozen=True)
class SampleStream:
    """The samples of one task as one reader meets them, endless and in shuffled order.

    Args:
        root: Folder of the shards.
        shards: The shards of all readers.
        order: Which of them this reader visits, and when.
        questions: Whether each visit asks one question of the sample, drawn at random.
        cache: Where decoded shards are kept.
    """

    root: Path
    shards: Sequence[Shard]
    order: SampleOrder
    questions: bool
    cache: RecordCache

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Yield samples without end, from a position on; nothing before it is read.

        Raises:
            ValueError: If a question is to be asked of a sample without any (named by shard and key).
        """
        for visits in self.order.windows(start):
            # Held for as long as the window lasts, whatever other tasks push out of the cache meanwhile.
            records = {number: self._load(number) for number in {visit.shard for visit in visits}}
            for visit in visits:
                record = records[visit.shard][visit.sample]
                yield self._ask(record, visit.draw, visit.shard) if self.questions else record.sample

    def _load(self, number: int) -> list[Record]:
        shard = self.shards[number]
        return self.cache.load(self.root, shard)

    def _ask(self, record: Record, draw: int, shard: int) -> Sample:
        if not record.questions:
            name = self.shards[shard].name
            raise ValueError(f"{self.root / name}: key {record.sample.key!r} holds no question to ask")
        return record.ask(draw % len(record.questions))


class BatchStream(IterableDataset[Batch]):
    """Endless batches, each of one task; with W workers, batch number b is made in lane b mod W from its own shards.

    What batch number b of a rank holds is a function of the arguments, W and b. Nothing else needs saving to resume.

    Args:
        root: Folder of the shards.
        shards: For each task of the mixture, by spec, the shards it draws from.
        tokenizer: Makes the sequences; its schema says how scenes are read.
        mixture: How often each task is drawn, and the seed of everything.
        batch_size: Samples of a batch.
        rank: This process among those that train.
        ranks: Number of them.
        bucket: Batches of a task that are made together: their samples are sorted by length, so that each batch holds
            sequences of about one length, and the batches are shuffled again; 1 takes samples as they come.
        window: Number of shards shuffled together.
        cache_samples: Samples kept decoded in memory by each worker.
    """

    def __init__(
        self,
        root: Path,
        shards: Mapping[str, Sequence[Shard]],
        tokenizer: UnifiedTokenizer,
        mixture: TaskMixture,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        bucket: int = 1,
        window: int = 8,
        cache_samples: int = 100_000,
    ) -> None:
        self.root = root
        self.shards = shards
        self.tokenizer = tokenizer
        self.mixture = mixture
        self.batch_size = batch_size
        self.rank = rank
        self.ranks = ranks
        self.bucket = bucket
        self.window = window
        self.start = 0
        self._cache = RecordCache(tokenizer.schema, cache_samples)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self.lane(self.start + worker, workers)

    def check(self, workers: int) -> None:
        """Raise ValueError if a task has fewer shards than workers x ranks."""
        for spec, shards in self.shards.items():
            if len(shards) < workers * self.ranks:
                raise ValueError(
                    f"fewer shards than workers x ranks: task {spec} has {len(shards)} shards for {workers} workers x "
                    f"{self.ranks} ranks; use fewer workers or make the data with more shards"
                )

    def lane(self, first: int, lanes: int = 1) -> Iterator[Batch]:
        """Yield the batches numbered first, first + lanes, first + 2 lanes, ..."""
        streams = {
            task: self._batches(task, given, first % lanes, lanes)
            for task, given in zip(self.mixture.tasks, self._given(first, lanes), strict=True)
        }
        for number in count(first, lanes):
            yield next(streams[self.mixture.task(number)])

    def _given(self, first: int, lanes: int) -> list[int]:
        """For each task, how many of the batches of this lane before `first` are of it."""
        before = self.mixture.schedule(0, first)[first % lanes :: lanes]
        return np.bincount(before, minlength=len(self.mixture.tasks)).tolist()

    def _batches(self, task: Task, given: int, lane: int, lanes: int) -> Iterator[Batch]:
        """The batches of one task in a lane, from number `given` on."""
        first, skipped = divmod(given, self.bucket)
        samples = self._stream(task, lane, lanes).samples(first * self.bucket * self.batch_size)
        for number in count(first):
            drawn = list(islice(samples, self.bucket * self.batch_size))
            generator = np.random.default_rng((self.mixture.seed, crc32(task.spec.encode()), self.rank, lane, number))
            yield from self._divide(task, drawn, generator)[skipped:]
            skipped = 0

    def _divide(self, task: Task, samples: Sequence[Sample], generator: np.random.Generator) -> list[Batch]:
        """Batches of like lengths, in random order."""
        sequences = [self.tokenizer.encode(task, sample) for sample in samples]
        order = np.arange(len(samples))
        if self.bucket > 1:
            order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
        groups = generator.permutation(order.reshape(self.bucket, self.batch_size))
        pad = self.tokenizer.vocabulary.pad
        return [stack(task, [samples[i].key for i in rows], [sequences[i] for i in rows], pad) for rows in groups]

    def _stream(self, task: Task, lane: int, lanes: int) -> SampleStream:
        shards = self.shards[task.spec]
        order = SampleOrder(
            counts=[shard.samples for shard in shards],
            seed=(self.mixture.seed, crc32(task.spec.encode())),
            reader=self.rank * lanes + lane,
            readers=self.ranks * lanes,
            window=self.window,
        )
        return SampleStream(self.root, shards, order, task.name == "question_answering", self._cache)


class ResumableLoader(DataLoader[Batch]):
    """A loader of a `BatchStream` cut into epochs, whose whole state is the number of batches it has given.

    The workers run on from epoch to epoch: their caches stay, and no batch made in advance is thrown away at the end
    of an epoch. The state is the same on all ranks, which matters because a Lightning checkpoint holds that of rank 0
    only. It isn't affected by batches that workers have made in advance.

    Args:
        stream: The endless batches.
        length: Batches of an epoch.
        num_workers: Processes that make batches; 0 makes them in this one.
        pin_memory: Whether batches are put in page-locked memory.

    Raises:
        ValueError: If there are fewer shards than workers x ranks.
    """

    def __init__(self, stream: BatchStream, length: int, num_workers: int = 0, pin_memory: bool = False) -> None:
        stream.check(max(1, num_workers))
        super().__init__(stream, batch_size=None, num_workers=num_workers, pin_memory=pin_memory)
        self.stream = stream
        self.length = length
        self.given = 0
        self._batches: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # Also after `load_state_dict` a whole epoch is on offer: Lightning counts the batches of a resumed one itself.
        for _ in range(self.length):
            if self._batches is None:
                self.stream.start = self.given
                self._batches = super().__iter__()
            batch = next(self._batches)
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """How many batches were given since the run began."""
        return {"given": self.given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the saved loader stood."""
        self.given = state["given"]
        self.close()

    def close(self) -> None:
        """End the workers; the next iteration starts new ones."""
        self._batches = None
