"""Meshes baked into grids, against solids whose distance is known, and through files of three formats."""

import numpy as np
import pytest
from PIL import Image

from data_modules.worlds.assets.asset import Placed
from data_modules.worlds.assets.baking import bake, sample, step_of
from data_modules.worlds.assets.grid import Grid
from data_modules.worlds.assets.meshes import load_mesh_asset
from data_modules.worlds.camera import BASE_LOCATION, Camera
from data_modules.worlds.lights import BASE_LAMPS
from data_modules.worlds.materials import linear, srgb
from data_modules.worlds.ray_tracer import RayTracer, Sampling
from data_modules.worlds.rendering import identify, render

trimesh = pytest.importorskip("trimesh")

RESOLUTION = 40


def box_distance(p, half):
    q = np.abs(p) - np.array(half)[:, None]
    return np.linalg.norm(np.maximum(q, 0), axis=0) + np.minimum(q.max(0), 0)


def points_around(asset, count=4000, margin=0.05):
    rng = np.random.default_rng(0)
    low, high = np.array(asset.lower) - margin, np.array(asset.upper) + margin
    return rng.uniform(low, high, (count, 3)).T.astype(np.float32)


def ball(radius=2.0):
    mesh = trimesh.creation.icosphere(4, radius)
    mesh.visual.vertex_colors = np.tile([188, 30, 60, 255], (len(mesh.vertices), 1))
    return mesh


def test_a_ball_keeps_its_distance(tmp_path):
    ball().export(tmp_path / "ball.ply")
    asset = load_mesh_asset(tmp_path / "ball.ply", size=1.0, resolution=RESOLUTION)
    assert asset.name == "ball"
    assert np.allclose([asset.lower, asset.upper], [[-0.5, -0.5, 0], [0.5, 0.5, 1]], atol=1e-6)
    p = points_around(asset)
    truth = np.linalg.norm(p - [[0], [0], [0.5]], axis=0) - 0.5
    near = np.abs(truth) < 0.05
    ours = asset.distance(p)
    assert ours.dtype == np.float32
    assert np.abs(ours - truth)[near].max() < 0.1 / RESOLUTION
    assert (ours - truth).max() < 1 / RESOLUTION
    # Far away it stays a lower bound, and a good one.
    far = 5 * p
    truth = np.linalg.norm(far - [[0], [0], [0.5]], axis=0) - 0.5
    away = truth > 1
    assert (asset.distance(far) - truth)[away].max() < 1e-3
    assert (asset.distance(far) / truth)[away].min() > 0.7
    surface = p[:, near]
    assert np.abs(asset.color(surface) - linear(np.array([188, 30, 60]) / 255)[:, None]).max() < 0.01


def test_a_box_has_flat_sides_and_colored_faces(tmp_path):
    mesh = trimesh.creation.box((1.0, 0.6, 0.3))
    up = mesh.face_normals[:, 2] > 0.5
    mesh.visual.face_colors = np.where(up[:, None], [255, 0, 0, 255], [0, 0, 255, 255]).astype(np.uint8)
    mesh.export(tmp_path / "box.ply")
    asset = load_mesh_asset(tmp_path / "box.ply", name="block", size=2.0, resolution=RESOLUTION)
    assert asset.name == "block"
    assert np.allclose([asset.lower, asset.upper], [[-1, -0.6, 0], [1, 0.6, 0.6]], atol=1e-6)
    p = points_around(asset)
    truth = box_distance(p - [[0], [0], [0.3]], (1.0, 0.6, 0.3))
    # Between lattice points sharp edges are cut off by a share of a step.
    assert np.abs(asset.distance(p) - truth).max() < 2 * 0.7 / (RESOLUTION - 5)
    assert np.mean(np.sign(asset.distance(p)) == np.sign(truth)) > 0.99
    assert np.allclose(asset.color(np.array([[0.2], [0.1], [0.6]])), [[1], [0], [0]], atol=1e-6)
    assert np.allclose(asset.color(np.array([[0.2], [0.6], [0.2]])), [[0], [0], [1]], atol=1e-6)


def open_box():
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.update_faces(mesh.face_normals[:, 2] < 0.5)
    return mesh


@pytest.mark.parametrize("reverse", [False, True])
def test_open_meshes_become_shells(tmp_path, reverse):
    mesh = open_box()
    if reverse:
        # Faces that look inwards and outwards at random: nothing can be told from their sides.
        mesh.faces[::2] = mesh.faces[::2, ::-1]
    mesh.export(tmp_path / "open.ply")
    asset = load_mesh_asset(tmp_path / "open.ply", resolution=RESOLUTION)
    step = 1 / (RESOLUTION - 5)
    inside, wall, above = asset.distance(np.array([[0, 0.5, 0], [0, 0, 0], [0.5, 0.5, 1.2]]))
    assert inside > 0.3
    assert -step < wall < 0.2 * step
    assert above > 0.15
    assert asset.upper[2] == pytest.approx(1)


