"""The training stream: batches in a shuffled order that a run can be stopped and resumed at, sample for sample."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from time import perf_counter
from typing import Any
from zlib import crc32

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data_modules.batches import Batch, Encoded, collate, encode
from data_modules.faults import Fault
from data_modules.index import Shard
from data_modules.mixing import Mixture
from data_modules.order import SampleOrder
from data_modules.records import Record, load_records
from data_modules.storage import Root, locate
from kyvo.sample import Sample
from kyvo.scene import SceneSchema
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.workload import Workload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supply:
    """Where the samples of a workload come from.

    Args:
        workload: What is read and written.
        root: Folder of the shards.
        shards: Those to draw from.
        pixels: Whether pictures are read, to be encoded later, for want of codes.
    """

    workload: Workload
    root: Root
    shards: Sequence[Shard]
    pixels: bool = False

    @property
    def seed(self) -> int:
        """A number of the workload's own, so that its order is independent of other workloads."""
        return crc32(f"{self.workload.dataset}/{self.workload.task.spec}".encode())


class RecordCache:
    """Decoded shards, the longest unused dropped first.

    Args:
        capacity: Number of samples held at most; a single shard is always held.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._shards: OrderedDict[tuple[str, bool], list[Record | Fault]] = OrderedDict()

    def load(self, supply: Supply, shard: Shard, schema: SceneSchema) -> list[Record | Fault]:
        """The samples of a shard, read from its tar file only if they aren't held."""
        location = locate(supply.root, shard.name)
        key = (location, supply.pixels)
        if key not in self._shards:
            required = shard.complete_members
            self._shards[key] = load_records(location, shard.samples, schema, required, supply.pixels)
        self._shards.move_to_end(key)
        while len(self._shards) > 1 and sum(map(len, self._shards.values())) > self.capacity:
            self._shards.popitem(last=False)
        return self._shards[key]


@dataclass(frozen=True)
class SampleStream:
    """The samples of one workload as one reader meets them, endless and in shuffled order.

    Args:
        supply: Where they come from; a workload that answers questions asks one of each sample, drawn at random.
        order: Which of them this reader visits, and when.
        schema: How scenes are read.
        cache: Where decoded shards are kept.
    """

    supply: Supply
    order: SampleOrder
    schema: SceneSchema
    cache: RecordCache

    def samples(self, start: int = 0) -> Iterator[Sample | Fault]:
        """Yield samples without end, from a position on; nothing before it is read.

        In the place of a bad sample stands what is wrong with it: positions are the same whatever can be read.
        """
        asks = self.supply.workload.task.name == "question_answering"
        for visits in self.order.windows(start):
            # Held for as long as the window lasts, whatever other tasks push out of the cache meanwhile.
            records = {number: self._load(number) for number in {visit.shard for visit in visits}}
            for visit in visits:
                record = records[visit.shard][visit.sample]
                if isinstance(record, Fault):
                    yield record
                else:
                    yield self._ask(record, visit.draw, visit.shard) if asks else record.sample

    def _load(self, number: int) -> list[Record | Fault]:
        return self.cache.load(self.supply, self.supply.shards[number], self.schema)

    def _ask(self, record: Record, draw: int, shard: int) -> Sample | Fault:
        if not record.questions:
            location = locate(self.supply.root, self.supply.shards[shard].name)
            return Fault(location, record.sample.key, "question.json", "holds no question to ask")
        return record.ask(draw % len(record.questions))


