"""Keeps a running mean of a language model's weights, which evaluations use and checkpoints hold."""

from functools import partial
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from kyvo.training.ema import draw_towards


class Averaging(WeightAveraging):
    """Lightning's WeightAveraging with an exponential mean, made exact for runs that go on.

    Validations see the mean, and a checkpoint's `state_dict` is the mean, so that `kyvo test` and `kyvo predict` need
    not know of it; the weights that training goes on with lie beside it. Where training ends the module keeps these:
    Lightning would overwrite them with the mean, from which no run can go on exactly. Not for sharded weights (FSDP),
    nor for precision `bf16-true`, whose numbers are too coarse for small steps.

    Args:
        decay: Share of the mean that is kept at each step, in [0, 1); less of it in the first few.

    Raises:
        ValueError: A decay outside its range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of averaged weights should be in [0, 1), got {decay}")
        super().__init__(device=None, use_buffers=False, multi_avg_fn=partial(draw_towards, decay))
        self._in_place = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share what does not train, the bulk of an adapter's model, instead of averaging a copy of it."""
        if self._average_model is not None:
            for mean, weight in zip(self._average_model.module.parameters(), pl_module.parameters(), strict=True):
                if not weight.requires_grad:
                    mean.data = weight.data

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights as they are."""

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the mean in place of the weights, after training in the same process."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back."""
        self.on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save mean and weights; of a model with frozen weights that are not saved, what trains."""
        if self._average_model is None:
            return
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._in_place:
            # Stopped in the middle of an evaluation.
            weights, mean = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint |= {"state_dict": mean, "current_model_state": weights}
        if not pl_module.strict_loading:
            trained = {name for name, weight in pl_module.named_parameters() if weight.requires_grad}
            weights = checkpoint["current_model_state"]
            checkpoint["current_model_state"] = {name: weights[name] for name in weights if name in trained}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take back mean and weights; from the checkpoint of a run without means, begin one."""
        if self._average_model is None:
            return
        strict = pl_module.strict_loading
        self._average_model.module.load_state_dict(checkpoint["state_dict"], strict=strict)
        if "current_model_state" in checkpoint:
            self._average_model.n_averaged.copy_(checkpoint["averaging_state"]["n_averaged"])
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=strict)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._in_place = not self._in_place
