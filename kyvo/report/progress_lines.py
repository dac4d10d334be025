"""Progress as lines of a log, for where the output is no terminal: files of a cluster, continuous integration."""

from collections.abc import Mapping
from time import perf_counter

from rich.console import Console

from kyvo.report.progress_text import (
    Standing,
    count_text,
    duration,
    headline_texts,
    losses_of,
    speed_text,
    time_text,
)


class ProgressLines:
    """A line after each log of training, one for each evaluation and, of long ones, one now and then.

    Args:
        console: Where to write.
        seconds: Least time between the lines of one evaluation.
    """

    def __init__(self, console: Console, seconds: float = 30) -> None:
        self._console = console
        self._seconds = seconds
        self._start = self._said = perf_counter()

    def train(self, standing: Standing) -> None:
        """Training took a step."""

    def logged(self, standing: Standing) -> None:
        """Metrics of training were logged."""
        tasks, kinds = losses_of(standing.metrics)
        losses = [f"{name}: {', '.join(found)}" for name, found in (("loss", tasks), ("of tokens", kinds)) if found]
        where = f"step {count_text(standing.step, standing.total)}"
        self._say(where, time_text(standing), speed_text(standing.metrics), *losses)

    def start_evaluation(self, name: str, total: int | None) -> None:
        """An evaluation starts."""
        self._start = self._said = perf_counter()

    def evaluate(self, name: str, done: int, total: int | None) -> None:
        """A batch was evaluated."""
        now = perf_counter()
        if now - self._said >= self._seconds:
            self._said = now
            self._say(name, f"{count_text(done, total)} batches", duration(now - self._start))

    def evaluated(self, name: str, metrics: Mapping[str, float]) -> None:
        """An evaluation is over."""
        self._say(f"{name} in {duration(perf_counter() - self._start)}", *headline_texts(metrics))

    def stop(self) -> None:
        """Nothing more comes."""

    def _say(self, *parts: str) -> None:
        # Soft wrap: a file has no width.
        self._console.print(" | ".join(filter(None, parts)), markup=False, highlight=False, soft_wrap=True)
