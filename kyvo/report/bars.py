"""Bar charts side by side on one scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kyvo.report.grid import MARGIN
from kyvo.report.scene_drawing import FAINT, INK, LINE, PALETTE, PAPER, Color

AXIS = 48
"""Pixels left of the first chart, for the numbers of the scale."""


@dataclass(frozen=True)
class BarChart:
    """One chart.

    Args:
        title: A line above it.
        subtitle: A second, fainter line.
        shares: Heights of the bars from left to right, from 0 to 1.
        labels: What stands under each bar; none to leave that out.
    """

    title: str
    subtitle: str
    shares: Sequence[float]
    labels: Sequence[str] = ()


def draw_bars(charts: Sequence[BarChart], path: Path | str, caption: str = "", width: int = 320) -> Path:
    """Write a PNG of bar charts side by side, all on the scale that the highest bar needs.

    Args:
        charts: At least one, each with at least one bar.
        path: The file to write; its folder is made.
        caption: A line below all of them.
        width: Width of a chart in pixels.

    Returns:
        The path written.

    Raises:
        ValueError: Without charts or bars, or for a share that is not from 0 to 1.
    """
    if not charts or any(not chart.shares for chart in charts):
        raise ValueError("a plot needs at least one chart, and each at least one bar")
    if not all(0 <= share <= 1 for chart in charts for share in chart.shares):
        raise ValueError(f"shares must be from 0 to 1, got {[list(chart.shares) for chart in charts]}")
    step, top = scale(max(max(chart.shares) for chart in charts))
    height = round(0.7 * width)
    page = Image.new("RGB", (AXIS + len(charts) * (width + MARGIN), height + 2 * MARGIN + 90), PAPER)
    for number, chart in enumerate(charts):
        box = (AXIS + number * (width + MARGIN), MARGIN + 44, width, height)
        _Frame(ImageDraw.Draw(page), box, step, top).draw_chart(chart, number)
    at = AXIS, page.height - MARGIN
    ImageDraw.Draw(page).text(at, caption, fill=FAINT, font=ImageFont.load_default(13), anchor="ls")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.save(target)
    return target


def scale(highest: float) -> tuple[float, float]:
    """Step and end of a scale from 0 that holds a share, but at least 0.01, with 3 to 5 steps.

    >>> scale(0.27)
    (0.1, 0.3)
    >>> scale(0.0)
    (0.002, 0.01)
    """
    held = max(highest, 0.01)
    power = 10.0 ** math.floor(math.log10(held))
    # A little less than the share will do, for 3 * 0.1 is not 0.3.
    step = next(size * power for size in (0.2, 0.5, 1.0, 2.0) if 5 * size * power >= held - 1e-9)
    return round(step, 6), round(step * math.ceil(held / step - 1e-9), 6)


class _Frame:
    """Where the bars of one chart stand."""

    def __init__(self, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], step: float, top: float) -> None:
        self.draw, self.step, self.top = draw, step, top
        self.left, self.upper, self.width, self.height = box
        self.small = ImageFont.load_default(12)

    def level(self, share: float) -> float:
        """Row of pixels of a share."""
        return self.upper + self.height * (1 - share / self.top)

    def draw_chart(self, chart: BarChart, number: int) -> None:
        """Draw the scale, the bars and what is written about them."""
        large = ImageFont.load_default(16)
        self.draw.text((self.left, self.upper - 30), chart.title, fill=INK, font=large, anchor="ls")
        self.draw.text((self.left, self.upper - 10), chart.subtitle, fill=FAINT, font=self.small, anchor="ls")
        self._draw_scale(named=number == 0)
        pitch = self.width / len(chart.shares)
        for place, share in enumerate(chart.shares):
            self._draw_bar(self.left + place * pitch, pitch, share, PALETTE[number % len(PALETTE)])
        for place, label in enumerate(chart.labels):
            at = self.left + (place + 0.5) * pitch, self.level(0) + 4
            self.draw.text(at, label, fill=FAINT, font=self.small, anchor="ma")

    def _draw_bar(self, left: float, pitch: float, share: float, color: Color) -> None:
        if share == 0:
            return
        # A share may be lower than a pixel and is still there.
        upper = min(self.level(share), self.level(0) - 1)
        gap = 0.1 * pitch
        self.draw.rectangle((left + gap, upper, max(left + gap, left + pitch - gap - 1), self.level(0)), fill=color)

    def _draw_scale(self, named: bool) -> None:
        for line in range(round(self.top / self.step) + 1):
            share = line * self.step
            row = self.level(share)
            self.draw.line([(self.left, row), (self.left + self.width, row)], fill=LINE if line else FAINT)
            if named:
                at = self.left - 6, row
                self.draw.text(at, f"{100 * share:.3g} %", fill=FAINT, font=self.small, anchor="rm")
