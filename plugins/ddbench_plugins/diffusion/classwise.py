"""Work on one class at a time, several classes at once: each on one thread, so that no result depends on the cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

Result = TypeVar("Result")


def each_class(
    work: Callable[[int], Result], classes: int, *, advance: Callable[[int], Any] = lambda done: None, workers: int = 0
) -> list[Result]:
    """Return ``work(label)`` of every class, in the order of the labels.

    Threads do: NumPy, LAPACK and scikit-learn let go of Python's lock. Within each, their own threads are limited to
    one, which beats dividing the work of a single class; at most ``workers`` classes are in memory.

    Args:
        work: what to do for a label.
        classes: number of labels.
        advance: told how many are done.
        workers: classes at a time; one per core when 0.

    Raises:
        Exception: the first that ``work`` raises, once the classes under way have ended; the others are not begun.
    """
    from threadpoolctl import threadpool_limits

    workers = min(workers or os.cpu_count() or 1, classes)
    # The number of BLAS threads is the process's, that of OpenMP each thread's own.
    with (
        threadpool_limits(limits=1),
        ThreadPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool,
    ):
        futures = [pool.submit(work, label) for label in range(classes)]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                advance(done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]
