"""A table of runs and what they reached, for the terminal, as Markdown, LaTeX and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from kyvo.report.metric_names import digits, higher_is_better, label_of, spoken, written
from kyvo.report.table import MISSING

_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"~": r"\~{}", "^": r"\^{}", "\\": r"\textbackslash "}
)


@dataclass(frozen=True)
class Spread:
    """A mean over runs and, of several, their standard deviation (that of a sample)."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, std=1.4142135623730951)
        """
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class ComparedRun:
    """A run, or several that differ in their seed alone.

    Args:
        name: What it is called.
        runs: How many.
        reached: By metric; those that none of the runs logged are missing.
    """

    name: str
    runs: int
    reached: Mapping[str, Spread]


@dataclass(frozen=True)
class ComparisonTable:
    """A row for each run and a column for each metric, the best of each column set in bold.

    Args:
        rows: At least one.
        metrics: The columns, such as recognition/jaccard.
    """

    rows: Sequence[ComparedRun]
    metrics: Sequence[str]

    def best(self, metric: str) -> float | None:
        """The best mean of a column as it is shown; None of a single row, where nothing is better than another."""
        means = [round(row.reached[metric].mean, digits(metric)) for row in self.rows if metric in row.reached]
        means = [mean for mean in means if not math.isnan(mean)]
        if len(means) < 2:
            return None
        return max(means) if higher_is_better(metric) else min(means)

    def is_best(self, row: ComparedRun, metric: str) -> bool:
        """Whether no other row is better, to the decimals shown; ties are all best."""
        found = row.reached.get(metric)
        return found is not None and round(found.mean, digits(metric)) == self.best(metric)

    def rich(self, title: str) -> Table:
        """The table for ``rich``."""
        table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", no_wrap=True)
        for metric in self.metrics:
            table.add_column(escape(f"{spoken(label_of(metric))}\n{_headed(metric)}"), justify="right")
        for row in self.rows:
            cells = [_text(row, metric, " ± ") for metric in self.metrics]
            bold = [self.is_best(row, metric) for metric in self.metrics]
            shown = [f"[bold]{cell}[/bold]" if best else cell for cell, best in zip(cells, bold, strict=True)]
            table.add_row(escape(_named(row)), *shown)
        return table

    def markdown(self) -> str:
        """The table as Markdown.

        >>> rows = [ComparedRun(name, 1, {"a/jaccard": Spread(mean, None)}) for name, mean in (("x", 0.1), ("y", 0.2))]
        >>> print(ComparisonTable(rows, ["a/jaccard"]).markdown(), end="")
        | run | a Jaccard ↑ |
        | :-- | --: |
        | x | 0.100 |
        | y | **0.200** |
        """
        head = ["run", *(f"{spoken(label_of(metric))} {_headed(metric)}" for metric in self.metrics)]
        lines = [head, [":--", *["--:"] * len(self.metrics)]]
        for row in self.rows:
            cells = [_text(row, metric, " ± ") for metric in self.metrics]
            bold = [f"**{cell}**" if self.is_best(row, metric) else cell for cell, metric in self._with(cells)]
            lines.append([_named(row), *bold])
        safe = ([cell.replace("|", r"\|") for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(line)} |" for line in safe) + "\n"

    def latex(self) -> str:
        r"""The table as LaTeX; it needs ``\usepackage{booktabs}``."""
        labels = [spoken(label_of(metric)).translate(_LATEX) for metric in self.metrics]
        arrows = [_arrow(metric, r" $\uparrow$", r" $\downarrow$") for metric in self.metrics]
        names = [
            f"{written(metric).translate(_LATEX)}{arrow}" for metric, arrow in zip(self.metrics, arrows, strict=True)
        ]
        lines = [
            rf"\begin{{tabular}}{{l{'r' * len(self.metrics)}}}",
            r"\toprule",
            " & ".join(["", *labels]) + r" \\",
            " & ".join(["run", *names]) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            cells = [_text(row, metric, r" $\pm$ ").replace(MISSING, "--") for metric in self.metrics]
            bold = [rf"\textbf{{{cell}}}" if self.is_best(row, metric) else cell for cell, metric in self._with(cells)]
            times = rf" $\times${row.runs}" if row.runs > 1 else ""
            lines.append(" & ".join([row.name.translate(_LATEX) + times, *bold]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """The table as CSV: run, runs, and for each metric its mean and, under METRIC_std, its deviation, unrounded."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["run", "runs", *(name for metric in self.metrics for name in (metric, f"{metric}_std"))])
        for row in self.rows:
            cells: list[float | str] = []
            for metric in self.metrics:
                found = row.reached.get(metric)
                cells += ["", ""] if found is None else [found.mean, "" if found.std is None else found.std]
            writer.writerow([row.name, row.runs, *cells])
        return text.getvalue()

    def _with(self, cells: Sequence[str]) -> list[tuple[str, str]]:
        return list(zip(cells, self.metrics, strict=True))


def _headed(metric: str) -> str:
    return written(metric) + _arrow(metric, " ↑", " ↓")


def _arrow(metric: str, up: str, down: str) -> str:
    return up if higher_is_better(metric) else down


def _named(row: ComparedRun) -> str:
    return f"{row.name} ×{row.runs}" if row.runs > 1 else row.name


def _text(row: ComparedRun, metric: str, sign: str) -> str:
    found, places = row.reached.get(metric), digits(metric)
    if found is None or math.isnan(found.mean):
        return MISSING
    spread = "" if found.std is None else f"{sign}{found.std:.{places}f}"
    return f"{found.mean:.{places}f}{spread}"
