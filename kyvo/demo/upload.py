"""Pictures that visitors upload: checked before their pixels are read, cropped to the shape that the model reads."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from kyvo.generation.pictures import check_size

MOST_BYTES = 10_000_000
"""Largest file; a photograph of 24 million pixels has about as much."""

FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",), "BMP": (".bmp",), "GIF": (".gif",)}
"""Formats of Pillow that are read, each with its endings: no other decoder is tried, whatever a file claims to be."""


@dataclass(frozen=True)
class Upload:
    """A picture as the model reads it.

    Args:
        picture: RGB, of the model's size.
        note: What was done to it; empty if nothing was.
    """

    picture: Image.Image
    note: str


def read_upload(path: str | Path, size: tuple[int, int]) -> Upload:
    """Read a picture from a file, cut its middle to the model's shape and scale it to the model's size.

    Args:
        path: The file; its ending does not matter.
        size: Height and width of what the model reads, in pixels.

    Raises:
        ValueError: If the file is too large, no picture, broken, or the picture is too small or too large.
    """
    _check_bytes(Path(path))
    picture = _decoded(path)
    cut = _middle(picture.size, size)
    read = picture.resize(size[::-1], Image.Resampling.LANCZOS, box=cut)
    return Upload(read, _note(picture.size, (cut[2] - cut[0], cut[3] - cut[1]), read.size))


def _check_bytes(path: Path) -> None:
    found = path.stat().st_size
    if found > MOST_BYTES:
        raise ValueError(f"expected a file of {MOST_BYTES // 10**6} MB at most, got {found / 1e6:.1f} MB")


def _decoded(path: str | Path) -> Image.Image:
    """The upright picture in RGB; of a moving one the first frame."""
    try:
        with Image.open(path, formats=tuple(FORMATS)) as found:
            check_size(*found.size)
            return ImageOps.exif_transpose(found).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"this file is no picture that can be read: expected {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, OSError, SyntaxError) as error:
        # Pillow's readers raise SyntaxError for broken PNG files.
        raise ValueError(f"this picture cannot be read, its file seems broken or far too large: {error}") from error


def _middle(found: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box (left, top, right, bottom) of the shape of size (height, width) in the middle of a picture."""
    width, height = found
    share = min(width / size[1], height / size[0])
    wide, high = max(1, round(size[1] * share)), max(1, round(size[0] * share))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _note(found: tuple[int, int], cut: tuple[int, int], read: tuple[int, int]) -> str:
    """What was done; all sizes are (width, height)."""
    steps = [f"cropped to its middle of {_spoken(cut)}"] if cut != found else []
    steps += [f"scaled to {_spoken(read)} pixels, which this model reads"] if cut != read else []
    return f"Your picture of {_spoken(found)} pixels was {' and '.join(steps)}." if steps else ""


def _spoken(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
