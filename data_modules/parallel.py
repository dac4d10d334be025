"""Work shared out over processes of one torch thread each, with results in order."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Yield function(job) for each job, in the order of the jobs.

    Each call runs with one torch thread, with one worker too, so that results don't depend on the number of workers.

    Args:
        function: Can be pickled, as can jobs and results.
        jobs: The work.
        workers: Number of processes; with 1 all is done in this one.
    """
    if min(workers, len(jobs)) <= 1:
        yield from _map_here(function, jobs)
        return
    # Forking spares each worker the seconds that importing torch takes. It is safe here for the workers never start
    # a second torch thread.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _map_here(function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
    threads = torch.get_num_threads()
    try:
        for job in jobs:
            torch.set_num_threads(1)
            yield function(job)
    finally:
        torch.set_num_threads(threads)
