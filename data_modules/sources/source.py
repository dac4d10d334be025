"""Sources: what every reader of a published data set yields."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_modules.faults import Fault
from kyvo.scene import SceneSchema


@dataclass(frozen=True)
class Picture:
    """An image file of any format and size; packing reads, resizes and encodes it.

    Args:
        path: The file.
        mirrored: Whether left and right are exchanged, for the flipped copies of a training set.
    """

    path: Path
    mirrored: bool = False


@dataclass(frozen=True)
class SourceSample:
    """One sample as published, in the members of a shard.

    Args:
        key: Unique in its split, without dots and slashes.
        members: Encoded members by name: `scene.json`, `question.json` (a list of records {question, answer, type}),
            `instruction.json` ({text, type}), `target.scene.json`, `image.codes.npy`, ...
        pictures: Pictures by the member's stem: `image`, `target.image`.
        edit: Whether the sample is an edit, which goes to the split's shards of edits.
    """

    key: str
    members: Mapping[str, bytes]
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    edit: bool = False


class Source(ABC):
    """A published data set in its own layout."""

    @property
    @abstractmethod
    def schema(self) -> SceneSchema:
        """How its scenes are read."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""

    @abstractmethod
    def samples(self, split: str) -> Iterator[SourceSample | Fault]:
        """Samples in the order of the published files, and in the place of each bad one what is wrong with it.

        Whatever can be read without decoding pictures is checked: JSON types, missing keys, NaN coordinates, values
        outside the schema, pictures that are not there. Damage that leaves nothing to go on with (a scenes file that
        is no JSON) raises `BadInputError`.
        """
