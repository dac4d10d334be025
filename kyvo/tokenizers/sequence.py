"""What a tokenizer gives out: sequences of ids with their weights and segments, and what a model wrote."""

from dataclasses import dataclass

import numpy as np

from kyvo.scene import Scene


@dataclass(frozen=True)
class Segment:
    """A named span of a sequence.

    Args:
        name: ``bos``, ``image``, ``scene``, ``text``, ``output`` (its marker) or ``eos``.
        start: first position.
        stop: position after the last.
        written: whether the model has to write it.
    """

    name: str
    start: int
    stop: int
    written: bool


@dataclass(frozen=True)
class TokenSequence:
    """A sample as ids; S: length of the sequence.

    Args:
        ids: int64 [S].
        weights: float32 [S], weight of the loss of predicting each id; 0 on what is read, but for text where the layout
            gives it one.
        segments: spans that tile the sequence.
        prompt_length: ids up to and including [OUTPUT-START].
    """

    ids: np.ndarray
    weights: np.ndarray
    segments: tuple[Segment, ...]
    prompt_length: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Generation:
    """What generated ids say; None for modalities that the task does not write or that cannot be read.

    Args:
        scene: the well-formed objects.
        image: int64 [N], image codes in raster order.
        text: the text between its markers.
        malformed: number of faults: objects that do not parse, missing or incomplete blocks, stray tokens.
        confidences: how sure the model was of each object of the scene, in (0, 1]; None where that was not asked for.
    """

    scene: Scene | None = None
    image: np.ndarray | None = None
    text: str | None = None
    malformed: int = 0
    confidences: tuple[float, ...] | None = None
