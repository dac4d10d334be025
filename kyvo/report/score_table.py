"""Tables of words and numbers, for the terminal and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from kyvo.report.table import MISSING


@dataclass(frozen=True)
class ScoreTable:
    """A table whose first column names what the others are about.

    Args:
        title: A line above it.
        header: Names of the columns.
        rows: Cells of each row, as many as columns.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """The table for ``rich``; neither the first column nor a word of the header is broken."""
        table = Table(
            title=escape(self.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        for place, name in enumerate(self.header):
            longest = max(map(len, name.split()), default=0)
            table.add_column(escape(name), justify="right" if place else "left", min_width=longest, no_wrap=not place)
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """The table as Markdown below its title.

        >>> print(ScoreTable("Scores", ("method", "PSNR"), [("ours", "21.59")]).markdown())
        **Scores**
        <BLANKLINE>
        | method | PSNR |
        | :-- | --: |
        | ours | 21.59 |
        """
        rule = [":--", *["--:"] * (len(self.header) - 1)]
        lines = [self.header, rule, *([cell.replace("|", r"\|") for cell in row] for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def number(value: float, digits: int = 3) -> str:
    """A number with so many decimals; NaN is shown as missing.

    >>> number(0.5, 2), number(math.nan)
    ('0.50', '–')
    """
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"
