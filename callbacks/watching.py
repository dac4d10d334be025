"""The hooks of evaluation folded into three: a stage starts, a batch has been written, the stage is over."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch


class Watching(Callback):
    """Sees what a language model writes in validation (`val`), `test` and `predict`, on every rank.

    A subclass overrides what it needs of `start`, `see` and `finish`.
    """

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Called before the first batch of a stage."""

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Called with a batch and what was written for its first samples, at least one."""

    def finish(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Called after the last batch of a stage."""

    def _see(self, trainer: Trainer, module: LightningModule, stage: str, batch: TokenBatch, outputs: Any) -> None:
        if outputs["written"]:
            self.see(trainer, language_module(module), stage, batch, outputs["written"])

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start `val`."""
        self.start(trainer, language_module(pl_module), "val")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """See a batch of `val`."""
        self._see(trainer, pl_module, "val", batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish `val`."""
        self.finish(trainer, language_module(pl_module), "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start `test`."""
        self.start(trainer, language_module(pl_module), "test")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """See a batch of `test`."""
        self._see(trainer, pl_module, "test", batch, outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish `test`."""
        self.finish(trainer, language_module(pl_module), "test")

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start `predict`."""
        self.start(trainer, language_module(pl_module), "predict")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """See a batch of `predict`."""
        self._see(trainer, pl_module, "predict", batch, outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish `predict`."""
        self.finish(trainer, language_module(pl_module), "predict")


def output_folder(trainer: Trainer, given: str | None, name: str = "") -> Path:
    """Where a callback writes: the folder it was given, else `name` in the folder of the run's first logger."""
    return Path(given) if given else Path(trainer.log_dir or trainer.default_root_dir) / name


def language_module(module: LightningModule) -> LanguageModule:
    """The module that these callbacks work with; ValueError if it is another."""
    if not isinstance(module, LanguageModule):
        raise ValueError(f"this callback looks at what a LanguageModule writes, not {type(module).__name__}")
    return module
