"""Loading: batches of a dataset of known length, shared out over the processes of a trainer."""

from collections.abc import Callable
from typing import Any, TypeVar

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

Item = TypeVar("Item")


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
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        drop_last=shuffle,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
    )
