"""The quantisers of the package vector-quantize-pytorch, behind the interface of those here.

B batch, D dimensions of a code, N = vectors in a batch (B times all positions), K codes.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from kyvo.models.quantizer import CodebookSize, distributed


class LibraryQuantizer(nn.Module):
    """One of the package's modules, answering as `kyvo.models.quantizer.EMAVectorQuantizer` does.

    Its defaults are its own and change between releases: VectorQuantize's decay is 0.8 and its rotation trick is on,
    for example. It looks once, where it is built, whether there are other processes to share statistics with: build
    it when they have found each other (in Lightning, in `configure_model`), or their codebooks drift apart.

    Arithmetic is float32 whatever autocast says.

    Args:
        name: Class of the package: VectorQuantize, SimVQ, LFQ, FSQ and others with one code for a vector.
        codes: Size K of the codebook.
        dim: Dimensions D of the vectors.
        options: Further arguments of that class.

    Raises:
        ValueError: The package is not installed, has no such class, or that class does not take these arguments.
    """

    def __init__(self, name: str, codes: int, dim: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.name, self.codes, self.options = name, codes, dict(options)
        self.inner = _build(name, codes, dim, self.options)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, tuple[None, None, Tensor]]:
        """Quantise feature maps; in training mode, also learn from them.

        Args:
            z: [B, D, *positions], any float dtype.

        Returns:
            Quantised maps (float32, shape of z), the class's loss (scalar), and a tuple (None, None, codes int64 [N] in
            raster order of each map).

        Raises:
            ValueError: The class gives several codes for a vector.
        """
        with torch.autocast(z.device.type, enabled=False):
            rows = z.float().movedim(1, -1)
            quantized, codes, *losses = self.inner(rows.flatten(1, -2))
            if codes.shape != (len(z), quantized.shape[1]):
                raise ValueError(f"{self.name} should give one code for a vector, gave codes {list(codes.shape)}")
            loss = losses[0].sum() if losses else rows.new_zeros(())
            return quantized.reshape(rows.shape).movedim(-1, 1), loss, (None, None, codes.flatten().long())

    @property
    def vectors(self) -> Tensor:
        """The code vectors, float32 [K, D]."""
        look_up = getattr(self.inner, "get_output_from_indices", None) or self.inner.indices_to_codes
        device = next(iter(self.inner.state_dict().values())).device
        found: Tensor = look_up(torch.arange(self.codes, device=device)[None])
        return found[0]


def _build(name: str, codes: int, dim: int, options: Mapping[str, Any]) -> Any:
    try:
        package = import_module("vector_quantize_pytorch")
    except ImportError as error:
        raise ValueError(f"quantiser {name} needs `pip install kyvo[vq]` (vector-quantize-pytorch, MIT)") from error
    found = getattr(package, name, None)
    if not inspect.isclass(found):
        raise ValueError(f"vector-quantize-pytorch has no class {name!r}")
    taken = inspect.signature(found).parameters
    # What it would find out by itself, and remember from the first time it asked.
    usual = {"dim": dim, "codebook_size": codes, "sync_codebook": distributed()}
    try:
        built = found(**{key: value for key, value in usual.items() if key in taken} | dict(options))
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{name} of vector-quantize-pytorch refuses {dict(options)}: {error}") from error
    size = getattr(built, "codebook_size", codes)
    if size != codes:
        raise ValueError(f"{name} with {dict(options)} has {size} codes, the network {codes}")
    return built


@dataclass
class LibraryQuantizerConfig:
    """A quantiser of vector-quantize-pytorch; see `LibraryQuantizer`.

    Attributes:
        name: Class of the package.
        options: Its arguments besides the dimensions and the size of the codebook.
    """

    name: str = "VectorQuantize"
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, network: CodebookSize) -> LibraryQuantizer:
        """The quantiser of a network."""
        return LibraryQuantizer(self.name, network.codes, network.code_dim, self.options)


# Lightning keeps a module's arguments in its checkpoints, which are read with weights_only.
torch.serialization.add_safe_globals([LibraryQuantizerConfig])