def test_holes_narrower_than_a_step_close(tmp_path):
    mesh = trimesh.creation.icosphere(4, 1.0)
    mesh.update_faces(np.arange(len(mesh.faces)) != 100)
    assert not mesh.is_watertight
    mesh.export(tmp_path / "leak.ply")
    asset = load_mesh_asset(tmp_path / "leak.ply", resolution=RESOLUTION)
    assert asset.distance(np.array([[0.0], [0.0], [0.5]]))[0] < -0.3


def test_parts_that_pierce_each_other_are_solid(tmp_path):
    parts = [trimesh.creation.box((1, 1, 1)), trimesh.creation.icosphere(3, 0.6)]
    trimesh.util.concatenate(parts).export(tmp_path / "both.ply")
    asset = load_mesh_asset(tmp_path / "both.ply", resolution=RESOLUTION)
    p = np.array([[0.0, 0.3, 0.42], [0.0, 0.0, 0.42], [0.5, 0.5, 0.92]])
    assert (asset.distance(p) < 0).tolist() == [True, True, False]


def checkered(size):
    """A box with a texture: white and green squares, seen through a reddish base colour."""
    corners = trimesh.creation.box(size).triangles.reshape(-1, 3)
    squares = np.indices((2, 2)).sum(0) % 2
    image = Image.fromarray(np.where(squares[..., None], [255, 255, 255], [0, 255, 0]).astype(np.uint8))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=[255, 128, 51, 255])
    visual = trimesh.visual.TextureVisuals(uv=corners[:, [0, 2]] + 0.5, material=material)
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), visual=visual, process=False)


def test_textures_are_sampled_where_they_lie(tmp_path):
    checkered((1, 1, 1)).export(tmp_path / "checks.glb")
    asset = load_mesh_asset(tmp_path / "checks.glb", resolution=RESOLUTION)
    # A texture's corner (0, 0) is at the lower left; the file's x and z are our x and -y.
    p = np.array([[-0.25, 0.25, -0.25, 0.25], [-0.25, -0.25, 0.25, 0.25], [1.0, 1.0, 1.0, 1.0]])
    white, green = np.array([1, 128 / 255, 51 / 255]), np.array([0, 128 / 255, 0])
    expected = np.stack([green, white, white, green], axis=1)
    assert np.abs(asset.color(p) - expected).max() < 0.02


def bar():
    """Long along y with its top (greatest z) red."""
    mesh = trimesh.creation.box((0.4, 1.0, 0.2))
    for _ in range(3):
        mesh = mesh.subdivide()
    high = mesh.vertices[:, 2] > 0
    mesh.visual.vertex_colors = np.where(high[:, None], [255, 0, 0, 255], [255, 255, 255, 255]).astype(np.uint8)
    return mesh


@pytest.mark.parametrize(("suffix", "upright"), [("ply", False), ("obj", True), ("glb", True)])
def test_formats_agree_but_for_the_axis_that_points_up(tmp_path, suffix, upright):
    path = tmp_path / f"bar.{suffix}"
    bar().export(path)
    asset = load_mesh_asset(path, resolution=RESOLUTION)
    size = np.subtract(asset.upper, asset.lower)
    assert np.allclose(size, [0.4, 0.2, 1.0] if upright else [0.4, 1.0, 0.2], atol=1e-5)
    # What was the top looks to the front, -y, once y points up.
    red, white = ([0, -0.1, 0.5], [0, 0.1, 0.5]) if upright else ([0, 0, 0.2], [0, 0, 0.0])
    assert np.abs(asset.color(np.array([red]).T)[:, 0] - [1, 0, 0]).max() < 0.1
    assert np.abs(asset.color(np.array([white]).T)[:, 0] - 1).max() < 0.1
    turned = load_mesh_asset(path, resolution=RESOLUTION, up="z" if upright else "y")
    assert np.allclose(np.subtract(turned.upper, turned.lower)[[0, 2, 1]], size, atol=1e-5)


def test_parts_of_a_scene_stand_where_it_puts_them(tmp_path):
    scene = trimesh.Scene()
    for name, place, color in (("left", -1.0, [255, 0, 0, 255]), ("right", 1.0, [0, 0, 255, 255])):
        part = trimesh.creation.icosphere(2, 0.5)
        part.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(baseColorFactor=color))
        scene.add_geometry(part, geom_name=name, transform=trimesh.transformations.translation_matrix([place, 0, 0]))
    scene.export(tmp_path / "two.glb")
    asset = load_mesh_asset(tmp_path / "two.glb", size=3.0, resolution=RESOLUTION)
    outwards = np.array([[0.5], [0], [0]])
    left, between, right = np.array([[-1.0, 0.0, 1.0], [0, 0, 0], [0.5, 0.5, 0.5]])[:, :, None].transpose(1, 0, 2)
    assert asset.distance(left)[0] < -0.3
    assert asset.distance(right)[0] < -0.3
    assert asset.distance(between)[0] > 0.3
    assert np.allclose(asset.color(left - outwards)[:, 0], [1, 0, 0], atol=0.02)
    assert np.allclose(asset.color(right + outwards)[:, 0], [0, 0, 1], atol=0.02)


