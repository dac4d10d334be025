"""How far apart two pictures look: LPIPS where its weights are at hand, a pyramid of gradients where they are not.

B batch, H and W size of an image in pixels, C channels of a feature map, h and w its size.
"""

import importlib
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

TRUNK_FILE = "vgg16-397923af.pth"
"""Name under which torchvision keeps the VGG16 of ImageNet in the cache of torch hub."""

NO_PERCEPTUAL = "none"
"""What the perceptual loss is called where there is none."""

SMALLEST = 16
"""Least height and width of an image in pixels: four halvings leave one pixel."""

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Both files are the same; torchmetrics is always there, and neither package has to be imported for its file.
_HEAD_FILES = (("lpips", "weights/v0.1/vgg.pth"), ("torchmetrics", "functional/image/lpips_models/vgg.pth"))


class PerceptualLoss:
    """A distance between images that follows what people see, under the name to report it by.

    `name` is `lpips` (the package), `lpips-twin` (equal numbers without torchvision) or `gradient-pyramid` (needs no
    weights; its numbers are not to be compared with the others').

    On purpose not an `nn.Module`: held by a training module, its weights stay out of checkpoints, optimisers and
    broadcasts between processes, and no change of mode or precision reaches them. They follow the images' device.

    Args:
        name: What to call the distance in logs and checkpoints.
        network: Takes two batches float32 [B, 3, H, W] and gives B numbers, in any shape; it is frozen.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name = name
        self._network = network.float().eval().requires_grad_(False)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """The distance of each pair of images, in float32 whatever autocast says; gradients reach the images.

        Args:
            first: Any float dtype, [B, 3, H, W] in [-1, 1] (values beyond are not clamped), H and W at least 16.
            second: The images to compare with, of the same shape.

        Returns:
            float32 [B], at least 0; 0 for equal images.

        Raises:
            ValueError: Images of other shapes or of integers.
        """
        for images in (first, second):
            _check_images(images)
        if first.shape != second.shape:
            raise ValueError(f"expected images of one shape, got {list(first.shape)} and {list(second.shape)}")
        with torch.autocast(first.device.type, enabled=False):
            return self._network_on(first.device)(first.float(), second.float()).flatten()

    def _network_on(self, device: torch.device) -> nn.Module:
        # Weights moved within inference mode, as the first validation is, could not carry gradients afterwards.
        with torch.inference_mode(False):
            return self._network.to(device)


def perceptual_loss(trunk: str | Path | None = None, heads: str | Path | None = None) -> PerceptualLoss:
    """The best perceptual distance that is at hand; nothing is downloaded.

    With both sets of weights it is LPIPS, by the `lpips` package where that imports (it needs a torchvision that fits
    torch) and else by `LPIPS`, its twin. Without, a warning says what is missing and `GradientPyramid` stands in.

    Args:
        trunk: State dict of torchvision's `vgg16` (.pth, .pt or .safetensors); default is the file of torch hub's
            cache.
        heads: Linear weights of LPIPS v0.1 for VGG (a file as above); default is the file of an installed package.

    Raises:
        ValueError: A file of weights that it uses is missing, cannot be read, or is of another network.
    """
    trunk_file, heads_file = trunk or cached_trunk(), heads or installed_heads()
    if trunk_file is None or heads_file is None:
        needed = _trunk_hint() if trunk_file is None else "linear weights of LPIPS: set `heads`, or install lpips"
        warnings.warn(f"gradient-pyramid stands in for LPIPS, for want of {needed}", stacklevel=2)
        return PerceptualLoss("gradient-pyramid", GradientPyramid())
    weights = read_trunk(trunk_file), read_heads(heads_file)
    package = _lpips_package()
    if package is None:
        return PerceptualLoss("lpips-twin", LPIPS(*weights))
    return PerceptualLoss("lpips", _packaged_lpips(package, *weights))


class LPIPS(nn.Module):
    """Learned perceptual distance over VGG16 (Zhang et al., 2018, version 0.1), in torch alone.

    Both images pass VGG16; after the last rectifier of each of its five blocks, features are scaled to unit length at
    every position, and squared differences are weighted by channel, summed, and averaged over positions.

    Args:
        trunk: Convolutions of VGG16, `features.N.weight` and `.bias` as torchvision numbers them; see `read_trunk`.
        heads: Weight of each channel, `linK.model.1.weight` [1, C, 1, 1] for the blocks K = 0 to 4; see `read_heads`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.features = vgg16_features()
        self.features.load_state_dict({name.removeprefix("features."): value for name, value in trunk.items()})
        self.heads = nn.ParameterList(heads[name].clone() for name in _head_shapes())
        # Mean and deviation of ImageNet's colours, moved from [0, 1] to [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances float32 [B] of images float32 [B, 3, H, W] in [-1, 1]."""
        total = first.new_zeros(len(first))
        for a, b, head in zip(self._directions(first), self._directions(second), self.heads, strict=True):
            total = total + F.conv2d((a - b).square(), head).mean((1, 2, 3))
        return total

    def _directions(self, images: Tensor) -> Iterator[Tensor]:
        """Features [B, C, h, w] of unit length after each block."""
        maps = (images - self.shift) / self.scale
        last = len(self.features) - 1
        for index, layer in enumerate(self.features):
            maps = layer(maps)
            if index == last or isinstance(self.features[index + 1], nn.MaxPool2d):
                yield maps / (torch.linalg.vector_norm(maps, dim=1, keepdim=True) + 1e-10)


