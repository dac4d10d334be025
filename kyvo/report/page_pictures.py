"""Pictures as they lie inside a page: compressed, small, as data URIs.

H, W height and width in pixels.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kyvo.report.page_examples import Content
from kyvo.tokenizers.images import ImageTokenizer
from kyvo.tokenizers.pixels import pixels

LARGEST = 256
"""Side in pixels that larger pictures are reduced to."""

_LOSSLESS = 128
"""Up to this side every pixel is kept: such pictures are enlarged on the page."""


class PictureKey(NamedTuple):
    """Whose picture it is: label of the task, key of the sample, and whether it is read or to be written."""

    label: str
    key: str
    part: Literal["read", "target"]


def compress(picture: NDArray[np.uint8] | Image.Image) -> bytes:
    """A picture uint8 [H, W, 3] as PNG up to 128 pixels a side, as JPEG of at most 256 beyond."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def data_uri(compressed: bytes) -> str:
    """What `compress` made, as the source of an `<img>`."""
    kind = "png" if compressed.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(compressed).decode()}"


class Shown(NamedTuple):
    """A picture of a page, and whether it was made of codes."""

    compressed: bytes
    decoded: bool


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of samples come from.

    Args:
        kept: True pictures, compressed, as far as they were kept.
        tokenizer: Makes the others of their codes; without it they are not shown.
    """

    kept: Mapping[PictureKey, bytes] = field(default_factory=dict)
    tokenizer: ImageTokenizer | None = None

    def find(self, where: PictureKey | None, codes: Content) -> Shown | None:
        """The picture that was kept, else that of codes [N]; None if there is neither."""
        if where is not None and where in self.kept:
            return Shown(self.kept[where], False)
        if self.tokenizer is None or not isinstance(codes, np.ndarray):
            return None
        return Shown(compress(pixels(self.tokenizer.decode(torch.from_numpy(codes)[None]))[0]), True)
