"""Masks as run lengths, row by row: how many pixels of background, then of foreground, and so on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a bool mask [H, W] in row-major order; the first counts background and may be 0."""
    flat = np.concatenate([[False], mask.reshape(-1)])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def from_run_lengths(runs: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """The bool mask [H, W] of `run_lengths`.

    Raises:
        ValueError: If the runs do not fill the shape.
    """
    if sum(runs) != shape[0] * shape[1]:
        raise ValueError(f"run lengths must add up to {shape[0]} x {shape[1]} pixels, got {sum(runs)}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
