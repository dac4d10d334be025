"""Tasks: which modalities the model reads and which it writes, in order."""

from dataclasses import dataclass
from typing import Literal

Modality = Literal["image", "scene", "text"]

SYMBOLS: dict[str, Modality] = {"I": "image", "3": "scene", "T": "text", "Q": "text", "A": "text"}
"""Letters of a task's spec: image, 3D scene, text, question, answer."""

_SINGLE: dict[tuple[tuple[Modality, ...], tuple[Modality, ...]], str] = {
    (("scene",), ("image",)): "rendering",
    (("image",), ("scene",)): "recognition",
}


@dataclass(frozen=True)
class Task:
    """What is read and what is written.

    >>> Task.parse("I+3+T-I+3").outputs
    ('image', 'scene')

    Args:
        spec: the string it was parsed from, such as ``I+3+T-I+3``.
        inputs: modalities before the output marker.
        outputs: modalities after it.
    """

    spec: str
    inputs: tuple[Modality, ...]
    outputs: tuple[Modality, ...]

    @classmethod
    def parse(cls, spec: str) -> "Task":
        """Read a spec: symbols I, 3, T, Q, A joined by ``+``, inputs before the ``-``, outputs after it.

        Raises:
            ValueError: saying what a spec should look like.
        """
        try:
            left, right = (tuple(SYMBOLS[symbol] for symbol in side.split("+")) for side in spec.split("-"))
        except (KeyError, ValueError) as error:
            raise ValueError(_expectation(spec)) from error
        if len(set(left)) != len(left) or len(set(right)) != len(right):
            raise ValueError(f"{_expectation(spec)}, each modality once a side (T, Q and A are all text)")
        return cls(spec, left, right)

    @property
    def name(self) -> str:
        """Short name for metrics: rendering, recognition, instruction or question_answering; else the spec."""
        if "text" in self.outputs:
            return "question_answering"
        if "text" in self.inputs:
            return "instruction"
        return _SINGLE.get((self.inputs, self.outputs), self.spec)


def _expectation(spec: str) -> str:
    return f"task {spec!r} should look like '3-I', 'I-3', 'I+3+T-I+3' or 'I+3+Q-A', with symbols {', '.join(SYMBOLS)}"
