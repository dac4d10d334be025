"""Progress as bars that stay at the bottom of a terminal."""

import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TextIO

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from kyvo.report.progress_text import (
    Standing,
    count_text,
    duration,
    headline_texts,
    losses_of,
    speed_text,
    time_text,
)


class ProgressDisplay:
    """A bar for training with speed and losses below it, and one for the evaluation that runs.

    Args:
        console: The terminal.
        refreshes: How often it is drawn again, a second.
    """

    def __init__(self, console: Console, refreshes: float = 2) -> None:
        self._bars = _DetailedProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[time]}", style="dim"),
            console=console,
            refresh_per_second=refreshes,
            expand=True,
        )
        self._training: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._evaluation_start = 0.0
        self._stderr = sys.stderr
        self._handlers = _handlers_of(self._stderr)
        self._bars.start()
        # Rich has put a stream in place of stderr that writes above the bars; handlers hold on to the one before.
        for handler in self._handlers:
            handler.setStream(sys.stderr)

    def train(self, standing: Standing) -> None:
        """Training took a step."""
        if self._training is None:
            for check in self._bars.task_ids:
                self._bars.remove_task(check)
            self._training = self._bars.add_task("training", total=standing.total, count="", time="")
        count = count_text(standing.step, standing.total)
        self._bars.update(self._training, completed=standing.step, count=count, time=time_text(standing))

    def logged(self, standing: Standing) -> None:
        """Metrics of training were logged."""
        tasks, kinds = losses_of(standing.metrics)
        rows = {"speed": [speed_text(standing.metrics)], "loss": tasks, "of tokens": kinds}
        self._bars.details = {name: found for name, found in rows.items() if any(found)}

    def start_evaluation(self, name: str, total: int | None) -> None:
        """An evaluation starts."""
        self._evaluation_start = perf_counter()
        self._evaluation = self._bars.add_task(name, total=total, count=count_text(0, total), time="")

    def evaluate(self, name: str, done: int, total: int | None) -> None:
        """A batch was evaluated."""
        if self._evaluation is not None:
            passed = duration(perf_counter() - self._evaluation_start)
            self._bars.update(self._evaluation, completed=done, count=count_text(done, total), time=passed)

    def evaluated(self, name: str, metrics: Mapping[str, float]) -> None:
        """An evaluation is over: what it found stays, above the bars."""
        found = headline_texts(metrics)
        if found:
            self._bars.console.print(Text(f"{name}: ", style="bold").append(", ".join(found), style="not bold"))
        if self._evaluation is not None and self._training is not None:
            self._bars.remove_task(self._evaluation)
        self._evaluation = None

    def stop(self) -> None:
        """Leave the bars as they stand."""
        for handler in self._handlers:
            handler.setStream(self._stderr)
        self._bars.stop()


class _DetailedProgress(Progress):
    """Bars with rows of details below them."""

    details: Mapping[str, list[str]] = {}

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from map(_RoomForEcho, (*super().get_renderables(), *self._rows()))

    def _rows(self) -> Iterable[RenderableType]:
        if self.details:
            rows = Table.grid(padding=(0, 2))
            for name, found in self.details.items():
                rows.add_row(Text(name, style="dim"), Columns(map(Text, found), padding=(0, 3)))
            yield rows


@dataclass(frozen=True)
class _RoomForEcho:
    """Something that leaves the last columns free.

    A terminal echoes Ctrl-C as ^C after the last line: without room it would begin another, which nobody takes away.
    """

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(options.max_width - len("^C")))


def _handlers_of(stream: TextIO) -> list[logging.StreamHandler[TextIO]]:
    """What writes log messages to a stream."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    found = [handler for logger in loggers for handler in logger.handlers]
    return [one for one in found if isinstance(one, logging.StreamHandler) and one.stream is stream]
