"""Scores the best scenes that a model could write: the true ones, rounded to the tokenizer's numbers."""

from collections.abc import Sequence

from lightning import Trainer

from callbacks.jaccard import Jaccard
from kyvo.metrics.jaccard import SceneJaccard
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload


class Ceilings(Jaccard):
    """Quantisation ceilings, `NAME_ceiling` of each score of scenes: that of the true scenes, tokenised and parsed.

    A model that writes exactly the tokens it is taught reaches them. They do not change in training: its validations
    leave them out. Take the taus and the rule of the callbacks whose scores they bound.
    """

    ending = "_ceiling"

    def scores(self, task: Task) -> bool:
        """Tasks that write a scene, edits among them."""
        return "scene" in task.outputs

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Make fresh metrics, but none during training."""
        super().start(trainer, module, "predict" if trainer.state.fn == "fit" else stage)

    def add(
        self, metric: SceneJaccard, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
    ) -> None:
        """Compare the scenes of a batch with what their tokens say."""
        super().add(metric, module, batch, taught(module, batch.first(len(written))))


def taught(module: LanguageModule, batch: TokenBatch) -> list[Generation]:
    """What a batch's own tokens say, read as if they had been generated."""
    workload: Workload = batch.workload
    tokenizer = module.tokenizer.with_schema(workload.schema)
    # Tokens with a weight in the loss are those to be written.
    rows = zip(batch.ids.cpu().numpy(), batch.weights.cpu().numpy(), strict=True)
    return [tokenizer.decode(workload.task, ids[weights > 0]) for ids, weights in rows]
