"""Vector quantiser whose codebook is trained by gradients, as in taming-transformers.

B batch, D dimensions of a code, N = vectors in a batch (B times all positions), K codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyvo.models.quantizer import nearest


class GradientVectorQuantizer(nn.Module):
    """Nearest-code quantiser with a straight-through gradient and a codebook that the optimiser moves.

    The loss is `commitment` * mse(z, sg[codes]) + `codebook` * mse(codes, sg[z]). The defaults are what
    taming-transformers and diffusers compute by default: their beta of 0.25 weighs the codebook's term, not the
    commitment's as in van den Oord et al. (2017).

    Arithmetic is float32 whatever autocast says: bfloat16 distances choose wrong codes. `forward` answers in the form
    of diffusers' `VectorQuantizer`, so that a `VQModel` takes this module in its place; the codebook has the same name
    too (`embedding.weight`).

    Args:
        codes: Size K of the codebook.
        dim: Dimensions D of a code.
        commitment: Weight of the loss that pulls vectors to their codes.
        codebook: Weight of the loss that pulls codes to their vectors.

    Raises:
        ValueError: A size below 1.
    """

    def __init__(self, codes: int, dim: int, commitment: float = 1.0, codebook: float = 0.25) -> None:
        super().__init__()
        if codes < 1 or dim < 1:
            raise ValueError(f"codes and dim must be positive, got {codes} and {dim}")
        self.commitment = commitment
        self.codebook = codebook
        self.embedding = nn.Embedding(codes, dim)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)

    @property
    def vectors(self) -> Tensor:
        """The code vectors, float32 [K, D]."""
        return self.embedding.weight

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, tuple[None, None, Tensor]]:
        """Quantise feature maps.

        Args:
            z: [B, D, *positions], any float dtype.

        Returns:
            Quantised maps (float32, shape of z), the loss (scalar), and a tuple (None, None, codes int64 [N] in raster
            order of each map).
        """
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            channels_last = z.movedim(1, -1)
            codes = nearest(channels_last.detach().reshape(-1, z.shape[1]), self.embedding.weight.detach())
            quantized = self.embedding(codes).reshape(channels_last.shape).movedim(-1, 1)
            loss = self.commitment * F.mse_loss(z, quantized.detach())
            loss = loss + self.codebook * F.mse_loss(quantized, z.detach())
            return z + (quantized - z).detach(), loss, (None, None, codes)
