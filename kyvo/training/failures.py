"""Failures of a run that have a plain explanation: too little memory, another process that is gone."""

import re

import torch

MEMORY_ADVICE = (
    "out of memory ({first}). What needs less, first the cheapest: data.init_args.batch_size lower and "
    "trainer.accumulate_grad_batches higher by the same factor (same steps); model.init_args.gradient_checkpointing: "
    "true; trainer.precision: bf16-mixed or bf16-true; model.init_args.optimizer.name: paged_adamw_8bit; recipe: lora; "
    "trainer.strategy: fsdp on several GPUs. While samples are written: data.init_args.eval_batch_size. In workers' "
    "memory: data.init_args.num_workers, cache_samples, window"
)
LOST_ADVICE = (
    "another process of this run died or did not answer in time ({first}): the output of its rank says why. The same "
    "command goes on from the last checkpoint"
)

_MEMORY = re.compile(r"out of memory|can't allocate memory|DataLoader worker .* is killed by signal: Killed")
_LOST = re.compile(
    r"Connection (closed|reset) by (remote )?peer|Timed out waiting|NCCL (error|communicator)|Broken pipe|"
    r"recvValue failed|(Connection|Socket) (closed|reset|timeout)|collective operation timeout"
)


def explained(error: BaseException) -> str | None:
    """One line that says what happened and what to do about it; None where the error has to speak for itself.

    Args:
        error: What ended a run.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _MEMORY.search(str(error)):
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        return MEMORY_ADVICE.format(first=first[:200])
    lost = _LOST.search(str(error))
    return None if lost is None else LOST_ADVICE.format(first=lost[0])
