"""Assets as voxels: against solids whose surface is known, and against the exact test of triangles."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from data_modules.mesh_voxels import touched
from data_modules.voxels import FILL, OFFSET_LIMIT, voxel8, voxelize_asset
from data_modules.worlds.assets.library import ASSETS
from data_modules.worlds.assets.primitives import box, ellipsoid, sphere
from data_modules.worlds.assets.solid import union
from data_modules.worlds.assets.textures import layers, plain

BOX_FACES = [
    [0, 1, 3],
    [0, 3, 2],
    [4, 6, 7],
    [4, 7, 5],
    [0, 4, 5],
    [0, 5, 1],
    [2, 3, 7],
    [2, 7, 6],
    [0, 2, 6],
    [0, 6, 4],
]
BOX_FACES += [[1, 5, 7], [1, 7, 3]]


def occupied(slat):
    grid = np.zeros((slat.resolution,) * 3, dtype=bool)
    grid[tuple(slat.coords.numpy().T)] = True
    return grid


def middles(slat):
    return (slat.coords.numpy() + 0.5) / slat.resolution - 0.5


@pytest.mark.parametrize("size", [16, 24, 32, 15])
def test_a_ball_has_the_voxels_that_its_surface_crosses(size):
    slat = voxelize_asset(sphere((0, 0, 1.5), 1.5).asset("ball"), size)
    low = np.indices((size,) * 3).reshape(3, -1) / size - 0.5
    high, radius = low + 1 / size, FILL / 2
    nearest = np.linalg.norm(np.maximum(np.maximum(low, -high), 0), axis=0)
    furthest = np.linalg.norm(np.maximum(np.abs(low), np.abs(high)), axis=0)
    expected = ((nearest <= radius) & (radius <= furthest)).reshape((size,) * 3)
    # What the surface enters by less than an eighth of a voxel may be missed, nothing may be added.
    deep = ((nearest <= radius - 1 / 8 / size) & (radius + 1 / 8 / size <= furthest)).reshape((size,) * 3)
    found = occupied(slat)
    assert not (found & ~expected).any()
    assert not (deep & ~found).any()
    assert (expected & ~found).sum() <= 0.01 * expected.sum()


def test_vectors_of_a_ball():
    size = 32
    ball = sphere((0, 0, 1.0), 1.0).painted(layers([1.0], ["#204080", "#c00000"])).asset("ball")
    slat = voxelize_asset(ball, size)
    place = middles(slat)
    away = np.linalg.norm(place, axis=1)
    feats = slat.feats.numpy()
    assert slat.space == "voxel8"
    assert feats.dtype == np.float32
    # The surface point may be that in the voxel rather than the one nearest to its middle: normals differ a little.
    assert (feats[:, 3:6] * place / away[:, None]).sum(1).min() > 0.998
    assert np.abs(feats[:, 6] - size * (FILL / 2 - away)).max() < 0.02
    assert np.allclose(np.linalg.norm(feats[:, 3:6], axis=1), 1, atol=1e-6)
    assert (feats[:, 7] == 1).all()
    above = np.abs(place[:, 2]) > 1 / size
    colors = np.where(place[:, 2:] > 0, [0xC0, 0, 0], [0x20, 0x40, 0x80]) / 127.5 - 1
    assert np.abs(feats[:, :3] - colors)[above].max() < 1e-5


@pytest.mark.parametrize(("degrees", "axis"), [(0, "z"), (27, "z"), (41, "x")])
def test_a_box_has_the_voxels_that_its_triangles_touch(degrees, axis):
    half, size = (0.5, 0.37, 0.161), 32
    solid = box((0, 0, 0), half).turned(degrees, axis)
    slat = voxelize_asset(solid.asset("box"), size)
    corners = np.array(np.meshgrid(*([-h, h] for h in half), indexing="ij")).reshape(3, -1)
    k = "xyz".index(axis)
    i, j = (k + 1) % 3, (k + 2) % 3
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = corners.copy()
    turned[i], turned[j] = c * corners[i] - s * corners[j], s * corners[i] + c * corners[j]
    scale = FILL / max(b - a for a, b in zip(solid.lower, solid.upper, strict=True))
    cells, _ = touched((turned.T[BOX_FACES] * scale + 0.5) * size, size)
    assert set(cells.tolist()) == set(slat.cells().tolist())


def test_stretched_solids_have_their_surface_where_it_is():
    radii = np.array([1.0, 0.35, 0.6])
    slat = voxelize_asset(ellipsoid((0, 0, 0.6), tuple(radii)).asset("egg"), 32)
    feats = slat.feats.double().numpy()
    points = (middles(slat) + feats[:, 3:6] * feats[:, 6:7] / 32) * 2 / FILL
    # The surface point seen from the middle along the normal lies on the tangent plane: near the surface.
    assert np.abs(np.linalg.norm(points / radii, axis=1) - 1).max() < 0.03
    exact = points / radii**2
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert (exact * feats[:, 3:6]).sum(1).min() > 0.98


def test_a_sheet_thinner_than_a_voxel_is_found():
    sheet = box((0, 0, 0.02), (1, 1, 0.01))
    slat = voxelize_asset(sheet.asset("sheet"), 31)
    assert len(slat.coords) == 31 * 31
    assert (slat.coords[:, 2] == 15).all()
    inner = ((slat.coords[:, :2] > 0) & (slat.coords[:, :2] < 30)).all(1)
    assert (slat.feats[inner, 5].abs() > 0.999).all()


@pytest.mark.parametrize("name", ["teapot", "chair", "boot", "bench", "vase"])
def test_shells_are_closed(name):
    size, asset = 32, ASSETS[name]
    slat = voxelize_asset(asset, size)
    regions, _ = ndimage.label(np.pad(~occupied(slat), 1, constant_values=True))
    low, high = np.array(asset.lower), np.array(asset.upper)
    centers = (np.indices((size,) * 3).reshape(3, -1) + 0.5) / size - 0.5
    places = centers * (high - low).max() / FILL + ((low + high) / 2)[:, None]
    inside = (asset.distance(places.astype(np.float32)) < 0).reshape((size,) * 3)
    inside &= ~occupied(slat)
    assert not (regions[1:-1, 1:-1, 1:-1][inside] == regions[0, 0, 0]).any()


@pytest.mark.parametrize("name", list(ASSETS))
def test_every_asset_fills_the_cube_and_has_vectors_in_range(name):
    asset, size = ASSETS[name], 16
    slat = voxelize_asset(asset, size)
    sides = np.array(asset.upper) - asset.lower
    low, high = (slat.coords.numpy().min(0), slat.coords.numpy().max(0))
    longest = sides.argmax()
    assert (low[longest], high[longest]) == (0, size - 1)
    reach = sides / sides.max() * size / 2
    assert (low >= np.floor(size / 2 - reach) - 1e-6).all()
    assert (high <= np.ceil(size / 2 + reach) - 1 + 1e-6).all()
    assert slat.feats.abs().max() <= 1
    assert slat.feats[:, 6].abs().max() <= OFFSET_LIMIT + 1e-6
    assert torch.allclose(slat.feats[:, 3:6].norm(dim=1), torch.ones(len(slat.coords)), atol=1e-5)
    assert (slat.cells().diff() > 0).all()


def test_only_the_surface_of_solids_that_meet_is_found():
    # Two halves that touch in a plane: their distance is zero there, but nothing changes sign.
    halves = union(box((0, 0, 0.5), (1, 1, 0.5)), box((0, 0, 1.5), (1, 1, 0.5)))
    whole = box((0, 0, 1), (1, 1, 1))
    first, second = (voxelize_asset(solid.painted(plain("#808080")).asset("block"), 16) for solid in (halves, whole))
    assert torch.equal(first.coords, second.coords)
    assert len(first.coords) == 16**3 - 14**3


def test_vectors_are_written_as_the_space_says():
    found = voxel8(np.array([[0, 0.5, 1.2]]), np.array([[0.0, 0.6, 0.8]]), np.array([-2.0]), 0.25)
    assert torch.allclose(found, torch.tensor([[-1, 0, 1, 0, 0.6, 0.8, -0.87, -0.5]]))
