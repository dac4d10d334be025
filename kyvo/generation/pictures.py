"""Pictures as people hand them in: checked, and brought to what an image tokenizer reads.

H and W: height and width of a picture in pixels.
"""

import numpy as np
from PIL import Image
from torch import Tensor

Picture = Image.Image | np.ndarray | Tensor
"""A picture of PIL, an array [H, W, 3] or a tensor [3, H, W], of bytes or of floats in [0, 1]."""

LEAST_SIDE = 8
"""Shortest side of a picture, in pixels."""

MOST_PIXELS = 64_000_000
"""Largest picture: more is most likely a mistake, and would be scaled down to a few thousand pixels anyway."""


def read_picture(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    """Bring a picture to a size, without regard to its shape, as `kyvo data pack` does.

    Args:
        picture: Of any size within the limits, in any mode of PIL.
        size: Height and width.

    Returns:
        uint8 [H, W, 3] of that size.

    Raises:
        ValueError: If it is no picture, has another type, range or layout, or is too small or too large.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(_bytes(picture))
    check_size(*image.size)
    rgb = image.convert("RGB")
    if image.size != size[::-1]:
        rgb = rgb.resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(rgb)


def check_size(width: int, height: int) -> None:
    """Refuse pictures that are too small or too large, before their pixels are read.

    Args:
        width: In pixels.
        height: In pixels.

    Raises:
        ValueError: With both limits.
    """
    if min(width, height) < LEAST_SIDE or width * height > MOST_PIXELS:
        raise ValueError(
            f"expected a picture of {LEAST_SIDE} or more pixels a side and {MOST_PIXELS // 10**6} million at most, "
            f"got {width} x {height}"
        )


def _bytes(picture: np.ndarray | Tensor) -> np.ndarray:
    """The array as uint8 [H, W, 3]."""
    if isinstance(picture, Tensor):
        whole = picture.detach().cpu()
        array = (whole.float() if whole.is_floating_point() else whole).numpy()
        layout, axis = "a tensor [3, H, W]", 0
    elif isinstance(picture, np.ndarray):
        array, layout, axis = picture, "an array [H, W, 3]", 2
    else:
        raise ValueError(f"expected a picture of PIL, NumPy or torch, got {type(picture).__name__}")
    known = array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)
    if not known or array.ndim != 3 or array.shape[axis] != 3 or not array.size:
        raise ValueError(f"expected {layout} of bytes or of floats in [0, 1], got {array.dtype} {list(array.shape)}")
    pixels = np.moveaxis(array, axis, -1)
    return np.ascontiguousarray(pixels if array.dtype == np.uint8 else _levels(pixels))


def _levels(array: np.ndarray) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    # Both are NaN if a single value is, and no comparison with NaN holds.
    if not (low >= 0 and high <= 1):
        raise ValueError(f"expected floats in [0, 1], got [{low:g}, {high:g}]")
    return (array * 255).round().astype(np.uint8)
