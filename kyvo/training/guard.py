"""The guard against steps that would spoil the weights: a loss or gradient that is not finite."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

log = logging.getLogger(__name__)


class NonFiniteError(ValueError):
    """Too many steps in a row had a loss or gradient that is not finite."""


@dataclass(frozen=True)
class SeenBatch:
    """A batch of a step that may turn out bad.

    Attributes:
        task: Label of its workload; empty where batches have none.
        keys: Keys of its samples, as far as they have any.
    """

    task: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, batch: Any) -> "SeenBatch":
        """What can be said of a batch, whatever it is."""
        keys = getattr(batch, "keys", ())
        named = isinstance(keys, Sequence)
        return cls(getattr(getattr(batch, "workload", None), "label", ""), tuple(map(str, keys)) if named else ())


class NonFiniteGuard(Callback):
    """Skips optimiser steps whose loss or gradient is not finite, and ends a run that has nothing else left.

    All processes skip the same steps: a loss on one of them is enough. A skipped step moves no weight and no moment of
    the optimiser, but counts as a step for the schedule and for `max_steps`. Each is warned of, logged as
    `train/skipped_steps` (how many so far) and written to `non_finite.rankR.jsonl`: step, and for each batch of this
    process its task, loss and the keys of its samples. With float16's scaled gradients, which overflow by design, the
    scaler skips steps and the guard stands aside.

    Args:
        limit: Bad steps in a row after which the run ends.
        folder: Where to write; default is the folder of the run's first logger.

    Raises:
        ValueError: If `limit` is less than 1.
    """

    def __init__(self, limit: int = 10, folder: str | None = None) -> None:
        if limit < 1:
            raise ValueError(f"the guard's limit should be at least 1, got {limit}")
        self.limit = limit
        self.folder = folder
        self.skipped = 0
        self.in_a_row = 0
        self._batches: list[SeenBatch] = []
        self._losses: list[Tensor] = []

    def state_dict(self) -> dict[str, int]:
        """How many steps were skipped."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note whose turn it is."""
        self._batches.append(SeenBatch.of(batch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take the gradients away if anything of the step is not finite: without them the optimiser moves nothing.

        Raises:
            NonFiniteError: If this was the last bad step in a row that is allowed.
        """
        batches, self._batches = self._batches, []
        losses, self._losses = self._losses, []
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not self._bad(trainer, losses, [p.grad for p in parameters]):
            self.in_a_row = 0
            return
        for parameter in parameters:
            parameter.grad = None
        self._count(trainer, pl_module, self._write(trainer, batches, losses))

    def _bad(self, trainer: Trainer, losses: list[Tensor], gradients: list[Tensor]) -> bool:
        values = [*losses, *torch._foreach_norm(gradients)] if gradients else losses
        bad = torch.stack([torch.isfinite(value).logical_not() for value in values]).any().float()
        if trainer.world_size > 1:
            # A loss is one process's own, and of sharded gradients each process sees a part.
            bad = trainer.strategy.reduce(bad, reduce_op="sum")
        return bool(bad)

    def _count(self, trainer: Trainer, module: LightningModule, path: Path) -> None:
        self.skipped += 1
        self.in_a_row += 1
        module.log("train/skipped_steps", float(self.skipped), batch_size=1)
        if trainer.is_global_zero:
            log.warning(
                "kyvo: step %d: loss or gradient is not finite, the step is skipped (%d in a row, %d in all); its "
                "samples are in %s", trainer.global_step, self.in_a_row, self.skipped, path,
            )  # fmt: skip
        if self.in_a_row >= self.limit:
            raise NonFiniteError(
                f"loss or gradient was not finite in {self.in_a_row} steps in a row, the last of them step "
                f"{trainer.global_step}; the samples are in {path}. Look at them, or lower the learning rate; "
                "guard.limit allows more"
            )

    def _write(self, trainer: Trainer, batches: list[SeenBatch], losses: list[Tensor]) -> Path:
        """Add the step to the file of this process; returns the file."""
        folder = Path(self.folder or trainer.log_dir or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"non_finite.rank{trainer.global_rank}.jsonl"
        # JSON knows no NaN.
        rows = [asdict(batch) | {"loss": str(float(loss))} for batch, loss in zip(batches, losses, strict=True)]
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": trainer.global_step, "batches": rows}) + "\n")
        return path
