"""Mixtures of tasks: which task each batch of a run is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kyvo.task import Task

BLOCK = 256


@dataclass(frozen=True)
class TaskMixture:
    """Draws one task for each batch, the same on all ranks.

    A batch is of one task because the loss is a mean over the supervised tokens of a batch: in a mixed batch the tasks
    that write images would outweigh the ones that write a word. The task of batch number b depends on (seed, b) alone.
    Within each block of 256 batches every task has its exact share, rounded: a short run sees the mixture it asked for.

    Args:
        weights: How often each task is drawn, relative to the others, by its spec ("3-I").
        seed: Seed of the draw.
    """

    weights: Mapping[str, float]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.weights or any(not weight > 0 for weight in self.weights.values()):
            raise ValueError(f"tasks need a positive weight each, such as {{'3-I': 1.5, 'I-3': 4}}, got {self.weights}")

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the order of the weights."""
        return tuple(Task.parse(spec) for spec in self.weights)

    def schedule(self, start: int, stop: int) -> np.ndarray:
        """Numbers of the tasks of the batches start, ..., stop - 1: int64 [stop - start], indices into `tasks`."""
        first = start // BLOCK
        blocks = [self._block(number) for number in range(first, -(-stop // BLOCK))]
        drawn = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int64)
        return drawn[start - first * BLOCK : stop - first * BLOCK]

    def task(self, batch: int) -> Task:
        """The task of a batch, counted from the start of the run."""
        return self.tasks[int(self.schedule(batch, batch + 1)[0])]

    def _block(self, number: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, number))
        shares = np.cumsum(np.fromiter(self.weights.values(), dtype=np.float64))
        points = (np.arange(BLOCK) + generator.random()) / BLOCK * shares[-1]
        tasks = np.searchsorted(shares, points, side="right").clip(max=len(shares) - 1)
        return generator.permutation(tasks).astype(np.int64)
