"""Gaussians: TRELLIS' formulae number by number, .ply files, and rendering by gsplat."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kyvo.cameras import Cameras
from kyvo.models import gaussians
from kyvo.models.gaussians import GaussianFormat, Gaussians

FORM = GaussianFormat(count=3, factors=(0.5, 2.0, 1.5, 0.1, 0.7))


def few(count: int = 5) -> Gaussians:
    random = torch.Generator().manual_seed(0)
    quaternions = torch.randn(count, 4, generator=random)
    return Gaussians(
        positions=torch.rand(count, 3, generator=random) - 0.5,
        dc=torch.randn(count, 3, generator=random),
        scales=torch.rand(count, 3, generator=random) * 0.1 + 0.01,
        rotations=quaternions / quaternions.norm(dim=1, keepdim=True),
        opacities=torch.rand(count, generator=random) * 0.98 + 0.01,
    )


def covariances(found: Gaussians) -> np.ndarray:
    turns = Rotation.from_quat(found.rotations.double().numpy(), scalar_first=True).as_matrix()
    return turns @ (found.scales.double().numpy()[:, :, None] ** 2 * turns.transpose(0, 2, 1))


# ---- from the numbers of the decoder --------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["softplus", "exp"])
@pytest.mark.parametrize("perturbed", [True, False])
def test_numbers_become_gaussians_by_the_formulae(activation, perturbed):
    form = GaussianFormat(**{**vars(FORM), "scaling_activation": activation, "perturbed": perturbed})
    coords = torch.tensor([[0, 3, 7], [5, 5, 2]])
    head = torch.randn(2, 42, generator=torch.Generator().manual_seed(0))
    found = Gaussians.from_head(head, coords, 8, form.perturbation(), form)
    assert len(found) == 6
    for voxel in range(2):
        numbers = head[voxel].tolist()
        for one in range(3):
            row, spread = 3 * voxel + one, form.perturbation()[one].tolist()
            for axis in range(3):
                offset = 0.5 * numbers[3 * one + axis] + (spread[axis] if perturbed else 0)
                middle = (int(coords[voxel, axis]) + 0.5) / 8 + math.tanh(offset) * 0.5 * 1.5 / 8 - 0.5
                assert found.positions[row, axis].item() == pytest.approx(middle, abs=1e-6)
                color = 2 * numbers[9 + 3 * one + axis]
                assert found.dc[row, axis].item() == pytest.approx(color, abs=1e-6)
                assert found.colors[row, axis].item() == pytest.approx(max(0, 0.28209479 * color + 0.5), abs=1e-6)
                number = 1.5 * numbers[18 + 3 * one + axis]
                if activation == "exp":
                    plain = math.exp(number + math.log(4e-3))
                else:
                    bias = 4e-3 + math.log(-math.expm1(-4e-3))
                    plain = math.log1p(math.exp(number + bias))
                assert found.scales[row, axis].item() == pytest.approx(math.hypot(plain, 9e-4), rel=1e-5)
            turn = np.array(numbers[27 + 4 * one : 31 + 4 * one]) * 0.1 + [1, 0, 0, 0]
            np.testing.assert_allclose(found.rotations[row], turn / np.linalg.norm(turn), atol=1e-6)
            opacity = 1 / (1 + math.exp(-(0.7 * numbers[39 + one] + math.log(0.1 / 0.9))))
            assert found.opacities[row].item() == pytest.approx(opacity, rel=1e-5)


def test_zeros_are_faint_round_gaussians_spread_over_the_voxel():
    form = GaussianFormat()
    found = Gaussians.from_head(torch.zeros(1, 448), torch.tensor([[31, 0, 63]]), 64, form.perturbation(), form)
    torch.testing.assert_close(found.opacities, torch.full((32,), 0.1))
    torch.testing.assert_close(found.scales, torch.full((32, 3), math.hypot(4e-3, 9e-4)))
    assert torch.equal(found.rotations, torch.tensor([1.0, 0, 0, 0]).expand(32, 4))
    corner = torch.tensor([31, 0, 63]) / 64 - 0.5
    inside = (found.positions - corner) * 64
    # A Hammersley sequence: along the first axis each 32nd of the voxel has one.
    torch.testing.assert_close(inside[:, 0], torch.arange(32) / 32, atol=1e-4, rtol=0)
    torch.testing.assert_close(inside[:4, 1], torch.tensor([0, 0.5, 0.25, 0.75]), atol=1e-4, rtol=0)
    torch.testing.assert_close(inside[:4, 2], torch.tensor([0, 1 / 3, 2 / 3, 1 / 9]), atol=1e-4, rtol=0)


def test_gradients_reach_every_part():
    head = torch.randn(4, 42, requires_grad=True)
    found = Gaussians.from_head(head, torch.arange(12).view(4, 3) % 8, 8, FORM.perturbation(), FORM)
    parts = (found.positions, found.dc, found.scales, found.rotations[:, 1:], found.opacities)
    sum(part.sum() for part in parts).backward()
    assert (head.grad != 0).all()


def test_a_config_of_trellis_is_read_whole(golden):
    config = json.loads((golden / "trellis" / "gaussian_decoder.json").read_text())["args"]["representation_config"]
    assert GaussianFormat.from_config(config) == GaussianFormat()
    config["lr"]["_opacity"] = 0.25
    assert GaussianFormat.from_config(config).factors == (1, 1, 1, 0.1, 0.25)
    with pytest.raises(ValueError, match=r"differs in \['more'\]"):
        GaussianFormat.from_config({**config, "more": 1})
    with pytest.raises(ValueError, match="softplus or exp, got 'relu'"):
        GaussianFormat.from_config({**config, "scaling_activation": "relu"})
    del config["voxel_size"]
    with pytest.raises(ValueError, match=r"differs in \['voxel_size'\]"):
        GaussianFormat.from_config(config)
    with pytest.raises(ValueError, match="expected a factor for each of"):
        GaussianFormat(factors=(1.0,))


def test_numbers_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected \[2, 42\] numbers for the voxels, got \[2, 41\]"):
        Gaussians.from_head(torch.zeros(2, 41), torch.zeros(2, 3), 8, FORM.perturbation(), FORM)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_the_ply_file_is_the_one_that_viewers_read(tmp_path):
    found = few(2)
    found.save_ply(tmp_path / "new" / "two.ply", turned=False)
    head, body = (tmp_path / "new" / "two.ply").read_bytes().split(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 2"]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert lines[3:] == [f"property float {name}" for name in names]
    rows = np.frombuffer(body, "<f4").reshape(2, 17)
    np.testing.assert_allclose(rows[:, :3], found.positions)
    assert not rows[:, 3:6].any()
    np.testing.assert_allclose(rows[:, 6:9], found.dc)
    np.testing.assert_allclose(rows[:, 9], torch.logit(found.opacities), rtol=1e-5)
    np.testing.assert_allclose(rows[:, 10:13], found.scales.log(), rtol=1e-6)
    np.testing.assert_allclose(rows[:, 13:], found.rotations)


def test_the_turn_is_that_of_trellis(tmp_path):
    found, turn = few(), np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    found.save_ply(tmp_path / "a.ply")
    turned = Gaussians.load_ply(tmp_path / "a.ply", turned=False)
    np.testing.assert_allclose(turned.positions, found.positions.numpy() @ turn.T, atol=1e-6)
    np.testing.assert_allclose(covariances(turned), turn @ covariances(found) @ turn.T, atol=1e-7)


@pytest.mark.parametrize("turned", [True, False])
def test_a_file_gives_back_what_was_written(tmp_path, turned):
    found = few()
    found.save_ply(tmp_path / "a.ply", turned)
    again = Gaussians.load_ply(tmp_path / "a.ply", turned)
    for name, value in vars(found).items():
        torch.testing.assert_close(getattr(again, name), value, atol=1e-5, rtol=1e-5)


def test_opacities_of_0_and_1_are_written_as_numbers(tmp_path):
    found = Gaussians(**{**vars(few(2)), "opacities": torch.tensor([0.0, 1.0], requires_grad=True)})
    found.save_ply(tmp_path / "a.ply")
    torch.testing.assert_close(Gaussians.load_ply(tmp_path / "a.ply").opacities, torch.tensor([0.0, 1.0]))


def test_files_of_other_programs_are_read(tmp_path):
    names = ["x", "y", "z", *[f"f_dc_{i}" for i in range(3)], "f_rest_0", "opacity"]
    names += [*[f"scale_{i}" for i in range(3)], *[f"rot_{i}" for i in range(4)]]
    kind = np.dtype([("red", "u1"), *[(name, "<f4") for name in names]])
    row = np.zeros(1, kind)
    row["x"], row["rot_0"], row["scale_1"] = 0.25, 2.0, math.log(0.5)
    lines = ["ply", "format binary_little_endian 1.0", "comment made elsewhere", "element vertex 1"]
    lines += ["property uchar red", *[f"property float {name}" for name in names]]
    lines += ["element face 0", "property list uchar int vertex_indices", "end_header"]
    (tmp_path / "a.ply").write_bytes(("\n".join(lines) + "\n").encode() + row.tobytes())
    found = Gaussians.load_ply(tmp_path / "a.ply", turned=False)
    assert found.positions.tolist() == [[0.25, 0, 0]]
    assert found.rotations.tolist() == [[1, 0, 0, 0]]
    assert found.scales.tolist() == [[1, 0.5, 1]]
    assert found.opacities.tolist() == [0.5]


def test_what_is_no_such_file_is_refused(tmp_path):
    file = tmp_path / "a.ply"
    few().save_ply(file)
    whole = file.read_bytes()
    cases = [
        (whole[:-4], r"expected 340 bytes of 5 vertices, got 336"),
        (whole.replace(b"binary_little_endian", b"ascii"), "expected a binary little-endian"),
        (whole.replace(b"property float rot_3", b"property float other"), "it has no rot_3"),
        (whole.replace(b"element vertex", b"element point"), "vertices as the first element"),
        (whole.replace(b"property float x", b"property list uchar int x"), "expected plain numbers"),
        (b"PNG", "expected a binary little-endian"),
    ]
    for content, message in cases:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"a.ply: .*{message}"):
            Gaussians.load_ply(file)
    with pytest.raises(FileNotFoundError):
        Gaussians.load_ply(tmp_path / "none.ply")


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_what_is_missing_for_rendering_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(gaussians, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"gsplat \(Apache-2\.0; pip install.*CUDA.*save_ply.*VoxelDecoder") as error:
        few().render(Cameras.sphere(1), 8)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(gaussians, "find_spec", lambda name: "found")
    with pytest.raises(ValueError, match=r"needs a CUDA device \(they are on cpu\)"):
        few().render(Cameras.sphere(1), 8)


def test_gsplat_gets_cameras_in_pixels_and_its_picture_is_laid_over_the_background(monkeypatch):
    given = {}

    def rasterize(**arguments):
        given.update(arguments)
        return torch.full((2, 6, 6, 3), 0.3), torch.full((2, 6, 6, 1), 0.25), {}

    monkeypatch.setattr(gaussians, "_rasterizer", lambda device: rasterize)
    cameras, found = Cameras.sphere(2), few()
    before = cameras.intrinsics.clone()
    views = found.render(cameras, 6, background=0.4, filter_2d=0.2)
    torch.testing.assert_close(views.rgb, torch.full((1, 2, 3, 6, 6), 0.6))
    torch.testing.assert_close(views.alpha, torch.full((1, 2, 6, 6), 0.25))
    assert torch.equal(cameras.intrinsics, before)
    torch.testing.assert_close(given["Ks"][:, 0, 0], 6 * before[:, 0, 0])
    assert given["Ks"][0, :, 2].tolist() == [3, 3, 1]
    assert torch.equal(given["viewmats"], cameras.extrinsics)
    assert (given["width"], given["height"], given["eps2d"], given["rasterize_mode"]) == (6, 6, 0.2, "antialiased")
    assert given["colors"].shape == (5, 3)
    assert given["opacities"].shape == (5,)


@pytest.mark.gpu
def test_gsplat_renders_a_gaussian_where_it_is():
    pytest.importorskip("gsplat")
    parts = {
        "positions": [[0.2, 0.1, -0.3]],
        "dc": [[1.0, 0.0, -1.0]],
        "scales": [[0.05, 0.05, 0.05]],
        "rotations": [[1.0, 0, 0, 0]],
        "opacities": [0.9],
    }
    found = Gaussians(**{name: torch.tensor(value, device="cuda").requires_grad_() for name, value in parts.items()})
    cameras = Cameras.sphere(4).to("cuda")
    views = found.render(cameras, 64, background=1.0)
    seen = torch.einsum("vij,j->vi", cameras.extrinsics[:, :3, :3], found.positions[0]) + cameras.extrinsics[:, :3, 3]
    points = torch.einsum("vij,vj->vi", cameras.intrinsics, seen)
    expected = points[:, :2] / points[:, 2:] * 64
    middles = torch.arange(64, device="cuda") + 0.5
    weight = views.alpha[0] / views.alpha[0].sum((1, 2), keepdim=True)
    at = torch.stack([(weight.sum(1) * middles).sum(1), (weight.sum(2) * middles).sum(1)], 1)
    torch.testing.assert_close(at, expected, atol=0.2, rtol=0)
    assert views.alpha.amax().item() == pytest.approx(0.9, abs=0.02)
    best = views.alpha[0, 0].flatten().argmax()
    over = found.colors[0].clamp(0, 1) * views.alpha[0, 0].flatten()[best] + 1 - views.alpha[0, 0].flatten()[best]
    torch.testing.assert_close(views.rgb[0, 0].flatten(1)[:, best], over, atol=1e-4, rtol=0)
    (views.rgb.square().sum() + views.alpha.sum()).backward()
    for part in (found.positions, found.dc, found.scales, found.opacities):
        assert part.grad.isfinite().all()
        assert part.grad.any()
