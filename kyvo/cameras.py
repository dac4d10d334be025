"""Cameras around an object in the cube [-0.5, 0.5]^3, z up, in OpenCV's convention, as TRELLIS has them.

V cameras, S side of a square image in pixels.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

RADIUS, FIELD_OF_VIEW = 2.0, 40.0
"""Distance from the middle and angle in degrees of the cameras that TRELLIS renders its 150 views with."""


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras.

    Args:
        extrinsics: World to camera, float32 [V, 4, 4]; the camera looks along +z, x right, y down.
        intrinsics: Normalised, float32 [V, 3, 3]: multiplied by the side of the image they give pixels.
    """

    extrinsics: Tensor
    intrinsics: Tensor

    def __len__(self) -> int:
        return len(self.extrinsics)

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> "Cameras":
        return Cameras(self.extrinsics[index], self.intrinsics[index])

    def to(self, device: torch.device | str) -> "Cameras":
        """The same on another device."""
        return Cameras(self.extrinsics.to(device), self.intrinsics.to(device))

    @property
    def positions(self) -> Tensor:
        """Where the cameras stand, float32 [V, 3]."""
        rotation, shift = self.extrinsics[:, :3, :3], self.extrinsics[:, :3, 3:]
        # Sums of products, not products of matrices: autocast would round those to bfloat16.
        return -(rotation * shift).sum(1)

    def rays(self, size: int) -> tuple[Tensor, Tensor]:
        """Rays through the middles of pixels.

        Args:
            size: S.

        Returns:
            Starts float32 [V, 3] and unit directions float32 [V, S, S, 3], rows from the top.
        """
        middles = (torch.arange(size, device=self.extrinsics.device) + 0.5) / size
        v, u = torch.meshgrid(middles, middles, indexing="ij")
        pixels = torch.stack([u, v, torch.ones_like(u)], -1)
        with torch.autocast(pixels.device.type, enabled=False):
            seen = torch.einsum("vij,hwj->vhwi", torch.linalg.inv(self.intrinsics), pixels)
            world = torch.einsum("vji,vhwj->vhwi", self.extrinsics[:, :3, :3], seen)
        return self.positions, world / torch.linalg.vector_norm(world, dim=-1, keepdim=True)

    @classmethod
    def around(cls, directions: Tensor, radius: float = RADIUS, field_of_view: float = FIELD_OF_VIEW) -> Self:
        """Cameras that look at the middle, with z upwards in the image.

        Args:
            directions: Where they stand as seen from the middle, [V, 3] of any length above 0.
            radius: How far from it.
            field_of_view: Angle in degrees from one side of the image to the other.
        """
        outward = torch.nn.functional.normalize(directions.float(), dim=1)
        # From straight above or below no direction is upwards: y is taken.
        up = torch.where(outward[:, 2:].abs() > 0.999, outward.new_tensor([0.0, 1, 0]), outward.new_tensor([0.0, 0, 1]))
        right = torch.nn.functional.normalize(torch.linalg.cross(up, outward), dim=1)
        down = torch.linalg.cross(right, outward)
        rotation = torch.stack([right, down, -outward], 1)
        extrinsics = torch.eye(4, device=outward.device).repeat(len(outward), 1, 1)
        extrinsics[:, :3, :3] = rotation
        extrinsics[:, :3, 3] = -(rotation @ (radius * outward)[..., None])[..., 0]
        return cls(extrinsics, _intrinsics(math.radians(field_of_view), outward.device).repeat(len(outward), 1, 1))

    @classmethod
    def sphere(cls, count: int, offset: tuple[float, float] = (0.0, 0.0)) -> Self:
        """Cameras spread evenly over a sphere: TRELLIS' Hammersley sequence, radius 2, 40 degrees.

        Args:
            count: V.
            offset: Moves all of them, in [0, 1) each; random ones give other views.
        """
        numbers = torch.arange(count)
        across = (numbers / count + offset[0] / count) % 1
        # TRELLIS' own stretch of the sequence, which thins one pole.
        across = torch.where(across < 0.25, 2 * across, 2 / 3 * across + 1 / 3)
        pitch = torch.acos((1 - 2 * across).clamp(-1, 1)) - math.pi / 2
        yaw = 2 * math.pi * (_van_der_corput(numbers) + offset[1])
        flat = pitch.cos()
        return cls.around(torch.stack([yaw.cos() * flat, yaw.sin() * flat, pitch.sin()], 1))

    @classmethod
    def from_transforms(cls, file: str | Path) -> tuple[Self, list[Path]]:
        """The cameras of a `transforms.json`, as Blender's toolkits and TRELLIS write it, and the pictures' paths.

        Raises:
            ValueError: Naming the file, if it holds no such cameras.
        """
        path = Path(file)
        try:
            content = json.loads(path.read_text())
            frames = content["frames"]
            camera_to_world = torch.tensor([frame["transform_matrix"] for frame in frames], dtype=torch.float64)
            angles = [float(frame.get("camera_angle_x", content.get("camera_angle_x"))) for frame in frames]
            pictures = [path.parent / frame["file_path"] for frame in frames]
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: expected frames with transform_matrix and camera_angle_x: {error}") from error
        if not frames or camera_to_world.shape[1:] != (4, 4):
            raise ValueError(f"{path}: expected frames with 4 x 4 matrices, got {list(camera_to_world.shape)}")
        # OpenGL's cameras look along -z with y up.
        camera_to_world[:, :3, 1:3] *= -1
        extrinsics = torch.linalg.inv(camera_to_world).float()
        return cls(extrinsics, torch.cat([_intrinsics(angle, extrinsics.device) for angle in angles])), pictures

    def write_transforms(self, file: str | Path, pictures: Sequence[str]) -> None:
        """Write a `transforms.json` that `from_transforms` reads.

        Args:
            file: Where to.
            pictures: File name of each camera's picture, relative to the folder of `file`.
        """
        camera_to_world = torch.linalg.inv(self.extrinsics.double().cpu())
        camera_to_world[:, :3, 1:3] *= -1
        angles = (2 * torch.atan(0.5 / self.intrinsics[:, 0, 0].double())).tolist()
        frames = [
            {"file_path": name, "camera_angle_x": angle, "transform_matrix": matrix}
            for name, angle, matrix in zip(pictures, angles, np.round(camera_to_world.numpy(), 9).tolist(), strict=True)
        ]
        aabb = [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]
        content = {"aabb": aabb, "scale": 1.0, "offset": [0.0, 0.0, 0.0], "frames": frames}
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(content) + "\n")


def _intrinsics(angle: float, device: torch.device) -> Tensor:
    """[1, 3, 3] for a horizontal angle of view in radians."""
    focal = 0.5 / math.tan(angle / 2)
    return torch.tensor([[[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]]], device=device)


def _van_der_corput(numbers: Tensor) -> Tensor:
    """Each number's binary digits mirrored at the point, float32 in [0, 1)."""
    mirrored, weight = torch.zeros_like(numbers, dtype=torch.float32), 0.5
    left = numbers.clone()
    while bool((left > 0).any()):
        mirrored += weight * (left % 2)
        left //= 2
        weight /= 2
    return mirrored
