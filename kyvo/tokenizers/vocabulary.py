"""The one id space of text, numbers, markers, image codes and shape codes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Vocabulary:
    """Named ranges of ids laid end to end: text, numbers, markers, reserved, image codes, shape codes.

    >>> Vocabulary(text=10, numbers=("0.00", "0.05"), markers=("[OUTPUT-START]",), image_codes=4).image_range
    range(13, 17)

    Args:
        text: number of ids of the text tokenizer, its special tokens among them.
        numbers: label of every number token.
        markers: markers such as ``[SCENE-START]``.
        image_codes: size of the image codebook.
        shape_codes: size of the shape codebook.
        reserved: ids after the markers that nothing uses (the released Objectron vocabulary has one).
        bos: id that opens a sequence, inside the text range.
        eos: id that closes a sequence, inside the text range.
        pad: id that fills up a batch, inside the text range.
    """

    text: int
    numbers: tuple[str, ...]
    markers: tuple[str, ...]
    image_codes: int
    shape_codes: int = 0
    reserved: int = 0
    bos: int = 0
    eos: int = 1
    pad: int = 2

    def __post_init__(self) -> None:
        for name in ("numbers", "markers"):
            entries = getattr(self, name)
            if len(set(entries)) != len(entries):
                raise ValueError(f"the {name} of a vocabulary must differ from each other; {len(entries)} were given")
        for name in ("bos", "eos", "pad"):
            if getattr(self, name) not in self.text_range:
                raise ValueError(f"{name} id {getattr(self, name)} lies outside the text ids 0..{self.text - 1}")

    @cached_property
    def text_range(self) -> range:
        """Ids of text tokens."""
        return range(self.text)

    @cached_property
    def number_range(self) -> range:
        """Ids of number tokens."""
        return _after(self.text_range, len(self.numbers))

    @cached_property
    def marker_range(self) -> range:
        """Ids of markers."""
        return _after(self.number_range, len(self.markers))

    @cached_property
    def reserved_range(self) -> range:
        """Ids that nothing uses."""
        return _after(self.marker_range, self.reserved)

    @cached_property
    def image_range(self) -> range:
        """Ids of image codes."""
        return _after(self.reserved_range, self.image_codes)

    @cached_property
    def shape_range(self) -> range:
        """Ids of shape codes."""
        return _after(self.image_range, self.shape_codes)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.shape_range.stop

    @cached_property
    def _marker_ids(self) -> dict[str, int]:
        return dict(zip(self.markers, self.marker_range, strict=True))

    def marker(self, name: str) -> int:
        """Id of a marker such as ``[SCENE-START]``; ValueError lists those there are."""
        if name not in self._marker_ids:
            raise ValueError(f"the vocabulary has no marker {name!r}, only {' '.join(self.markers)}")
        return self._marker_ids[name]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self) | {"numbers": list(self.numbers), "markers": list(self.markers)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Vocabulary":
        """Inverse of ``to_dict``."""
        return cls(**dict(raw) | {"numbers": tuple(raw["numbers"]), "markers": tuple(raw["markers"])})


def _after(previous: range, length: int) -> range:
    return range(previous.stop, previous.stop + length)


def runs_of(ids: Iterable[int]) -> list[range]:
    """Ascending ids as ranges."""
    runs: list[range] = []
    for index in ids:
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs
