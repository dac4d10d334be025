"""The metrics.csv of a run: which metrics it logged, at which step, and what it ended with."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Stage = Literal["val", "test"]

COMMANDS: dict[Stage, str] = {"val": "validate", "test": "test"}
"""The command that evaluates a stage by itself, and the folder in a run's that it logs to."""


@dataclass(frozen=True)
class MetricsFile:
    """What Lightning's CSVLogger wrote.

    Args:
        path: The file.
        rows: Numbers by column of each row, in the order logged; a row has few of the columns.
    """

    path: Path
    rows: tuple[Mapping[str, float], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ValueError: Naming the file and the line: no such file, no column `step`, or a cell that is no number.
        """
        try:
            with path.open(newline="", encoding="utf-8") as lines:
                reader = csv.DictReader(lines)
                if "step" not in (reader.fieldnames or ()):
                    raise ValueError(f"{path}: expected a CSV with the column 'step', got {reader.fieldnames}")
                return cls(path, tuple(_numbers(row, f"{path}, line {reader.line_num}") for row in reader))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from error

    @property
    def last_step(self) -> int:
        """The last step that was logged; 0 without one."""
        return int(max((row["step"] for row in self.rows if "step" in row), default=0))

    def series(self, name: str) -> list[tuple[float, float]]:
        """(step, value) of a column, by step; of several values at a step the last."""
        found = {row["step"]: row[name] for row in self.rows if name in row and "step" in row}
        return sorted(found.items())

    def names(self, stage: str) -> list[str]:
        """Metrics of a stage, without it, in the order of the columns."""
        columns = dict.fromkeys(name for row in self.rows for name in row)
        return [name.removeprefix(f"{stage}/") for name in columns if name.startswith(f"{stage}/")]

    def final(self, stage: Stage) -> dict[str, float]:
        """The metrics of a stage's last evaluation, by name without the stage; empty if there was none."""
        for row in reversed(self.rows):
            found = {name: value for name, value in row.items() if name.startswith(f"{stage}/")}
            if found:
                return {name.removeprefix(f"{stage}/"): value for name, value in found.items()}
        return {}


def _numbers(row: Mapping[str | None, str | None], where: str) -> dict[str, float]:
    """The cells of a row that hold a number; NaN is none."""
    if None in row:
        raise ValueError(f"{where}: more cells than columns")
    found: dict[str, float] = {}
    for name, cell in row.items():
        if not cell or name is None:
            continue
        try:
            value = float(cell)
        except ValueError as error:
            raise ValueError(f"{where}: expected a number under {name!r}, got {cell!r}") from error
        if not math.isnan(value):
            found[name] = value
    return found


def final_metrics(run: Path, stage: Stage) -> dict[str, float]:
    """What a run reached in a stage: by its own metrics.csv, else by that of its folder `validate` or `test`.

    Args:
        run: A run's folder.
        stage: Of which evaluation.

    Returns:
        Values by name without the stage; empty if there are none.

    Raises:
        ValueError: A metrics.csv that cannot be read.
    """
    for folder in (run, run / COMMANDS[stage]):
        path = folder / "metrics.csv"
        found = MetricsFile.read(path).final(stage) if path.is_file() else {}
        if found:
            return found
    return {}


def run_name(folder: Path) -> str:
    """What a run is called: its folder's name, or its parent's where an evaluation has a folder of its own."""
    path = folder.resolve()
    return path.parent.name if path.name in COMMANDS.values() else path.name
