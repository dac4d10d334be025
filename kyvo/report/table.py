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
    """

    metric: str
    reached: float
    baseline: str = ""
    baseline_value: float | None = None
    target: float | None = None
    higher_is_better: bool = True
    digits: int = 3

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
    """Lay rows out for ``rich``: metric, reached, baseline, difference and, if any row has one, target.

    Differences are green where the baseline is beaten and red where it is not.
    """
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD)
    for name, justify in zip(_header(rows), _justify(rows), strict=True):
        table.add_column(name, justify=justify, no_wrap=name != "baseline")
    for row in rows:
        cells = [escape(cell) for cell in _cells(row, rows)]
        if row.is_better is not None:
            color = "green" if row.is_better else "red"
            cells[3] = f"[{color}]{cells[3]}[/{color}]"
        table.add_row(*cells)
    return table


def metric_markdown(rows: Sequence[MetricRow]) -> str:
    """Lay rows out as a Markdown table, without a title.

    >>> print(metric_markdown([MetricRow("Jaccard", 0.912, "copy the input", 0.757)]))
    | metric | reached | baseline | difference |
    | :-- | --: | :-- | --: |
    | Jaccard | 0.912 | 0.757 (copy the input) | +0.155 |
    """
    rules = [":--" if justify == "left" else "--:" for justify in _justify(rows)]
    lines = [_header(rows), rules, *([cell.replace("|", r"\|") for cell in _cells(row, rows)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _has_targets(rows: Sequence[MetricRow]) -> bool:
    return any(row.target is not None for row in rows)


def _header(rows: Sequence[MetricRow]) -> list[str]:
    return ["metric", "reached", "baseline", "difference", *(["target"] if _has_targets(rows) else [])]


def _justify(rows: Sequence[MetricRow]) -> list[Justify]:
    columns: list[Justify] = ["left", "right", "left", "right", "right"]
    return columns[: len(_header(rows))]


def _cells(row: MetricRow, rows: Sequence[MetricRow]) -> list[str]:
    cells = [row.metric, _number(row.reached, row.digits), _baseline(row), _number(row.difference, row.digits, "+")]
    return [*cells, _number(row.target, row.digits)] if _has_targets(rows) else cells


def _baseline(row: MetricRow) -> str:
    value = _number(row.baseline_value, row.digits)
    return f"{value} ({row.baseline})" if row.baseline else value


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return MISSING if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"
