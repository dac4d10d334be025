"""Loading: batches of a dataset of known length, shared out over the processes of a trainer."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from lightning import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

Item = TypeVar("Item")


class EpochLoader(DataLoader[Item]):
    """A loader that goes through its epochs one after another, and whose whole state is how far it is.

    Which epoch comes next follows from the batches that were given, not from what Lightning counts: a run that ended in
    the middle of an epoch and is trained on goes on in the middle of it. The state is the same on all ranks.

    Args:
        dataset: What is read.
        batch_size: Items of a batch.
        order: Of an epoch, for one process.
        num_workers: Processes that read.
        collate: Makes a batch of items.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        batch_size: int,
        order: DistributedSampler[Any],
        num_workers: int,
        collate: Callable[[list[Item]], Any],
    ) -> None:
        self._order = _Rest(order)
        super().__init__(
            dataset,
            batch_size,
            sampler=self._order,
            drop_last=True,
            num_workers=num_workers,
            collate_fn=collate,
            persistent_workers=num_workers > 0,
        )
        self._items = batch_size
        self._given = 0
        self._epoch: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Also after `load_state_dict` a whole epoch is on offer: Lightning counts the batches of a resumed one itself.
        for _ in range(len(self)):
            if self._epoch is None:
                number, place = divmod(self._given, len(self))
                self._order.start(number, place * self._items)
                self._epoch = super().__iter__()
            batch = next(self._epoch)
            self._given += 1
            if self._given % len(self) == 0:
                self._epoch = None
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches were given since the run began, and how many an epoch has."""
        return {"given": self._given, "length": len(self)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the saved loader stood; as far into the epoch, and saying so, if that has another length now."""
        self._given, self._epoch = state["given"], None
        if state["length"] != len(self):
            self._given = round(state["given"] * len(self) / state["length"])
            rank_zero_warn(
                f"an epoch had {state['length']} batches when this run was saved and has {len(self)} now: it goes on "
                "with samples shared out anew, some of this epoch's twice and some not at all"
            )


class _Rest(Sampler[Any]):
    """An order but for the first items of an epoch; its length is that of a whole one."""

    def __init__(self, order: DistributedSampler[Any]) -> None:
        self._order = order
        self._skipped = 0

    def start(self, epoch: int, skipped: int) -> None:
        """What to begin with."""
        self._order.set_epoch(epoch)
        self._skipped = skipped

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        return islice(self._order, self._skipped, None)


def distributed_loader(
    module: LightningDataModule,
    dataset: Dataset[Item],
    batch_size: int,
    shuffle: bool,
    seed: int,
    num_workers: int,
    collate: Callable[[list[Item]], Any],
) -> DataLoader[Item]:
    """Batches of this process's share.

    Args:
        module: The data module, whose trainer knows the processes.
        dataset: What is shared out.
        batch_size: Items of a batch of one process.
        shuffle: Whether the order is drawn, from seed and epoch; then an incomplete last batch is dropped.
        seed: Seed of the order.
        num_workers: Processes that read.
        collate: Makes a batch of items.
    """
    world = module.trainer.world_size if module.trainer else 1
    rank = module.trainer.global_rank if module.trainer else 0
    # Also with one process, so that one process and several draw the same epochs from the same seed.
    sampler: DistributedSampler[Item] = DistributedSampler(dataset, world, rank, shuffle, seed)
    return loader_of(dataset, batch_size, sampler, num_workers, collate)


def loader_of(
    dataset: Dataset[Item],
    batch_size: int,
    order: DistributedSampler[Any],
    num_workers: int,
    collate: Callable[[list[Item]], Any],
) -> DataLoader[Item]:
    """Batches in an order: if it is shuffled, epoch after epoch, else all from the beginning each time.

    Args:
        dataset: What is read.
        batch_size: Items of a batch; an incomplete last one of a shuffled epoch is dropped.
        order: Of an epoch, for one process.
        num_workers: Processes that read.
        collate: Makes a batch of items.
    """
    if order.shuffle:
        return EpochLoader(dataset, batch_size, order, num_workers, collate)
    return DataLoader(
        dataset,
        batch_size,
        sampler=order,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
    )
