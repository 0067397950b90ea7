"""Worker processes that end with the process that started them, and work that survives a worker's death."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

BATCH = 8  # jobs in a message: a message costs as much as a small image
START_S = 20.0  # a fresh process imports its libraries first, perhaps from a cold disk


def pool(workers: int) -> ProcessPoolExecutor:
    """Fresh worker processes: nothing is inherited but what is sent."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_follow_parent)


def _follow_parent() -> None:
    """Without this a worker whose parent was killed waits for work, and holds its memory, for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_it, daemon=True).start()


def each(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, limit_s: float
) -> Iterator[tuple[int, Result | None]]:
    """Do every job once, and yield its position and result as they come; None for a job that never came back.

    A decoder written in C can end its process or stay in it for ever. The jobs that were under way are then done again,
    one by one in a process of their own, so that only the culprit is lost.

    Args:
        function: of a module, for it crosses processes.
        jobs: what to do; they and their results are pickled.
        workers: processes; 0 = do it here, without any protection.
        limit_s: seconds after which a single job counts as stuck.
    """
    if workers == 0:
        yield from ((position, function(job)) for position, job in enumerate(jobs))
        return
    waiting = [range(k, min(k + BATCH, len(jobs))) for k in range(0, len(jobs), BATCH)]
    suspects: list[int] = []
    while waiting:
        patience_s = START_S + BATCH * limit_s
        yield from _until_broken(
            function, jobs, waiting, suspects, workers=min(workers, len(waiting)), patience_s=patience_s
        )
    while suspects:
        position = suspects.pop()
        alone = [range(position, position + 1)]
        lost: list[int] = []
        yield from _until_broken(function, jobs, alone, lost, workers=1, patience_s=START_S + limit_s)
        yield from ((culprit, None) for culprit in lost)


def _until_broken(  # noqa: PLR0913 - the state of one pool
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    waiting: list[range],
    suspects: list[int],
    *,
    workers: int,
    patience_s: float,
) -> Iterator[tuple[int, Result]]:
    """Take batches off ``waiting`` until none is left or the pool is broken; batches under way become suspects."""
    executor = pool(workers)
    running: dict[Future[list[Result]], range] = {}
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                future = executor.submit(_in_turn, function, [jobs[k] for k in waiting[-1]])  # may find it broken
                running[future] = waiting.pop()
            done, _ = wait(running, timeout=patience_s, return_when=FIRST_COMPLETED)
            if not done:
                raise BrokenProcessPool("no answer")
            for future in done:
                results = future.result()  # raises BrokenProcessPool while the batch is still among the running
                yield from zip(running.pop(future), results, strict=True)
        executor.shutdown()
    except BrokenProcessPool:
        suspects += [position for batch in running.values() for position in batch]
    finally:
        _end(executor)


def _in_turn(function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    return [function(job) for job in jobs]


def _end(executor: ProcessPoolExecutor) -> None:
    """Stop the workers now: a stuck one would be waited for, for ever."""
    processes = list((executor._processes or {}).values())  # there is no public way before Python 3.14
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
