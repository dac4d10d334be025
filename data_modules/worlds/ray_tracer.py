"""A small deterministic ray tracer that draws CLEVR scenes the way CLEVR's own renderer does, and assets like them.

Direct light from four square emitters with soft shadows, one ambient term for light bounced off the ground, mirror and
rough reflections for metal, extra samples where the picture has edges. It stays on NumPy: a 64x64 image is some
thousand operations on short arrays, where the cost of a call is most of the time, and workers that make data need not
load a deep learning library.

Assets (see `marching`) are rubber in their own colours. They may have hollows: they shade themselves, and rays that
leave them may meet them again.

Shapes: N objects, L = 4 lights, P rays, M rays that ended on objects, Q pairs, K shadow samples; vectors are
float32 [3, P].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data_modules.worlds.assets.asset import Placed
from data_modules.worlds.geometry import FIRST_MARCHED, Ground, Solids
from data_modules.worlds.lights import Lights
from data_modules.worlds.marching import Marched, marched
from data_modules.worlds.materials import GROUND_ALBEDO, highlights
from data_modules.worlds.rays import cross, dot, unit
from kyvo.clevr import COLORS, SHAPES

NOTHING, GROUND = -2, -1
"""Ids in the map of a rendering where no object is seen."""

_CHUNK = 8192
"""Rays shaded together: their arrays still fit the cache of one core."""

_ASSET_CHUNK = 16384
"""The same where there are assets: most calls of their distance functions come late in a march, for few rays."""

_BOUNCES = 2
_ROUGH_RAYS = 4
_ROUGH_TILTS = (0.07, 0.18)
"""Tangents by which the normals of the rough reflections are tilted, alternating."""

_LIFT = 3e-3
"""How far new rays start above the surface they leave."""

_ASSET_LIFT = 5e-3
"""The same for shadow rays past assets, in their bounding radii."""

_FROM_ABOVE, _FROM_BELOW, _BLEEDING = 0.22, 0.6, 0.25
"""Shares of bounced light: on faces that look up (from the walls), that look down (from the ground), from objects."""


@dataclass(frozen=True)
class Sampling:
    """How many rays are spent.

    Args:
        shadow_samples: Rays to each light from every visible point near a shadow; rounded down to a square.
        secondary_shadow_samples: The same for reflections and for the extra samples at edges.
        edge_samples: Extra rays for each pixel at an edge; 0 leaves edges ragged.
    """

    shadow_samples: int = 16
    secondary_shadow_samples: int = 4
    edge_samples: int = 6


def jitter(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers in [-0.5, 0.5) for each integer: Roberts' low-discrepancy sequence in integer arithmetic.

    Integers, because an analytic hash of floats would differ between processors in the last bit and then everywhere.
    """
    i = index.astype(np.uint32)
    scale = np.float32(2.0**-32)
    return (i * np.uint32(3242174889)) * scale - np.float32(0.5), (i * np.uint32(2447445414)) * scale - np.float32(0.5)


