"""A ray marcher in plain PyTorch, for grids of density and colour; and the decoder of `voxel8` that renders with it.

B objects, V cameras, N voxels along each side of the cube, S side of a picture in pixels, R rays, M samples that lie
where there is something, K most of them on one ray.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyvo.cameras import Cameras
from kyvo.models.shape_decoder import ShapeDecoder, Views, check_grid, check_one_each

DENSITY = 3.0
"""Optical depth of a full voxel along its side: a wall one voxel thick lets 5 % of the light through."""

STEPS = 2
"""Samples for the length of a voxel's side."""

NOTHING = 1e-4
"""Optical depth of a voxel below which it counts as empty: 64 of them in a row take away less than 1 % of the light."""

_SEGMENT = 4
_CHUNK = 1 << 16
_LIGHT = (0.3, -0.5, 0.8)


class Traces(NamedTuple):
    """What rays meet.

    Args:
        rgb: Colours over black, float [V, 3, S, S].
        alpha: How much of the light from behind is held back, float [V, S, S] in [0, 1].
        depth: Mean distance from the camera of what is seen, float [V, S, S]; 0 where there is nothing.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor


class VolumeDecoder(ShapeDecoder):
    """A decoder that makes a grid of density and colour, and renders that with `march`.

    Args:
        steps: Samples for the length of a voxel's side.
    """

    def __init__(self, steps: int = STEPS) -> None:
        super().__init__()
        self.steps = steps

    def volume(self, grid: Tensor) -> Tensor:
        """What is rendered.

        Args:
            grid: float [B, 1 + C, N, N, N], see `ShapeDecoder`.

        Returns:
            float [B, 4, n, n, n], n perhaps another number of voxels than N: the density of each voxel, at least 0,
            by which light is lost for a unit of length, and its colour in [0, 1].

        Raises:
            ValueError: A grid of another shape.
        """
        raise NotImplementedError

    def render(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Every object seen by every camera; see `ShapeDecoder.render`."""
        return render_volumes(self.volume(grid), [cameras] * len(grid), size, background, self.steps)

    def render_each(self, grid: Tensor, cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Each object seen by a camera of its own; see `ShapeDecoder.render_each`."""
        check_one_each(grid, cameras)
        return render_volumes(self.volume(grid), one_each(cameras), size, background, self.steps)


class VoxelDecoder(VolumeDecoder):
    """Renders `voxel8` latents: colour from the first three channels, density from occupancy and the last, opacity.

    Without shading a picture shows the colours themselves, so that a picture of a grid tells all that it holds.

    Args:
        density: Optical depth of a full, opaque voxel along its side.
        steps: Samples for the length of a voxel's side.
        shading: How dark what is turned away from the light becomes, 0 (no shading) to 1 (black). The light comes
            from the front, above; (1 + cos) / 2 of the angle between it and the normal is lit, as thin sheets have
            normals of one side only.
    """

    space = "voxel8"

    def __init__(self, density: float = DENSITY, steps: int = STEPS, shading: float = 0.0) -> None:
        super().__init__(steps)
        self.density = density
        self.shading = shading

    def volume(self, grid: Tensor) -> Tensor:
        """Density and colour of each voxel, [B, 4, N, N, N]; see `VolumeDecoder.volume`."""
        check_grid(grid, 8)
        grid = grid if grid.dtype == torch.float64 else grid.float()
        rgb, opacity = _unit(grid[:, 1:4]), _unit(grid[:, 8:])
        density = self.density * grid.shape[-1] * grid[:, :1] * opacity
        return torch.cat([density, rgb * self._lit(grid[:, 4:7]) if self.shading else rgb], 1)

    def _lit(self, normals: Tensor) -> Tensor:
        light = F.normalize(normals.new_tensor(_LIGHT), dim=0)
        cosine = torch.einsum("bcxyz,c->bxyz", F.normalize(normals, dim=1), light)[:, None]
        return 1 - self.shading * (1 - cosine) / 2


def _unit(values: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]; what lies outside is clamped."""
    return ((values + 1) / 2).clamp(0, 1)


# ---- pictures -------------------------------------------------------------------------------------------------------


def one_each(cameras: Cameras) -> list[Cameras]:
    """Each camera on its own, for `render_volumes`."""
    return [cameras[[index]] for index in range(len(cameras))]


def render_volumes(
    volumes: Tensor, cameras: Sequence[Cameras], size: int, background: float = 1.0, steps: int = STEPS
) -> Views:
    """Pictures of grids of density and colour; gradients flow to the grids.

    Args:
        volumes: float [B, 4, N, N, N], see `VolumeDecoder.volume`.
        cameras: For each object its cameras, V for every one.
        size: S.
        background: Grey behind the objects, 0 black to 1 white.
        steps: Samples for the length of a voxel's side.

    Returns:
        float32 views (float64 ones of a float64 grid), whatever autocast says; in [0, 1] but for rounding.
    """
    # Rays too: their products in bfloat16 would bend them by a pixel.
    with torch.autocast(volumes.device.type, enabled=False):
        pairs = zip(volumes, cameras, strict=True)
        traces = [march(volume, *own.to(volume.device).rays(size), steps) for volume, own in pairs]
    alpha = torch.stack([one.alpha for one in traces])
    rgb = torch.stack([one.rgb for one in traces]) + background * (1 - alpha)[:, :, None]
    # Not clamped: rounding brings white a hair beyond 1, and it would lose its gradient.
    return Views(rgb, alpha)


def march(volume: Tensor, origins: Tensor, directions: Tensor, steps: int = STEPS) -> Traces:
    """What rays meet in the cube [-0.5, 0.5]^3 of one object.

    Density and colour times density are interpolated between the middles of voxels, so that empty voxels, which have
    no colour, darken no edge. Samples lie evenly on each ray from where it enters the cube. Those where all voxels
    about are empty are never looked up: surfaces fill few voxels, so it is a few times faster than to look up all.

    Args:
        volume: float [4, N, N, N], see `VolumeDecoder.volume`.
        origins: Where rays start, float [V, 3].
        directions: Unit vectors, float [V, S, S, 3].
        steps: Samples for the length of a voxel's side.
    """
    with torch.autocast(volume.device.type, enabled=False):
        volume = volume if volume.dtype == torch.float64 else volume.float()
        premultiplied = torch.cat([volume[:1], volume[:1] * volume[1:]])
        finder = _SampleFinder(volume[0], steps)
        starts = origins[:, None, None].expand_as(directions).reshape(-1, 3).to(volume)
        parts = zip(starts.split(_CHUNK), directions.reshape(-1, 3).to(volume).split(_CHUNK), strict=True)
        rows = torch.cat(
            [_integrate(premultiplied, finder.find(*rays), 1 / (steps * len(volume[0]))) for rays in parts], 1
        )
    rows = rows.unflatten(1, directions.shape[:3])
    return Traces(rows[:3].transpose(0, 1), rows[3], rows[4] / rows[3].clamp(min=1e-6))


# ---- samples --------------------------------------------------------------------------------------------------------


class _Samples(NamedTuple):
    """Samples of R rays; those of a ray follow each other, the nearest first.

    `points` [M, 3] z, y, x in [-1, 1], as `grid_sample` takes them; `distances` [M] from the start of the ray; `rays`
    int64 [M], ascending; `places` int64 [M], the number of a sample on its ray; `ray_count` R.
    """

    points: Tensor
    distances: Tensor
    rays: Tensor
    places: Tensor
    ray_count: int


class _SampleFinder:
    """Finds the samples of rays about which there is something: first whole segments of rays, then samples of them.

    Positions are in voxels, and voxel j has its middle at j + 1: what is below 1 or above N lies less than half a voxel
    from the cube's faces. A position p lies between the voxels floor(p) - 1 and floor(p).
    """

    def __init__(self, density: Tensor, steps: int) -> None:
        self.size, self.steps = len(density), steps
        full = density.detach() > NOTHING * self.size
        # A sample lies so many voxels from the middle of its segment at most, along each axis.
        reach = math.ceil((_SEGMENT - 1) / 2 / steps)
        self.near, self.far = _any_about(full, 0), _any_about(full, reach)

    @torch.no_grad()
    def find(self, origins: Tensor, directions: Tensor) -> _Samples:
        """The samples of rays from origins [R, 3] in directions [R, 3]."""
        enter, leave = _cross_cube(origins, directions)
        spacing = 1 / (self.steps * self.size)
        move = directions / self.steps
        # The sample of number k is at start + k * move.
        start = (origins + directions * enter[:, None] + 0.5) * self.size + 0.5 + move / 2
        # The first sample lies half a step within the cube, and so does the last at least.
        counts = (leave - enter) / spacing - 0.5
        rays, first = self._segments(start, move, counts)
        numbers = first[:, None] + torch.arange(_SEGMENT, device=rays.device)
        places = _along(start[rays], move[rays], numbers)
        found = self._full(self.near, places) & (numbers < counts[rays, None])
        chosen = found.flatten().nonzero()[:, 0]
        rays = rays[chosen // _SEGMENT]
        # The volume is indexed x, y, z, and grid_sample's last axis comes first.
        points = torch.stack([place.flatten()[chosen] for place in reversed(places)], 1)
        distances = enter[rays] + (numbers.flatten()[chosen] + 0.5) * spacing
        return _Samples((2 * points - 1) / self.size - 1, distances, rays, _rank(rays, len(origins)), len(origins))

    def _segments(self, start: Tensor, move: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Which segments have something near: the ray and the number of the first sample of each, int64."""
        most = max(0, math.ceil(float(counts.max())))
        first = torch.arange(0, most, _SEGMENT, device=start.device)
        inside = (counts > 0).nonzero()[:, 0]
        middles = _along(start[inside], move[inside], (first + (_SEGMENT - 1) / 2)[None])
        near = self._full(self.far, middles) & (first < counts[inside, None])
        rays, segments = near.nonzero(as_tuple=True)
        return inside[rays], first[segments]

    def _full(self, cells: Tensor, places: Sequence[Tensor]) -> Tensor:
        # Beyond the faces the nearest cell answers, which sees at least as much of what is inside.
        x, y, z = (place.clamp(0, self.size + 0.5).int() for place in places)
        side = self.size + 1
        return cells[((x * side + y) * side + z).flatten()].view_as(x)


def _any_about(full: Tensor, reach: int) -> Tensor:
    """Whether there is something in the voxels j - 1 - reach to j + reach along each axis, j from 0 to N.

    Takes bool [N, N, N], gives bool [(N + 1)^3].
    """
    width = 2 * reach + 2
    full = F.pad(full, (reach + 1,) * 6)
    for axis in range(3):
        length = full.shape[axis] - width + 1
        full = reduce(torch.logical_or, [full.narrow(axis, shift, length) for shift in range(width)])
    return full.flatten()


def _cross_cube(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [R] at which rays enter and leave the cube, from 0 on; equal for those that pass by."""
    # Parallel to a face: a tiny slope stands for none, as 0 * infinity is no number.
    slope = 1 / directions.where(directions.abs() > 1e-9, 1e-9)
    first, second = (-0.5 - origins) * slope, (0.5 - origins) * slope
    enter = torch.minimum(first, second).amax(1).clamp(min=0)
    return enter, torch.maximum(torch.maximum(first, second).amin(1), enter)


def _along(start: Tensor, move: Tensor, numbers: Tensor) -> list[Tensor]:
    """x, y and z of the samples with these numbers [1 or R, n] on rays, each [R, n]."""
    return [torch.addcmul(start[:, axis, None], move[:, axis, None], numbers.to(start)) for axis in range(3)]


def _rank(rays: Tensor, count: int) -> Tensor:
    """The number of each sample on its ray, int64 [M]."""
    each = torch.bincount(rays, minlength=count)
    return torch.arange(len(rays), device=rays.device) - (each.cumsum(0) - each)[rays]


# ---- light ----------------------------------------------------------------------------------------------------------


def _integrate(premultiplied: Tensor, samples: _Samples, spacing: float) -> Tensor:
    """Colour over black (3 rows), alpha, and distance times alpha, float [5, R]."""
    where = samples.points[None, None, None]
    values = F.grid_sample(premultiplied[None], where, align_corners=False)[0, :, 0, 0]
    depth = values[0] * spacing
    seen = torch.exp(-_in_front(depth, samples)) * _share(depth)
    parts = torch.cat([values[1:] * spacing, depth[None], (depth * samples.distances)[None]]) * seen
    return parts.new_zeros(5, samples.ray_count).index_add(1, samples.rays, parts)


def _in_front(depth: Tensor, samples: _Samples) -> Tensor:
    """Optical depth before each sample, [M]; the sums of a ray go no further than its own K samples, and stay exact."""
    most = int(samples.places.max()) + 1 if len(samples.places) else 1
    # Only rays that meet something get a row.
    rows = torch.unique_consecutive(samples.rays, return_inverse=True)[1]
    number = rows * most + samples.places
    count = int(rows[-1]) + 1 if len(rows) else 0
    padded = depth.new_zeros(count * most).index_put((number,), depth).view(count, most)
    return (padded.cumsum(1) - padded).flatten()[number]


def _share(depth: Tensor) -> Tensor:
    """(1 - exp(-depth)) / depth, also where the depth is 0."""
    # One part in a million more changes nothing, and leaves no division by 0.
    depth = depth + 1e-6
    return -torch.expm1(-depth) / depth