class BatchStream(IterableDataset[Batch]):
    """Endless batches, each of one workload; with W workers, batch b is made in lane b mod W from its own shards.

    What batch number b of a rank holds is a function of the arguments, W and b. Nothing else needs saving to resume.
    A bad sample leaves its batch one shorter and is named in the batch: no other sample takes its place.

    Args:
        supplies: Where the samples of each workload come from.
        tokenizer: Makes the sequences.
        mixture: How often each workload is drawn, and the seed of everything.
        batch_size: Samples of a batch.
        rank: This process among those that train.
        ranks: Number of them.
        bucket: Batches of a workload that are made together: their samples are sorted by length, so that each batch
            holds sequences of about one length, and the batches are shuffled again; 1 takes samples as they come.
        window: Number of shards shuffled together.
        cache_samples: Samples kept decoded in memory by each worker.
        pack: Tokens of a row into which the sequences of a batch are packed; 0 pads each in a row of its own.
    """

    def __init__(
        self,
        supplies: Sequence[Supply],
        tokenizer: UnifiedTokenizer,
        mixture: Mixture,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        bucket: int = 1,
        window: int = 8,
        cache_samples: int = 0,
        pack: int = 0,
    ) -> None:
        self.supplies = supplies
        self.tokenizer = tokenizer
        self.mixture = mixture
        self.batch_size = batch_size
        self.rank = rank
        self.ranks = ranks
        self.bucket = bucket
        self.window = window
        self.pack = pack
        self.start = 0
        self._cache = RecordCache(cache_samples)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self.lane(self.start + worker, workers)

    def check(self, workers: int) -> None:
        """Raise ValueError if a workload has fewer shards than workers x ranks."""
        for supply in self.supplies:
            if len(supply.shards) < workers * self.ranks:
                raise ValueError(
                    f"fewer shards than workers x ranks: task {supply.workload.task.spec} has {len(supply.shards)} "
                    f"shards in {supply.root} for {workers} workers x {self.ranks} ranks; use fewer workers or make "
                    "the data with more shards"
                )

    def lane(self, first: int, lanes: int = 1) -> Iterator[Batch]:
        """Yield the batches numbered first, first + lanes, first + 2 lanes, ..."""
        given = self._given(first, lanes)
        streams = [
            self._batches(supply, before, first % lanes, lanes)
            for supply, before in zip(self.supplies, given, strict=True)
        ]
        for number in count(first, lanes):
            yield next(streams[self.mixture.number(number)])

    def _given(self, first: int, lanes: int) -> list[int]:
        """For each workload, how many of the batches of this lane before `first` are of it."""
        before = self.mixture.schedule(0, first)[first % lanes :: lanes]
        return np.bincount(before, minlength=len(self.supplies)).tolist()

    def _batches(self, supply: Supply, given: int, lane: int, lanes: int) -> Iterator[Batch]:
        """The batches of one workload in a lane, from number `given` on."""
        first, skipped = divmod(given, self.bucket)
        samples = self._stream(supply, lane, lanes).samples(first * self.bucket * self.batch_size)
        for number in count(first):
            drawn = list(islice(samples, self.bucket * self.batch_size))
            generator = np.random.default_rng((self.mixture.seed, supply.seed, self.rank, lane, number))
            yield from self._divide(supply.workload, drawn, generator)[skipped:]
            skipped = 0

    def _divide(
        self, workload: Workload, drawn: Sequence[Sample | Fault], generator: np.random.Generator
    ) -> list[Batch]:
        """Batches of like lengths, in random order."""
        tokenizer = self.tokenizer.with_schema(workload.schema)
        entries = [encode(tokenizer, workload.task, one) for one in drawn]
        order = np.arange(len(entries))
        if self.bucket > 1:
            lengths = [len(entry.sequence) if isinstance(entry, Encoded) else 0 for entry in entries]
            order = np.argsort(lengths, kind="stable")
        groups = generator.permutation(order.reshape(self.bucket, self.batch_size))
        return [
            collate(tokenizer, workload, [entries[row] for row in rows], pack=self.pack) for rows in groups.tolist()
        ]

    def _stream(self, supply: Supply, lane: int, lanes: int) -> SampleStream:
        order = SampleOrder(
            counts=[shard.samples for shard in supply.shards],
            seed=(self.mixture.seed, supply.seed),
            reader=self.rank * lanes + lane,
            readers=self.ranks * lanes,
            window=self.window,
        )
        schema = self.tokenizer.with_schema(supply.workload.schema).schema
        return SampleStream(supply, order, schema, self._cache)


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

    Attributes:
        seconds_waited: Time spent so far until batches were there.

    Raises:
        ValueError: If there are fewer shards than workers x ranks.
    """

    def __init__(self, stream: BatchStream, length: int, num_workers: int = 0, pin_memory: bool = False) -> None:
        stream.check(max(1, num_workers))
        super().__init__(stream, batch_size=None, num_workers=num_workers, pin_memory=pin_memory)
        self.stream = stream
        self.length = length
        self.given = 0
        self.seconds_waited = 0.0
        self._batches: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # Also after `load_state_dict` a whole epoch is on offer: Lightning counts the batches of a resumed one itself.
        for _ in range(self.length):
            if self._batches is None:
                self.stream.start = self.given
                self._batches = super().__iter__()
            start = perf_counter()
            batch = next(self._batches)
            self.seconds_waited += perf_counter() - start
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """How many batches were given since the run began, and over how many readers the samples were shared out."""
        return {"given": self.given, "ranks": self.stream.ranks, "workers": self.num_workers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the saved loader stood; say so if the samples are shared out among others from here on."""
        self.given = state["given"]
        now = self.state_dict()
        changed = [
            f"{state[name]} {name} then, {now[name]} now"
            for name in ("ranks", "workers")
            if name in state and max(1, state[name]) != max(1, now[name])
        ]
        if changed and self.stream.rank == 0:
            log.warning(
                "the run goes on with samples shared out anew (%s): in another order than an unbroken run's, some of "
                "this epoch's twice and some not at all", "; ".join(changed),
            )  # fmt: skip
        self.close()

    def close(self) -> None:
        """End the workers; the next iteration starts new ones."""
        self._batches = None
