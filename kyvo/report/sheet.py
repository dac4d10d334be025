"""Sheets of samples: a row for each, with its pictures, its scenes from above and its texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kyvo.report.grid import CAPTION, GAP, HEADER, MARGIN, Content, draw_panel
from kyvo.report.scene_drawing import FAINT, INK, PAPER, describe_scene, floor_extent, has_floor
from kyvo.scene import Scene, SceneSchema, get_schema

Row = tuple[str, Mapping[str, Content]]
"""A caption, and the panels by their heading."""


def draw_sheet(rows: Sequence[Row], path: Path | str, schema: SceneSchema | str = "clevr", panel: int = 288) -> Path:
    """Write a PNG with one row per sample and one column per heading.

    Scenes are drawn from above with the names of their objects; those without places on a floor are put in words.

    Args:
        rows: The samples, at least one.
        path: The file to write; its folder is made.
        schema: The schema of the scenes or its name.
        panel: Width and height of a panel in pixels.

    Returns:
        The path written.

    Raises:
        ValueError: Without rows, or for a picture that is not uint8 [H, W, 3].
    """
    if not rows:
        raise ValueError("a sheet needs at least one sample")
    table, headings = get_schema(schema), list(dict.fromkeys(heading for _, panels in rows for heading in panels))
    scenes = [content for _, panels in rows for content in panels.values() if isinstance(content, Scene)]
    extent = floor_extent(scenes, table) if has_floor(table) else None
    page = _page(headings, len(rows), panel)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for number, (caption, panels) in enumerate(rows):
        top = HEADER + number * (panel + CAPTION + MARGIN)
        draw.text((MARGIN, top + panel + 6), caption, fill=FAINT, font=font)
        for heading, content in panels.items():
            shown = describe_scene(content) if isinstance(content, Scene) and extent is None else content
            left = MARGIN + headings.index(heading) * (panel + GAP)
            page.paste(draw_panel(shown, panel, table, extent, names=True), (left, top))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.save(target)
    return target


def _page(headings: Sequence[str], rows: int, panel: int) -> Image.Image:
    """The empty page with its headings."""
    width = 2 * MARGIN + max(1, len(headings)) * (panel + GAP) - GAP
    page = Image.new("RGB", (width, HEADER + rows * (panel + CAPTION + MARGIN)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(18)
    for column, heading in enumerate(headings):
        middle = MARGIN + column * (panel + GAP) + panel / 2
        draw.text((middle, HEADER / 2 + 2), heading, fill=INK, font=font, anchor="mm")
    return page
