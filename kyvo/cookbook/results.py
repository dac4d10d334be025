"""What the runs of a grid reached, as the table in the paper's form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kyvo.cookbook.costs import COMBINED, costs
from kyvo.cookbook.grid import Column, Grid, PlannedRun
from kyvo.cookbook.job import JobState, read_state
from kyvo.cookbook.plan import Plan
from kyvo.report.comparison import ComparedRun, ComparisonTable, Published, Spread
from kyvo.report.metrics_file import final_metrics
from kyvo.report.run_record import read_records


@dataclass(frozen=True)
class Result:
    """A run and what became of it.

    Args:
        run: The run.
        folder: Its folder.
        state: How far it is.
        reached: Metrics of its last evaluation and its costs, by name; of a run that is not finished, none.
    """

    run: PlannedRun
    folder: Path
    state: JobState
    reached: Mapping[str, float]

    @classmethod
    def read(cls, plan: Plan, run: PlannedRun) -> "Result":
        """From the run's folder; ValueError if its files cannot be read."""
        folder = plan.folder_of(run)
        state = read_state(folder)
        finished = state.status == "finished"
        return cls(run, folder, state, final_metrics(folder, "val") | costs(folder) if finished else {})

    @property
    def minutes(self) -> float:
        """How long its last start took; 0 if it has not ended."""
        if not self.state.ended:
            return 0.0
        span = datetime.fromisoformat(self.state.ended) - datetime.fromisoformat(self.state.started)
        return span.total_seconds() / 60


def read_results(plan: Plan) -> list[Result]:
    """What became of each run of a grid."""
    return [Result.read(plan, run) for run in plan.grid.runs()]


def grid_table(grid: Grid, results: Sequence[Result]) -> ComparisonTable:
    """A row for each combination of choices, over seeds; runs that are not finished are named with their reason.

    Args:
        grid: Its rows and columns.
        results: Of all its runs.

    Raises:
        ValueError: If a finished run logged none of the columns.
    """
    metrics = [column.metric for column in grid.columns]
    for one in results:
        if one.state.status == "finished" and not set(metrics) & set(one.reached):
            raise ValueError(f"{one.folder}: none of {', '.join(metrics)} was logged, only {', '.join(one.reached)}")
    rows = [_row(name, [one for one in results if one.run.row == name], metrics) for name in grid.rows]
    return ComparisonTable(rows, metrics, _published(grid.columns))


def _published(columns: Sequence[Column]) -> dict[str, Published]:
    return {one.metric: Published(one.source, one.published, one.of) for one in columns if one.published}


def _row(name: str, results: Sequence[Result], metrics: Sequence[str]) -> ComparedRun:
    seeds = list(dict.fromkeys(one.run.seed for one in results if one.reached))
    reached = [_joined([one.reached for one in results if one.run.seed == seed]) for seed in seeds]
    values = {metric: [one[metric] for one in reached if metric in one] for metric in metrics}
    notes = [_note(one, results) for one in results if one.state.status != "finished"]
    return ComparedRun(
        name, len(seeds), {metric: Spread.of(some) for metric, some in values.items() if some}, "; ".join(notes)
    )


def _joined(models: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What the models reached that make a row together: each its own metrics, and their costs as one."""
    joined = {name: value for one in models for name, value in one.items()}
    for name, combine in COMBINED.items():
        found = [one[name] for one in models if name in one]
        joined |= {name: combine(found)} if found else {}
    return joined


def _note(result: Result, row: Sequence[Result]) -> str:
    """A run that is not finished, called by what sets it apart in its row."""
    name = result.run.name if len({one.run.seed for one in row}) < len(row) else f"seed {result.run.seed}"
    said = {"planned": "not run", "broken": "stopped", "running": "running"}.get(result.state.status)
    return f"{name} {said or f'failed: {result.state.error}'}"


def provenance(results: Sequence[Result]) -> list[str]:
    """Where finished runs come from, a sentence a line: seeds, time, machines, versions and code."""
    finished = [one for one in results if one.state.status == "finished"]
    if not finished:
        return []
    records = [record for one in finished for record in read_records(one.folder / "run.json")]
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(one.run.seed for one in finished))
    return [
        f"{len(finished)} of {len(results)} runs, seeds {seeds}, {sum(one.minutes for one in finished):.0f} minutes of "
        "runs in all.",
        f"Machine: {_different(_machine(record['machine']) for record in records)}.",
        f"Code: {_different(str(record['commit']) for record in records)}; "
        f"{_different(_versions(record['versions']) for record in records)}.",
    ]


def _different(texts: Any) -> str:
    return "; ".join(dict.fromkeys(texts))


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = [gpu["name"] for gpu in machine["accelerators"]]
    held = f", {len(gpus)} x {gpus[0]}" if gpus else ""
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB{held}"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions)
