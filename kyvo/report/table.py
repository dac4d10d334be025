"""Tables of metrics against the baselines they have to beat, for the terminal and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

MISSING = "–"
Justify = Literal["left", "right"]


@dataclass(frozen=True)
class MetricRow:
    """One metric and what to read it against.

    Args:
        metric: its name as people read it.
        reached: the value measured; NaN is shown as missing.
        baseline: what the baseline is, for example "copy the input".
        baseline_value: the baseline's value of the same metric.
        target: the value aimed at.
        higher_is_better: whether a value above the baseline is an improvement.
        digits: decimals to show.
        interval: lower and upper end of a confidence interval of the value measured.
        ceiling: the best value of this metric that can be had, for example because numbers are rounded.
    """

    metric: str
    reached: float
    baseline: str = ""
    baseline_value: float | None = None
    target: float | None = None
    higher_is_better: bool = True
    digits: int = 3
    interval: tuple[float, float] | None = None
    ceiling: float | None = None

    @property
    def difference(self) -> float | None:
        """Return the value reached minus the baseline's; None where one of them is missing."""
        if self.baseline_value is None or math.isnan(self.reached) or math.isnan(self.baseline_value):
            return None
        return self.reached - self.baseline_value

    @property
    def is_better(self) -> bool | None:
        """Tell whether the baseline is beaten; None where there is none, or where the values are equal."""
        if not self.difference:
            return None
        return (self.difference > 0) == self.higher_is_better


def metric_table(rows: Sequence[MetricRow], title: str = "") -> Table:
    """Lay rows out for ``rich``: metric, reached, baseline, difference and, if any row has one, ceiling and target.

    Differences are green where the baseline is beaten and red where it is not.
    """
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name, justify in zip(_header(rows), _justify(rows), strict=True):
        # Words may go on in a line of their own, numbers may not.
        table.add_column(name, justify=justify, no_wrap=justify == "right", min_width=12 if justify == "left" else None)
    for row in rows:
        cells = [escape(cell) for cell in _cells(row, rows)]
        if row.is_better is not None:
            color = "green" if row.is_better else "red"
            cells[3] = f"[{color}]{cells[3]}[/{color}]"
        table.add_row(*cells)
    return table


def metric_markdown(rows: Sequence[MetricRow]) -> str:
    """Lay rows out as a Markdown table, without a title.

    >>> print(metric_markdown([MetricRow("Jaccard", 0.912, "copy the input", 0.757, interval=(0.903, 0.921))]))
    | metric | reached | baseline | difference |
    | :-- | --: | :-- | --: |
    | Jaccard | 0.912 [0.90, 0.92] | 0.757 (copy the input) | +0.155 |
    """
    rules = [":--" if justify == "left" else "--:" for justify in _justify(rows)]
    lines = [_header(rows), rules, *([cell.replace("|", r"\|") for cell in _cells(row, rows)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _optional(rows: Sequence[MetricRow]) -> list[Literal["ceiling", "target"]]:
    """The columns that are shown only if some row has something in them."""
    columns: list[Literal["ceiling", "target"]] = ["ceiling", "target"]
    return [name for name in columns if any(getattr(row, name) is not None for row in rows)]


def _header(rows: Sequence[MetricRow]) -> list[str]:
    return ["metric", "reached", "baseline", "difference", *_optional(rows)]


def _justify(rows: Sequence[MetricRow]) -> list[Justify]:
    columns: list[Justify] = ["left", "right", "left", "right", "right", "right"]
    return columns[: len(_header(rows))]


def _cells(row: MetricRow, rows: Sequence[MetricRow]) -> list[str]:
    cells = [row.metric, _reached(row), _baseline(row), _number(row.difference, row.digits, "+")]
    return [*cells, *(_number(getattr(row, name), row.digits) for name in _optional(rows))]


def _reached(row: MetricRow) -> str:
    """The value and its interval, whose ends are not worth as many decimals."""
    value, digits = _number(row.reached, row.digits), max(row.digits - 1, 0)
    if row.interval is None:
        return value
    return f"{value} [{_number(row.interval[0], digits)}, {_number(row.interval[1], digits)}]"


def _baseline(row: MetricRow) -> str:
    value = _number(row.baseline_value, row.digits)
    return f"{value} ({row.baseline})" if row.baseline else value


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return MISSING if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"
