"""A table of runs and what they reached, for the terminal, as Markdown, LaTeX and CSV."""

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from kyvo.report.metric_names import digits, higher_is_better, label_of, spoken, written
from kyvo.report.table import MISSING

_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"~": r"\~{}", "^": r"\^{}", "\\": r"\textbackslash "}
)


_GAP = 3
"""Characters between the columns of a table in a terminal."""

_EDGES = 2
"""Characters at its edges."""


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
        note: What is to be said of it, such as which of its runs failed.
    """

    name: str
    runs: int
    reached: Mapping[str, Spread]
    note: str = ""


@dataclass(frozen=True)
class Published:
    """What a paper has beside a metric.

    Args:
        source: Where, such as "table 5b".
        values: By the names of rows.
        of: What the numbers are, where they are not of the metric itself.
    """

    source: str
    values: Mapping[str, float]
    of: str = ""

    @property
    def heading(self) -> str:
        """What its column is called below "paper"."""
        return f"{self.of}, {self.source}" if self.of else self.source

    def text(self, row: str) -> str:
        """Its number of a row, with as many decimals as the longest has."""
        decimals = max((len(str(value).partition(".")[2]) for value in self.values.values()), default=0)
        return f"{self.values[row]:.{decimals}f}" if row in self.values else MISSING


@dataclass(frozen=True)
class ComparisonTable:
    """A row for each run and a column for each metric, the best of each column set in bold.

    Args:
        rows: At least one.
        metrics: The columns, such as recognition/jaccard.
        published: What a paper has, in a column of its own behind that of a metric.
    """

    rows: Sequence[ComparedRun]
    metrics: Sequence[str]
    published: Mapping[str, Published] = field(default_factory=dict)

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

    def parts(self, width: int) -> list["ComparisonTable"]:
        """The table, or where it is wider than so many characters several with some of the columns each.

        All rows are in each, their notes in the last; a column that is too wide has a table of its own.
        """
        parts: list[list[str]] = [[]]
        room = first = width - _EDGES - max(len(_named(row)) for row in self.rows)
        for metric in self.metrics:
            room -= self._width(metric)
            if room < 0 and parts[-1]:
                parts.append([])
                room = first - self._width(metric)
            parts[-1].append(metric)
        bare = [replace(row, note="") for row in self.rows]
        return [replace(self, rows=bare, metrics=part) for part in parts[:-1]] + [replace(self, metrics=parts[-1])]

    def _width(self, metric: str) -> int:
        """Characters that a metric's columns take in a terminal."""
        alone = replace(self, rows=[replace(row, note="") for row in self.rows], metrics=[metric])
        headings = (_broken(f"{label} {name}") for label, name in alone._headings)
        rows = [alone._cells(row, " ± ", str) for row in alone.rows]
        columns = zip(headings, *rows, strict=True)
        return sum(_GAP + max(map(len, (*heading, *cells))) for heading, *cells in columns)

    def rich(self, title: str) -> Table:
        """The table for ``rich``."""
        table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", no_wrap=True)
        for label, name in self._headings:
            heading = escape("\n".join(_broken(f"{label} {name}")))
            table.add_column(heading, justify="right", no_wrap=True)
        if self._noted:
            table.add_column("note")
        for row in self.rows:
            cells = self._cells(row, " ± ", lambda cell: f"[bold]{cell}[/bold]")
            table.add_row(escape(_named(row)), *cells, *map(escape, self._note(row)))
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
        headings = self._headings
        noted = ["note"] if self._noted else []
        lines = [["run", *(f"{label} {name}".strip() for label, name in headings), *noted]]
        lines.append([":--", *["--:"] * len(headings), *[":--"] * len(noted)])
        for row in self.rows:
            lines.append([_named(row), *self._cells(row, " ± ", lambda cell: f"**{cell}**"), *self._note(row)])
        safe = ([cell.replace("|", r"\|") for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(line)} |" for line in safe) + "\n"

    def latex(self) -> str:
        r"""The table as LaTeX; it needs ``\usepackage{booktabs}``."""
        headings = [(label.translate(_LATEX), name.translate(_LATEX)) for label, name in self._headings]
        names = [name.replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$") for _, name in headings]
        noted = ["note"] if self._noted else []
        lines = [
            rf"\begin{{tabular}}{{l{'r' * len(headings)}{'l' * len(noted)}}}",
            r"\toprule",
            " & ".join(["", *(label for label, _ in headings), *([""] if noted else [])]) + r" \\",
            " & ".join(["run", *names, *noted]) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            cells = self._cells(row, r" $\pm$ ", lambda cell: rf"\textbf{{{cell}}}")
            shown = [cell.replace(MISSING, "--") for cell in cells]
            times = rf" $\times${row.runs}" if row.runs > 1 else ""
            notes = [note.translate(_LATEX) for note in self._note(row)]
            lines.append(" & ".join([row.name.translate(_LATEX) + times, *shown, *notes]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """The table as CSV: run, runs, and for each metric its mean and, under METRIC_std, its deviation, unrounded.

        What a paper has is under METRIC_paper, what is to be said of a run under note.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [name for metric in self.metrics for name in self._csv_names(metric)]
        writer.writerow(["run", "runs", *names, *(["note"] if self._noted else [])])
        for row in self.rows:
            cells: list[float | str] = []
            for metric in self.metrics:
                found = row.reached.get(metric)
                cells += ["", ""] if found is None else [found.mean, "" if found.std is None else found.std]
                if metric in self.published:
                    cells.append(self.published[metric].values.get(row.name, ""))
            writer.writerow([row.name, row.runs, *cells, *self._note(row)])
        return text.getvalue()

    def _csv_names(self, metric: str) -> list[str]:
        return [metric, f"{metric}_std", *([f"{metric}_paper"] if metric in self.published else [])]

    @property
    def _noted(self) -> bool:
        return any(row.note for row in self.rows)

    def _note(self, row: ComparedRun) -> list[str]:
        """The cell of a row's note, in a table that has such a column."""
        return [row.note] if self._noted else []

    @property
    def _headings(self) -> list[tuple[str, str]]:
        """Label and name of each column between those of runs and notes."""
        found: list[tuple[str, str]] = []
        for metric in self.metrics:
            found.append((spoken(label_of(metric)), _headed(metric)))
            if metric in self.published:
                found.append(("paper", self.published[metric].heading))
        return found

    def _cells(self, row: ComparedRun, sign: str, bold: Callable[[str], str]) -> list[str]:
        """The cells of a row, the best in bold, each with the paper's behind it."""
        cells: list[str] = []
        for metric in self.metrics:
            text = _text(row, metric, sign)
            cells.append(bold(text) if self.is_best(row, metric) else text)
            if metric in self.published:
                cells.append(self.published[metric].text(row.name))
        return cells


def _broken(heading: str) -> list[str]:
    """A heading in lines of a word each.

    >>> _broken("recognition Jaccard ↑")
    ['recognition', 'Jaccard ↑']
    """
    return re.sub(r" (?![↑↓])", "\n", heading.strip()).split("\n")


def _headed(metric: str) -> str:
    return f"{written(metric)} {'↑' if higher_is_better(metric) else '↓'}"


def _named(row: ComparedRun) -> str:
    return f"{row.name} ×{row.runs}" if row.runs > 1 else row.name


def _text(row: ComparedRun, metric: str, sign: str) -> str:
    found, places = row.reached.get(metric), digits(metric)
    if found is None or math.isnan(found.mean):
        return MISSING
    spread = "" if found.std is None else f"{sign}{found.std:.{places}f}"
    return f"{found.mean:.{places}f}{spread}"
