"""TRELLIS' networks of structured latents in plain torch: same weights, same results, without compiled packages.

L voxels of all objects of a batch, C channels of the network, W windows, P voxels of a window with padding. Both
networks are a transformer over the voxels of a surface, each attending to those in the same window of 8 x 8 x 8 voxels
(shifted by half a window in every other block). Arithmetic after microsoft/TRELLIS (MIT), arXiv 2412.01506.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kyvo.models.gaussians import GaussianFormat, Gaussians
from kyvo.slat import Slat

SPACE = "trellis"
"""Space of the latents."""

_WIDTHS = (16, 32, 64, 128, 256)
"""Windows are padded to the next of these, larger ones to the largest: one crowded window widens only its like."""

_FIXED = {"attn_mode": "swin", "pe_mode": "ape", "qk_rms_norm": False}
_OPTIONAL = ("num_heads", "num_head_channels", "mlp_ratio", "window_size")
# How to compute, not what: here autocast and `checkpointed` say so.
_IGNORED = ("use_fp16", "use_checkpoint")


@dataclass(frozen=True)
class TrellisNetwork:
    """Sizes, by the names that TRELLIS gives them; the defaults are those of its released weights.

    Args:
        resolution: Voxels along a side of the cube.
        model_channels: C.
        latent_channels: Channels of a latent.
        num_blocks: Blocks.
        num_heads: Heads of attention.
        mlp_ratio: Width of the hidden layer of a block, in C.
        window_size: Voxels along a side of a window.
    """

    resolution: int = 64
    model_channels: int = 768
    latent_channels: int = 8
    num_blocks: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4
    window_size: int = 8

    def __post_init__(self) -> None:
        if self.model_channels % self.num_heads:
            raise ValueError(f"model_channels should be a multiple of num_heads {self.num_heads}, got {self}")


# ---- windows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Which voxels attend to each other.

    Args:
        groups: For windows of about as many voxels: their rows, int64 [W, P], and which of them are no padding,
            bool [W, P].
        back: Where each voxel is once the groups' rows without padding are joined, int64 [L].
    """

    groups: tuple[tuple[Tensor, Tensor], ...]
    back: Tensor

    @classmethod
    def of(cls, coords: Tensor, size: int, shift: int) -> Self:
        """Windows of voxels.

        Args:
            coords: Object, x, y and z of each voxel, integers [L, 4].
            size: Voxels along a side of a window.
            shift: By how many voxels the windows are shifted.
        """
        batch, x, y, z = torch.cat([coords[:, :1], (coords[:, 1:] + shift) // size], 1).long().unbind(1)
        side = int(torch.stack([x, y, z]).max()) + 1
        window = (((batch * side + x) * side + y) * side + z).unique(return_inverse=True)[1]
        order, counts = window.argsort(stable=True), window.bincount()
        starts = counts.cumsum(0) - counts
        level = torch.bucketize(counts, torch.tensor(_WIDTHS, device=counts.device))
        groups = []
        for one in level.unique():
            start, count = starts[level == one, None], counts[level == one, None]
            slots = torch.arange(_WIDTHS[one] if one < len(_WIDTHS) else int(count.max()), device=order.device)
            # The rows of the padding are any, as nothing attends to it and what it gets is dropped.
            groups.append((order[(start + slots).clamp(max=len(order) - 1)], slots < count))
        return cls(tuple(groups), torch.cat([rows[real] for rows, real in groups]).argsort())

    def attend(self, qkv: Tensor, heads: int) -> Tensor:
        """What each voxel takes from those of its window: from [L, 3 * C] to [L, C]."""
        taken = []
        for rows, real in self.groups:
            query, key, value = qkv[rows].unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None])
            taken.append(mixed.transpose(1, 2).flatten(2)[real])
        return torch.cat(taken)[self.back]


# ---- network --------------------------------------------------------------------------------------------------------


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        taken: Tensor = self.to_out(windows.attend(self.to_qkv(x), self.heads))
        return taken