def test_a_baked_ball_looks_like_clevrs(tmp_path):
    mesh = ball()
    mesh.visual.vertex_colors = (srgb(np.array([173, 35, 35, 255]) / 255) * 255 + 0.5).astype(np.uint8)
    mesh.export(tmp_path / "red.ply")
    asset = load_mesh_asset(tmp_path / "red.ply", size=1.4, resolution=64, gloss=1.0)
    camera = Camera(BASE_LOCATION, 160, 160, 1.8)
    record = {"shape": "sphere", "color": "red", "material": "rubber", "rotation": 0.0, "3d_coords": [0.4, -0.3, 0.7]}
    real, real_ids = render(RayTracer([record], BASE_LAMPS, Sampling()), camera)
    image, ids = render(RayTracer([Placed(asset, (0.4, -0.3, 0))], BASE_LAMPS, Sampling()), camera)
    both = (ids == 0) & (real_ids == 0)
    assert both.sum() / ((ids == 0) | (real_ids == 0)).sum() > 0.98
    assert np.abs(image.astype(int) - real)[both].mean() < 2.5
    assert np.abs(image.astype(int) - real).mean() < 1.0


def test_grids_are_kept_and_taken_again(tmp_path):
    path, cache = tmp_path / "ball.ply", tmp_path / "grids"
    trimesh.creation.icosphere(2).export(path)
    first = load_mesh_asset(path, resolution=24, cache=cache)
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    again = load_mesh_asset(path, resolution=24, cache=cache)
    assert kept.stat().st_mtime_ns == written
    p = points_around(first, 200)
    assert np.array_equal(first.distance(p), again.distance(p))
    load_mesh_asset(path, resolution=32, cache=cache)
    trimesh.creation.icosphere(3).export(path)
    load_mesh_asset(path, resolution=24, cache=cache)
    assert len(list(cache.iterdir())) == 3
    load_mesh_asset(path, resolution=24)
    assert len(list(tmp_path.glob("ball-*.npz"))) == 1


def test_bakes_are_equal_bytes():
    triangles = trimesh.creation.torus(1, 0.3).triangles
    step = step_of(triangles, 32)

    def once():
        samples = sample(triangles, step)
        return bake(samples, np.full((samples.faces.size, 3), 0.3), step, True)

    first, second = once(), once()
    assert first.distances.tobytes() == second.distances.tobytes()
    assert first.colors.tobytes() == second.colors.tobytes()


def test_grids_interpolate_linearly():
    x, y, z = np.indices((3, 4, 5)).astype(np.float32)
    grid = Grid(np.array([1.0, 2.0, 3.0]), 0.5, 2 * x - y + 0.5 * z, np.zeros((3, 4, 5, 3), dtype=np.uint8))
    rng = np.random.default_rng(0)
    q = rng.uniform(0, 1, (3, 50)) * [[2], [3], [4]]
    p = (q * 0.5 + [[1], [2], [3]]).astype(np.float32)
    assert np.allclose(grid.distance(p), 2 * q[0] - q[1] + 0.5 * q[2], atol=1e-4)
    corner = np.array([[2.0], [3.5], [5.0]], dtype=np.float32)
    assert grid.distance(corner)[0] == pytest.approx(3)
    assert grid.distance(corner + 4 * np.array([[1], [0], [0]], dtype=np.float32))[0] == pytest.approx(5)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("junk.glb", b"junk"),
        ("empty.obj", b""),
        ("broken.ply", b"ply\nnope"),
        ("what.foo", b""),
        ("line.obj", b"v 0 0 0\n"),
    ],
)
def test_unusable_files_are_named(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=name):
        load_mesh_asset(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"no mesh at .*none\.ply"):
        load_mesh_asset(tmp_path / "none.ply")
    for wrong in ({"up": "x"}, {"resolution": 8}, {"size": 0.0}):
        with pytest.raises(ValueError, match="up must be"):
            load_mesh_asset(tmp_path / "none.ply", **wrong)


def test_shells_are_seen(tmp_path):
    open_box().export(tmp_path / "open.ply")
    asset = load_mesh_asset(tmp_path / "open.ply", resolution=RESOLUTION, size=2.0)
    camera = Camera((2.5, -2.5, 5.0), 64, 64, target=(0, 0, 1))
    shell = identify(RayTracer([Placed(asset, (0, 0, 0))], BASE_LAMPS, Sampling()), camera)
    ball_inside = identify(
        RayTracer(
            [
                Placed(asset, (0, 0, 0)),
                {"shape": "sphere", "color": "red", "material": "rubber", "rotation": 0.0} | {"3d_coords": [0, 0, 0.7]},
            ],
            BASE_LAMPS,
            Sampling(),
        ),
        camera,
    )
    assert (shell == 0).sum() > 400
    assert (ball_inside == 1).sum() > 50
