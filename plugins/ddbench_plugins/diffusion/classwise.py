"""Work on one class at a time, or on several at once, each on one thread, so that no result depends on the cores."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Result = TypeVar("Result")
#: Classes in memory at once: 1,300 latents of Stable Diffusion take about 300 MB while they are clustered.
MOST = 8


def each_class(
    work: Callable[[int], Result],
    classes: int,
    *,
    workers: int = 0,
    advance: Callable[[int], Any] = lambda done: None,
) -> list[Result]:
    """Return ``work(label)`` of every class, in the order of the labels.

    Classes are worked on at once by threads whose own libraries have one thread each, which beats dividing the work of
    a class (NumPy, LAPACK and scikit-learn let go of Python's lock). Divided, scikit-learn's k-means would add up its
    centres in the order in which three or more threads end: no two runs would agree.

    Args:
        work: what to do for a label.
        classes: number of labels.
        workers: classes at a time, which is also how many are in memory; one per core, at most :data:`MOST`, when 0.
        advance: told how many are done.

    Raises:
        Exception: the first that ``work`` raises, once the classes under way have ended; the others are not begun.
    """
    from threadpoolctl import threadpool_limits

    workers = workers or min(os.cpu_count() or 1, MOST)
    labels = iter(range(classes))
    running: dict[Future[Result], int] = {}
    done: dict[int, Result] = {}
    # The number of BLAS threads is the process's, that of OpenMP each thread's own.
    with threadpool_limits(1), ThreadPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        while True:
            for label in itertools.islice(labels, workers - len(running)):
                running[pool.submit(work, label)] = label
            if not running:
                return [done[label] for label in range(classes)]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done[running.pop(future)] = future.result()
                advance(len(done))
