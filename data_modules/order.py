"""Orders: the endless shuffled order in which one reader visits the samples of its share of the shards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np


class Visit(NamedTuple):
    """One sample to be read: number of the shard, number of the sample in it, and a random number of its own."""

    shard: int
    sample: int
    draw: int


@dataclass(frozen=True)
class SampleOrder:
    """A shuffle that is a pure function of (seed, epoch), so that a run can be resumed anywhere without reading.

    In each epoch the shards are shuffled and dealt to the readers (ranks x workers), and the samples of `window`
    consecutive shards of a reader are shuffled together. The readers together visit each sample once an epoch.

    Args:
        counts: Number of samples of each shard.
        seed: Numbers that seed all shuffles.
        reader: Number of this reader.
        readers: Number of readers.
        window: How many shards are shuffled together, and so are held in memory at a time.

    Raises:
        ValueError: If there are fewer shards than readers, for then some would have nothing to read.
    """

    counts: Sequence[int]
    seed: tuple[int, ...]
    reader: int = 0
    readers: int = 1
    window: int = 8

    def __post_init__(self) -> None:
        if len(self.counts) < self.readers:
            raise ValueError(f"fewer shards than workers x ranks: {len(self.counts)} shards for {self.readers} readers")

    def windows(self, start: int = 0) -> Iterator[list[Visit]]:
        """Yield the visits window by window, without end, from a position on (counted in samples of this reader)."""
        for epoch in count():
            shards = self.share(epoch)
            size = sum(self.counts[shard] for shard in shards)
            if start >= size:
                start -= size
                continue
            for first in range(0, len(shards), self.window):
                visits = self._window(epoch, shards[first : first + self.window])
                if start < len(visits):
                    yield visits[start:]
                start = max(0, start - len(visits))

    def share(self, epoch: int) -> list[int]:
        """Numbers of the shards of this reader in an epoch, in the order in which it reads them."""
        shuffled = np.random.default_rng((*self.seed, epoch)).permutation(len(self.counts))
        share: list[int] = shuffled[self.reader :: self.readers].tolist()
        return share

    def _window(self, epoch: int, shards: Sequence[int]) -> list[Visit]:
        generator = np.random.default_rng((*self.seed, epoch, shards[0]))
        places = [(shard, sample) for shard in shards for sample in range(self.counts[shard])]
        shuffled = [places[place] for place in generator.permutation(len(places)).tolist()]
        draws = generator.integers(2**31, size=len(places)).tolist()
        return [Visit(shard, sample, draw) for (shard, sample), draw in zip(shuffled, draws, strict=True)]
