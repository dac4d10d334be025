"""Solids given by a signed distance function, met by sphere tracing.

All happens in the solid's frame: that of its asset, moved so that the middle of its box is zero. Distances along rays
count in units of that frame.

Shapes: Q rays or points; vectors are float32 [3, Q], distances float32 [Q].
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from data_modules.worlds.assets.asset import Asset
from data_modules.worlds.rays import INFINITY, box_span, unit

_STEPS = 64
_PRECISION = 5e-5
"""How near a surface counts as met, over the distance from the ray's start: a few hundredths of a pixel for a
camera. Rays that pass by nearer than this make outlines grow."""

_FINEST = 5e-5
"""Least of that, in bounding radii."""

_NEARLY = 10
"""Multiple of the precision within which rays are hits if they still come nearer once out of steps: they fall on a
surface at a small angle."""

_NORMAL_SPAN = 6e-3
"""How far about a point its normal is measured, in bounding radii. Wider than precision needs: it evens out the facets
of baked grids, and half a pixel of a usual picture is no smaller."""

_SHADOW_STEPS = 32
_LEAST_STEP = 0.015
"""Shadow rays move on by at least this, in bounding radii, though they may skim the surface they left."""

_CROWDING = ((0.08, 0.35), (0.25, 0.35))
"""How far along a normal crowding is measured, in bounding radii, and how much each measurement counts."""

_PROBES = 64
_TETRAHEDRON = np.array([[1, -1, -1, 1], [-1, -1, 1, 1], [-1, 1, -1, 1]], dtype=np.float32)


def _spread_directions(count: int) -> np.ndarray:
    """Unit vectors all around, [3, count]: a Fibonacci lattice."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z]).astype(np.float32)


class Marched:
    """An asset as a surface for rays.

    Args:
        asset: Its distance function may be a lower bound of the distance.
    """

    def __init__(self, asset: Asset) -> None:
        lower, upper = (np.array(corner, dtype=np.float32)[:, None] for corner in (asset.lower, asset.upper))
        self.asset = asset
        self.middle = (lower + upper) / 2
        """Centre of the box in the asset's frame, [3, 1]."""
        self.half = (upper - lower) / 2
        self.bounding = float(np.sqrt((self.half * self.half).sum()))
        """Radius of the sphere around the box."""

    def distance(self, p: np.ndarray) -> np.ndarray:
        """Lower bounds of the signed distances of points, [Q]."""
        return np.asarray(self.asset.distance(p + self.middle), dtype=np.float32)

    def color(self, p: np.ndarray) -> np.ndarray:
        """Linear reflectance [3, Q] of surface points."""
        return np.asarray(self.asset.color(p + self.middle), dtype=np.float32)

    @cached_property
    def mean_color(self) -> np.ndarray:
        """Reflectance [3] averaged over where rays from all around meet it; mid-grey if none does."""
        around = _spread_directions(_PROBES)
        start = self.bounding * around
        direction = unit(0.7 * self.half * np.roll(around, 17, axis=1) - start)
        t = self.hit(start, direction)
        met = np.flatnonzero(np.isfinite(t))
        if not met.size:
            return np.full(3, 0.5, dtype=np.float32)
        return self.color(start.take(met, 1) + t[met] * direction.take(met, 1)).mean(1)

    def hit(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Distances at which rays with unit directions meet the surface, infinity where they do not."""
        out = np.full(direction.shape[1], INFINITY)
        t, leave = box_span(origin, direction, self.half)
        rays = np.flatnonzero(t < leave)
        t, leave, origin, direction = t[rays], leave[rays], origin.take(rays, 1), direction.take(rays, 1)
        before = np.full(rays.size, INFINITY)
        for step in range(_STEPS):
            if not rays.size:
                break
            gap = self.distance(origin + t * direction)
            precision = np.maximum(_PRECISION * t, _FINEST * self.bounding)
            met = gap < precision
            if step == _STEPS - 1:
                met |= (gap < before) & (gap < _NEARLY * precision)
            t += np.maximum(gap, 0)
            out[rays[met]] = t[met]
            going = np.flatnonzero(~met & (t < leave))
            rays, t, leave, before = rays[going], t[going], leave[going], gap[going]
            origin, direction = origin.take(going, 1), direction.take(going, 1)
        return out

    def normals(self, p: np.ndarray) -> np.ndarray:
        """Unit normals at surface points: differences of the distance over the corners of a small tetrahedron."""
        span = _NORMAL_SPAN * self.bounding
        return unit(sum(corner * self.distance(p + span * corner) for corner in _TETRAHEDRON.T[:, :, None]))

    def unshaded(self, origin: np.ndarray, direction: np.ndarray, slope: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Share of a round lamp seen past the solid, from the narrowest place of the cone to the lamp, [Q].

        One ray a lamp: where it comes closest, or dips deepest, in radii of the cone there, tells how much of the lamp
        an edge hides (as in I. Quilez's and S. Hillaire's soft shadows).

        Args:
            origin: Starts.
            direction: Unit vectors to the middle of the lamp.
            slope: Radius of the lamp over its distance, [Q].
            reach: Distance of the lamp, [Q].
        """
        margin = slope * (np.sqrt(np.einsum("iq,iq->q", origin, origin)) + self.bounding)
        t, leave = box_span(origin, direction, self.half + margin)
        leave = np.minimum(leave, reach)
        clear = np.ones(t.size, dtype=np.float32)
        rays = np.flatnonzero(t < leave)
        t, leave, slope, origin, direction = (a[..., rays] for a in (t, leave, slope, origin, direction))
        for _ in range(_SHADOW_STEPS):
            if not rays.size:
                break
            gap = self.distance(origin + t * direction)
            width = slope * t
            clear[rays] = np.minimum(clear[rays], gap / width)
            t += np.maximum(np.maximum(gap, 0.5 * width), _LEAST_STEP * self.bounding)
            going = np.flatnonzero((t < leave) & (gap > -width))
            rays, t, leave, slope = rays[going], t[going], leave[going], slope[going]
            origin, direction = origin.take(going, 1), direction.take(going, 1)
        clear = np.maximum(clear, -1)
        return 0.25 * (1 + clear) * (1 + clear) * (2 - clear)

    def crowding(self, p: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Share of the bounced light around a normal n at p that the solid keeps away, [Q]."""
        kept = np.zeros(p.shape[1], dtype=np.float32)
        for share, weight in _CROWDING:
            reach = share * self.bounding
            kept += weight * np.minimum(np.maximum(1 - self.distance(p + reach * n) / reach, 0), 1)
        return kept

    @property
    def crowded(self) -> float:
        """Beyond this distance from the middle nothing is crowded."""
        return self.bounding * (1 + 2 * max(share for share, _ in _CROWDING))


@lru_cache(maxsize=64)
def marched(asset: Asset) -> Marched:
    """An asset as a surface, the same one each time, so that its mean colour is measured once."""
    return Marched(asset)
