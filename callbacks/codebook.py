"""Watches over the codebook of a tokenizer in training."""

import warnings

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from kyvo.training.reconstruction import ReconstructionModule
from kyvo.training.shape_tokenizer import ShapeTokenizerModule


class Codebook(Callback):
    """Warns of a dying codebook: one of which the whole validation set, on all processes, uses too little.

    Args:
        least: Share of the codebook, in [0, 1], that should be used; below it, each validation warns once.

    Raises:
        ValueError: If `least` is no share, or the module is no tokenizer's of images or shapes.
    """

    def __init__(self, least: float = 0.1) -> None:
        if not 0 <= least <= 1:
            raise ValueError(f"least should be a share of the codebook in [0, 1], got {least}")
        self.least = least

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn, if need be."""
        if not isinstance(pl_module, ReconstructionModule | ShapeTokenizerModule):
            raise ValueError(f"Codebook watches the training of tokenizers, not {type(pl_module).__name__}")
        scores = {name: float(value) for name, value in pl_module.code_usage.compute().items()}
        # Lightning's check before training sees random weights.
        if scores["usage"] < self.least and not trainer.sanity_checking:
            self._warn(scores, len(pl_module.code_usage.counts))

    def _warn(self, scores: dict[str, float], codes: int) -> None:
        with warnings.catch_warnings():
            # Python shows a warning once for each text; every validation should have its own.
            warnings.simplefilter("always")
            rank_zero_warn(
                f"only {scores['codes_used']:.0f} of {codes} codes are used ({scores['usage']:.1%}, should be "
                f"{self.least:.0%} or more), perplexity {scores['perplexity']:.1f}, the commonest code has "
                f"{scores['top_code_share']:.1%}: lower the learning rate, or take the quantiser of running means, "
                "which revives dead codes"
            )
