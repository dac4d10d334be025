"""Scores how likely a language model finds what it should write, whatever it does write.

Letters: B batch, S positions, N written positions, G groups of tokens.
"""

from collections.abc import Sequence

import torch
from lightning import Trainer
from torch import Tensor

from callbacks.scoring import SampleScores, Scoring, one_by_one
from kyvo.metrics.likelihood import TokenLikelihood
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.tokenizers.vocabulary import Vocabulary
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.training.loss import token_scores
from kyvo.workload import Workload

GROUPS = ("token", "image_code", "first_code", "scene_token", "text_token")
"""All tokens to be written; image codes, the first of each image; scenes and texts with their markers."""


class Likelihood(Scoring):
    """Negative log-likelihood (nats a token) and accuracy of the true tokens, each given all the true ones before it.

    By what they are part of, for example `image_code_nll` and `first_code_accuracy`. It takes one more pass of the
    model over each batch, in the precision of the run.
    """

    means = ("image_code_nll", "image_code_accuracy", "first_code_accuracy")

    def scores(self, task: Task) -> bool:
        """Every task."""
        return True

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> TokenLikelihood:
        """`TokenLikelihood` of the groups."""
        return TokenLikelihood(GROUPS)

    def add(
        self, metric: TokenLikelihood, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
    ) -> SampleScores:
        """Predict the true tokens of a batch."""
        part = batch.first(len(written))
        targets, shown = part.ids[:, 1:], part.weights[:, 1:] > 0
        losses, right = torch.zeros(targets.shape, device=targets.device), torch.zeros_like(shown)
        with torch.no_grad(), module.trainer.precision_plugin.val_step_context():
            hidden = module.model.hidden_states(part.ids)[:, :-1][shown]
            losses[shown], right[shown] = token_scores(hidden, module.model.lm_head.weight, targets[shown])
        groups = token_groups(module.tokenizer.vocabulary, part.ids, part.weights)
        return one_by_one(metric, ("token_nll", *self.means), losses, right, groups)


def token_groups(vocabulary: Vocabulary, ids: Tensor, weights: Tensor) -> Tensor:
    """Which of `GROUPS` each token but the first belongs to.

    Args:
        vocabulary: The ids.
        ids: Ids `[B, S]`.
        weights: Weight of predicting each `[B, S]`; 0 on padding.

    Returns:
        bool `[B, G, S - 1]`.
    """
    # Text that is read may be predicted too (`read_text_weight`).
    written = (weights > 0) & (ids == vocabulary.marker("[OUTPUT-START]")).cumsum(1).bool()
    codes = vocabulary.image_range
    image = (ids >= codes.start) & (ids < codes.stop)
    first = torch.zeros_like(image)
    first[:, 1:] = image[:, 1:] & (ids[:, :-1] == vocabulary.marker("[IMAGE-START]"))
    scene, text = (_between(vocabulary, ids, name) for name in ("SCENE", "TEXT"))
    return (torch.stack([written, image, first, scene, text], 1) & written[:, None])[:, :, 1:]


def _between(vocabulary: Vocabulary, ids: Tensor, name: str) -> Tensor:
    """Tokens from a start marker up to and with its end, bool `[B, S]`."""
    starts, ends = (ids == vocabulary.marker(f"[{name}-{edge}]") for edge in ("START", "END"))
    return (starts.cumsum(1) > ends.cumsum(1)) | ends