class GradientPyramid(nn.Module):
    """Mean of five parts: absolute differences of gradients at four scales, each half the one before, and of the rest.

    A stand-in for LPIPS without weights. As four parts in five look at edges, a blurred image is farther than a
    brighter one with the same error of pixels. It is a norm of the difference: 0 for equal images only.
    """

    SCALES = 4

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances float32 [B] of images float32 [B, 3, H, W] in [-1, 1]."""
        difference = first - second
        total = first.new_zeros(len(first))
        for _ in range(self.SCALES):
            for axis in (2, 3):
                total = total + difference.diff(dim=axis).abs().mean((1, 2, 3))
            difference = F.avg_pool2d(difference, 2)
        return (total + difference.abs().mean((1, 2, 3))) / (self.SCALES + 1)


# ---- weights --------------------------------------------------------------------------------------------------------


def vgg16_features() -> nn.Sequential:
    """The convolutions of VGG16 with random weights, numbered as in torchvision, up to the last rectifier."""
    layers: list[nn.Module] = []
    channels = 3
    for block in _BLOCKS:
        if layers:
            layers.append(nn.MaxPool2d(2))
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers)


def cached_trunk() -> Path | None:
    """The file of VGG16 in the cache of torch hub, if it is there."""
    path = Path(torch.hub.get_dir(), "checkpoints", TRUNK_FILE)
    return path if path.is_file() else None


def installed_heads() -> Path | None:
    """The file of the linear weights that an installed package brings, without importing the package."""
    for package, name in _HEAD_FILES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if Path(folder, name).is_file():
                return Path(folder, name)
    return None


def read_trunk(file: str | Path) -> dict[str, Tensor]:
    """The convolutions `features.N` of a file of VGG16's weights, float32; weights of its classifier are left out.

    Raises:
        ValueError: The file is missing, cannot be read, or is of another network; names the first wrong weight.
    """
    state = _read(file, "the state dict of torchvision's vgg16")
    trunk = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    _check_weights(trunk, _trunk_shapes(), f"{file} is not of torchvision's vgg16")
    return trunk


def read_heads(file: str | Path) -> dict[str, Tensor]:
    """The weights of channels `linK.model.1.weight` of a file of LPIPS' linear weights for VGG, float32.

    Raises:
        ValueError: The file is missing, cannot be read, is of another network, or has negative weights, with which
            the result would be no distance.
    """
    heads = _read(file, "linear weights of LPIPS")
    _check_weights(heads, _head_shapes(), f"{file} is not of LPIPS over VGG16")
    negative = next((name for name, value in heads.items() if not (value >= 0).all()), None)
    if negative is not None:
        raise ValueError(
            f"{file}: weights of LPIPS should be at least 0, {negative} goes down to {heads[negative].min()}"
        )
    return heads


def _read(file: str | Path, content: str) -> dict[str, Tensor]:
    if not Path(file).is_file():
        raise ValueError(f"expected a file with {content} at {file}, there is none")
    try:
        safe = Path(file).suffix == ".safetensors"
        state = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file} should hold {content}, it cannot be read: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} should hold {content}, a table of tensors, got a {type(state).__name__}")
    return {name: value.float() for name, value in state.items()}


def _check_weights(state: Mapping[str, Tensor], shapes: Mapping[str, list[int]], source: str) -> None:
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"{source}: {name} is missing")
        if list(state[name].shape) != shape:
            raise ValueError(f"{source}: expected {name} of shape {shape}, got {list(state[name].shape)}")
    extra = next((name for name in state if name not in shapes), None)
    if extra is not None:
        raise ValueError(f"{source}: {extra} has no place in it")


def _trunk_shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        return {f"features.{name}": list(value.shape) for name, value in vgg16_features().state_dict().items()}


def _head_shapes() -> dict[str, list[int]]:
    return {f"lin{index}.model.1.weight": [1, block[-1], 1, 1] for index, block in enumerate(_BLOCKS)}


def _trunk_hint() -> str:
    folder = Path(torch.hub.get_dir(), "checkpoints")
    return f"weights of VGG16: set `trunk` to torchvision's file {TRUNK_FILE}, or put it into {folder}"


# ---- the package ----------------------------------------------------------------------------------------------------


def _lpips_package() -> Any:
    """The `lpips` package, or None where it is not installed or does not import."""
    if find_spec("lpips") is None:
        return None
    try:
        return importlib.import_module("lpips")
    except (ImportError, RuntimeError, AttributeError, OSError):
        # A torchvision built for another torch fails in any of these ways.
        return None


def _packaged_lpips(package: Any, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> nn.Module:
    """The package's own module with these weights; its way to get them is to download the trunk."""
    with warnings.catch_warnings():
        # The package asks torchvision for a random trunk by an argument that torchvision has renamed.
        warnings.simplefilter("ignore", UserWarning)
        network = package.LPIPS(pretrained=False, net="vgg", pnet_rand=True, verbose=False)
    # The package cuts the trunk into slices, whose layers keep their numbers: sliceK.N.weight.
    slices = {name: trunk[f"features.{name.partition('.')[2]}"] for name in network.net.state_dict()}
    network.net.load_state_dict(slices)
    network.load_state_dict(heads, strict=False)
    return network


# ---- images ---------------------------------------------------------------------------------------------------------


def _check_images(images: Tensor) -> None:
    expected = f"expected images float [B, 3, H, W] in [-1, 1] of at least {SMALLEST} x {SMALLEST} pixels"
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SMALLEST:
        raise ValueError(f"{expected}, got the shape {list(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"{expected}, got {images.dtype}")
