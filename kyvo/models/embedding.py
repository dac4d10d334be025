"""The embedding of every id of the unified vocabulary: one module composed of one part for each range.

Letters: B batch, S positions, D hidden size, K codes, C code dimensions.
"""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

NumberEncoding = Literal["hybrid", "learned", "sinusoid"]


def sinusoid_table(positions: Tensor, dim: int) -> Tensor:
    """Sine-cosine codes of real positions: `sin(p / 10000^(2i/D))` at 2i, the cosine at 2i+1 (paper, section D.3).

    Args:
        positions: One position for each number `[N]`.
        dim: D, even.

    Returns:
        The table `[N, D]`, entries in [-1, 1].

    Raises:
        ValueError: If `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"a sine-cosine table needs an even number of dimensions, not {dim}")
    frequency = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    angle = positions.float()[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class NumberEmbedding(nn.Module):
    """Vectors of the number tokens: learned rows, frozen sine-cosine rows, or their sum (paper, section 3.2.2).

    Args:
        positions: Where each number stands on the sine-cosine scale `[N]`: its rank, as in the paper, or its value
            counted in grid steps.
        dim: D.
        encoding: `hybrid` (learned + sine-cosine), `learned` or `sinusoid`.
        scale: Factor of the sine-cosine table, so that it has the size of the backbone's rows; 1 is the paper's.
    """

    table: Tensor | None

    def __init__(self, positions: Tensor, dim: int, encoding: NumberEncoding, scale: float) -> None:
        super().__init__()
        self.learned = None if encoding == "sinusoid" else nn.Embedding(len(positions), dim)
        table = None if encoding == "learned" else sinusoid_table(positions, dim) * scale
        self.register_buffer("table", table)

    def forward(self, index: Tensor) -> Tensor:
        """Vectors `[..., D]` of the numbers at `index` of the number range."""
        if self.table is None:
            return cast(nn.Embedding, self.learned)(index)
        static = self.table[index]
        return static if self.learned is None else self.learned(index) + static


class CodeEmbedding(nn.Module):
    """Vectors of image or shape codes: a frozen codebook seen through a linear projector (paper, appendix E).

    Args:
        codes: K.
        code_dim: C.
        dim: D.
    """

    codebook: Tensor

    def __init__(self, codes: int, code_dim: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(codes, code_dim))
        self.projector = nn.Linear(code_dim, dim, bias=False)

    def set_codebook(self, codebook: Tensor) -> None:
        """Take a tokenizer's codebook `[K, C]`, centred and scaled to unit variance.

        Raises:
            ValueError: If its shape is not the one this embedding was built for.
        """
        if codebook.shape != self.codebook.shape:
            raise ValueError(f"expected a codebook of {tuple(self.codebook.shape)}, got {tuple(codebook.shape)}")
        codebook = codebook.detach().float()
        self.codebook.copy_((codebook - codebook.mean(0)) / codebook.std())

    def forward(self, index: Tensor) -> Tensor:
        """Vectors `[..., D]` of the codes at `index`."""
        return self.projector(self.codebook[index])


class UnifiedEmbedding(nn.Module):
    """Embeds text, numbers, markers, image codes and shape codes, which share one id space laid end to end.

    Every part looks up every position and the range of the id chooses: without a boolean index there is no
    synchronisation with the host and no graph break.

    Args:
        ranges: First and last-plus-one id of each part, by name: text, numbers, markers, image, shape.
        dim: D.
        number_positions: See `NumberEmbedding`, one for each number.
        number_encoding: See `NumberEmbedding`.
        number_scale: See `NumberEmbedding`.
        image_code_dim: C of the image codebook; 0 learns a free vector for each code.
        shape_code_dim: C of the shape codebook; 0 learns a free vector for each code.
        image_tokens: If positive, adds a learned vector for the place of a code within its image of this many codes.
    """

    def __init__(
        self,
        ranges: dict[str, tuple[int, int]],
        dim: int,
        number_positions: list[float],
        number_encoding: NumberEncoding = "hybrid",
        number_scale: float = 1.0,
        image_code_dim: int = 0,
        shape_code_dim: int = 0,
        image_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.ranges = {name: span for name, span in ranges.items() if span[1] > span[0]}
        self.image_tokens = image_tokens
        sizes = {name: stop - start for name, (start, stop) in self.ranges.items()}
        positions = torch.tensor(number_positions, dtype=torch.float32)
        self.parts = nn.ModuleDict()
        for name, size in sizes.items():
            if name == "numbers":
                self.parts[name] = NumberEmbedding(positions, dim, number_encoding, number_scale)
            elif name == "image" and image_code_dim:
                self.parts[name] = CodeEmbedding(size, image_code_dim, dim)
            elif name == "shape" and shape_code_dim:
                self.parts[name] = CodeEmbedding(size, shape_code_dim, dim)
            else:
                self.parts[name] = nn.Embedding(size, dim)
        self.image_positions = nn.Embedding(image_tokens, dim) if image_tokens else None

    def set_codebook(self, name: str, codebook: Tensor) -> None:
        """Give the part `image` or `shape` its tokenizer's codebook `[K, C]`.

        Raises:
            ValueError: If that part learns free vectors, or the codebook has another shape.
        """
        part = self.parts[name]
        if not isinstance(part, CodeEmbedding):
            raise ValueError(f"the {name} codes of this embedding are learned freely: build it with {name}_code_dim")
        part.set_codebook(codebook)

    def scale_projectors(self, scale: float) -> None:
        """Start the projectors of codebooks so that their vectors have the standard deviation `scale`."""
        for part in self.parts.values():
            if isinstance(part, CodeEmbedding):
                nn.init.normal_(part.projector.weight, std=scale / math.sqrt(part.projector.in_features))

    def is_image(self, ids: Tensor) -> Tensor:
        """Whether each id is an image code, bool of the shape of `ids`."""
        start, stop = self.ranges.get("image", (0, 0))
        return (ids >= start) & (ids < stop)

    def forward(self, ids: Tensor, images_seen: Tensor | None = None) -> Tensor:
        """Embed ids.

        Args:
            ids: Ids `[B, S]`, each inside one of the ranges.
            images_seen: How many image codes precede `ids` in each row `[B]` (for decoding step by step), else none.

        Returns:
            Vectors `[B, S, D]`.
        """
        output = None
        for name, (start, stop) in self.ranges.items():
            here = (ids >= start) & (ids < stop)
            vectors = self.parts[name](torch.where(here, ids - start, 0))
            # Tables of sines are float32 whatever the weights are.
            output = vectors if output is None else torch.where(here[..., None], vectors.to(output.dtype), output)
        if output is None:
            raise ValueError("an embedding needs at least one range that is not empty")
        if self.image_positions is None:
            return output
        image = self.is_image(ids)
        count = image.long().cumsum(dim=-1) - 1
        if images_seen is not None:
            count = count + images_seen[:, None]
        places = self.image_positions(count.clamp(min=0) % self.image_tokens)
        return output + torch.where(image[..., None], places, 0)
