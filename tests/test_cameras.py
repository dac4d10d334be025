"""Cameras: where they stand and look, their rays, and transforms.json."""

import json
import math
from pathlib import Path

import pytest
import torch

from kyvo.cameras import Cameras


def test_a_camera_in_front_looks_along_y():
    camera = Cameras.around(torch.tensor([[0.0, -3, 0]]), radius=2, field_of_view=90)
    torch.testing.assert_close(camera.positions, torch.tensor([[0.0, -2, 0]]))
    start, directions = camera.rays(2)
    torch.testing.assert_close(start, camera.positions)
    # Half a field of view of 45 degrees: the middles of 2 x 2 pixels lie at a quarter of the picture's width.
    expected = torch.nn.functional.normalize(torch.tensor([[-0.5, 1, 0.5], [0.5, 1, 0.5], [-0.5, 1, -0.5]]), dim=1)
    torch.testing.assert_close(directions[0].reshape(4, 3)[:3], expected)


@pytest.mark.parametrize("direction", [(1.0, 2, 3), (0.0, 0, 1), (0.0, 0, -1), (-1.0, 0.2, -0.4)])
def test_extrinsics_are_rigid_and_look_at_the_middle(direction: tuple):
    camera = Cameras.around(torch.tensor([direction]))
    rotation = camera.extrinsics[0, :3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
    middle = camera.extrinsics[0] @ torch.tensor([0.0, 0, 0, 1])
    torch.testing.assert_close(middle, torch.tensor([0.0, 0, 2, 1]), atol=1e-6, rtol=0)


def test_the_sphere_is_the_sequence_of_trellis():
    def radical_inverse(number: int) -> float:
        return sum(int(digit) / 2 ** (place + 1) for place, digit in enumerate(reversed(f"{number:b}")))

    expected = []
    for i in range(10):
        u, v = (i + 0.25) / 10, (radical_inverse(i) + 0.5)
        u = 2 * u if u < 0.25 else 2 / 3 * u + 1 / 3
        pitch, yaw = math.acos(1 - 2 * u) - math.pi / 2, 2 * math.pi * v
        expected.append([2 * math.cos(yaw) * math.cos(pitch), 2 * math.sin(yaw) * math.cos(pitch), 2 * math.sin(pitch)])
    found = Cameras.sphere(10, (0.25, 0.5))
    torch.testing.assert_close(found.positions, torch.tensor(expected), atol=1e-5, rtol=0)
    focal = 0.5 / math.tan(math.radians(20))
    torch.testing.assert_close(found.intrinsics[3], torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]))


def test_transforms_come_back(tmp_path: Path):
    cameras = Cameras.sphere(7, (0.3, 0.6))
    cameras.write_transforms(tmp_path / "renders" / "transforms.json", [f"{i:03d}.png" for i in range(7)])
    found, pictures = Cameras.from_transforms(tmp_path / "renders" / "transforms.json")
    torch.testing.assert_close(found.extrinsics, cameras.extrinsics, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.intrinsics, cameras.intrinsics)
    assert pictures[6] == tmp_path / "renders" / "006.png"


def test_blenders_cameras_look_along_minus_z(tmp_path: Path):
    matrix = [[1, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]
    content = {"camera_angle_x": math.radians(40), "frames": [{"file_path": "0.png", "transform_matrix": matrix}]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    found, _ = Cameras.from_transforms(tmp_path / "transforms.json")
    torch.testing.assert_close(found.extrinsics, Cameras.around(torch.tensor([[0.0, -1, 0]])).extrinsics)


@pytest.mark.parametrize("text", ["{", "{}", '{"frames": []}', '{"frames": [{"file_path": "a"}]}'])
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(ValueError, match=r"transforms\.json: expected frames"):
        Cameras.from_transforms(tmp_path / "transforms.json")


def test_autocast_bends_no_ray():
    cameras = Cameras.sphere(5, (0.3, 0.6))
    expected = cameras.rays(4)
    with torch.autocast("cpu", torch.bfloat16):
        for found, wanted in zip(cameras.rays(4), expected, strict=True):
            assert torch.equal(found, wanted)
