"""Textures: functions from points of a surface to linear reflectance, and colours by their screen (sRGB) names.

Shapes: P points; points and colours float32 [3, P].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from data_modules.worlds.materials import linear

Paint = Callable[[np.ndarray], np.ndarray]
Region = Callable[[np.ndarray], np.ndarray]
"""Tells for points [3, P] whether they lie in the region: numbers [P] that are negative inside."""

_AXES = {"x": 0, "y": 1, "z": 2}


def rgb(color: str) -> np.ndarray:
    """Linear reflectance [3] of a colour as screens show it, "#rrggbb"."""
    if len(color) != 7 or color[0] != "#":
        raise ValueError(f"a colour is written #rrggbb, got {color!r}")
    values = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return linear(np.array(values)).astype(np.float32)


def plain(color: str) -> Paint:
    """One colour all over."""
    column = rgb(color)[:, None]
    return lambda p: np.repeat(column, p.shape[1], axis=1)


def _choose(colors: Sequence[str], index: Callable[[np.ndarray], np.ndarray]) -> Paint:
    table = np.stack([rgb(color) for color in colors], axis=1)
    return lambda p: table.take(index(p), 1)


def layers(limits: Sequence[float], colors: Sequence[str], axis: str = "z") -> Paint:
    """Bands across an axis: the first colour up to the first limit, and so on; one more colour than limits."""
    if len(colors) != len(limits) + 1:
        raise ValueError(f"{len(limits)} limits part {len(limits) + 1} layers, got {len(colors)} colours")
    edges, row = np.array(limits, dtype=np.float32), _AXES[axis]
    return _choose(colors, lambda p: np.searchsorted(edges, p[row]))


def stripes(width: float, colors: Sequence[str], axis: str = "z", start: float = 0.0) -> Paint:
    """Bands of one width across an axis, the colours in turn."""
    row, count = _AXES[axis], len(colors)
    return _choose(colors, lambda p: np.floor((p[row] - start) / width).astype(np.int64) % count)


def fade(start: float, end: float, colors: tuple[str, str], axis: str = "z") -> Paint:
    """The first colour up to `start` on an axis, the second from `end` on, and a mixture between them."""
    row, first, second = _AXES[axis], rgb(colors[0])[:, None], rgb(colors[1])[:, None]

    def paint(p: np.ndarray) -> np.ndarray:
        share = np.minimum(np.maximum((p[row] - start) / (end - start), 0), 1)
        return first + (second - first) * share

    return paint


def sectors(colors: Sequence[str], repeats: int = 1, start: float = 0.0) -> Paint:
    """Colours in turn around the z axis; `start` in degrees."""
    count = len(colors) * repeats
    scale, shift = count / (2 * math.pi), start * count / 360

    def index(p: np.ndarray) -> np.ndarray:
        return np.floor(np.arctan2(p[1], p[0]) * scale - shift).astype(np.int64) % len(colors)

    return _choose(colors, index)


def decal(base: Paint, region: Region, paint: Paint) -> Paint:
    """Another paint where a region is entered, such as a solid's distance: eyes, labels, letters."""

    def mixed(p: np.ndarray) -> np.ndarray:
        return np.where(region(p) < 0, paint(p), base(p))

    return mixed


def either(*regions: Region) -> Region:
    """The points of any of several regions."""
    return lambda p: np.minimum.reduce([region(p) for region in regions])


def _hashed(cells: np.ndarray, salt: int) -> np.ndarray:
    """A number in 0..1 for every integer cell [3, P]; integers, so that it is the same on every processor."""
    x, y, z = cells.astype(np.int64).astype(np.uint32)
    mixed = (
        x * np.uint32(73856093)
        ^ y * np.uint32(19349663)
        ^ z * np.uint32(83492791)
        ^ np.uint32(salt * 2654435769 % 2**32)
    )
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    return (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def spots(cell: float, radius: float, share: float = 1.0, salt: int = 1) -> Region:
    """Round spots in a share of the cells of a lattice, one somewhere in each; radius < cell / 2."""

    def region(p: np.ndarray) -> np.ndarray:
        cells = np.floor(p / cell)
        free = cell - 2 * radius
        middle = np.stack([_hashed(cells, salt + k) for k in (1, 2, 3)]) * free + radius
        away = p - cells * cell - middle
        gap = np.sqrt(np.einsum("ip,ip->p", away, away)) - radius
        return np.where(_hashed(cells, salt) < share, gap, 1)

    return region


def mottled(base: Paint, cell: float, strength: float = 0.2, salt: int = 1) -> Paint:
    """Paint made lighter and darker cell by cell."""

    def paint(p: np.ndarray) -> np.ndarray:
        factor = 1 + strength * (2 * _hashed(np.floor(p / cell), salt) - 1)
        return np.minimum(base(p) * factor, 1)

    return paint


def grain(light: str, dark: str, width: float, axis: str = "x") -> Paint:
    """Wood: thin wavy lines along an axis."""
    along = _AXES[axis]
    across, beside = (row for row in range(3) if row != along)
    first, second = rgb(light)[:, None], rgb(dark)[:, None]

    def paint(p: np.ndarray) -> np.ndarray:
        # Two folded ramps in place of sines: equal to the last bit on every processor.
        wave = np.abs((p[along] / (9 * width)) % 2 - 1)
        place = (p[across] + 0.7 * p[beside]) / width + 0.8 * wave
        return first + (second - first) * np.abs(place % 2 - 1) ** 2

    return paint
