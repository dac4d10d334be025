"""Sheets of pairs: originals beside what became of them, enlarged so that their pixels can be seen.

Shapes: H W height and width of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kyvo.report.grid import CAPTION, GAP, HEADER, MARGIN, draw_panel
from kyvo.report.scene_drawing import FAINT, INK, PAPER


@dataclass(frozen=True)
class Pair:
    """Two pictures that should look alike.

    Args:
        original: uint8 [H, W, 3].
        copy: uint8 [H, W, 3], the reconstruction.
        caption: a line under them, for example the key.
    """

    original: NDArray[np.uint8]
    copy: NDArray[np.uint8]
    caption: str = ""


def draw_pairs(pairs: Sequence[Pair], path: Path | str, columns: int = 4, panel: int = 192) -> Path:
    """Write a PNG with the pairs in rows, each an original and its reconstruction.

    Args:
        pairs: the pairs, at least one.
        path: the file to write; its folder is made.
        columns: pairs of a row.
        panel: width and height of a picture on the sheet in pixels; smaller pictures are enlarged without smoothing.

    Returns:
        The path written.

    Raises:
        ValueError: without pairs, or for a picture that is not uint8 [H, W, 3].
    """
    if not pairs:
        raise ValueError("a sheet of pairs needs at least one pair")
    across, pitch = min(columns, len(pairs)), (2 * panel + GAP + 2 * MARGIN, panel + CAPTION + MARGIN)
    rows = -(-len(pairs) // across)
    page = Image.new("RGB", (across * pitch[0], HEADER + rows * pitch[1]), PAPER)
    draw, header, small = ImageDraw.Draw(page), ImageFont.load_default(18), ImageFont.load_default(14)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, across)
        left, top = MARGIN + column * pitch[0], HEADER + row * pitch[1]
        for place, (name, picture) in enumerate((("original", pair.original), ("reconstruction", pair.copy))):
            corner = left + place * (panel + GAP)
            page.paste(draw_panel(picture, panel), (corner, top))
            if row == 0:
                draw.text((corner + panel / 2, HEADER / 2 + 2), name, fill=INK, font=header, anchor="mm")
        draw.text((left, top + panel + 6), pair.caption, fill=FAINT, font=small)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.save(target)
    return target
