"""Scores the best scenes that a model could write: the true ones, rounded to the tokenizer's numbers."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from lightning import Trainer

from callbacks.boxes import BoxDetection
from callbacks.editing import Editing
from callbacks.jaccard import Jaccard
from callbacks.scoring import Scoring
from callbacks.slot_precision import SlotPrecision
from callbacks.watching import Watching
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload

BOUNDED = (Jaccard, Editing, BoxDetection, SlotPrecision)
"""The callbacks whose scores have ceilings: those of scenes."""


class Ceilings(Watching):
    """Quantisation ceilings, `NAME_ceiling` of each score of scenes: that of the true scenes, tokenised and parsed.

    A model that writes exactly the tokens it is taught reaches them; where objects are ranked, all are equally sure.
    Whatever the run's other callbacks score of scenes is bounded, with their settings. Ceilings do not change in
    training: its validations leave them out.
    """

    def __init__(self) -> None:
        self._scorers: list[Scoring] = []

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Make fresh metrics like those of the other callbacks, but none during training."""
        found = [] if trainer.state.fn == "fit" else trainer.callbacks  # type: ignore[attr-defined]
        self._scorers = [copy.copy(one) for one in found if isinstance(one, BOUNDED)]
        for scorer in self._scorers:
            scorer.ending = "_ceiling"
            scorer.start(trainer, module, stage)

    def see(
        self, trainer: Trainer, module: LanguageModule, stage: str, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Compare the scenes of a batch with what their tokens say."""
        if any(batch.workload in scorer.metrics for scorer in self._scorers):
            best = taught(module, batch.first(len(written)))
            for scorer in self._scorers:
                scorer.see(trainer, module, stage, batch, best)

    def finish(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Compute over all ranks and log."""
        for scorer in self._scorers:
            scorer.finish(trainer, module, stage)


def taught(module: LanguageModule, batch: TokenBatch) -> list[Generation]:
    """What a batch's own tokens say, read as if they had been generated, and surely."""
    workload: Workload = batch.workload
    tokenizer = module.tokenizer.with_schema(workload.schema)
    rows = zip(batch.ids.cpu().numpy(), batch.prompt_lengths.tolist(), batch.lengths.tolist(), strict=True)
    found = [tokenizer.decode(workload.task, ids[start:stop]) for ids, start, stop in rows]
    return [one if one.scene is None else replace(one, confidences=(1.0,) * len(one.scene)) for one in found]
