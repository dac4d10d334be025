"""Grids of examples: what was read, what should have been written, what was written.

Shapes: H W height and width of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kyvo.report.scene_drawing import FAINT, INK, LINE, PAPER, draw_scene
from kyvo.scene import Scene, SceneSchema

Content = NDArray[np.uint8] | Scene | str
"""A picture uint8 [H, W, 3], a scene, or text."""

COLUMNS = ("input", "target", "generated")
MARGIN = 16
GAP = 6
HEADER = 34
CAPTION = 26
BACKDROP = (247, 247, 249)


@dataclass(frozen=True)
class GridRow:
    """One example.

    Args:
        input: what was read, in order; each piece becomes a panel.
        target: what should have been written.
        generated: what was written; an empty panel says that nothing could be read.
        caption: a line under the row, for example the key and the score.
    """

    input: tuple[Content, ...]
    target: tuple[Content, ...]
    generated: tuple[Content, ...]
    caption: str = ""

    @property
    def columns(self) -> tuple[tuple[Content, ...], ...]:
        """Return the contents of the three columns."""
        return self.input, self.target, self.generated


def draw_grid(
    rows: Sequence[GridRow],
    path: Path | str,
    schema: SceneSchema | str = "clevr",
    panel: int = 256,
    extent: float | None = None,
) -> Path:
    """Write a PNG with one row per example and the columns input, target and generated.

    Small pictures are enlarged without smoothing, so that their pixels can be seen; scenes are drawn from above; text
    is wrapped.

    Args:
        rows: the examples, at least one.
        path: the file to write; its folder is made.
        schema: the schema of the scenes or its name.
        panel: width and height of a panel in pixels.
        extent: half the floor's width of the scenes, see ``draw_scene``.

    Returns:
        The path written.

    Raises:
        ValueError: without rows, or for a picture that is not uint8 [H, W, 3].
    """
    if not rows:
        raise ValueError("a grid needs at least one row")
    page = _Page(rows, panel)
    for index, row in enumerate(rows):
        for column, contents in enumerate(row.columns):
            for place, content in enumerate(contents):
                page.image.paste(draw_panel(content, panel, schema, extent), page.corner(index, column, place))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.image.save(target)
    return target


def draw_panel(
    content: Content,
    size: int,
    schema: SceneSchema | str = "clevr",
    extent: float | None = None,
    names: bool = False,
) -> Image.Image:
    """Draw a picture, a scene or a text as an RGB image [size, size] with a thin frame; see ``draw_scene``."""
    if isinstance(content, str):
        image = _write(content, size)
    elif isinstance(content, Scene):
        image = draw_scene(content, schema, size, extent, names)
    else:
        image = _fit(content, size)
    ImageDraw.Draw(image).rectangle((0, 0, size - 1, size - 1), outline=LINE)
    return image


def _fit(picture: NDArray[np.uint8], size: int) -> Image.Image:
    """Scale a picture to the panel, keeping its proportions: enlarge in blocks, reduce smoothly."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"pictures should be uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    image = Image.new("RGB", (size, size), BACKDROP)
    image.paste(Image.fromarray(picture).resize(shape, method), ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return image


def _write(text: str, size: int) -> Image.Image:
    """Write text in the middle, in the largest letters that fit."""
    image = Image.new("RGB", (size, size), PAPER)
    draw = ImageDraw.Draw(image)
    room = size - 2 * (size // 12)
    for points in range(max(11, size // 11), 7, -1):
        font = ImageFont.load_default(points)
        lines = "\n".join(wrap(text, font, room))
        if draw.multiline_textbbox((0, 0), lines, font=font, spacing=points // 3)[3] <= room:
            break
    middle = size / 2, size / 2
    draw.multiline_text(middle, lines, fill=INK, font=font, anchor="mm", align="center", spacing=points // 3)
    return image


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Break text into lines no wider than `width` pixels, where words allow; line breaks in the text are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


class _Page:
    """The empty page: where each panel goes, headers, captions and rules."""

    def __init__(self, rows: Sequence[GridRow], panel: int) -> None:
        self.panel = panel
        counts = [max(1, *(len(row.columns[column]) for row in rows)) for column in range(len(COLUMNS))]
        widths = [count * (panel + GAP) - GAP for count in counts]
        self.lefts = list(accumulate((width + 3 * MARGIN for width in widths[:-1]), initial=MARGIN))
        self.widths = widths
        self.captions = any(row.caption for row in rows)
        self.pitch = panel + MARGIN + (CAPTION if self.captions else 0)
        size = self.lefts[-1] + widths[-1] + MARGIN, HEADER + MARGIN + self.pitch * len(rows)
        self.image = Image.new("RGB", size, PAPER)
        self._decorate(rows)

    def corner(self, row: int, column: int, place: int) -> tuple[int, int]:
        """Return the upper left pixel of a panel."""
        return self.lefts[column] + place * (self.panel + GAP), HEADER + MARGIN // 2 + row * self.pitch

    def _decorate(self, rows: Sequence[GridRow]) -> None:
        draw, header, small = ImageDraw.Draw(self.image), ImageFont.load_default(18), ImageFont.load_default(14)
        for name, left, width in zip(COLUMNS, self.lefts, self.widths, strict=True):
            draw.text((left + width / 2, HEADER / 2 + 2), name, fill=INK, font=header, anchor="mm")
        for left in self.lefts[1:]:
            x = left - 3 * MARGIN // 2
            draw.line([(x, MARGIN // 2), (x, self.image.height - MARGIN // 2)], fill=LINE, width=1)
        for index, row in enumerate(rows):
            y = self.corner(index, 0, 0)[1] + self.panel + 6
            draw.text((self.lefts[0], y), row.caption, fill=FAINT, font=small)
