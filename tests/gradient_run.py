"""Saves the gradients of one step of several processes over samples that they share out, pad and pack unevenly.

Usage: torchrun --nproc-per-node 2 -m tests.gradient_run OUTPUT_FILE
"""

import os
import sys

import torch
from torch.utils.data import DataLoader

from data_modules.batches import Batch, collate, encode
from kyvo.task import Task
from tests.distributed_run import trainer
from tests.worlds import random_sample, tiny_module, workload

SAMPLES = 11
# For each rank its batches of one step: first and last-plus-one sample, and the width of packed rows.
SHARES = [[(0, 1, 0), (1, 5, 700)], [(5, 7, 0), (7, SAMPLES, 500)]]


def batch(first: int, stop: int, pack: int = 0) -> Batch:
    """Samples `first` to `stop` of a task with loss weights other than 1."""
    kind, tokenizer = workload("I+3+T-I+3"), tiny_module().tokenizer
    return collate(
        tokenizer, kind, [encode(tokenizer, Task.parse("I+3+T-I+3"), random_sample(n)) for n in range(first, stop)],
        pack=pack,
    )  # fmt: skip


def gradients(batches: list[Batch]) -> dict[str, torch.Tensor]:
    """What the optimiser is given for one step over batches that are accumulated."""
    torch.manual_seed(0)
    module = tiny_module()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    # Lightning clears gradients before it computes those of a step, and so leaves these behind.
    made = trainer(max_steps=1, accumulate_grad_batches=len(batches))
    made.fit(module, DataLoader(batches, batch_size=None))
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    made = gradients([batch(*share) for share in SHARES[int(os.environ["RANK"])]])
    if os.environ["RANK"] == "0":
        torch.save(made, sys.argv[1])
