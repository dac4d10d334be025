"""Faults: bad input by name, counted, and how much of it is put up with."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that could not be read.

    Args:
        file: The shard, JSON file or picture it lies in.
        key: Key of the sample, or "" where there is none.
        member: The member or field that is at fault, or "".
        reason: What was expected and what came.
    """

    file: str
    key: str
    member: str
    reason: str

    def __str__(self) -> str:
        where = [self.file, f"key {self.key!r}" if self.key else "", f"member {self.member!r}" if self.member else ""]
        return ": ".join([*filter(None, where), self.reason])


class BadInputError(ValueError):
    """Input that cannot be read; the message names file, key, member and reason."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class FaultCount:
    """Counts what is read and what is bad, and stops where too much is.

    Args:
        max_fraction: Largest share of bad samples that is skipped; 0 makes the first one fatal.
    """

    def __init__(self, max_fraction: float = 0.0) -> None:
        if not 0 <= max_fraction < 1:
            raise ValueError(f"max_bad_fraction must lie in 0 <= fraction < 1, got {max_fraction}")
        self.max_fraction = max_fraction
        self.good = 0
        self.bad = 0
        self.first: Fault | None = None
        self.reasons: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        """Count a bad sample; BadInputError if none is put up with."""
        self.bad += 1
        self.first = self.first or fault
        self.reasons[f"{fault.member or fault.file}: {fault.reason}"] += 1
        if self.max_fraction == 0:
            raise BadInputError(fault)

    def check(self) -> None:
        """Raise BadInputError with the first fault if more than the allowed share of what was read so far is bad."""
        if self.first is not None and self.bad > self.max_fraction * (self.good + self.bad):
            share = f"{self.bad} of {self.good + self.bad} samples are bad, more than {self.max_fraction:.1%}"
            first = self.first
            raise BadInputError(Fault(first.file, first.key, first.member, f"{first.reason} ({share})"))

    @property
    def summary(self) -> Mapping[str, int]:
        """How many samples were good and bad, and how often each reason occurred."""
        return {"good": self.good, "bad": self.bad, **dict(self.reasons.most_common())}
