"""A plot of runs: for each metric a panel with a bar for each run, with whiskers of a deviation to either side."""

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kyvo.report.comparison import ComparedRun, ComparisonTable
from kyvo.report.grid import GAP, MARGIN
from kyvo.report.metric_names import digits, higher_is_better, label_of, spoken, written
from kyvo.report.scene_drawing import FAINT, INK, LINE, PALETTE, PAPER, Color

BAR, PITCH = 18, 26
"""Pixels of a bar's height, and from one to the next."""

PANEL = 360
"""Width of a panel's bars in pixels."""

_HEAD = 34
_VALUE = 110
_MOST_NAME = 260
_MUTED: Color = (172, 190, 212)


def draw_comparison(table: ComparisonTable, path: Path, columns: int = 2) -> Path:
    """Write a PNG; the best of each metric is darker, all bars begin at 0.

    Args:
        table: What to draw.
        path: The file to write; its folder is made.
        columns: Panels side by side.

    Returns:
        The path written.
    """
    font = ImageFont.load_default(13)
    names = max(min(_MOST_NAME, math.ceil(font.getlength(_named(row)))) for row in table.rows) + 2 * GAP
    size = names + PANEL + _VALUE + 2 * MARGIN, _HEAD + PITCH * len(table.rows) + MARGIN
    across = min(columns, len(table.metrics))
    down = -(-len(table.metrics) // across)
    page = Image.new("RGB", (across * size[0] + MARGIN, down * size[1] + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    for place, metric in enumerate(table.metrics):
        row, column = divmod(place, across)
        _Panel(draw, table, metric, column * size[0] + MARGIN, row * size[1] + MARGIN, names).draw_all()
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


def _named(row: ComparedRun) -> str:
    return f"{row.name} x{row.runs}" if row.runs > 1 else row.name


class _Panel:
    """One metric: where its bars lie."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, table: ComparisonTable, metric: str, left: int, top: int, names: int
    ) -> None:
        self.draw, self.table, self.metric = draw, table, metric
        self.left, self.top, self.names = left, top, names
        self.font = ImageFont.load_default(13)
        reached = [row.reached[metric] for row in table.rows if metric in row.reached]
        self.end = max((abs(one.mean) + (one.std or 0.0) for one in reached), default=1.0) or 1.0

    def draw_all(self) -> None:
        """Draw the heading and a bar for each run."""
        better = "higher" if higher_is_better(self.metric) else "lower"
        title = f"{spoken(label_of(self.metric))}: {written(self.metric)}"
        large = ImageFont.load_default(15)
        self.draw.text((self.left, self.top), title, fill=INK, font=large)
        at = self.left + large.getlength(title) + 2 * GAP, self.top + 2
        self.draw.text(at, f"{better} is better", fill=FAINT, font=ImageFont.load_default(12))
        start = self.left + self.names
        for place, row in enumerate(self.table.rows):
            self._draw_row(row, start, self.top + _HEAD + place * PITCH)
        bottom = self.top + _HEAD + PITCH * len(self.table.rows) - (PITCH - BAR) // 2
        self.draw.line([(start, self.top + _HEAD - GAP // 2), (start, bottom)], fill=LINE, width=1)

    def _draw_row(self, row: ComparedRun, start: int, top: int) -> None:
        middle, best = top + BAR / 2, self.table.is_best(row, self.metric)
        self.draw.text((start - GAP, middle), self._short(_named(row)), fill=INK, font=self.font, anchor="rm")
        found = row.reached.get(self.metric)
        if found is None:
            self.draw.text((start + GAP, middle), "not logged", fill=FAINT, font=self.font, anchor="lm")
            return
        stop = start + PANEL * max(found.mean, 0.0) / self.end
        self.draw.rectangle((start, top, max(stop, start + 1), top + BAR), fill=PALETTE[0] if best else _MUTED)
        tip = stop
        if found.std is not None:
            tip = self._draw_whisker(stop, PANEL * found.std / self.end, middle, start)
        places = digits(self.metric)
        spread = "" if found.std is None else f" ± {found.std:.{places}f}"
        text = f"{found.mean:.{places}f}{spread}"
        self.draw.text((tip + GAP, middle), text, fill=INK if best else FAINT, font=self.font, anchor="lm")

    def _draw_whisker(self, stop: float, reach: float, middle: float, start: int) -> float:
        low, high = max(stop - reach, start), stop + reach
        self.draw.line([(low, middle), (high, middle)], fill=INK, width=1)
        for end in (low, high):
            self.draw.line([(end, middle - 4), (end, middle + 4)], fill=INK, width=1)
        return high

    def _short(self, name: str) -> str:
        """The name, cut at its start until it fits: the ends of names are what differs."""
        cut = name
        while self.font.getlength(cut) > self.names - 2 * GAP and len(cut) > 2:
            cut = "…" + cut[2:]
        return cut
