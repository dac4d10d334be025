"""What a model needs to choose among the candidates of a step: rows of its head, and their vectors as input.

Letters: B rows, D hidden size, K candidates, M masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kyvo.models.embedding import UnifiedEmbedding
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.tokenizers.grammar_steps import Candidates

_MOST_VECTORS = 10_000
"""Candidates whose vectors are kept; of more, as in free text, only those that were chosen are looked up."""


class Choices:
    """The candidates of a step on a model's device.

    Scoring them alone is what makes decoding cheap: 1,024 rows of the head for the code of an image, not 137,607.

    Args:
        model: The language model.
        candidates: What can be written.
    """

    def __init__(self, model: KyvoForCausalLM, candidates: Candidates) -> None:
        head = model.lm_head.weight
        device = head.device
        self.embedding: UnifiedEmbedding = model.embedding
        self.first = None if candidates.run is None else candidates.run.start
        self.ids, self.classes = candidates.ids.to(device), candidates.classes.to(device)
        self.forbidden = None if candidates.forbidden is None else candidates.forbidden.to(device)
        run = candidates.run
        rows = head[self.ids] if run is None else head[run.start : run.stop]
        # Autocast would convert a part of the head at every step.
        lower = torch.is_autocast_enabled(device.type)
        self.rows = rows.to(torch.get_autocast_dtype(device.type)) if lower else rows
        images = self.embedding.is_image(candidates.ids)
        self.images = "all" if bool(images.all()) else "some" if bool(images.any()) else "none"
        self.vectors = self._vectors()

    def _vectors(self) -> Tensor | None:
        """Vectors of all candidates `[K, D]`, without those of places in an image."""
        placed = self.embedding.image_positions is not None
        if len(self.ids) > _MOST_VECTORS or (placed and self.images == "some"):
            return None
        if placed and self.images == "all":
            vectors: Tensor = self.embedding.parts["image"](self.ids - self.embedding.ranges["image"][0])
            return vectors
        return self.embedding(self.ids[None])[0]

    @property
    def forced(self) -> bool:
        """Whether there is but one candidate, which needs no score."""
        return len(self.ids) == 1

    def score(self, hidden: Tensor) -> Tensor:
        """Float32 logits `[B, K]` of hidden states `[B, D]`."""
        return F.linear(hidden, self.rows).float()

    def bind(self, logits: Tensor, states: Tensor, mask_of: Tensor) -> Tensor:
        """Logits `[B, K]`, minus infinity where the mask of a row's state forbids the candidate.

        Args:
            logits: Of all candidates `[B, K]`.
            states: Of each row `[B]`.
            mask_of: The mask of each state.
        """
        if self.forbidden is None:
            return logits
        return logits.masked_fill(self.forbidden[mask_of[states]], -torch.inf)

    def tokens(self, chosen: Tensor) -> Tensor:
        """Ids `[B]` of chosen candidates `[B]`."""
        return self.ids[chosen] if self.first is None else chosen + self.first

    def embed(self, chosen: Tensor, tokens: Tensor, images_seen: Tensor) -> Tensor:
        """Vectors `[B, D]` of chosen candidates `[B]`, which are these tokens, after so many image codes `[B]`."""
        if self.vectors is None:
            return self.embedding(tokens[:, None], images_seen)[:, 0]
        vectors = self.vectors[chosen]
        if self.images != "all" or self.embedding.image_positions is None:
            return vectors
        return vectors + self.embedding.image_positions(images_seen % self.embedding.image_tokens)

    def count_images(self, tokens: Tensor, images_seen: Tensor) -> Tensor:
        """How many image codes `[B]` there are after these tokens `[B]`."""
        if self.images == "none" or self.embedding.image_positions is None:
            return images_seen
        return images_seen + (1 if self.images == "all" else self.embedding.is_image(tokens).long())
