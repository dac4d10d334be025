"""What a run cost, from what it wrote: weights that trained, memory, time of a step, size of its checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from kyvo.report.metrics_file import MetricsFile
from kyvo.report.run_record import read_records

COMBINED: Mapping[str, Callable[[Sequence[float]], float]] = {
    "cost/million_trained_weights": sum,
    "cost/peak_memory_gb": max,
    "cost/step_seconds": max,
    "cost/checkpoint_mb": sum,
}
"""The costs, and how those of the models that make a row together are taken as one."""


def costs(run: Path) -> dict[str, float]:
    """The costs of a run, by name; those that it did not write are missing.

    `cost/step_seconds` is the median of what was logged, `cost/checkpoint_mb` the last checkpoint's size, with the
    state of the optimiser.

    Args:
        run: Its folder.

    Raises:
        ValueError: A file of the run that cannot be read.
    """
    found = {
        "cost/million_trained_weights": _recorded(run, "trained_parameters", 1e-6),
        "cost/peak_memory_gb": _recorded(run, "peak_memory_gb", 1.0),
        "cost/step_seconds": _step_seconds(run / "metrics.csv"),
        "cost/checkpoint_mb": _checkpoint_mb(run),
    }
    return {name: value for name, value in found.items() if value is not None}


def _recorded(run: Path, name: str, unit: float) -> float | None:
    """The largest value in run.json of the processes that trained."""
    path = run / "run.json"
    records = read_records(path) if path.is_file() else []
    return max((record[name] * unit for record in records if record.get(name) is not None), default=None)


def _step_seconds(log: Path) -> float | None:
    logged = MetricsFile.read(log).series("train/step_seconds") if log.is_file() else []
    return median(value for _, value in logged) if logged else None


def _checkpoint_mb(run: Path) -> float | None:
    path = run / "checkpoints" / "last.ckpt"
    return path.stat().st_size / 1e6 if path.is_file() else None