def _grid(samples: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Centres of the cells of a square cut into about `samples` cells: two coordinates [K] and cells on a side."""
    side = max(1, math.isqrt(samples))
    ticks = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / side - np.float32(0.5)
    return np.repeat(ticks, side), np.tile(ticks, side), side


def _select(a: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Columns of [3, P]; a [3, 1] array stands for equal columns."""
    return a if a.shape[1] == 1 else a.take(index, 1)


Color = tuple[float, float, float]
"""Linear reflectance or light, red, green and blue."""


def _solids(objects: Sequence[Mapping[str, Any] | Placed]) -> Solids:
    """CLEVR's records and placed assets as arrays."""
    assets = {o.asset: marched(o.asset) for o in objects if isinstance(o, Placed)}
    kind_of = {asset: FIRST_MARCHED + index for index, asset in enumerate(assets)}
    kinds, centers, radii, yaws = [], [], [], []
    for o in objects:
        if isinstance(o, Placed):
            kinds.append(kind_of[o.asset])
            centers.append(_middle(o, assets[o.asset]))
            radii.append(o.scale)
            yaws.append(o.yaw)
        else:
            kinds.append(SHAPES.index(o["shape"]))
            centers.append(o["3d_coords"])
            radii.append(o["3d_coords"][2])
            yaws.append(math.fmod(o["rotation"], 2 * math.pi))
    places = np.array(centers, dtype=np.float64).reshape(-1, 3)
    kinds_array = np.array(kinds, dtype=np.int64)
    return Solids(kinds_array, places, np.array(radii), np.array(yaws), list(assets.values()))


def _middle(placed: Placed, asset: Marched) -> list[float]:
    """World position of the middle of an asset's box."""
    x, y, z = (placed.scale * asset.middle[:, 0]).tolist()
    c, s = math.cos(placed.yaw), math.sin(placed.yaw)
    return [placed.position[0] + c * x - s * y, placed.position[1] + s * x + c * y, placed.position[2] + z]


@dataclass
class Surface:
    """What rays met, with the products that shading and shadows share."""

    p: np.ndarray
    n: np.ndarray
    ids: np.ndarray
    on_objects: np.ndarray
    owner: np.ndarray
    to_centers: np.ndarray
    inverse: np.ndarray
    cos_light: np.ndarray
    p_dot_p: np.ndarray
    p_to_light: np.ndarray
    centers_p: np.ndarray


class RayTracer:
    """One scene, ready to be looked at.

    Args:
        objects: CLEVR's records (shape, color, material, 3d_coords, rotation applied as radians, as CLEVR does) and
            placed assets; an object's id in maps is its index here.
        lamps: Positions of the lamps by CLEVR's names.
        sampling: How many rays are spent.
        ground: Linear reflectance of the ground, above 0.
        sky: Linear light from where a ray meets nothing.
    """

    def __init__(
        self,
        objects: Sequence[Mapping[str, Any] | Placed],
        lamps: Mapping[str, Sequence[float]],
        sampling: Sampling,
        ground: Color = (GROUND_ALBEDO, GROUND_ALBEDO, GROUND_ALBEDO),
        sky: Color = (0.0, 0.0, 0.0),
    ) -> None:
        if not all(0 < share <= 1 for share in ground):
            raise ValueError(f"ground must be a reflectance above 0 and at most 1 for each colour, got {ground}")
        self.objects = objects
        self.solids = _solids(objects)
        self.metal = np.array([not isinstance(o, Placed) and o["material"] == "metal" for o in objects], dtype=bool)
        self.gloss = np.array([o.asset.gloss if isinstance(o, Placed) else 1.0 for o in objects], dtype=np.float32)
        self.lights = Lights(lamps)
        self.sampling = sampling
        self.ground = np.array(ground, dtype=np.float32)[:, None]
        self.sky = np.array(sky, dtype=np.float32)[:, None]
        self._chunk = _ASSET_CHUNK if self.solids.marched else _CHUNK
        self._edges_local = self._light_edges_in_object_frames()

    @cached_property
    def albedo(self) -> np.ndarray:
        """Reflectance of every object, that of assets on average, [3, N]."""
        assets = iter(self.solids.kinds[self.solids.is_marched] - FIRST_MARCHED)
        colors = [
            self.solids.marched[next(assets)].mean_color
            if isinstance(o, Placed)
            else np.array(COLORS[o["color"]], dtype=np.float32) / 255
            for o in self.objects
        ]
        return np.ascontiguousarray(np.array(colors, dtype=np.float32).reshape(-1, 3).T)

    def _light_edges_in_object_frames(self) -> np.ndarray:
        """Sides of the emitters as each object sees them, [2, 3, N * L]."""
        n, count = len(self.solids), len(self.lights.anchor)
        j = np.repeat(np.arange(n), count)
        scale = self.solids.radii[j]
        return np.stack([self.solids.turn(np.tile(edge.T, (1, n)), j) / scale for edge in self.lights.edges])

    def trace(
        self, origin: np.ndarray, direction: np.ndarray, leaving: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Nearest hits.

        Args:
            origin: [3, P], or [3, 1] for a common origin.
            direction: Unit vectors [3, P].
            leaving: Objects the rays start on and cannot meet again, as CLEVR's solids are convex, [P].

        Returns:
            Distances [P] and ids [P].
        """
        t = Ground.hit(origin, direction)
        ids = np.where(np.isinf(t), NOTHING, GROUND)
        along = self.solids.centers @ direction - dot(direction, origin)
        off_axis = self.solids.squared_distances(origin) - along * along
        near = (along > -self.solids.behind) & (off_axis < (self.solids.bounding_radii**2)[:, None])
        if leaving is not None:
            near[leaving, np.arange(leaving.size)] = False
        pairs = np.flatnonzero(near)
        if pairs.size:
            j, i = np.divmod(pairs, direction.shape[1])
            hits = self.solids.hit(_select(origin, i), direction.take(i, 1), j)
            met = np.flatnonzero(hits < t[i])
            j, i, hits = j[met], i[met], hits[met]
            np.minimum.at(t, i, hits)
            nearest = hits <= t[i]
            ids[i[nearest]] = j[nearest]
        return t, ids

    def surface(self, p: np.ndarray, ids: np.ndarray) -> Surface:
        """Normals and the geometry of lights and objects around points p."""
        on_objects = np.flatnonzero(ids >= 0)
        owner = ids[on_objects]
        n = Ground.normals(p)
        if on_objects.size:
            n[:, on_objects] = self.solids.normals(p.take(on_objects, 1), owner)
        p_dot_p = dot(p, p)
        p_to_light = self.lights.along(p, p_dot_p)
        inverse = 1 / np.sqrt(self.lights.squared_distances(p_to_light, p_dot_p))
        cos_light = self.lights.along(n, dot(n, p)) * inverse
        centers_p = self.solids.centers @ p
        # A surface point may lie in the middle of an asset; the middle of CLEVR's solids is far from any.
        to_centers = np.maximum(self.solids.squared - 2 * centers_p + p_dot_p, 1e-6)
        return Surface(p, n, ids, on_objects, owner, to_centers, inverse, cos_light, p_dot_p, p_to_light, centers_p)

    def _on_convex(self, s: Surface) -> tuple[np.ndarray, np.ndarray]:
        """Objects that cannot shade themselves, and the points on them, [M] each."""
        if not self.solids.marched:
            return s.owner, s.on_objects
        convex = ~self.solids.is_marched[s.owner]
        return s.owner[convex], s.on_objects[convex]

    def _shadow_pairs(self, s: Surface) -> np.ndarray:
        """Flat indices into [N, L, P] where an object may stand between a point and part of a light."""
        lights, solids = self.lights, self.solids
        toward = (solids.centers @ lights.anchor.T)[:, :, None] - lights.follow * s.centers_p[:, None, :] - s.p_to_light
        share = toward * (s.inverse * s.inverse)
        radius = lights.half_diagonal * share
        radius += solids.bounding_radii[:, None, None]
        toward *= share
        toward += radius * radius
        between = toward > s.to_centers[:, None, :]
        between &= share > (-0.01 - solids.behind[:, :, None] * s.inverse if solids.marched else -0.01)
        between &= share < lights.reach
        between &= s.cos_light > -0.02
        owner, on_convex = self._on_convex(s)
        between[owner, :, on_convex] = False
        return np.flatnonzero(between)

    def visibility(self, s: Surface, samples: int) -> np.ndarray:
        """Share of each light that each point sees, [L, P]."""
        lights, solids, count = self.lights, self.solids, s.p.shape[1]
        visible = np.ones((len(lights.anchor), count), dtype=np.float32)
        pairs = self._shadow_pairs(s)
        if solids.marched:
            soft = solids.is_marched[pairs // visible.size]
            self._shade_by_assets(visible, s, pairs[soft])
            pairs = pairs[~soft]
        if not pairs.size:
            return visible
        spot = pairs % visible.size
        j, (light, i) = pairs // visible.size, np.divmod(spot, count)
        start = s.p.take(i, 1) + _LIFT * s.n.take(i, 1)
        center = lights.anchor.T.take(light, 1) - lights.follow[light, 0] * start
        origin, toward = solids.local(start, j), solids.turn(center / solids.radii[j], j)
        pair, sample, direction = self._shadow_rays(i, j * len(lights.anchor) + light, origin, toward, samples)
        blocked = solids.blocks(origin.take(pair, 1), direction, j[pair])
        cells = _grid(samples)[0].size
        dark = np.zeros(visible.size * cells, dtype=bool)
        dark[spot[pair[blocked]] * cells + sample[blocked]] = True
        shaded = np.zeros(visible.size, dtype=bool)
        shaded[spot[pair[blocked]]] = True
        shaded = np.flatnonzero(shaded)
        visible.reshape(-1)[shaded] *= 1 - dark.reshape(-1, cells)[shaded].mean(1, dtype=np.float32)
        return visible

    def _shade_by_assets(self, visible: np.ndarray, s: Surface, pairs: np.ndarray) -> None:
        """Takes from `visible` [L, P] what assets hide; pairs as those of `_shadow_pairs`."""
        lights, solids = self.lights, self.solids
        j, spot = np.divmod(pairs, visible.size)
        light, i = np.divmod(spot, visible.shape[1])
        start = s.p.take(i, 1) + _ASSET_LIFT * solids.bounding_radii[j] * s.n.take(i, 1)
        center = lights.anchor.T.take(light, 1) - lights.follow[light, 0] * start
        length = np.sqrt(dot(center, center))
        slope, reach = lights.radius[light] / length, lights.reach[light, 0] * length
        np.multiply.at(visible.reshape(-1), spot, solids.unshaded(start, center / length, slope, reach, j))

    def _shadow_rays(
        self, i: np.ndarray, edge: np.ndarray, origin: np.ndarray, toward: np.ndarray, samples: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rays over the cells of the emitters that meet the bounding spheres, in the objects' frames.

        Args:
            i: Points [Q], for the jitter inside a cell.
            edge: Columns of the emitters' sides for each pair [Q].
            origin: Starts [3, Q].
            toward: Vectors to the emitters' centres [3, Q].
            samples: Cells of an emitter, about.

        Returns:
            Pair of every ray, its cell, and its direction [3, rays].
        """
        u, v, side = _grid(samples)
        du, dv = jitter(i)
        u, v = u[:, None] + du / side, v[:, None] + dv / side
        first, second = self._edges_local[0].take(edge, 1), self._edges_local[1].take(edge, 1)
        direction = toward[:, None] + u * first[:, None] + v * second[:, None]
        flat = direction.reshape(3, -1)
        along = np.einsum("ikq,iq->kq", direction, origin).reshape(-1)
        bounding = self.solids.bounding[edge // len(self.lights.anchor)]
        gap = np.tile(dot(origin, origin) - bounding * bounding, u.shape[0])
        rays = np.flatnonzero(gap * dot(flat, flat) < along * along)
        sample, pair = np.divmod(rays, i.size)
        return pair, sample, flat.take(rays, 1)

    def _ambient(self, s: Surface) -> np.ndarray:
        """Light bounced off the ground and off other objects, [3, P]."""
        lights, solids = self.lights, self.solids
        cos = np.maximum((solids.centers @ s.n - dot(s.n, s.p)) / np.sqrt(s.to_centers), 0)
        filled = cos * (solids.radii**2)[:, None] / s.to_centers
        owner, on_convex = self._on_convex(s)
        filled[owner, on_convex] = 0
        for j, share in solids.crowding(s.p, s.n, s.to_centers):
            filled[j] = share
        opening = np.minimum(np.maximum(1 - filled.sum(0), 0.2), 1)
        below = s.p.copy()
        below[2] = 0
        squared = dot(below, below)
        inverse = 1 / np.sqrt(lights.squared_distances(lights.along(below, squared), squared))
        fallen = lights.irradiance(below, inverse) * lights.anchor[:, 2:] * inverse
        facing_down = 0.5 * (1 - s.n[2])
        share = (_FROM_BELOW * facing_down + _FROM_ABOVE * 0.5 * (1 - facing_down)) * opening
        return (lights.color @ fallen) * (self.ground / GROUND_ALBEDO) * (share + _BLEEDING * (self.albedo @ filled))

    def _highlights(self, s: Surface, direction: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Lamps seen in objects, [3, M]; light [L, P] is what falls on the surface."""
        m = s.on_objects
        n, d = s.n.take(m, 1), direction.take(m, 1)
        inverse, cos_light = s.inverse.take(m, 1), s.cos_light.take(m, 1)
        eye = self.lights.along(d, dot(d, s.p.take(m, 1))) * inverse
        cos_ray = dot(n, d)
        length = np.sqrt(np.maximum(2 - 2 * eye, 1e-8))
        kernel = highlights(
            self.metal[s.owner],
            cos_light,
            -np.minimum(cos_ray, -0.03),
            (cos_light - cos_ray) / length,
            (1 - eye) / length,
        )
        if self.solids.marched:
            kernel *= self.gloss[s.owner]
        return self.lights.color @ (light.take(m, 1) * kernel)

    def shade(
        self,
        origin: np.ndarray,
        direction: np.ndarray,
        samples: int,
        bounces: int = _BOUNCES,
        leaving: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Linear colour [3, P] and ids [P] of what rays see; arguments as for `trace`."""
        total = direction.shape[1]
        if total > self._chunk:
            return self._shade_in_chunks(origin, direction, samples, bounces, leaving)
        t, ids = self.trace(origin, direction, leaving)
        met = np.flatnonzero(ids != NOTHING)
        if met.size == total:
            return self._colors(origin + t * direction, direction, ids, samples, bounces), ids
        color = np.repeat(self.sky, total, axis=1)
        if met.size:
            d = direction.take(met, 1)
            color[:, met] = self._colors(_select(origin, met) + t[met] * d, d, ids[met], samples, bounces)
        return color, ids

    def _shade_in_chunks(
        self, origin: np.ndarray, direction: np.ndarray, samples: int, bounces: int, leaving: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for k in np.array_split(np.arange(direction.shape[1]), -(-direction.shape[1] // self._chunk)):
            left = None if leaving is None else leaving[k]
            parts.append(self.shade(_select(origin, k), direction.take(k, 1), samples, bounces, left))
        return np.concatenate([color for color, _ in parts], 1), np.concatenate([ids for _, ids in parts])

    def _colors(self, p: np.ndarray, direction: np.ndarray, ids: np.ndarray, samples: int, bounces: int) -> np.ndarray:
        """Linear colour [3, P] of surface points p seen along `direction`."""
        s = self.surface(p, ids)
        light = self.lights.irradiance(p, s.inverse) * np.maximum(s.cos_light, 0) * self.visibility(s, samples)
        ambient = self._ambient(s)
        color = (self.lights.color @ light + ambient) / np.pi
        albedo = self.albedo.take(s.owner, 1)
        self.solids.paint(albedo, p.take(s.on_objects, 1), s.owner)
        metal = self.metal[s.owner]
        color *= self.ground
        if not s.on_objects.size:
            return color
        shine = self._highlights(s, direction, light)
        matte = color.take(s.on_objects, 1) * (albedo / self.ground) + shine
        k = np.flatnonzero(metal)
        if k.size:
            mirrors = s.on_objects[k]
            if bounces:
                around = self._reflections(s, mirrors, direction.take(mirrors, 1), bounces)
            else:
                around = ambient.take(mirrors, 1) / np.pi
            matte[:, k] = albedo.take(k, 1) * (around + shine.take(k, 1))
        color[:, s.on_objects] = matte
        return color

    def _reflections(self, s: Surface, mirrors: np.ndarray, direction: np.ndarray, bounces: int) -> np.ndarray:
        """What metal reflects, [3, M]: half sharp, half spread over a few tilted normals on the first bounce."""
        n = s.n.take(mirrors, 1)
        rays = [direction - 2 * dot(direction, n) * n]
        if bounces == _BOUNCES:
            rays += self._rough_rays(n, direction, mirrors)
        count = len(rays)
        start = np.tile(s.p.take(mirrors, 1) + _LIFT * n, (1, count))
        seen, _ = self.shade(
            start,
            np.concatenate(rays, 1),
            self.sampling.secondary_shadow_samples,
            bounces - 1,
            np.tile(s.ids[mirrors], count),
        )
        seen = seen.reshape(3, count, -1)
        return seen[:, 0] if count == 1 else 0.5 * seen[:, 0] + 0.5 * seen[:, 1:].mean(1)

    @staticmethod
    def _rough_rays(n: np.ndarray, direction: np.ndarray, seeds: np.ndarray) -> list[np.ndarray]:
        """Reflections in normals tilted to four sides, never below the surface."""
        steep = np.abs(n[2]) >= 0.9
        helper = np.zeros_like(n)
        helper[0], helper[2] = steep, ~steep
        u = unit(cross(n, helper))
        w = cross(n, u)
        quarter = (jitter(seeds)[0] + 0.5) * np.float32(np.pi / 2)
        cos, sin = np.cos(quarter), np.sin(quarter)
        rays = []
        for k in range(_ROUGH_RAYS):
            tilted = unit(n + _ROUGH_TILTS[k % 2] * (cos * u + sin * w))
            ray = direction - 2 * dot(direction, tilted) * tilted
            below = dot(ray, n)
            rays.append(unit(ray + np.maximum(0.04 - below, 0) * (below < 0.02) * n))
            cos, sin = -sin, cos
        return rays
