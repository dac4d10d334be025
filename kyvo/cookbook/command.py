"""`kyvo cookbook run` and `kyvo cookbook table`: grids of experiments by one command each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from kyvo.compare import FORMATS, write_table
from kyvo.cookbook.grid import Grid
from kyvo.cookbook.plan import Plan, find_grid, grid_names
from kyvo.cookbook.results import grid_table, provenance, read_results
from kyvo.cookbook.runner import console_report, run_jobs, run_steps, unfinished

OUT = Path("runs/cookbook")
"""Where grids are run, each in a folder of its name."""


def run(
    *grids: str,
    out: Path = OUT,
    jobs: int = 1,
    status: bool = False,
    slurm: dict[str, Any] | None = None,
) -> None:
    """Run the experiments of grids: those that are not finished, going on where one was killed.

    Every run is a `kyvo fit` in a process and a folder of its own, OUT/GRID/RUN, which holds its config (run.yaml),
    what it printed (output.log), how far it is (cookbook.json) and all that `kyvo fit` writes. A run that fails does
    not stop the others. The same command runs what is left, and what failed, again.

    Args:
        grids: Files of grids, or names of those that ship: recipes_mini.
        out: Where grids are run.
        jobs: Runs at a time, which share the cores; with --slurm the most at a time, 0 for all.
        status: Say how far each run is, and run nothing.
        slurm: Submit the runs as an array of SLURM jobs instead (extra `slurm`), with these parameters of submitit:
            '{slurm_partition: gpu, timeout_min: 1440, gpus_per_node: 1}'. A job that prepares them comes first.

    Raises:
        ValueError: No such grid, options that `kyvo fit` refuses, a config that changed under a run, or runs that
            failed.
    """
    if jobs < (0 if slurm is not None else 1):
        raise ValueError(f"--jobs should be at least 1 (0 with --slurm), got {jobs}")
    for plan in _plans(grids, out):
        if status:
            _show_states(plan)
        elif slurm is not None:
            _submit(plan, slurm, jobs)
        else:
            _run(plan, jobs)


def _plans(grids: Sequence[str], out: Path) -> list[Plan]:
    """The grids of the given names; ValueError if there are none."""
    if not grids:
        raise ValueError(f"expected a grid's file, or the name of one that ships: {', '.join(grid_names())}")
    return [Plan(Grid.read(find_grid(name)), out) for name in grids]


def _show_states(plan: Plan) -> None:
    report = console_report()
    for name, state in plan.states().items():
        report(f"{plan.grid.name}/{name}: {state.status}{f': {state.error}' if state.error else ''}")


def _run(plan: Plan, at_once: int) -> None:
    report = console_report()
    every = plan.runs()
    left = unfinished(every)
    report(f"{plan.grid.name}: {len(every)} runs in {plan.folder}, {len(every) - len(left)} of them finished before")
    if not left:
        return
    run_steps(plan.steps(), report)
    ended = run_jobs(left, at_once, report)
    failed = [name for name, state in ended.items() if state.status == "failed"]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(every)} runs of {plan.grid.name} failed: {', '.join(failed)}; the same command "
            "runs them again, and kyvo cookbook table shows the others"
        )


def _submit(plan: Plan, parameters: dict[str, Any], at_once: int) -> None:
    from kyvo.cookbook.slurm import submit

    steps, left = unfinished(plan.steps()), unfinished(plan.runs())
    submitted = submit(plan.folder, steps, left, parameters, at_once)
    console_report()(f"{plan.grid.name}: {len(left)} runs submitted{f' as {submitted}' if submitted else ''}")


def table(*grids: str, out: Path | None = None, runs: Path = OUT) -> None:
    """Print the table of a grid in the paper's form, the paper's numbers beside ours, the best of each column in bold.

    Mean and standard deviation over seeds; runs that failed or are not finished are named, with the reason.

    Args:
        grids: A grid's file, or the name of one that ships; several print their tables one after the other.
        out: Also write it: .md (Markdown, with machine, minutes, seeds and commit), .tex (LaTeX), .csv (unrounded) or
            .png (a plot); of one grid.
        runs: Where grids were run.

    Raises:
        ValueError: No such grid, another format, or files of runs that cannot be read.
    """
    if out is not None and (out.suffix not in FORMATS or len(grids) > 1):
        raise ValueError(f"--out takes one grid and a file that ends in {', '.join(FORMATS)}, got {out}")
    for plan in _plans(grids, runs):
        _table(plan, out)


def _table(plan: Plan, out: Path | None) -> None:
    results = read_results(plan)
    found = grid_table(plan.grid, results)
    console, said = Console(), provenance(results)
    for place, part in enumerate(found.parts(console.width)):
        console.print(part.rich("" if place else plan.grid.title))
    for line in said:
        console.print(line, highlight=False, markup=False)
    if out is not None:
        write_table(found, out)
    if out is not None and out.suffix == ".md":
        text = "\n\n".join([f"# {plan.grid.title}", out.read_text(encoding="utf-8").rstrip(), *said])
        out.write_text(text + "\n", encoding="utf-8")
