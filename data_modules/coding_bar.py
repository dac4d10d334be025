"""The bar that shows how much of what a trainer codes is coded."""

from collections.abc import Callable, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.progress import Progress


class CodingBar(Callback):
    """Shows how far the first process is, of its own share.

    Args:
        name: What is coded.
        jobs: Number of things to code in each shard; rank r of R codes the shards r, r + R, ...
        coded: How many of them a batch holds.
    """

    def __init__(self, name: str, jobs: Sequence[int], coded: Callable[[Any], int]) -> None:
        self.name = name
        self.jobs = jobs
        self.coded = coded
        self._progress: Progress | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        if trainer.is_global_zero:
            self._progress = Progress()
            self._progress.add_task(self.name, total=sum(self.jobs[:: trainer.world_size]))
            self._progress.start()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Move on."""
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], self.coded(batch))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End, so that the error stands below it."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
