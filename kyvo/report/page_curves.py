"""Training curves as SVG, drawn for a page that sets their colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from kyvo.report.metric_names import headlines, label_of, spoken, written
from kyvo.report.metrics_file import MetricsFile

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 50, 10, 24
"""Pixels around the lines, for the numbers of the scales and of the last values."""

_MOST_POINTS = 400
_LOG_RATIO = 8
"""Losses that fall by more than this are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Curve:
    """One line.

    Args:
        name: What it is called in the legend.
        points: (step, value), by step.
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Lines on one pair of scales.

    Args:
        title: What stands above it.
        label: Which task it is about.
        curves: At least one, each with at least one point.
    """

    title: str
    label: str
    curves: Sequence[Curve]


def training_charts(log: MetricsFile) -> list[Chart]:
    """A chart of the losses of each task, and one of each headline metric with at least two validations."""
    charts = []
    for label in dict.fromkeys(map(label_of, (*log.names("train"), *log.names("val")))):
        losses = [(stage, log.series(f"{stage}/{label}/loss")) for stage in ("train", "val")]
        curves = [Curve(stage, points) for stage, points in losses if len(points) > 1]
        if curves:
            charts.append(Chart("loss", label, curves))
    for name in headlines(log.names("val")):
        points = log.series(f"val/{name}")
        if len(points) > 1:
            charts.append(Chart(written(name), label_of(name), [Curve("val", points)]))
    return charts


def chart_svg(chart: Chart) -> str:
    """The lines, scales and last values as an `<svg>` of class `chart`; line number N has the class `cN`."""
    values = [value for curve in chart.curves for _, value in curve.points if math.isfinite(value)]
    steps = [step for curve in chart.curves for step, _ in curve.points]
    if not values:
        return ""
    across = Scale(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    logarithmic = min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    down = Scale(min(values), max(values), HEIGHT - BOTTOM, TOP, logarithmic)
    parts = [*_grid(across, down), *(_line(place, curve, across, down) for place, curve in enumerate(chart.curves))]
    named = escape(f"{spoken(chart.label)}, {chart.title}, by step", quote=True)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{named}">{"".join(parts)}</svg>'


@dataclass(frozen=True)
class Scale:
    """Where numbers lie in pixels.

    Args:
        low: Least number.
        high: Greatest number.
        start: Pixel of the least.
        stop: Pixel of the greatest.
        logarithmic: Whether equal ratios, not differences, lie equally far apart.
    """

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a number."""
        low, high, at = (math.log(one) if self.logarithmic else one for one in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers in between.

        >>> Scale(0.13, 0.62, 0, 100).ticks()
        [0.2, 0.3, 0.4, 0.5, 0.6]
        >>> Scale(0.3, 5.0, 0, 100, logarithmic=True).ticks()
        [0.5, 1.0, 2.0, 5.0]
        """
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            sizes = (1, 2, 5) if len(powers) <= 3 else (1,)
            found = [round(size * 10.0**power, 12) for power in powers for size in sizes]
            return [value for value in found if self.low <= value <= self.high]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(span))
        step = next(size * power for size in (0.2, 0.5, 1.0, 2.0) if span / (size * power) < 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def _grid(across: Scale, down: Scale) -> list[str]:
    parts = []
    for value in down.ticks():
        y = down(value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    parts += [
        f'<text x="{across(value)}" y="{HEIGHT - 6}" text-anchor="middle">{_short(value)}</text>'
        for value in across.ticks()
    ]
    return parts


def _short(step: float) -> str:
    return f"{step / 1000:g}k" if abs(step) >= 1000 else f"{step:g}"


def _line(place: int, curve: Curve, across: Scale, down: Scale) -> str:
    finite = [(step, value) for step, value in curve.points if math.isfinite(value)]
    if not finite:
        return ""
    # The last point stays, whatever the stride.
    kept = finite[:: -(-len(finite) // _MOST_POINTS)]
    kept = kept if kept[-1] == finite[-1] else [*kept, finite[-1]]
    places = [(across(step), down(value)) for step, value in kept]
    path = " ".join(f"{x:g},{y:g}" for x, y in places)
    dots = "".join(f'<circle class="c{place}" cx="{x:g}" cy="{y:g}" r="2.5"/>' for x, y in places)
    x, y = places[-1]
    last = f'<text class="c{place}" x="{x + 6:g}" y="{y + 4:g}">{finite[-1][1]:.3g}</text>'
    return f'<polyline class="c{place}" points="{path}"/>{dots if len(places) <= 30 else ""}{last}'
