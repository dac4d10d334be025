"""The ray marcher and the decoder of voxel8: against a reference, by hand, axes, gradients."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from kyvo.cameras import Cameras
from kyvo.models import voxel_renderer
from kyvo.models.shape_decoder import ShapeDecoder, Views
from kyvo.models.voxel_renderer import VoxelDecoder, march, render_volumes


def sparse_volume(size: int, share: float = 0.15, seed: int = 0) -> torch.Tensor:
    """Density and colour, float64 [4, N, N, N]; most voxels are empty, with colours that must not show."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.rand(4, size, size, size, generator=generator, dtype=torch.float64)
    full = torch.rand(size, size, size, generator=generator) < share
    volume[0] *= full * 4 * size
    return volume


def grid_of(volume: torch.Tensor) -> torch.Tensor:
    """A voxel8 grid [1, 9, N, N, N] whose voxels are there where the volume has density, opaque, of its colours."""
    grid = torch.zeros(1, 9, *volume.shape[1:])
    grid[:, 0] = (volume[0] > 0).float()
    grid[:, 1:4] = 2 * volume[1:] - 1
    grid[:, 8] = 1
    return grid


def reference(volume: torch.Tensor, origin: np.ndarray, direction: np.ndarray, steps: int) -> tuple[np.ndarray, ...]:
    """One ray, sample by sample, front to back: colour, alpha and depth."""
    values = np.pad(volume.numpy(), ((0, 0), (1, 1), (1, 1), (1, 1)))
    values[1:] *= values[:1]
    size = volume.shape[1]
    ends = np.stack([(-0.5 - origin) / direction, (0.5 - origin) / direction])
    enter, leave = max(0.0, ends.min(0).max()), ends.max(0).min()
    spacing, light, colour, depth = 1 / (steps * size), 1.0, np.zeros(3), 0.0
    for t in np.arange(enter + spacing / 2, leave, spacing):
        place = (origin + t * direction + 0.5) * size + 0.5
        density, *premultiplied = (map_coordinates(one, place[:, None], order=1)[0] for one in values)
        alpha = 1 - np.exp(-density * spacing)
        if density > 0:
            colour += light * alpha * np.array(premultiplied) / density
        depth += light * alpha * t
        light *= 1 - alpha
    return colour, 1 - light, depth / max(1 - light, 1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_as_a_loop_over_samples(steps):
    volume, cameras = sparse_volume(7), Cameras.sphere(3, (0.3, 0.2))
    origins, directions = cameras.rays(5)
    traces = march(volume, origins, directions, steps)
    assert traces.rgb.dtype == torch.float64
    for view, row, column in np.ndindex(3, 5, 5):
        ray = directions[view, row, column].double().numpy()
        colour, alpha, depth = reference(volume, origins[view].double().numpy(), ray, steps)
        np.testing.assert_allclose(traces.rgb[view, :, row, column], colour, atol=3e-6)
        np.testing.assert_allclose(traces.alpha[view, row, column], alpha, atol=3e-6)
        np.testing.assert_allclose(traces.depth[view, row, column], depth, atol=1e-5)
    assert 0.1 < traces.alpha.mean() < 0.9


def test_a_camera_within_the_cube_sees_what_is_before_it():
    volume, origin = sparse_volume(6), torch.tensor([[0.1, -0.2, 0.05]])
    direction = torch.nn.functional.normalize(torch.tensor([0.4, 0.3, -0.2]), dim=0)
    traces = march(volume, origin, direction[None, None, None])
    expected = reference(volume, origin[0].double().numpy(), direction.double().numpy(), 2)
    np.testing.assert_allclose(traces.rgb[0, :, 0, 0], expected[0], atol=3e-6)


def test_light_through_a_full_cube_by_hand():
    grid = grid_of(torch.ones(4, 8, 8, 8))
    straight = Cameras.around(torch.tensor([[0.0, -1, 0]]))
    views = VoxelDecoder(density=0.05).render(grid, straight, 1, background=0.0)
    # On the faces density falls off linearly to half: an eighth of a voxel is missing at either end.
    assert views.alpha.item() == pytest.approx(1 - np.exp(-0.05 * 7.75), abs=1e-6)
    assert views.rgb.flatten().tolist() == pytest.approx([views.alpha.item()] * 3, abs=1e-6)


def test_depth_is_the_distance_to_a_wall():
    volume = torch.zeros(4, 16, 16, 16)
    volume[0, :, 12] = 1e4
    origins, directions = Cameras.around(torch.tensor([[0.0, -1, 0]])).rays(1)
    # The middle of voxel 12 lies at 12.5 / 16 - 0.5, and its density begins a voxel before.
    depth = march(volume, origins, directions, 8).depth.item()
    assert 2 + 11.5 / 16 - 0.5 < depth < 2 + 11.6 / 16 - 0.5


# ---- axes -----------------------------------------------------------------------------------------------------------


def axis_cross(size: int = 24) -> torch.Tensor:
    """Bars from the middle along +x (red), +y (green) and +z (blue), [1, 9, N, N, N]."""
    volume = torch.zeros(4, size, size, size)
    middle = slice(size // 2 - 1, size // 2 + 1)
    for axis in range(3):
        where = [middle, middle, middle]
        where[axis] = slice(size // 2 + 2, size)
        volume[0, *where] = 1
        volume[1 + axis, *where] = 1
    return grid_of(volume)


def test_axes_from_the_front():
    """From -y, x goes to the right and z upwards; y goes away from the camera."""
    rgb = VoxelDecoder().render(axis_cross(), Cameras.around(torch.tensor([[0.0, -1, 0]])), 48, 0.0).rgb[0, 0]
    assert (rgb[0, 24, 32:34] > 0.9).all()
    assert (rgb[2, 14:16, 24] > 0.9).all()
    assert rgb[0, :, :23].max() == 0
    assert rgb[2, 26:].max() == 0


@pytest.mark.parametrize("direction", [(1, 0.3, 0.2), (0.4, -1, 0.5), (-0.6, 0.3, 1), (0.3, 0.2, -1), (-1, -1, -0.4)])
def test_axes_from_everywhere(direction):
    cameras, size = Cameras.around(torch.tensor([direction], dtype=torch.float32)), 64
    rgb = VoxelDecoder().render(axis_cross(), cameras, size, background=0.0).rgb[0, 0]
    for axis in range(3):
        point = torch.eye(4)[axis] * 0.4 + torch.eye(4)[3]
        seen = cameras.intrinsics[0] @ (cameras.extrinsics[0] @ point)[:3]
        column, row = ((seen[:2] / seen[2]) * size).long().tolist()
        assert rgb[:, row, column].argmax() == axis
        assert rgb[axis, row, column] > 0.5


# ---- gradients and numbers ------------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    grid = torch.rand(1, 9, 3, 3, 3, generator=generator, dtype=torch.float64) * 0.7 + 0.1
    decoder, cameras = VoxelDecoder(density=0.7), Cameras.sphere(2, (0.4, 0.1))

    def pictures(grid: torch.Tensor) -> torch.Tensor:
        views = decoder.render(grid, cameras, 2, background=0.3)
        return torch.cat([views.rgb.flatten(), views.alpha.flatten()])

    assert torch.autograd.gradcheck(pictures, grid.requires_grad_(), eps=1e-6, atol=1e-6)
    pictures(grid).sum().backward()
    reached = grid.grad[0].abs().amax((1, 2, 3)) > 0
    # Occupancy, colours and opacity; without shading a normal shows nowhere, nor does an offset.
    assert reached.tolist() == [True] * 4 + [False] * 4 + [True]


def test_the_same_under_autocast():
    grid, cameras = grid_of(sparse_volume(8)), Cameras.sphere(2)
    expected = VoxelDecoder().render(grid, cameras, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = VoxelDecoder().render(grid, cameras, 8)
    assert found.rgb.dtype == torch.float32
    assert torch.equal(found.rgb, expected.rgb)
    assert torch.equal(found.alpha, expected.alpha)


def test_no_edge_is_darkened():
    volume = sparse_volume(8)
    volume[1:] = torch.tensor([1.0, 0, 0], dtype=torch.float64)[:, None, None, None] * (volume[0] > 0)
    traces = march(volume, *Cameras.sphere(4).rays(16))
    torch.testing.assert_close(traces.rgb[:, 0], traces.alpha, atol=1e-9, rtol=0)
    assert traces.rgb[:, 1:].max() == 0


def test_nothing_is_background():
    grid = torch.zeros(2, 9, 4, 4, 4, requires_grad=True)
    views = VoxelDecoder().render(grid, Cameras.sphere(3), 8, background=0.25)
    assert (views.rgb == 0.25).all()
    assert (views.alpha == 0).all()
    views.rgb.sum().backward()
    assert (grid.grad == 0).all()


def test_rays_that_pass_by():
    traces = march(torch.ones(4, 4, 4, 4), torch.tensor([[0.0, -2, 0]]), torch.tensor([[[[1.0, 0, 0]]]]))
    assert traces.alpha.item() == traces.depth.item() == 0


def test_in_whatever_pieces(monkeypatch):
    volumes = torch.stack([sparse_volume(8, seed=seed) for seed in range(2)])
    cameras = [Cameras.sphere(3)] * 2
    expected = render_volumes(volumes, cameras, 9)
    monkeypatch.setattr(voxel_renderer, "_CHUNK", 50)
    found = render_volumes(volumes, cameras, 9)
    torch.testing.assert_close(found.rgb, expected.rgb, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.alpha, expected.alpha, atol=1e-12, rtol=0)


# ---- the decoder ----------------------------------------------------------------------------------------------------


def test_shapes_and_background():
    grid = torch.cat([grid_of(sparse_volume(6, seed=seed)) for seed in range(2)])
    black, white = (VoxelDecoder().render(grid, Cameras.sphere(3), 10, shade) for shade in (0.0, 1.0))
    assert black.rgb.shape == (2, 3, 3, 10, 10)
    assert black.alpha.shape == (2, 3, 10, 10)
    through = (1 - black.alpha)[:, :, None].expand_as(black.rgb)
    torch.testing.assert_close(white.rgb - black.rgb, through, atol=1e-6, rtol=0)
    assert -1e-5 < black.rgb.min() <= white.rgb.max() < 1 + 1e-5


def test_each_by_its_own_camera():
    grid = torch.cat([grid_of(sparse_volume(6, seed=seed)) for seed in range(2)])
    cameras, decoder = Cameras.sphere(2, (0.2, 0.3)), VoxelDecoder()
    every, own = decoder.render(grid, cameras, 8), decoder.render_each(grid, cameras, 8)
    assert own.rgb.shape == (2, 1, 3, 8, 8)
    for index in range(2):
        assert torch.equal(own.rgb[index, 0], every.rgb[index, index])
        assert torch.equal(own.alpha[index, 0], every.alpha[index, index])
    # What any decoder does that has no quicker way.
    assert torch.equal(ShapeDecoder.render_each(decoder, grid, cameras, 8).rgb, own.rgb)


def test_opacity_and_occupancy_multiply():
    grid, cameras = grid_of(torch.ones(4, 6, 6, 6)), Cameras.sphere(1)
    faint, half = grid.clone(), grid.clone()
    faint[:, 8], half[:, 0] = 0, 0.5
    decoder = VoxelDecoder(density=0.1)
    assert torch.equal(decoder.render(faint, cameras, 6).rgb, decoder.render(half, cameras, 6).rgb)
    faint[:, 8] = -1
    assert decoder.render(faint, cameras, 6).alpha.max() == 0


def test_shading_darkens_what_is_turned_away():
    grid = grid_of(torch.ones(4, 6, 6, 6))
    light = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)
    for normal, expected in ((light, 1.0), (-light, 0.4)):
        grid[:, 4:7] = normal[:, None, None, None]
        colours = VoxelDecoder(shading=0.6).volume(grid)[:, 1:]
        torch.testing.assert_close(colours, torch.full_like(colours, expected))


def test_frozen_and_in_evaluation_mode():
    decoder = VoxelDecoder()
    assert decoder.space == "voxel8"
    assert not list(decoder.parameters())
    assert not decoder.train().training


@pytest.mark.parametrize("shape", [(1, 8, 4, 4, 4), (9, 4, 4, 4), (1, 9, 4, 4, 5)])
def test_grids_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"float \[B, 9, N, N, N\], got torch.float32 \["):
        VoxelDecoder().render(torch.zeros(shape), Cameras.sphere(1), 8)


def test_one_camera_for_each_object():
    with pytest.raises(ValueError, match="each of 2 objects, got 3"):
        VoxelDecoder().render_each(torch.zeros(2, 9, 4, 4, 4), Cameras.sphere(3), 8)


def test_the_interface_renders_nothing():
    with pytest.raises(NotImplementedError):
        ShapeDecoder().render(torch.zeros(1, 9, 4, 4, 4), Cameras.sphere(1), 8)
    assert Views(torch.zeros(1), torch.zeros(1)).rgb == 0
