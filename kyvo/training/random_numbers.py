"""The random numbers of training: drawn for each batch from the seed of the run, whatever was drawn before."""

import random
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class StepSeed(Callback):
    """Seeds torch, NumPy and Python before each training batch with a function of the run's seed and the batch.

    A saved generator would have to be saved on every rank, and would forget what an evaluation between two steps drew;
    this way a resumed run draws what an unbroken one does, on as many ranks as there are now. All ranks draw the same.

    Checkpoints hold the seed, which outlives `seed_everything: false`.
    """

    def __init__(self) -> None:
        self.seed: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The run's seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seed that the run began with."""
        self.seed = state_dict["seed"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the process's seed for the run's, unless a checkpoint brought one."""
        if self.seed is None:
            self.seed = torch.initial_seed()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed everything."""
        entropy = (self.seed or 0, trainer.global_step, batch_idx)
        first, second = np.random.SeedSequence(entropy).generate_state(2, np.uint32).tolist()
        torch.manual_seed(first << 32 | second)
        np.random.seed(first)
        random.seed(second)
