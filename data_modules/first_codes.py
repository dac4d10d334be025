"""`kyvo data first-codes`: how many images begin with the same code, in each order of writing (the paper's figure 7a).

N codes of an image, h and w rows and columns of their grid.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np

from data_modules.index import Index
from data_modules.records import decode_record
from data_modules.shards import read_shard
from data_modules.storage import locate
from kyvo.report.bars import BarChart, draw_bars
from kyvo.tokenizers.image_order import ImageOrder, order

ORDERS: tuple[ImageOrder, ...] = get_args(ImageOrder)
MEMBER = "image.codes.npy"
_BARS = 20


@dataclass(frozen=True)
class FirstCodes:
    """The first codes of images in one order.

    Args:
        counts: How many images begin with each code.
    """

    counts: Counter[int]

    @cached_property
    def ranked(self) -> list[tuple[int, float]]:
        """Codes with the share of images that begin with them, most frequent first; ties by the lower code."""
        total = self.counts.total()
        return [(code, count / total) for code, count in sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))]

    @property
    def share(self) -> float:
        """Share of images that begin with the most frequent code."""
        return self.ranked[0][1]

    @property
    def entropy(self) -> float:
        """Entropy in bits of the first code: 0 if all images begin alike."""
        return -sum(share * math.log2(share) for _, share in self.ranked) or 0.0

    def to_dict(self) -> dict[str, Any]:
        """Share, entropy, number of different codes and the five most frequent, JSON-ready."""
        return {
            "share_of_the_same": round(self.share, 6),
            "entropy_bits": round(self.entropy, 6),
            "different_codes": len(self.counts),
            "most_frequent": [{"code": code, "share": round(share, 6)} for code, share in self.ranked[:5]],
        }


def first_codes(
    root: str, split: str = "train", png: Path | None = None, grid: list[int] | None = None
) -> dict[str, Any]:
    """Say how many images begin with the same code, in each order of writing.

    A model that writes images starts well only if the first code says something: over 25 % of the paper's CLEVR images
    share the upper left one. Orders that start at the centre spread it out; on grids of even sides, center-out and
    spiral start in the same cell.

    Args:
        root: Folder or http(s) URL of coded shards.
        split: Family of shards whose images are counted: a split, or its edits (`train-edits`).
        png: Draw the shares of the most frequent first codes into this file.
        grid: Rows and columns of image codes; default is a square.

    Returns:
        Number of images, grid, and for each order what the first codes are.

    Raises:
        ValueError: The shards are not coded, or their codes don't fill the grid.
    """
    index = Index.read(root)
    codes = _codes(root, index, split)
    first = next(codes, None)
    if first is None:
        raise ValueError(f"{root}: split {split!r} has no images")
    shape = _grid(len(first), grid)
    found = count_first_codes(chain([first], codes), shape)
    images = found[ORDERS[0]].counts.total()
    if png is not None:
        _draw(found, png, f"{images} images of {split}: share that begins with each of the {_BARS} most frequent codes")
    return {"images": images, "grid": list(shape), "orders": {name: one.to_dict() for name, one in found.items()}}


def count_first_codes(images: Iterable[np.ndarray], grid: tuple[int, int]) -> dict[ImageOrder, FirstCodes]:
    """The first codes of images in every order.

    Args:
        images: Codes of each image, integers [N] in raster order.
        grid: h and w.
    """
    starts = {name: int(order(name, *grid)[0]) for name in ORDERS}
    found: dict[ImageOrder, Counter[int]] = {name: Counter() for name in ORDERS}
    for codes in images:
        for name, start in starts.items():
            found[name][int(codes[start])] += 1
    return {name: FirstCodes(counts) for name, counts in found.items()}


def _codes(root: str, index: Index, split: str) -> Iterator[np.ndarray]:
    """Codes of every image of a family of shards, all of one length."""
    length = None
    for shard in index.shards(split):
        if shard.members.get(MEMBER, 0) < shard.samples:
            raise ValueError(
                f"{locate(root, shard.name)}: {shard.members.get(MEMBER, 0)} of {shard.samples} samples have {MEMBER}; "
                "codes come from `kyvo data code`"
            )
        for raw in read_shard(locate(root, shard.name), (MEMBER,)):
            codes = decode_record(raw, index.scene_schema).sample.image
            assert codes is not None  # only keys that hold codes are read
            length = len(codes) if length is None else length
            if len(codes) != length:
                raise raw.fault(MEMBER, f"expected {length} codes as in the images before, got {len(codes)}")
            yield codes


def _grid(length: int, asked: list[int] | None) -> tuple[int, int]:
    rows, columns = asked or [math.isqrt(length)] * 2
    if rows * columns != length:
        hint = "" if asked else "; give --grid '[rows, columns]'"
        raise ValueError(f"{length} codes an image don't fill a grid of {rows} x {columns}{hint}")
    return rows, columns


def _draw(found: Mapping[ImageOrder, FirstCodes], png: Path, caption: str) -> None:
    charts = []
    for name, first in found.items():
        title = f"{name}: {100 * first.share:.1f} % share the first code"
        subtitle = f"{first.entropy:.2f} bits, {len(first.counts)} different codes"
        shares = [share for _, share in first.ranked[:_BARS]]
        charts.append(BarChart(title, subtitle, shares + [0.0] * (_BARS - len(shares))))
    draw_bars(charts, png, caption)
