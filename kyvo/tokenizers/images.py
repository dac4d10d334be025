"""Images to grids of codes and back, by a trained `VQModel` folder.

B batch, H and W size of an image in pixels, N = h * w codes of an image (raster order), K codes, D their dimensions.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from kyvo.assets import resolve
from kyvo.models import image_vq
from kyvo.models.exact_dtype import exact_dtype
from kyvo.models.quantizer import nearest

if TYPE_CHECKING:
    from diffusers import VQModel

RANGE_TOLERANCE = 1e-3
"""How far a pixel may lie outside of [-1, 1]: rounding in half precision, not another range."""


class ImageTokenizer:
    """A frozen image tokenizer.

    Weights are held in float32 whatever their file has, so that an image has the same codes on every machine up to
    rounding in its convolutions.

    Args:
        model: The network; its config says the size of images (`sample_size`) and of the codebook.
    """

    def __init__(self, model: "VQModel") -> None:
        self.model = model.eval().float().requires_grad_(False)
        self.size = image_vq.image_size_of(model)
        self.grid = image_vq.grid_of(model)

    @classmethod
    def from_pretrained(cls, folder: str | Path, subfolder: str = "") -> Self:
        """Load what `save_pretrained`, or diffusers' `VQModel.save_pretrained`, wrote.

        Args:
            folder: A folder with config.json and safetensors, the id of such a repository on the hub, or the name of
                one that ships (image_tokenizer_quickstart).
            subfolder: Where in it the model lies, for example vqvae in the repository of a pipeline.

        Raises:
            OSError: Nothing to load there.
            ValueError: The weights are those of another network than config.json describes.
        """
        from diffusers import VQModel

        model, report = VQModel.from_pretrained(
            resolve(folder),
            subfolder=subfolder or None,
            low_cpu_mem_usage=False,
            # Reported, and then refused by name; without this a misfit of shapes is an error that lists them all.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        _refuse_misfits(str(folder), model, report)
        return cls(model)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write config.json and safetensors that diffusers' `VQModel.from_pretrained` reads.

        Args:
            folder: Where to write; created if absent.
            dtype: Type of the weights in the file. Narrower ones round: codes of borderline positions may differ. The
                default is the narrowest that does not round.
        """
        plain = image_vq.plain_vq_model(self.model)
        # torch's own `to`: the one of diffusers warns that a model should be loaded in its final type.
        nn.Module.to(plain, dtype or exact_dtype(plain.parameters())).save_pretrained(str(folder))

    @property
    def codebook(self) -> Tensor:
        """The code vectors, float32 [K, D]."""
        weight: Tensor = self.model.quantize.embedding.weight
        return weight

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.codebook.device

    def to(self, device: torch.device | str) -> Self:
        """Move the weights and return self."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes of images.

        Args:
            images: Floating point [B, 3, H, W] in [-1, 1], of the tokenizer's `size`.

        Returns:
            int64 [B, N] in [0, K), raster order.

        Raises:
            ValueError: Images of another shape, type or range, or with pixels that are not finite.
        """
        if images.shape[1:] != (3, *self.size) or not images.is_floating_point():
            raise ValueError(
                f"images must be floating point [B, 3, {self.size[0]}, {self.size[1]}] in [-1, 1], "
                f"got {images.dtype} {list(images.shape)}"
            )
        _check_range(images)
        features = image_vq.latents(self.model, images.to(self.device, torch.float32))
        flat = features.movedim(1, -1).flatten(0, 2)
        return nearest(flat, self.codebook).reshape(len(images), math.prod(self.grid))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images of codes.

        Args:
            codes: Integers [B, N] in [0, K), raster order.

        Returns:
            float32 [B, 3, H, W], clamped to [-1, 1].

        Raises:
            ValueError: Codes of another shape, or outside the codebook.
        """
        height, width = self.grid
        if codes.ndim != 2 or codes.shape[1] != height * width or codes.is_floating_point():
            raise ValueError(f"codes must be integers [B, {height * width}], got {codes.dtype} {list(codes.shape)}")
        codes = codes.to(self.device, torch.long)
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < len(self.codebook):
            raise ValueError(
                f"codes must be in [0, {len(self.codebook)}), got [{int(codes.min())}, {int(codes.max())}]"
            )
        quantized = self.codebook[codes].unflatten(1, (height, width)).movedim(-1, 1)
        return image_vq.pixels(self.model, quantized).clamp(-1, 1)


def _check_range(images: Tensor) -> None:
    if not images.numel():
        return
    low, high = (float(bound) for bound in images.aminmax())
    # Both are NaN if a single pixel is, and no comparison with NaN holds.
    if not (low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ValueError(f"pixels of images must be finite and in [-1, 1], got [{low:g}, {high:g}]")


def _refuse_misfits(folder: str, model: "VQModel", report: Mapping[str, Sequence[Any]]) -> None:
    """Raise ValueError for the first weight, in the model's order, that the file lacks or has in another shape."""
    found = {name: str(list(shape)) for name, shape, _ in report["mismatched_keys"]}
    found |= dict.fromkeys(report["missing_keys"], "none")
    for name, value in model.state_dict().items():
        if name in found:
            raise ValueError(f"{folder}: expected weight {name} of shape {list(value.shape)}, found {found[name]}")
    for name in sorted(report["unexpected_keys"]):
        raise ValueError(f"{folder}: found weight {name}, which a VQModel of its config.json does not have")
