"""Losses of the steps since the last log, by task and by kind of token.

Letters: N supervised positions, K kinds of tokens.
"""

import torch
from torch import Tensor

from kyvo.tokenizers.vocabulary import Vocabulary

KINDS = ("text", "numbers", "markers", "image_codes", "shape_codes")
"""The kinds of tokens, in the order of the vocabulary's ranges."""


class RunningLosses:
    """Sums on the device, read when they are logged and not before: a step waits for nothing.

    Args:
        vocabulary: Says which ids are of which kind.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        ranges = (vocabulary.text_range, vocabulary.number_range, vocabulary.reserved_range, vocabulary.image_range)
        self._stops = torch.tensor([ids.stop for ids in ranges])
        self._kinds = torch.zeros(len(KINDS), 2)
        self._tasks: dict[str, Tensor] = {}

    def add_tokens(self, targets: Tensor, losses: Tensor, weights: Tensor) -> None:
        """Add tokens to their kinds.

        Args:
            targets: Ids `[N]`.
            losses: Their weighted losses `[N]`, float32.
            weights: Their weights `[N]`, float32.
        """
        if self._stops.device != targets.device:
            self._stops, self._kinds = self._stops.to(targets.device), self._kinds.to(targets.device)
        kinds = torch.bucketize(targets, self._stops, right=True)
        self._kinds.index_add_(0, kinds, torch.stack([losses, weights], dim=1))

    def add_batch(self, task: str, total: Tensor, cells: Tensor) -> None:
        """Add a batch to its task.

        Args:
            task: Label of the batch's workload.
            total: Sum of its losses, a scalar.
            cells: What to divide that by, a scalar.
        """
        sums = torch.stack([total.detach(), cells.detach()])
        self._tasks[task] = self._tasks[task] + sums if task in self._tasks else sums

    def take(self) -> dict[str, float]:
        """Mean losses as `TASK/loss` and `KIND/loss`, of those that were met; then everything is forgotten."""
        if not self._tasks:
            return {}
        table = torch.cat([torch.stack(list(self._tasks.values())), self._kinds]).tolist()
        means = {
            f"{name}/loss": total / cells
            for name, (total, cells) in zip([*self._tasks, *KINDS], table, strict=True)
            if cells
        }
        self._kinds.zero_()
        self._tasks.clear()
        return means