class _FeedForward(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.mlp(x)
        return found


class _Block(nn.Module):
    def __init__(self, network: TrellisNetwork) -> None:
        super().__init__()
        self.channels = network.model_channels
        self.attn = _Attention(self.channels, network.num_heads)
        self.mlp = _FeedForward(self.channels, int(self.channels * network.mlp_ratio))

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        x = x + self.attn(F.layer_norm(x, (self.channels,), eps=1e-6), windows)
        return x + self.mlp(F.layer_norm(x, (self.channels,), eps=1e-6))


class VoxelTransformer(nn.Module):
    """The transformer that TRELLIS' encoder and decoders share; under autocast only its blocks are in half precision.

    Args:
        network: Sizes.
        inputs: Numbers of a voxel that go in.
        outputs: Numbers of a voxel that come out.

    Attributes:
        checkpointed: Compute each block anew in the backward pass. Of the released sizes, 1,000 voxels keep 0.04 GiB
            of activations (float32) rather than 0.45, and there are up to 32,768 voxels.
    """

    NAMES: ClassVar[tuple[str, ...]]
    """What TRELLIS' configs call such a network."""

    def __init__(self, network: TrellisNetwork, inputs: int, outputs: int) -> None:
        super().__init__()
        self.network, self.checkpointed = network, False
        self.input_layer = nn.Linear(inputs, network.model_channels)
        self.blocks = nn.ModuleList(_Block(network) for _ in range(network.num_blocks))
        self.out_layer = nn.Linear(network.model_channels, outputs)

    def transform(self, feats: Tensor, coords: Tensor) -> Tensor:
        """The numbers that come out.

        Args:
            feats: float [L, inputs].
            coords: Number of the object in the batch, x, y and z of each voxel, integers [L, 4]; in any order.

        Returns:
            float32 [L, outputs].

        Raises:
            ValueError: Tensors of other shapes or types, no voxel, or one outside the grid.
        """
        self._check(feats, coords)
        size = self.network.window_size
        windows = [Windows.of(coords, size, shift) for shift in (0, size // 2)]
        with torch.autocast(feats.device.type, enabled=False):
            x = self.input_layer(feats.float()) + positions(coords[:, 1:], self.network.model_channels)
        for index, block in enumerate(self.blocks):
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(block, x, windows[index % 2], use_reentrant=False)
            else:
                x = block(x, windows[index % 2])
        with torch.autocast(feats.device.type, enabled=False):
            found: Tensor = self.out_layer(F.layer_norm(x.float(), x.shape[1:]))
        return found

    def _check(self, feats: Tensor, coords: Tensor) -> None:
        inputs = self.input_layer.in_features
        if feats.ndim != 2 or feats.shape[1] != inputs or not feats.is_floating_point():
            raise ValueError(f"expected feats float [L, {inputs}], got {feats.dtype} {list(feats.shape)}")
        if coords.shape != (len(feats), 4) or coords.is_floating_point():
            expected = f"coords as integers [{len(feats)}, 4] (object, x, y, z)"
            raise ValueError(f"expected {expected}, got {coords.dtype} {list(coords.shape)}")
        last = self.network.resolution - 1
        if not len(coords) or int(coords.min()) < 0 or int(coords[:, 1:].max()) > last:
            raise ValueError(f"expected voxels with x, y and z from 0 to {last}, got {coords[:3].tolist()} ...")

    # ---- files ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """A network of the sizes in the `args` of TRELLIS' config, with random weights.

        Raises:
            ValueError: Entries that are missing or unknown, or of a network that is not built here.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, source: str | Path, name: str = "", checkpointed: bool = False) -> Self:
        """Load TRELLIS' own pair of files, .json and .safetensors, frozen and in float32 whatever type they have.

        Args:
            source: Path of the pair without the suffix; or a folder.
            name: The pair's name in that folder; default is the only one there of this network.
            checkpointed: Compute each block anew in the backward pass.

        Raises:
            ValueError: No such pair; one of another network; the first weight that is missing, has another shape or
                no place in the network.
        """
        base = _find(Path(source, name), cls.NAMES)
        config = _read_config(base)
        if config["name"] not in cls.NAMES:
            raise ValueError(f"{base}.json: expected a {cls.NAMES[0]}, got a {config['name']}")
        try:
            with torch.device("meta"):
                model = cls.from_args(config["args"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{base}.json: {type(error).__name__}: {error}") from error
        model.load_state_dict(_read_weights(base, model.state_dict()), assign=True)
        model.checkpointed = checkpointed
        return model.eval().requires_grad_(False)


class SlatEncoder(VoxelTransformer):
    """TRELLIS' encoder: features of DINOv2 at the voxels of a surface to structured latents.

    Args:
        network: Sizes.
        in_channels: Channels of the features.
    """

    NAMES = ("SLatEncoder", "ElasticSLatEncoder")

    def __init__(self, network: TrellisNetwork = TrellisNetwork(), in_channels: int = 1024) -> None:
        super().__init__(network, in_channels, 2 * network.latent_channels)

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """See `VoxelTransformer`; besides the sizes there is in_channels."""
        return cls(_sizes(args, "in_channels"), int(args["in_channels"]))

    def forward(self, feats: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances of the latents.

        Args:
            feats: Features, float [L, in_channels].
            coords: Object, x, y and z of each voxel, integers [L, 4].

        Returns:
            Each float32 [L, latent_channels]; raw, not normalised.

        Raises:
            ValueError: Tensors of other shapes or types, no voxel, or one outside the grid.
        """
        mean, log_variance = self.transform(feats, coords).chunk(2, 1)
        return mean, log_variance

    def encode(self, features: Sequence[Slat]) -> list[Slat]:
        """The latents of objects (their means, as TRELLIS' data sets have them).

        Args:
            features: Voxels and their features, of any space.

        Raises:
            ValueError: Objects of another resolution or number of channels.
        """
        feats, coords = join(features, self.network.resolution)
        means = self(feats, coords)[0].split([len(one.coords) for one in features])
        return [Slat(one.coords, mean, one.resolution, SPACE) for one, mean in zip(features, means, strict=True)]


class SlatGaussianDecoder(VoxelTransformer):
    """TRELLIS' decoder of structured latents into Gaussians.

    Args:
        network: Sizes.
        form: What the numbers that come out mean.
    """

    NAMES = ("SLatGaussianDecoder", "ElasticSLatGaussianDecoder")
    offset_perturbation: Tensor

    def __init__(self, network: TrellisNetwork, form: GaussianFormat) -> None:
        super().__init__(network, network.latent_channels, form.numbers)
        self.form = form
        self.register_buffer("offset_perturbation", form.perturbation())

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """See `VoxelTransformer`; besides the sizes there is representation_config."""
        config = args["representation_config"]
        return cls(_sizes(args, "representation_config"), GaussianFormat.from_config(config))

    def forward(self, feats: Tensor, coords: Tensor) -> Tensor:
        """The numbers that describe the Gaussians of each voxel.

        Args:
            feats: Raw latents, float [L, latent_channels]; gradients flow to them.
            coords: Object, x, y and z of each voxel, integers [L, 4].

        Returns:
            float32 [L, 448] for 32 Gaussians a voxel, see `Gaussians.from_head`.

        Raises:
            ValueError: Tensors of other shapes or types, no voxel, or one outside the grid.
        """
        return self.transform(feats, coords)

    def decode(self, slats: Sequence[Slat]) -> list[Gaussians]:
        """The Gaussians of objects.

        Args:
            slats: Raw latents of the space ``trellis``.

        Raises:
            ValueError: Objects of another space, resolution or number of channels.
        """
        foreign = {slat.space for slat in slats} - {SPACE}
        if foreign:
            raise ValueError(f"expected latents of the space {SPACE}, got {', '.join(sorted(foreign))}")
        heads = self(*join(slats, self.network.resolution)).split([len(slat.coords) for slat in slats])
        return [
            Gaussians.from_head(head, slat.coords, slat.resolution, self.offset_perturbation, self.form)
            for head, slat in zip(heads, slats, strict=True)
        ]


def join(slats: Sequence[Slat], resolution: int) -> tuple[Tensor, Tensor]:
    """The voxels of several objects in one batch.

    Args:
        slats: Objects, of one number of channels.
        resolution: Voxels along a side of the cube that they should have.

    Returns:
        feats float [L, C], and coords int64 [L, 4]: number of the object, x, y, z.

    Raises:
        ValueError: None, or objects of another resolution or of several numbers of channels.
    """
    kinds = {(slat.resolution, slat.channels) for slat in slats}
    if len(kinds) != 1 or resolution not in next(iter(kinds)):
        raise ValueError(
            f"expected objects of {resolution} voxels a side and one number of channels, got {sorted(kinds)}"
        )
    coords = [F.pad(slat.coords.long(), (1, 0), value=number) for number, slat in enumerate(slats)]
    return torch.cat([slat.feats for slat in slats]), torch.cat(coords)


def positions(coords: Tensor, channels: int) -> Tensor:
    """Sines and cosines of the indices of voxels: for each of the three, first all sines; what is left over is 0.

    Args:
        coords: x, y and z, integers [L, 3].
        channels: C.

    Returns:
        float32 [L, C].
    """
    count = channels // 6
    frequencies = 1 / 10000 ** (torch.arange(count, device=coords.device) / count)
    angles = coords[..., None].float() * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], -1).flatten(1), (0, channels - 6 * count))


# ---- files ------------------------------------------------------------------------------------------------------


def _sizes(args: Mapping[str, Any], own: str) -> TrellisNetwork:
    """The sizes of a network among the arguments of TRELLIS' class."""
    known = [one.name for one in fields(TrellisNetwork)]
    unknown = sorted(set(args) - {*known, *_OPTIONAL, *_FIXED, *_IGNORED, own})
    missing = sorted({*known, own} - set(args) - set(_OPTIONAL))
    if unknown or missing:
        raise ValueError(f"args should be those of TRELLIS' network: missing {missing}, unknown {unknown}")
    for name, expected in _FIXED.items():
        if args.get(name, expected) != expected:
            raise ValueError(f"expected {name} = {expected!r}, the only one here, got {args[name]!r}")
    sizes = {name: args[name] for name in known if args.get(name) is not None}
    heads = args["model_channels"] // (args.get("num_head_channels") or 64)
    return TrellisNetwork(**{"num_heads": heads, **sizes})


def _find(path: Path, names: Sequence[str]) -> Path:
    """The path of a pair of files without their suffixes."""
    if path.suffix in (".json", ".safetensors"):
        path = path.with_suffix("")
    if not path.is_dir():
        return path
    found = [one.with_suffix("") for one in sorted(path.glob("*.json")) if _name_of(one) in names]
    if len(found) != 1:
        got = ", ".join(one.name for one in found) or "none"
        raise ValueError(f"expected one .json of a {names[0]} in {path}, got {got}; say which by its name")
    return found[0]


def _name_of(file: Path) -> str | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return content.get("name") if isinstance(content, dict) else None


def _read_config(base: Path) -> dict[str, Any]:
    missing = [f"{base}{suffix}" for suffix in (".json", ".safetensors") if not Path(f"{base}{suffix}").is_file()]
    if missing:
        raise ValueError(
            f"expected TRELLIS' files at {base}, there is no {' and no '.join(missing)}. They are MIT-licensed: "
            "hf download microsoft/TRELLIS-image-large --include 'ckpts/slat_*' --local-dir FOLDER"
        )
    try:
        config = json.loads(Path(f"{base}.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{base}.json is no JSON: {error}") from error
    if not isinstance(config, dict) or not {"name", "args"} <= set(config):
        raise ValueError(f"{base}.json: expected an object with name and args")
    return config


def _read_weights(base: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32; ValueError for the first one that is missing, misshapen or has no place."""
    file = f"{base}.safetensors"
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} can't be read: {error}") from error
    for name, value in expected.items():
        if name not in found:
            raise ValueError(f"{file}: expected weight {name} of shape {list(value.shape)}, there is none")
        if found[name].shape != value.shape:
            raise ValueError(
                f"{file}: expected weight {name} of shape {list(value.shape)}, got {list(found[name].shape)}"
            )
    for name in found:
        if name not in expected:
            raise ValueError(f"{file}: weight {name} has no place in the network that {base}.json describes")
    return {name: value.float() for name, value in found.items()}
