"""Runs the jobs of a grid, several at a time, and says how far each is."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from rich.console import Console
from rich.markup import escape

from kyvo.cookbook.job import LOG, Job, JobState

Report = Callable[[str], None]
"""Takes a line for the user."""


def run_steps(jobs: Sequence[Job], report: Report) -> None:
    """Run what prepares a grid, one after the other; what is finished stays.

    Raises:
        ValueError: One failed, is running elsewhere, or was made by another command; the others are not begun.
    """
    for job in jobs:
        if job.state().status == "finished":
            report(f"{job.name}: finished before")
            continue
        report(f"{job.name}: kyvo {' '.join(job.words)}")
        ended = job.run()
        if ended.status != "finished":
            raise ValueError(f"{job.name} is {ended.status}: {ended.error or 'elsewhere'} (see {job.folder / LOG})")


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are not finished; ValueError names one that was begun with another config."""
    return [job for job in jobs if job.state().status != "finished"]


def run_jobs(jobs: Sequence[Job], at_once: int, report: Report) -> dict[str, JobState]:
    """Run jobs, the first ones first; how each ended, by its name.

    Args:
        jobs: Those that are not finished; those that were begun go on.
        at_once: How many at a time, each with its share of the cores.
        report: Is told of each that ends.
    """
    threads = max(1, _cores() // at_once) if at_once > 1 else None
    ended: dict[str, JobState] = {}
    with ThreadPoolExecutor(at_once) as pool:
        waiting = {pool.submit(job.run, threads): job for job in jobs}
        try:
            for done in as_completed(waiting):
                job = waiting[done]
                ended[job.name] = state = done.result()
                report(f"{len(ended)} of {len(jobs)}  {job.name}: {state.status}{_told(job, state)}")
        except BaseException:
            # Those that run are interrupted with this process, or go on alone; none is begun any more.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return ended


def _told(job: Job, state: JobState) -> str:
    if state.status == "failed":
        return f": {state.error} (see {job.folder / LOG})"
    return " elsewhere" if state.status == "running" else ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def console_report() -> Report:
    """Writes lines to the terminal."""
    console = Console(soft_wrap=True, highlight=False)
    return lambda line: console.print(escape(line))
