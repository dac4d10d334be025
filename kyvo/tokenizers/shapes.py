"""3D shapes to grids of codes and back, by a trained network in a folder.

B objects, C channels of a voxel's vector, N voxels along each side of the cube, n codes along each side, K codes, D
their dimensions.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kyvo.assets import resolve
from kyvo.cameras import Cameras
from kyvo.models.exact_dtype import exact_dtype
from kyvo.models.finite_quantizer import FiniteScalarQuantizer
from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.library_quantizer import LibraryQuantizer
from kyvo.models.shape_decoder import ShapeDecoder, Views
from kyvo.models.shape_vq import ShapeNetwork, ShapeVQ
from kyvo.slat import Slat, densify, sparsify

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class ShapeTokenizer:
    """A frozen shape tokenizer.

    What decodes codes knows nothing but the codes: which voxels are there is predicted. Weights are held in float32
    whatever their file has.

    Args:
        model: The network.
        space: Space of the vectors that it codes, see `kyvo.slat.Slat`.
        decoder: Renders that space; default is the embedded one for ``voxel8``, and none for other spaces.

    Raises:
        ValueError: The decoder reads another space.
    """

    def __init__(self, model: ShapeVQ, space: str, decoder: ShapeDecoder | None = None) -> None:
        if decoder is not None and decoder.space != space:
            raise ValueError(f"the tokenizer's space is {space}, the decoder reads {decoder.space}")
        self.model = model.eval().float().requires_grad_(False)
        self.space = space
        self._decoder = decoder

    @property
    def resolution(self) -> int:
        """Voxels N along each side of the cube."""
        return self.model.network.resolution

    @property
    def codes_per_shape(self) -> int:
        """Codes of an object, n ** 3."""
        return self.model.network.side**3

    @property
    def codebook(self) -> Tensor:
        """The code vectors, float32 [K, D]."""
        codebook: Tensor = self.model.quantize.vectors  # type: ignore[assignment]
        return codebook

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.mean.device

    @property
    def decoder(self) -> ShapeDecoder:
        """What renders.

        Raises:
            ValueError: There is none for this space.
        """
        if self._decoder is None:
            self._decoder = _usual_decoder(self.space)
        return self._decoder.to(self.device)

    def to(self, device: torch.device | str) -> Self:
        """Move the weights and return self."""
        self.model.to(device)
        return self

    # ---- coding -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, slats: Sequence[Slat]) -> Tensor:
        """Codes of objects.

        Args:
            slats: B objects, of the tokenizer's space and resolution.

        Returns:
            int64 [B, n ** 3] in [0, K), raster order: x slowest, z fastest.

        Raises:
            ValueError: An object of another space, resolution or number of channels.
        """
        for slat in slats:
            self._check(slat)
        # One at a time: a convolution of a batch may round otherwise, and an object's codes should be its own.
        codes = [self._codes(slat) for slat in slats]
        return torch.stack(codes) if codes else torch.zeros(0, self.codes_per_shape, dtype=torch.long)

    def _codes(self, slat: Slat) -> Tensor:
        grid = densify([slat.to(self.device)]).float()
        _, _, (_, _, codes) = self.model.quantize(self.model.encode(self.model.normalise(grid)))
        flat: Tensor = codes
        return flat

    @torch.no_grad()
    def grid(self, codes: Tensor) -> Tensor:
        """Decoded objects as grids.

        Args:
            codes: Integers [B, n ** 3] in [0, K), raster order.

        Returns:
            float32 [B, 1 + C, N, N, N]: the probability of occupancy, and raw vectors.

        Raises:
            ValueError: Codes of another shape, or outside the codebook.
        """
        expected, size = self.codes_per_shape, len(self.codebook)
        if codes.ndim != 2 or codes.shape[1] != expected or codes.is_floating_point():
            raise ValueError(f"codes must be integers [B, {expected}], got {codes.dtype} {list(codes.shape)}")
        codes = codes.to(self.device, torch.long)
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise ValueError(f"codes must be in [0, {size}), got [{int(codes.min())}, {int(codes.max())}]")
        quantized = self.codebook[codes].unflatten(1, (self.model.network.side,) * 3).movedim(-1, 1)
        return self.model.denormalise(self.model.decode(quantized))

    def decode(self, codes: Tensor) -> list[Slat]:
        """Objects of codes; their voxels are those that the codes say, never the true ones.

        Args:
            codes: Integers [B, n ** 3] in [0, K), raster order.

        Raises:
            ValueError: Codes of another shape, or outside the codebook.
        """
        return sparsify(self.grid(codes), self.space)

    @torch.no_grad()
    def render(self, slats: Sequence[Slat], cameras: Cameras, size: int, background: float = 1.0) -> Views:
        """Pictures of objects, true or decoded.

        Args:
            slats: B objects, of the tokenizer's space and resolution.
            cameras: V cameras, the same for all objects.
            size: Side of a picture in pixels.
            background: Grey behind the objects, 0 black to 1 white.

        Raises:
            ValueError: An object of another space, resolution or number of channels; or no decoder for this space.
        """
        for slat in slats:
            self._check(slat)
        return self.decoder.render(densify(slats).to(self.device), cameras.to(self.device), size, background)

    def _check(self, slat: Slat) -> None:
        expected = (self.space, self.resolution, self.model.network.features)
        found = (slat.space, slat.resolution, slat.channels)
        if found != expected:
            named = "space {}, resolution {}, {} channels"
            raise ValueError(f"the tokenizer codes {named.format(*expected)}; got {named.format(*found)}")

    # ---- files ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors, for `from_pretrained`.

        Args:
            folder: Where to write; created if absent.
            dtype: Type of the weights in the file. Narrower ones round: codes of borderline cells may differ. The
                default is the narrowest that does not round.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        config = {
            "space": self.space,
            "network": asdict(self.model.network),
            "quantizer": _description(self.model.quantize),
        }
        (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        save_file(_state(self.model, dtype), target / WEIGHTS)

    @classmethod
    def from_pretrained(cls, folder: str | Path, decoder: ShapeDecoder | None = None) -> Self:
        """Load what `save_pretrained` wrote.

        Args:
            folder: A folder, or the name of one that ships.
            decoder: Renders the tokenizer's space; default is the embedded one for ``voxel8``.

        Raises:
            FileNotFoundError: A file is missing there.
            ValueError: The folder holds something else, or the decoder reads another space.
        """
        source = Path(resolve(folder))
        for name in (CONFIG, WEIGHTS):
            if not (source / name).is_file():
                raise FileNotFoundError(f"{source} holds no shape tokenizer: {name} is missing")
        try:
            config = json.loads((source / CONFIG).read_text())
            sizes: dict[str, Any] = {k: tuple(x) if isinstance(x, list) else x for k, x in config["network"].items()}
            network = ShapeNetwork(**sizes)
            model = ShapeVQ(network, _quantizer(config["quantizer"], network))
            model.load_state_dict(load_file(source / WEIGHTS))
            space = str(config["space"])
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{source} does not hold a shape tokenizer: {type(error).__name__}: {error}") from error
        return cls(model, space, decoder)


def _state(model: ShapeVQ, dtype: torch.dtype | None) -> dict[str, Tensor]:
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("quantize.")}
    state |= {f"quantize.{name}": value for name, value in _plain(model.quantize).state_dict().items()}
    # Statistics are few, and what is rounded in them is wrong everywhere.
    kept = {name for name, _ in model.named_buffers(recurse=False)}
    narrow = dtype or exact_dtype(value for name, value in state.items() if name not in kept)
    return {
        name: value.detach().to(value.dtype if name in kept or not value.is_floating_point() else narrow)
        .cpu().contiguous()
        for name, value in state.items()
    }  # fmt: skip


@torch.no_grad()
def _plain(quantizer: nn.Module) -> nn.Module:
    """What codes alike without what only training needs."""
    if isinstance(quantizer, FiniteScalarQuantizer | LibraryQuantizer):
        return quantizer
    codebook: Tensor = quantizer.vectors  # type: ignore[assignment]
    plain = GradientVectorQuantizer(*codebook.shape)
    plain.embedding.weight.copy_(codebook)
    return plain


def _description(quantizer: nn.Module) -> dict[str, Any]:
    if isinstance(quantizer, FiniteScalarQuantizer):
        return {"kind": "finite", "levels": list(quantizer.levels)}
    if isinstance(quantizer, LibraryQuantizer):
        return {"kind": "library", "name": quantizer.name, "options": quantizer.options}
    return {"kind": "codebook"}


def _quantizer(description: dict[str, Any], network: ShapeNetwork) -> nn.Module:
    kind = description["kind"]
    if kind == "finite":
        return FiniteScalarQuantizer(description["levels"], network.code_dim)
    if kind == "library":
        return LibraryQuantizer(description["name"], network.codes, network.code_dim, description["options"])
    if kind != "codebook":
        raise ValueError(f"expected a quantizer of kind codebook, finite or library, got {kind!r}")
    return GradientVectorQuantizer(network.codes, network.code_dim)


def _usual_decoder(space: str) -> ShapeDecoder:
    if space != "voxel8":
        raise ValueError(f"no decoder of the space {space} is embedded: give ShapeTokenizer one that renders it")
    from kyvo.models.voxel_renderer import VoxelDecoder

    return VoxelDecoder()
