"""Submits the jobs of a grid to SLURM as one array, by submitit (extra `slurm`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kyvo.cookbook.job import Job


def submit(folder: Path, steps: Sequence[Job], jobs: Sequence[Job], parameters: dict[str, Any], at_once: int) -> str:
    """Submit jobs as an array; what prepares them runs first, in a job that the array waits for.

    Each job's process goes on where an earlier one was killed, as it does anywhere.

    Args:
        folder: Where submitit keeps scripts and logs: its folder `slurm`, which all nodes see.
        steps: What must have run before, one after the other.
        jobs: The runs.
        parameters: Of submitit's `SlurmExecutor` or `AutoExecutor`: slurm_partition, timeout_min, gpus_per_node.
        at_once: Most jobs of the array that run at a time; 0 for all.

    Returns:
        The array's number; "" if there is nothing to run.

    Raises:
        ValueError: Without submitit or SLURM, or with parameters that it does not know.
    """
    if not jobs:
        return ""
    if steps:
        first = _executor(folder, parameters).submit(run_all, list(steps))
        parameters = _after(parameters, first.job_id)
    executor = _executor(folder, parameters | {"slurm_array_parallelism": at_once or len(jobs)})
    with executor.batch():
        submitted = [executor.submit(run_all, [job]) for job in jobs]
    return str(submitted[0].job_id).partition("_")[0]


def run_all(jobs: Sequence[Job]) -> None:
    """Run jobs one after the other, on the machine that SLURM gave; RuntimeError ends with the first that fails."""
    for job in jobs:
        state = job.run()
        if state.status == "failed":
            raise RuntimeError(f"{job.name} failed: {state.error}")


def _after(parameters: dict[str, Any], job: str) -> dict[str, Any]:
    others = parameters.get("slurm_additional_parameters") or {}
    return parameters | {"slurm_additional_parameters": {**others, "dependency": f"afterok:{job}"}}


def _executor(folder: Path, parameters: dict[str, Any]) -> Any:
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise ValueError("--slurm needs `pip install 'kyvo[slurm]'`") from error
    try:
        executor = AutoExecutor(folder / "slurm", cluster="slurm")
        executor.update_parameters(**{"name": folder.name, **parameters})
    except (RuntimeError, NameError) as error:
        raise ValueError(f"--slurm: {error}") from error
    return executor
