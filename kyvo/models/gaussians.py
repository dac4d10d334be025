"""3D Gaussians: how TRELLIS' decoder describes them, the .ply files that viewers read, and rendering by gsplat.

L voxels, G Gaussians, V cameras, S side of a picture in pixels.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyvo.cameras import Cameras
from kyvo.models.shape_decoder import Views

SH_DC = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): a colour is 0.5 + SH_DC * its coefficient."""

PARTS = (("_xyz", 3), ("_features_dc", 3), ("_scaling", 3), ("_rotation", 4), ("_opacity", 1))
"""What the numbers of a voxel are, in their order: TRELLIS' names, and how many of each a Gaussian has."""

_COLUMNS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4", "float32": "<f4",
    "double": "<f8", "float64": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class GaussianFormat:
    """How the numbers that TRELLIS' decoder gives for a voxel become Gaussians; the defaults are those of its weights.

    Args:
        count: Gaussians of a voxel.
        factors: What each of `PARTS` is multiplied by.
        reach: How far their middles may lie from that of the voxel, in halves of a voxel.
        perturbed: Whether the middles start spread over the voxel rather than all in its middle.
        scaling_bias: Size of a Gaussian whose number is 0.
        opacity_bias: Opacity of one whose number is 0.
        scaling_activation: ``softplus`` or ``exp``.
        filter_3d: Size that is added (in squares) to every Gaussian's.
        filter_2d: Variance in pixels squared that is added to every Gaussian's in the picture.
    """

    count: int = 32
    factors: tuple[float, ...] = (1.0, 1.0, 1.0, 0.1, 1.0)
    reach: float = 1.5
    perturbed: bool = True
    scaling_bias: float = 4e-3
    opacity_bias: float = 0.1
    scaling_activation: str = "softplus"
    filter_3d: float = 9e-4
    filter_2d: float = 0.1

    def __post_init__(self) -> None:
        if self.scaling_activation not in ("softplus", "exp"):
            raise ValueError(f"scaling_activation should be softplus or exp, got {self.scaling_activation!r}")
        if len(self.factors) != len(PARTS):
            raise ValueError(f"expected a factor for each of {[name for name, _ in PARTS]}, got {self.factors}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a `representation_config` of TRELLIS.

        Raises:
            ValueError: An entry is missing, or one that the network here does not know.
        """
        names = {
            "num_gaussians": "count",
            "voxel_size": "reach",
            "perturb_offset": "perturbed",
            "scaling_bias": "scaling_bias",
            "opacity_bias": "opacity_bias",
            "scaling_activation": "scaling_activation",
            "3d_filter_kernel_size": "filter_3d",
            "2d_filter_kernel_size": "filter_2d",
        }
        wrong = sorted({*names, "lr"} ^ set(config))
        if wrong:
            raise ValueError(f"expected a representation_config with lr, {', '.join(names)}; differs in {wrong}")
        factors = tuple(float(config["lr"][name]) for name, _ in PARTS)
        return cls(factors=factors, **{ours: config[theirs] for theirs, ours in names.items()})

    @property
    def numbers(self) -> int:
        """How many numbers describe a voxel's Gaussians: 448 for 32 of them."""
        return self.count * sum(width for _, width in PARTS)

    def perturbation(self) -> Tensor:
        """Where the Gaussians of a voxel start, before the tanh: a Hammersley sequence, float32 [count, 3]."""
        points = [[i / self.count, _inverse(2, i), _inverse(3, i)] for i in range(self.count)]
        return torch.atanh((torch.tensor(points) * 2 - 1) / self.reach)


def _inverse(base: int, number: int) -> float:
    """The digits of a number in a base, mirrored at the point."""
    found, weight = 0.0, 1 / base
    while number:
        number, digit = divmod(number, base)
        found, weight = found + digit * weight, weight / base
    return found


@dataclass(frozen=True)
class Gaussians:
    """One object as Gaussians in the cube [-0.5, 0.5]^3, z up; every number is final, none is a logarithm or a logit.

    Args:
        positions: Middles, float [G, 3].
        dc: Colours as coefficients of the constant spherical harmonic, float [G, 3]; see `colors`.
        scales: Standard deviations along their axes, float [G, 3], above 0.
        rotations: Unit quaternions w, x, y, z, float [G, 4].
        opacities: float [G] in [0, 1].
    """

    positions: Tensor
    dc: Tensor
    scales: Tensor
    rotations: Tensor
    opacities: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def colors(self) -> Tensor:
        """Colours float [G, 3], at least 0; some may be above 1."""
        return (0.5 + SH_DC * self.dc).clamp(min=0)

    @classmethod
    def from_head(
        cls, head: Tensor, coords: Tensor, resolution: int, perturbation: Tensor, form: GaussianFormat
    ) -> Self:
        """What TRELLIS' decoder says of voxels (`SLatGaussianDecoder.to_representation` and `Gaussian` there).

        Args:
            head: float [L, numbers of a voxel], in the order of `PARTS`, each for all Gaussians of the voxel.
            coords: Indices x, y, z of the voxels, integers [L, 3].
            resolution: Voxels along a side of the cube.
            perturbation: float [count, 3], see `GaussianFormat.perturbation`.
            form: What the numbers mean.

        Returns:
            G = L * count Gaussians, those of a voxel next to each other.

        Raises:
            ValueError: Another number of numbers, or of voxels.
        """
        if head.shape != (len(coords), form.numbers):
            raise ValueError(f"expected [{len(coords)}, {form.numbers}] numbers for the voxels, got {list(head.shape)}")
        parts = head.float().split([form.count * width for _, width in PARTS], 1)
        scaled = [part * factor for part, factor in zip(parts, form.factors, strict=True)]
        offset, dc, scaling, rotation, opacity = (
            part.unflatten(1, (form.count, width)) for part, (_, width) in zip(scaled, PARTS, strict=True)
        )
        if form.perturbed:
            offset = offset + perturbation
        middles = (coords.to(head.device)[:, None].float() + 0.5) / resolution - 0.5
        positions = middles + offset.tanh() * (0.5 * form.reach / resolution)
        quaternions = rotation + rotation.new_tensor([1.0, 0, 0, 0])
        return cls(
            positions=positions.flatten(0, 1),
            dc=dc.flatten(0, 1),
            scales=_sizes(scaling, form).flatten(0, 1),
            rotations=F.normalize(quaternions, dim=-1).flatten(0, 1),
            opacities=torch.sigmoid(opacity + math.log(form.opacity_bias / (1 - form.opacity_bias))).flatten(),
        )

    # ---- files ------------------------------------------------------------------------------------------------------

    def save_ply(self, file: str | Path, turned: bool = True) -> None:
        """Write the .ply of 3D Gaussian Splatting: logarithms of scales, logits of opacities, quaternions w, x, y, z.

        Args:
            file: Where to.
            turned: Turn the object as TRELLIS does, (x, y, z) to (x, -z, y): z up becomes y down, which viewers of
                such files take as upright.
        """
        positions, dc, scales, rotations, opacities = (
            part.detach().double().cpu().numpy()
            for part in (self.positions, self.dc, self.scales, self.rotations, self.opacities)
        )
        if turned:
            positions, rotations = _turn(positions, rotations)
        clipped = opacities.clip(1e-7, 1 - 1e-7)[:, None]
        logits = np.log(clipped) - np.log1p(-clipped)
        rows = np.concatenate([positions, np.zeros_like(positions), dc, logits, np.log(scales), rotations], 1)
        properties = "".join(f"property float {name}\n" for name in _COLUMNS)
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{properties}end_header\n"
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(header.encode() + rows.astype("<f4").tobytes())

    @classmethod
    def load_ply(cls, file: str | Path, turned: bool = True) -> Self:
        """Read a .ply of 3D Gaussian Splatting; colours that depend on the direction (f_rest) are left out.

        Args:
            file: A binary little-endian .ply.
            turned: Whether the object lies there as `save_ply` turns it, and is to be turned back.

        Raises:
            ValueError: Naming the file, if it is none, lacks a column or ends early.
            OSError: There is no such file.
        """
        table = _read_ply(Path(file))
        columns = {name: table[name].astype(np.float64) for name in _COLUMNS if name not in ("nx", "ny", "nz")}
        positions, dc, scales, rotations = (
            np.stack([column for name, column in columns.items() if name.startswith(prefix)], 1)
            for prefix in (("x", "y", "z"), "f_dc_", "scale_", "rot_")
        )
        if turned:
            positions, rotations = _turn(positions, rotations, back=True)
        rotations = rotations / np.linalg.norm(rotations, axis=1, keepdims=True).clip(1e-12)
        parts = (positions, dc, np.exp(scales), rotations, 1 / (1 + np.exp(-columns["opacity"])))
        return cls(*(torch.from_numpy(part.astype(np.float32)) for part in parts))

    # ---- pictures ---------------------------------------------------------------------------------------------------

    def render(self, cameras: Cameras, size: int, background: float = 1.0, filter_2d: float = 0.1) -> Views:
        """The object seen by cameras, by `gsplat`; gradients flow to every part.

        Args:
            cameras: V cameras.
            size: S.
            background: Grey behind the object, 0 black to 1 white.
            filter_2d: See `GaussianFormat`.

        Returns:
            Views of one object (B = 1).

        Raises:
            ValueError: Without gsplat or without CUDA.
        """
        rasterize = _rasterizer(self.positions.device)
        intrinsics = cameras.intrinsics.to(self.positions).clone()
        intrinsics[:, :2] *= size
        # Antialiased, gsplat does what TRELLIS' rasteriser, that of Mip-Splatting, does. Nearly all Gaussians are in
        # view: packing those that are would save nothing. The background is laid here, as gsplat 1.5.3 can't always.
        colors, alphas, _ = rasterize(
            means=self.positions,
            quats=self.rotations,
            scales=self.scales,
            opacities=self.opacities,
            colors=self.colors,
            viewmats=cameras.extrinsics.to(self.positions),
            Ks=intrinsics,
            width=size,
            height=size,
            eps2d=filter_2d,
            packed=False,
            rasterize_mode="antialiased",
        )
        rgb = (colors + (1 - alphas) * background).clamp(0, 1)
        return Views(rgb.movedim(-1, 1)[None], alphas[..., 0][None])


def _sizes(scaling: Tensor, form: GaussianFormat) -> Tensor:
    if form.scaling_activation == "exp":
        sizes = form.scaling_bias * scaling.exp()
    else:
        sizes = F.softplus(scaling + math.log(math.expm1(form.scaling_bias)))
    return (sizes.square() + form.filter_3d**2).sqrt()


def _turn(positions: np.ndarray, rotations: np.ndarray, back: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A quarter turn about x, y towards z, of positions [G, 3] and quaternions [G, 4]; or the one back."""
    sign = -1.0 if back else 1.0
    x, y, z = positions.T
    w, i, j, k = rotations.T
    turned = np.stack([w - sign * i, i + sign * w, j - sign * k, k + sign * j], 1) * math.sqrt(0.5)
    return np.stack([x, -sign * z, sign * y], 1), turned


def _read_ply(path: Path) -> np.ndarray:
    """The vertices of a .ply as a structured array."""
    head, mark, body = path.read_bytes().partition(b"end_header\n")
    words = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    if not mark or words[:2] != [["ply"], ["format", "binary_little_endian", "1.0"]]:
        raise ValueError(f"{path}: expected a binary little-endian .ply, got something else")
    elements = [index for index, line in enumerate(words) if line[:1] == ["element"]]
    if not elements or words[elements[0]][:2] != ["element", "vertex"]:
        raise ValueError(f"{path}: expected vertices as the first element")
    first, last = elements[0], elements[1] if len(elements) > 1 else len(words)
    count, properties = words[first][2], [line for line in words[first:last] if line[:1] == ["property"]]
    if any(len(line) != 3 or line[1] not in _PLY_TYPES for line in properties) or not count.isdigit():
        raise ValueError(f"{path}: expected plain numbers as properties of vertices, got {properties}")
    kind = np.dtype([(name, _PLY_TYPES[number]) for _, number, name in properties])
    missing = [name for name in _COLUMNS if name not in (*kind.fields, "nx", "ny", "nz")] if kind.fields else _COLUMNS
    if missing:
        raise ValueError(f"{path}: not of 3D Gaussian Splatting, it has no {', '.join(missing)}")
    if len(body) < int(count) * kind.itemsize:
        raise ValueError(f"{path}: expected {int(count) * kind.itemsize} bytes of {count} vertices, got {len(body)}")
    return np.frombuffer(body, kind, int(count))


def _rasterizer(device: torch.device) -> Callable[..., tuple[Tensor, Tensor, Any]]:
    missing = ["the package gsplat (Apache-2.0; pip install gsplat)"] if find_spec("gsplat") is None else []
    if device.type != "cuda":
        missing.append(f"a CUDA device (they are on {device})")
    if missing:
        raise ValueError(
            f"rendering Gaussians needs {' and '.join(missing)}. Without, Gaussians.save_ply writes them for any "
            "viewer, and latents of the space voxel8 are rendered everywhere, by VoxelDecoder"
        )
    rasterization: Callable[..., tuple[Tensor, Tensor, Any]] = importlib.import_module("gsplat").rasterization
    return rasterization
