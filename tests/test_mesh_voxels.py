"""Meshes as voxels: the exact test against clipping, vectors of known surfaces, and folders of files."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_modules.faults import BadInputError
from data_modules.mesh_voxels import code_meshes, touched, voxelize_mesh
from data_modules.voxels import voxelize_asset
from data_modules.worlds.assets.primitives import sphere
from kyvo.slat import Slat

trimesh = pytest.importorskip("trimesh")

SIZE = 5


def clipped(triangle, low, high):
    """The polygon that is left of a triangle in a box (Sutherland and Hodgman), corner by corner."""
    polygon = list(triangle)
    for axis, side, bound in itertools.product(range(3), (1, -1), (None,)):
        bound = low[axis] if side == 1 else -high[axis]
        kept = []
        for k, end in enumerate(polygon):
            start = polygon[k - 1]
            a, b = side * start[axis] - bound, side * end[axis] - bound
            if (a < 0) != (b < 0):
                kept.append(start + (end - start) * a / (a - b))
            if b >= 0:
                kept.append(end)
        polygon = kept
    return polygon


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, SIZE - 0.01), min_size=9, max_size=9), st.floats(0.01, 1))
def test_voxels_are_those_in_which_clipping_leaves_something(numbers, shrink):
    triangle = np.array(numbers).reshape(3, 3)
    triangle = triangle.mean(0) + shrink * (triangle - triangle.mean(0))
    cells, pairs = touched(triangle[None], SIZE)
    found = set(cells.tolist())
    for number, voxel in enumerate(itertools.product(range(SIZE), repeat=3)):
        low = np.array(voxel, dtype=float)
        if clipped(triangle, low + 1e-7, low + 1 - 1e-7):
            assert number in found
        if not clipped(triangle, low - 1e-7, low + 1 + 1e-7):
            assert number not in found
    assert (pairs[:, 0] == 0).all()
    assert pairs[:, 1].tolist() == list(range(len(cells)))


def test_pairs_name_the_triangle_of_each_voxel():
    triangles = np.array(
        [[[0.1, 0.1, 0.5], [0.2, 0.8, 0.5], [0.8, 0.1, 0.5]], [[0.5, 0.5, 0.2], [2.5, 0.5, 0.2], [0.5, 0.6, 0.3]]]
    )
    cells, pairs = touched(triangles, 3)
    assert cells.tolist() == [0, 9, 18]
    assert sorted(map(tuple, pairs.tolist())) == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_the_ball_of_twenty_thousand_triangles(tmp_path):
    ball = trimesh.creation.icosphere(5)
    ball.visual.vertex_colors = np.tile([200, 100, 50, 255], (len(ball.vertices), 1))
    ball.export(tmp_path / "ball.ply")
    assert len(voxelize_mesh(tmp_path / "ball.ply").coords) == 19232
    slat = voxelize_mesh(tmp_path / "ball.ply", 32)
    same = voxelize_asset(sphere((0, 0, 1), 1).asset("ball"), 32)
    assert torch.equal(slat.coords, same.coords)
    assert (slat.feats[:, 3:6] * same.feats[:, 3:6]).sum(1).min() > 0.99
    assert (slat.feats[:, 6] - same.feats[:, 6]).abs().max() < 0.06
    assert torch.allclose(slat.feats[:, :3], torch.tensor([200.0, 100, 50]) / 127.5 - 1, atol=1e-5)
    assert (slat.feats[:, 7] == 1).all()


def test_both_sides_of_a_sheet_do_not_cancel(tmp_path):
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=float)
    front = np.array([[0, 1, 2], [0, 2, 3]])
    mesh = trimesh.Trimesh(
        np.concatenate([corners, corners - [0, 0, 0.004]]), np.concatenate([front, front[:, ::-1] + 4]), process=False
    )
    mesh.apply_transform(trimesh.transformations.rotation_matrix(0.3, (1, 0, 0)))
    mesh.export(tmp_path / "sheet.ply")
    slat = voxelize_mesh(tmp_path / "sheet.ply", 16)
    normal = torch.tensor([0.0, -np.sin(0.3), np.cos(0.3)]).float()
    assert ((slat.feats[:, 3:6] @ normal).abs() > 0.999).all()
    middles = (slat.coords + 0.5) / 16 - 0.5
    on_sheet = middles + slat.feats[:, 3:6] * slat.feats[:, 6:7] / 16
    assert (on_sheet @ normal).abs().max() < 0.002


def test_edges_have_the_mean_of_their_normals(tmp_path):
    trimesh.creation.box((1, 1, 2)).export(tmp_path / "box.ply")
    slat = voxelize_mesh(tmp_path / "box.ply", 30)
    edge = (slat.coords == torch.tensor([22, 7, 12])).all(1)
    assert edge.sum() == 1
    assert torch.allclose(slat.feats[edge, 3:6], torch.tensor([[0.5**0.5, -(0.5**0.5), 0]]), atol=0.1)


@pytest.mark.parametrize(
    ("suffix", "up", "tall"), [("glb", None, 2), ("ply", None, 1), ("ply", "y", 2), ("glb", "z", 1)]
)
def test_the_axis_that_points_up(tmp_path, suffix, up, tall):
    # Tall along y of the file, with a bump towards +z: the front of a y-up file, which comes to face -y.
    body, bump = trimesh.creation.box((0.5, 2, 0.5)), trimesh.creation.icosphere(2, 0.2)
    bump.apply_translation((0, 0.5, 0.4))
    trimesh.util.concatenate([body, bump]).export(tmp_path / f"post.{suffix}")
    slat = voxelize_mesh(tmp_path / f"post.{suffix}", 32, up)
    sides = slat.coords.max(0).values - slat.coords.min(0).values + 1
    assert sides[tall] == 32
    if tall == 2:
        upper = slat.coords[slat.coords[:, 2] > 22]
        assert (upper[:, 1] < upper[:, 1].float().median()).sum() > 0
        assert slat.coords[slat.coords[:, 1] == slat.coords[:, 1].min()][:, 2].float().mean() > 20


def test_textures_and_opacity(tmp_path):
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[:, 0], pixels[:, 1] = (255, 0, 0, 255), (0, 0, 255, 102)
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], dtype=float)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels), alphaMode="BLEND")
    visual = trimesh.visual.TextureVisuals(
        uv=np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=float), material=material
    )
    trimesh.Trimesh(corners, [[0, 2, 1], [0, 3, 2]], visual=visual, process=False).export(tmp_path / "sheet.glb")
    slat = voxelize_mesh(tmp_path / "sheet.glb", 8)
    left, right = slat.coords[:, 0] < 4, slat.coords[:, 0] >= 4
    assert torch.allclose(slat.feats[left][:, [0, 1, 2, 7]], torch.tensor([1.0, -1, -1, 1]), atol=1e-5)
    assert torch.allclose(slat.feats[right][:, [0, 1, 2, 7]], torch.tensor([-1.0, -1, 1, -0.2]), atol=1e-5)


def test_masked_texels_are_there_or_not(tmp_path):
    material = trimesh.visual.material.PBRMaterial(
        baseColorFactor=[255, 255, 255, 100], alphaMode="MASK", alphaCutoff=0.3
    )
    box = trimesh.creation.box((1, 1, 1))
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=material)
    box.export(tmp_path / "box.glb")
    assert (voxelize_mesh(tmp_path / "box.glb", 8).feats[:, 7] == 1).all()
    material.alphaCutoff = 0.5
    box.export(tmp_path / "box.glb")
    assert (voxelize_mesh(tmp_path / "box.glb", 8).feats[:, 7] == -1).all()


def test_needles_and_triangles_without_area_have_vectors(tmp_path):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-1, 1, (60, 3, 3))
    corners[::3, 2] = corners[::3, 1]
    corners[1::3, 2] = corners[1::3, 1] + 1e-4
    mesh = trimesh.Trimesh(corners.reshape(-1, 3), np.arange(180).reshape(-1, 3), process=False)
    mesh.export(tmp_path / "needles.ply")
    slat = voxelize_mesh(tmp_path / "needles.ply", 32)
    assert torch.allclose(slat.feats[:, 3:6].norm(dim=1), torch.ones(len(slat.coords)), atol=1e-5)
    assert slat.feats[:, 6].abs().max() <= 0.8701


def test_bad_files_are_named(tmp_path):
    (tmp_path / "garbage.glb").write_bytes(b"glTF nonsense")
    (tmp_path / "empty.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (tmp_path / "point.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    (tmp_path / "far.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    for name in ("garbage.glb", "empty.obj", "point.obj", "far.obj", "absent.ply"):
        with pytest.raises(ValueError, match=name):
            voxelize_mesh(tmp_path / name)
    for options in ({"up": "x"}, {"resolution": 0}):
        with pytest.raises(ValueError, match="up must be"):
            voxelize_mesh(tmp_path / "far.obj", **options)


# ---- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def meshes(tmp_path):
    folder = tmp_path / "meshes"
    (folder / "sub").mkdir(parents=True)
    trimesh.creation.box((1, 2, 3)).export(folder / "block.ply")
    trimesh.creation.icosphere(2).export(folder / "sub" / "ball.glb")
    return folder


def test_folders_are_coded_and_what_is_there_is_kept(meshes, tmp_path):
    out = tmp_path / "out"
    assert code_meshes(meshes, out, 16) == {"made": 2, "kept": 0, "bad": 0, "reasons": {}}
    files = sorted((out / "latents" / "voxel8").glob("*.npz"))
    assert [file.name for file in files] == ["block.npz", "sub--ball.npz"]
    expected = voxelize_mesh(meshes / "block.ply", 16)
    found = Slat.load(files[0])
    assert torch.equal(found.coords, expected.coords)
    assert torch.equal(found.feats, expected.feats)
    assert (found.resolution, found.space) == (16, "voxel8")
    written = [file.stat().st_mtime_ns for file in files]
    assert code_meshes(meshes, out, 16, workers=1) == {"made": 0, "kept": 2, "bad": 0, "reasons": {}}
    assert [file.stat().st_mtime_ns for file in files] == written
    trimesh.creation.box((3, 2, 3)).export(meshes / "block.ply")
    assert code_meshes(meshes, out, 16)["made"] == 1
    files[1].unlink()
    assert code_meshes(meshes, out, 16)["made"] == 1
    assert code_meshes(meshes, out, 8)["made"] == 2
    assert Slat.load(files[0]).resolution == 8


def test_a_record_cut_short_is_put_up_with(meshes, tmp_path):
    out = tmp_path / "out"
    code_meshes(meshes, out, 8)
    record = out / "latents" / "voxel8" / "sources.jsonl"
    lines = record.read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["block", "sub--ball"]
    record.write_text(lines[0] + "\n" + lines[1][:20])
    assert code_meshes(meshes, out, 8)["made"] == 1
    assert code_meshes(meshes, out, 8)["kept"] == 2


def test_bad_meshes_are_named_or_left_out(meshes, tmp_path):
    (meshes / "broken.obj").write_text("nothing")
    with pytest.raises(BadInputError, match=r"broken\.obj.*no triangles"):
        code_meshes(meshes, tmp_path / "out", 8)
    summary = code_meshes(meshes, tmp_path / "out", 8, max_bad_fraction=0.5)
    assert (summary["made"] + summary["kept"], summary["bad"]) == (2, 1)
    assert "broken.obj" in next(iter(summary["reasons"]))
    with pytest.raises(BadInputError, match="more than 10"):
        code_meshes(meshes, tmp_path / "out", 8, max_bad_fraction=0.1)


def test_folders_without_meshes_and_equal_names(meshes, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="found none"):
        code_meshes(tmp_path / "none", tmp_path / "out")
    trimesh.creation.box((1, 2, 3)).export(meshes / "block.glb")
    with pytest.raises(ValueError, match="'block'"):
        code_meshes(meshes, tmp_path / "out")
