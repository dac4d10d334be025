"""Failures of a run that have a plain explanation: too little memory, another process that is gone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A kind of failure.

    Args:
        pattern: What is found in its errors, as a regular expression over `TYPE: MESSAGE`.
        advice: What to say of it, with a place for what was `found`.
    """

    pattern: str
    advice: str

    def explain(self, error: BaseException) -> str | None:
        """One line that says what happened and what to do about it; None if the error is of another kind."""
        text = f"{type(error).__name__}: {error}".strip(" :")
        match = re.search(self.pattern, text)
        if match is None:
            return None
        line = next(line for line in text[match.start() :].splitlines() if line)
        return self.advice.format(found=line[:200])


_MEMORY = r"(?m)^.*(out of memory|can't allocate memory|MemoryError|DataLoader worker .* is killed by signal: Killed)"
MEMORY = Failure(
    _MEMORY,
    "out of memory ({found}). What needs less, first the cheapest: data.init_args.batch_size lower and "
    "trainer.accumulate_grad_batches higher by the same factor (same steps); model.init_args.gradient_checkpointing: "
    "true; trainer.precision: bf16-mixed or bf16-true; model.init_args.optimizer.name: paged_adamw_8bit; recipe: lora; "
    "trainer.strategy: fsdp on several GPUs. While samples are written: data.init_args.eval_batch_size. In workers' "
    "memory: data.init_args.num_workers, cache_samples, window",
)
BUILDING = Failure(
    _MEMORY,
    "out of memory while the run was built ({found}): the model is too large for this machine. A smaller "
    "model.init_args.backbone needs less; with fewer processes on a machine (trainer.devices) there are fewer of it",
)
LOST = Failure(
    r"Connection (closed|reset) by (remote )?peer|Timed out waiting|NCCL (error|communicator)|Broken pipe|"
    r"recvValue failed|(Connection|Socket) (closed|reset|timeout)|collective operation timeout",
    "another process of this run died or did not answer in time ({found}): the output of its rank says why. The same "
    "command goes on from the last checkpoint",
)


@contextmanager
def explaining(*kinds: Failure) -> Iterator[None]:
    """Within it, an error of one of these kinds becomes a ValueError that explains it.

    Args:
        kinds: What may happen.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        # What goes wrong in a constructor reaches us in jsonargparse's own words, and with every value of the config.
        root = error.__cause__ if isinstance(error, ValueError) else error
        if not isinstance(root, RuntimeError | MemoryError):
            raise
        told = [text for text in (kind.explain(root) for kind in kinds) if text is not None]
        if not told:
            raise
        raise ValueError(told[0]) from error
