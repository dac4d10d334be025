"""What a run does when it is told to stop: it saves, has itself queued again if asked to, and ends."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from kyvo.training.continuation import last_checkpoint_path

log = logging.getLogger(__name__)

STOP, REQUEUE = signal.SIGTERM, signal.SIGUSR1


class PreemptedError(SystemExit):
    """The run was told to stop and has saved what there was."""


class Preemption(Callback):
    """On SIGTERM or SIGUSR1 saves the run's last checkpoint after the step at hand, and ends the process.

    SIGUSR1, which SLURM sends some time before a job's end where it is asked to (`#SBATCH --signal=USR1@120`), also has
    the job queued again. A signal to one rank is enough. The exit status is 128 + the signal's number, as if the
    signal had ended the process. During an evaluation the run ends without saving.

    Lightning's own handlers save and talk to the other ranks from within the signal handler, that is, in the middle of
    whatever step or communication was under way; these note the signal and leave the rest to the end of the step.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over; Lightning gives them back when the run ends."""
        self._received, self._step = None, trainer.global_step
        # Python hands out signals in its main thread alone.
        if threading.current_thread() is threading.main_thread():
            for number in (STOP, REQUEUE):
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received != REQUEUE:
            self._received = signal.Signals(number)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimiser step, see whether any rank was told to stop."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        found = self._agreed(trainer)
        if found is None:
            return
        self._save(trainer, found)
        if found == REQUEUE and trainer.is_global_zero:
            requeue()
        raise PreemptedError(128 + found)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """End at once: a checkpoint of the middle of an evaluation would not go on as an unbroken run does."""
        # Ranks evaluate at their own pace, so that there is nothing to agree on: the signal goes to all of them.
        if self._received is None or trainer.state.fn != "fit":
            return
        rank_zero_info(f"kyvo: {self._received.name} during an evaluation, nothing is saved")
        if self._received == REQUEUE and trainer.is_global_zero:
            requeue()
        raise PreemptedError(128 + self._received)

    def _agreed(self, trainer: Trainer) -> signal.Signals | None:
        """The signal that some rank received; a wish to be queued again outweighs one to stop."""
        level = {None: 0, STOP: 1, REQUEUE: 2}[self._received]
        if trainer.world_size > 1:
            wish = torch.tensor(float(level), device=trainer.strategy.root_device)
            level = int(trainer.strategy.reduce(wish, reduce_op="max"))
        return (None, STOP, REQUEUE)[level]

    def _save(self, trainer: Trainer, found: signal.Signals) -> None:
        path = last_checkpoint_path(trainer)
        if path is None:
            rank_zero_info(f"kyvo: {found.name}, and nowhere to save: no ModelCheckpoint with save_last and dirpath")
            return
        trainer.save_checkpoint(path)
        rank_zero_info(
            f"kyvo: {found.name}, saved step {trainer.global_step} as {path}; the same command goes on from it"
        )


def requeue() -> None:
    """Have SLURM queue this job again; outside SLURM nothing happens."""
    job = os.environ.get("SLURM_JOB_ID")
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is None:
        return
    done = subprocess.run(["scontrol", "requeue", job], check=False)
    if done.returncode:
        log.warning("scontrol could not queue job %s again: status %d", job, done.returncode)
