"""Batches: token sequences of one task, padded to one length.

B: samples, S: tokens of the longest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kyvo.sample import Sample
from kyvo.task import Task

if TYPE_CHECKING:
    from kyvo.tokenizers.sequence import TokenSequence
    from kyvo.tokenizers.tokenizer import UnifiedTokenizer


@dataclass(frozen=True)
class Batch:
    """Sequences of one task, right-padded.

    Lightning moves a batch by its `.to`; a DataLoader pins it by its `.pin_memory`.

    Args:
        ids: int64 [B, S].
        weights: float32 [B, S], weight of predicting each token in the loss; 0 on what is read and on padding.
        lengths: int64 [B], tokens of each sequence without padding.
        prompt_lengths: int64 [B], tokens up to and including [OUTPUT-START].
        task: What all the sequences are of.
        keys: Keys of the samples.
        samples: The samples themselves, with pixels (evaluation only, else empty).
    """

    ids: Tensor
    weights: Tensor
    lengths: Tensor
    prompt_lengths: Tensor
    task: Task
    keys: tuple[str, ...]
    samples: tuple[Sample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def first(self, count: int) -> "Batch":
        """The batch's first samples, with no more padding than they need."""
        width = int(self.lengths[:count].max())
        return Batch(
            ids=self.ids[:count, :width],
            weights=self.weights[:count, :width],
            lengths=self.lengths[:count],
            prompt_lengths=self.prompt_lengths[:count],
            task=self.task,
            keys=self.keys[:count],
            samples=self.samples[:count],
        )

    def to(self, device: torch.device | str, **kwargs: Any) -> "Batch":
        """The batch with its tensors on a device; `kwargs` go to `Tensor.to`."""
        return self._map(lambda tensor: tensor.to(device, **kwargs))

    def pin_memory(self) -> "Batch":
        """The batch with its tensors in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            ids=function(self.ids),
            weights=function(self.weights),
            lengths=function(self.lengths),
            prompt_lengths=function(self.prompt_lengths),
        )


def collate(tokenizer: "UnifiedTokenizer", task: Task, samples: Sequence[Sample], keep: bool = False) -> Batch:
    """Encode samples of one task and pad them on the right.

    Args:
        tokenizer: Makes ids and weights of a sample.
        task: What is read and what is written.
        samples: At least one.
        keep: Whether the batch carries the samples along.

    Raises:
        ValueError: If a sample lacks what the task needs (named by key and modality).
    """
    sequences = [tokenizer.encode(task, sample) for sample in samples]
    batch = stack(task, [sample.key for sample in samples], sequences, tokenizer.vocabulary.pad)
    return replace(batch, samples=tuple(samples)) if keep else batch


def stack(task: Task, keys: Sequence[str], sequences: "Sequence[TokenSequence]", pad: int) -> Batch:
    """Pad sequences of one task on the right.

    Args:
        task: What is read and what is written.
        keys: Keys of the samples.
        sequences: At least one, one for each key.
        pad: Id to pad with.
    """
    lengths = np.array([len(sequence.ids) for sequence in sequences], dtype=np.int64)
    ids = np.full((len(sequences), lengths.max()), pad, dtype=np.int64)
    weights = np.zeros(ids.shape, dtype=np.float32)
    for row, sequence in enumerate(sequences):
        ids[row, : lengths[row]] = sequence.ids
        weights[row, : lengths[row]] = sequence.weights
    return Batch(
        ids=torch.from_numpy(ids),
        weights=torch.from_numpy(weights),
        lengths=torch.from_numpy(lengths),
        prompt_lengths=torch.tensor([sequence.prompt_length for sequence in sequences]),
        task=task,
        keys=tuple(keys),
    )
