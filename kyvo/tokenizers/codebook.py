"""The codebook of an image tokenizer without its network: all that a language model needs of one.

K codes, D their dimensions.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FILE = "codebook.npy"


class ImageCodebook:
    """The code vectors alone, as the released Kyvo codebooks hold them; nothing can be coded or decoded with it.

    Args:
        vectors: Floating point [K, D].

    Raises:
        ValueError: Another shape or type, or values that are not finite.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        if vectors.ndim != 2 or not vectors.size or not np.issubdtype(vectors.dtype, np.floating):
            raise ValueError(
                f"a codebook must be floating point [codes, dimensions], got {vectors.dtype} {list(vectors.shape)}"
            )
        if not np.isfinite(vectors).all():
            raise ValueError(f"a codebook must be finite; code {int(np.argwhere(~np.isfinite(vectors))[0, 0])} is not")
        self.vectors = vectors.astype(np.float32)

    @staticmethod
    def is_at(path: str | Path) -> bool:
        """Whether a path is that of a codebook: an npy file, or a folder with codebook.npy."""
        return Path(path).suffix == ".npy" or (Path(path) / FILE).is_file()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Load an npy file, or what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: Nothing there.
            ValueError: Not a codebook.
        """
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            return cls(np.load(file, allow_pickle=False))
        except (ValueError, EOFError, AttributeError) as error:
            raise ValueError(f"{file}: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write codebook.npy, float32 [K, D]; the folder is created if absent."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.save(Path(folder) / FILE, self.vectors, allow_pickle=False)

    @cached_property
    def codebook(self) -> "Tensor":
        """The code vectors, float32 [K, D]."""
        import torch

        return torch.from_numpy(self.vectors)
