"""Batches: token sequences of one workload in rows of one width, padded or packed.

B: samples, R: rows, S: tokens of a row, M: pictures still to be encoded, N: codes of a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from data_modules.faults import BadInputError, Fault
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.rows import Rows
from kyvo.workload import Workload

if TYPE_CHECKING:
    from kyvo.tokenizers.sequence import TokenSequence
    from kyvo.tokenizers.tokenizer import UnifiedTokenizer


@dataclass(frozen=True)
class Uncoded:
    """The pictures of a batch whose codes are yet to be made, and where these go.

    Args:
        pixels: uint8 [M, H, W, 3].
        places: int64 [M, N], positions in the batch's flattened ids, in raster order.
        rows: For each picture the number of its sample in the batch.
        fields: For each picture the field of the sample that its codes are.
    """

    pixels: Tensor
    places: Tensor
    rows: tuple[int, ...]
    fields: tuple[Literal["image", "target_image"], ...]


@dataclass(frozen=True)
class Batch:
    """Sequences of one workload, each right-padded in a row of its own (R = B) or several packed into a row.

    Lightning moves a batch by its `.to`; a DataLoader pins it by its `.pin_memory`.

    Args:
        ids: int64 [R, S].
        weights: float32 [R, S], weight of predicting each token in the loss; 0 on padding and on what is read, but
            for text where the layout has a `read_text_weight`.
        lengths: int64 [B], tokens of each sequence without padding.
        prompt_lengths: int64 [B], tokens up to and including [OUTPUT-START].
        workload: What all the sequences are of.
        keys: Keys of the samples.
        samples: The samples themselves, with pixels (evaluation only, else empty).
        faults: What was wrong with samples that should have been in this batch.
        uncoded: Pictures whose codes are yet to be filled in; None where all are there.
        positions: int64 [R, S], place of each token in its own sequence, where rows are packed; else None.
    """

    ids: Tensor
    weights: Tensor
    lengths: Tensor
    prompt_lengths: Tensor
    workload: Workload
    keys: tuple[str, ...]
    samples: tuple[Sample, ...] = ()
    faults: tuple[Fault, ...] = ()
    uncoded: Uncoded | None = field(default=None)
    positions: Tensor | None = None

    @property
    def task(self) -> Task:
        """What is read and written."""
        return self.workload.task

    def __len__(self) -> int:
        return len(self.keys)

    def first(self, count: int) -> "Batch":
        """The batch's first samples, with no more padding than they need; of a batch that is not packed."""
        width = int(self.lengths[:count].max())
        return replace(
            self,
            ids=self.ids[:count, :width],
            weights=self.weights[:count, :width],
            lengths=self.lengths[:count],
            prompt_lengths=self.prompt_lengths[:count],
            keys=self.keys[:count],
            samples=self.samples[:count],
        )

    def to(self, device: torch.device | str, **kwargs: Any) -> "Batch":
        """The batch with its tensors on a device; `kwargs` go to `Tensor.to`."""
        return self._map(lambda tensor: tensor.to(device, **kwargs))

    def pin_memory(self) -> "Batch":
        """The batch with its tensors in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def filled(self, codes: Tensor, offset: int) -> "Batch":
        """The batch with codes for the pictures that had none.

        Args:
            codes: int64 [M, N], in raster order.
            offset: Id of code 0.
        """
        if self.uncoded is None:
            return self
        ids = self.ids.clone()
        ids.view(-1)[self.uncoded.places] = codes.to(ids.device) + offset
        samples = list(self.samples)
        if samples:
            rows = codes.cpu().numpy()
            for row, name, given in zip(self.uncoded.rows, self.uncoded.fields, rows, strict=True):
                samples[row] = replace(samples[row], **{name: given})
        return replace(self, ids=ids, samples=tuple(samples), uncoded=None)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        uncoded = self.uncoded
        if uncoded is not None:
            uncoded = replace(uncoded, pixels=function(uncoded.pixels), places=function(uncoded.places))
        return replace(
            self,
            ids=function(self.ids),
            weights=function(self.weights),
            lengths=function(self.lengths),
            prompt_lengths=function(self.prompt_lengths),
            uncoded=uncoded,
            positions=None if self.positions is None else function(self.positions),
        )


@dataclass(frozen=True)
class Encoded:
    """A sample and its sequence, made in one place so that they can be sorted together.

    Args:
        sample: The sample.
        sequence: Its ids and weights; 0 stands for the codes of pictures that are not encoded yet.
    """

    sample: Sample
    sequence: "TokenSequence"


def encode(tokenizer: "UnifiedTokenizer", task: Task, sample: Sample | Fault) -> Encoded | Fault:
    """A sample with its sequence, or what is wrong with it; a picture without codes leaves room for them."""
    if isinstance(sample, Fault):
        return sample
    blank = np.zeros(tokenizer.image_length, dtype=np.int64)
    room = sample
    if sample.image is None and sample.pixels is not None:
        room = replace(room, image=blank)
    if sample.target_image is None and sample.target_pixels is not None:
        room = replace(room, target_image=blank)
    try:
        return Encoded(sample, tokenizer.encode(task, room))
    except ValueError as error:
        return Fault("", sample.key, "", str(error))


def _pictures(sample: Sample) -> tuple[tuple[Literal["image", "target_image"], np.ndarray | None], ...]:
    """The fields that hold codes, and the pictures they are of."""
    return ("image", sample.pixels), ("target_image", sample.target_pixels)


def collate(
    tokenizer: "UnifiedTokenizer",
    workload: Workload,
    entries: Sequence[Encoded | Fault],
    keep: bool = False,
    pack: int = 0,
) -> Batch:
    """Lay out sequences of one workload as a batch.

    Args:
        tokenizer: What made the sequences.
        workload: What is read and what is written.
        entries: The samples, and what was wrong with those that are missing.
        keep: Whether the batch carries the samples along.
        pack: Tokens of a row into which several sequences are packed; 0 pads each on the right in a row of its own.

    Raises:
        BadInputError: If no sample is good.
    """
    faults = tuple(entry for entry in entries if isinstance(entry, Fault))
    encoded = [entry for entry in entries if isinstance(entry, Encoded)]
    if not encoded:
        raise BadInputError(replace(faults[0], reason=f"{faults[0].reason} (as is every sample of its batch)"))
    sequences = [one.sequence for one in encoded]
    pad = tokenizer.vocabulary.pad
    rows = Rows.packed(sequences, pad, pack) if pack else Rows.padded(sequences, pad)
    return Batch(
        ids=torch.from_numpy(rows.ids),
        weights=torch.from_numpy(rows.weights),
        lengths=torch.tensor([len(sequence) for sequence in sequences]),
        prompt_lengths=torch.tensor([sequence.prompt_length for sequence in sequences]),
        workload=workload,
        keys=tuple(one.sample.key for one in encoded),
        samples=tuple(one.sample for one in encoded) if keep else (),
        faults=faults,
        uncoded=_uncoded(tokenizer, workload.task, encoded, rows.starts),
        positions=None if rows.positions is None else torch.from_numpy(rows.positions),
    )


def _uncoded(
    tokenizer: "UnifiedTokenizer", task: Task, encoded: Sequence[Encoded], starts: np.ndarray
) -> Uncoded | None:
    """The pictures that have no codes yet among samples whose sequences start at `starts` in the flattened ids."""
    sides = [False for name in task.inputs if name == "image"] + [True for name in task.outputs if name == "image"]
    found: list[tuple[np.ndarray, np.ndarray, int, Literal["image", "target_image"]]] = []
    for row, one in enumerate(encoded):
        for written, places in zip(sides, tokenizer.image_places(one.sequence), strict=True):
            of_target = written and (one.sample.target_image is not None or one.sample.target_pixels is not None)
            name, pixels = _pictures(one.sample)[of_target]
            if pixels is not None and getattr(one.sample, name) is None:
                found.append((pixels, places + starts[row], row, name))
    if not found:
        return None
    pixels, places_found, rows, names = zip(*found, strict=True)
    return Uncoded(torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(places_found)), rows, names)
