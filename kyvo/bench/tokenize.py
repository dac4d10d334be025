"""`kyvo bench tokenize`: how fast an image tokenizer is, and how small its codes are.

B images of a batch, H and W their size in pixels, N codes of an image, K codes of the codebook.
"""

import io
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import image_batch

_MOST = 256


def bench(
    image_tokenizer: str = "image_tokenizer_quickstart",
    batch_size: int = 32,
    images: int = 256,
    pictures: Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Measure images a second, both ways, and bytes an image, in one process.

    Args:
        image_tokenizer: Folder or hub id of an image tokenizer, or the name of one that ships.
        batch_size: Images of a batch.
        images: Images that are timed, in whole batches: at least one.
        pictures: Folder of PNG or JPEG files, scaled to the tokenizer's size, of which 256 at most are read. By default
            blurred noise: the network works as much for it, but its bytes as PNG say little of other pictures.
        device: cpu or cuda; default is the GPU if there is one.

    Raises:
        ValueError: No images to measure with.
    """
    if batch_size < 1 or images < 1:
        raise ValueError(f"batch_size and images must be positive, got {batch_size} and {images}")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tokenizer = ImageTokenizer.from_pretrained(image_tokenizer).to(place)
    shown = _blurred_noise(batch_size, tokenizer.size) if pictures is None else _read(pictures, tokenizer.size)
    chosen = [shown[index % len(shown)] for index in range(batch_size)]
    batch = image_batch(chosen).to(place)
    batches = math.ceil(images / batch_size)
    codes = tokenizer.encode(batch)
    encoded = batches * batch_size / _seconds(tokenizer.encode, batch, batches)
    decoded = batches * batch_size / _seconds(tokenizer.decode, codes, batches)
    return {
        "machine": {
            "processor": torch.cuda.get_device_name(place) if place.type == "cuda" else platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "image_tokenizer": image_tokenizer,
        "pictures": "blurred noise" if pictures is None else str(pictures),
        "parameters": sum(weight.numel() for weight in tokenizer.model.parameters()),
        "image_size": list(tokenizer.size),
        "grid": list(tokenizer.grid),
        "codes": len(tokenizer.codebook),
        "batch_size": batch_size,
        "encode_images_per_second": round(encoded, 1),
        "decode_images_per_second": round(decoded, 1),
        "encode_codes_per_second": round(encoded * codes.shape[1]),
        "decode_codes_per_second": round(decoded * codes.shape[1]),
        "bytes_per_image": image_bytes(shown, codes.shape[1], len(tokenizer.codebook)),
    }


def image_bytes(pictures: Sequence[np.ndarray], length: int, codebook: int) -> dict[str, float]:
    """Mean bytes of a picture in each form.

    Args:
        pictures: uint8 [H, W, 3] each.
        length: N.
        codebook: K.

    Returns:
        `pixels`, `png` (Pillow's defaults), `codes` (two bytes each, as shards hold them) and `codes_packed` (as many
        bits each as number the codebook).
    """
    return {
        "pixels": float(np.mean([picture.nbytes for picture in pictures])),
        "png": round(float(np.mean([_png_bytes(picture) for picture in pictures])), 1),
        "codes": 2.0 * length,
        "codes_packed": length * math.ceil(math.log2(codebook)) / 8,
    }


def _png_bytes(picture: np.ndarray) -> int:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return buffer.tell()


def _seconds(function: Callable[[Tensor], Tensor], argument: Tensor, times: int) -> float:
    """Wall-clock seconds of so many calls, after one that warms up."""
    _wait(function(argument))
    start = time.perf_counter()
    for _ in range(times):
        result = function(argument)
    _wait(result)
    return time.perf_counter() - start


def _wait(result: Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize(result.device)


def _blurred_noise(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(2))) for one in noise]


def _read(folder: Path, size: tuple[int, int]) -> list[np.ndarray]:
    """The first pictures of a folder, uint8 [H, W, 3]."""
    files = [path for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    if not files:
        raise ValueError(f"expected a folder of PNG or JPEG files, {folder} has none")
    height, width = size
    found = []
    for path in files[:_MOST]:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            found.append(np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)))
    return found
